/* Segments of sizes that a guest's processes map by tables they share: what one process does to a part of its attach
 * must not show in another's. With an argument: what lies behind the end of an attach at the system's choice. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define MIB (1ul << 20)

static void check(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(2);
    }
}

/* Whether a child that does this is ended by a signal, and by which. */
static int signal_of(void (*act)(volatile char *), volatile char *at) {
    pid_t pid = fork();
    check(pid >= 0, "fork");
    if (pid == 0) {
        act(at);
        _exit(0);
    }
    int status;
    check(waitpid(pid, &status, 0) == pid, "waitpid");
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void store(volatile char *at) {
    *at = 1;
}

static void load(volatile char *at) {
    (void)*at;
}

/* What a second process does to its attach, which it has inherited. */
static void change(volatile char *at, unsigned long len, int how) {
    char *base = (char *)at;
    switch (how) {
    case 0:
        check(!mprotect(base + PAGE, PAGE, PROT_READ), "mprotect");
        printf("a page read-only: %d %d %d\n", signal_of(store, at + PAGE), signal_of(store, at),
               signal_of(store, at + 2 * PAGE));
        break;
    case 1:
        check(!munmap(base + 2 * PAGE, PAGE), "munmap");
        printf("a hole: %d %d\n", signal_of(load, at + 2 * PAGE), signal_of(load, at + 3 * PAGE));
        break;
    case 2:
        check(mmap(base + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
                  base + 3 * PAGE, "mmap");
        at[3 * PAGE] = 99;
        break;
    case 3: {
        int other = shmget(IPC_PRIVATE, PAGE, 0600 | IPC_CREAT);
        check(shmat(other, base + 4 * PAGE, SHM_REMAP) == base + 4 * PAGE, "SHM_REMAP");
        shmctl(other, IPC_RMID, NULL);
        at[4 * PAGE] = 98;
        break;
    }
    case 4:
        check(!mprotect(base, len, PROT_NONE), "mprotect");
        printf("nothing allowed: %d %d\n", signal_of(load, at), signal_of(load, at + len - PAGE));
        check(!mprotect(base, len, PROT_READ | PROT_WRITE), "mprotect");
        break;
    case 5: {
        char *to = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        check(mremap(base + 5 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to, "mremap");
        printf("moved: %d, was %d\n", to[0], signal_of(load, at + 5 * PAGE));
        break;
    }
    }
    /* What is left is shared as before. */
    at[0] = 10 + how;
    at[len - 1] = 20 + how;
}

static void play(unsigned long len) {
    int id = shmget(IPC_PRIVATE, len, 0600 | IPC_CREAT);
    check(id >= 0, "shmget");
    volatile char *at = shmat(id, NULL, 0);
    check(at != (void *)-1, "shmat");
    for (int how = 0; how < 6; how++) {
        for (unsigned long page = 0; page < 8; page++) at[page * PAGE] = 50 + page;
        fflush(stdout);
        pid_t pid = fork();
        check(pid >= 0, "fork");
        if (pid == 0) {
            change(at, len, how);
            fflush(stdout);
            _exit(0);
        }
        int status;
        check(waitpid(pid, &status, 0) == pid && status == 0, "waitpid");
        printf("%lu bytes, after %d:", len, how);
        for (unsigned long page = 0; page < 8; page++) printf(" %d", at[page * PAGE]);
        printf(", %d\n", at[len - 1]);
        /* Every page of it is still this process's to write. */
        at[PAGE] = at[2 * PAGE] = at[3 * PAGE] = at[4 * PAGE] = at[5 * PAGE] = 1;
    }
    volatile char *readable = shmat(id, NULL, SHM_RDONLY), *again = shmat(id, NULL, 0);
    check(readable != (void *)-1 && again != (void *)-1, "shmat");
    again[len / 2] = 33;
    printf("%d %d, stores: %d %d %d\n", readable[len / 2], at[len / 2], signal_of(store, readable + len / 2),
           signal_of(store, at), signal_of(store, again));
    struct shmid_ds status;
    check(!shmctl(id, IPC_STAT, &status), "IPC_STAT");
    printf("attaches: %lu\n", (unsigned long)status.shm_nattch);
    check(!shmdt((void *)at) && !shmdt((void *)readable) && !shmdt((void *)again), "shmdt");
    check(!shmctl(id, IPC_RMID, NULL), "IPC_RMID");
    fflush(stdout);
}

int main(int count, char **arguments) {
    (void)arguments;
    if (count > 1) {
        static const unsigned long sizes[] = {100 * PAGE, 3 * MIB + 40 * PAGE, 40 * MIB + 7 * PAGE};
        for (unsigned i = 0; i < 3; i++) {
            int id = shmget(IPC_PRIVATE, sizes[i], 0600 | IPC_CREAT);
            volatile char *at = shmat(id, NULL, 0);
            check(at != (void *)-1, "shmat");
            printf("%lu bytes: %d %d\n", sizes[i], signal_of(store, at + sizes[i] - 1), signal_of(store, at + sizes[i]));
            shmctl(id, IPC_RMID, NULL);
        }
        return 0;
    }
    /* Not linked; a page table; large pages and a page table; a directory with a page table; two directories. */
    static const unsigned long sizes[] = {8 * PAGE, 300 * PAGE, 2 * MIB + 300 * PAGE, 64 * MIB + 9 * PAGE,
                                          1024 * MIB + 40 * MIB};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) play(sizes[i]);
    return 0;
}
