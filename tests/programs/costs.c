/* Each argument names an operation. It is carried out between two writes of one byte to stdout; how many instructions
 * ring 0 took from one write to the next is on the host's record of hypercalls (tests/tests/costs.rs). */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void mark(void) {
    if (write(1, ".", 1) != 1) _exit(3);
}

static void check(int ok, const char *what) {
    if (!ok) {
        perror(what);
        _exit(2);
    }
}

/* From linux/futex.h, which musl does not have. */
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129

/* What involves two threads has the timer's interrupts in it now and then: the least of several counts. */
#define ROUNDS 12

#define KIB 1024ul
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

static int segment(size_t size) {
    int id = shmget(IPC_PRIVATE, size, 0600 | IPC_CREAT);
    check(id >= 0, "shmget");
    return id;
}

static void *attach(int id) {
    void *at = shmat(id, NULL, 0);
    check(at != (void *)-1, "shmat");
    return at;
}

/* The first attach; a second one, its end, and the same again, while the first stands; the last detach: six figures. */
static void attaches(size_t size) {
    int id = segment(size);
    mark();
    void *first = attach(id);
    mark();
    void *second = attach(id);
    mark();
    shmdt(second);
    mark();
    second = attach(id);
    mark();
    shmdt(second);
    mark();
    shmdt(first);
    mark();
    shmctl(id, IPC_RMID, NULL);
}

static int word, turn;

static long futex(int *at, int op, int value) {
    return syscall(SYS_futex, at, op, value, NULL, NULL, 0);
}

/* Waits for its turn, once for each round. */
static void *partner(void *rounds) {
    for (int round = 0; round < *(int *)rounds; round++) {
        while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != 1) futex(&turn, FUTEX_WAIT_PRIVATE, 0);
        __atomic_store_n(&turn, 0, __ATOMIC_RELEASE);
        futex(&turn, FUTEX_WAKE_PRIVATE, 1);
    }
    return NULL;
}

static void *yielder(void *stop) {
    while (!__atomic_load_n((int *)stop, __ATOMIC_ACQUIRE)) sched_yield();
    return NULL;
}

static void *idle(void *unused) { return unused; }

/* A thread of the default kind, made and joined. */
static void thread(void) {
    pthread_attr_t attributes;
    pthread_t made;
    pthread_attr_init(&attributes);
    /* As glibc has it; musl's own stacks are small. */
    pthread_attr_setstacksize(&attributes, 8 * MIB);
    check(!pthread_create(&made, &attributes, idle, NULL), "pthread_create");
    check(!pthread_join(made, NULL), "pthread_join");
}

static void child(void) {
    int status;
    pid_t made = fork();
    if (made == 0) _exit(0);
    check(made > 0 && waitpid(made, &status, 0) == made, "waitpid");
}

int main(int count, char **names) {
    for (int i = 1; i < count; i++) {
        const char *name = names[i];
        mark();
        if (!strcmp(name, "nothing")) {
            mark();
        } else if (!strcmp(name, "empty")) {
            syscall(SYS_getppid);
            mark();
        } else if (!strcmp(name, "shmget")) {
            int id = segment(4 * KIB);
            mark();
            shmctl(id, IPC_RMID, NULL);
        } else if (!strcmp(name, "shmat-4k")) {
            attaches(4 * KIB);
        } else if (!strcmp(name, "shmat-1m")) {
            attaches(MIB);
        } else if (!strcmp(name, "shmat-64m")) {
            attaches(64 * MIB);
        } else if (!strcmp(name, "shmat-1g")) {
            attaches(GIB);
        } else if (!strcmp(name, "fault")) {
            /* The first page beyond what a fault brings along. */
            volatile char *area = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            check(area != MAP_FAILED, "mmap");
            area[0] = 1;
            mark();
            area[64 * 4 * KIB] = 1;
            mark();
            munmap((void *)area, MIB);
        } else if (!strcmp(name, "futex-no-wait")) {
            futex(&word, FUTEX_WAIT_PRIVATE, 1);
            mark();
        } else if (!strcmp(name, "futex-wake-nobody")) {
            futex(&word, FUTEX_WAKE_PRIVATE, 1);
            mark();
        } else if (!strcmp(name, "futex-round")) {
            /* Wake, wait, switch; the other one does the same, and switches back. */
            int rounds = ROUNDS;
            pthread_t other;
            check(!pthread_create(&other, NULL, partner, &rounds), "pthread_create");
            for (int round = 0; round < rounds; round++) {
                __atomic_store_n(&turn, 1, __ATOMIC_RELEASE);
                futex(&turn, FUTEX_WAKE_PRIVATE, 1);
                while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != 0) futex(&turn, FUTEX_WAIT_PRIVATE, 1);
                mark();
            }
            pthread_join(other, NULL);
        } else if (!strcmp(name, "switch")) {
            /* To another thread and back. */
            int stop = 0;
            pthread_t other;
            check(!pthread_create(&other, NULL, yielder, &stop), "pthread_create");
            for (int round = 0; round < ROUNDS; round++) {
                sched_yield();
                mark();
            }
            __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
            pthread_join(other, NULL);
        } else if (!strcmp(name, "thread") || !strcmp(name, "fork")) {
            for (int round = 0; round < ROUNDS; round++) {
                if (*name == 't')
                    thread();
                else
                    child();
                mark();
            }
        } else {
            fprintf(stderr, "costs: what is %s?\n", name);
            return 2;
        }
    }
    return 0;
}
