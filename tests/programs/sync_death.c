/* The last copy ends while it has robust mutexes and waits for others; copy 0 says what becomes of those who wait for it
 * and beside it.   usage: sync_death HOW, by which the last copy ends:
 *   threads: the threads that have the mutexes end, and later the process
 *   kill, fault, ud2, exit, program: the process ends itself, or becomes another
 *   killed: another process kills it (its child)
 *   spin, getpid: its guest is ended by somebody else, or by this system call
 * Copies between are witnesses that wait as well. */
#include "conf.h"
#include "futex.h"
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>

enum { HELD = 12 };
struct arena {
    struct meeting meeting;
    _Atomic int stage, told, ready, waiting;
    _Atomic uint32_t word;
    pthread_mutex_t robust[HELD], recursive, plain, ours, never;
    sem_t sem;
    long intended[HELD];
};
static struct arena *arena;
static int segment;

static const char *told(int error) { return error ? errno_name(error) : "ok"; }
#define UNTIL(condition, what) \
    for (int naps = 0; !(condition); naps++) need(naps < 40000, what), nap(500)

static struct timespec in_ms(long milliseconds) { return after(now(CLOCK_REALTIME), milliseconds * 1000000); }
static void started(pthread_t *thread, void *(*what)(void *), void *argument) {
    need(pthread_create(thread, NULL, what, argument) == 0, "pthread_create");
}

/* --- the doomed --- */

static const char *how;
static void *waits_for_word(void *unused) {
    for (;;) futex_wait(&arena->word, 0);
}
static void *waits_for_ours(void *unused) {
    atomic_fetch_add(&arena->ready, 1);
    pthread_mutex_lock(&arena->ours);
    for (;;) pause();
}
/* Has every second mutex, and one of them twice. */
static void *has_mutexes(void *odd) {
    for (int i = (int)(intptr_t)odd; i < HELD; i += 2) {
        need(pthread_mutex_lock(&arena->robust[i]) == 0, "a robust mutex");
        arena->intended[i] = i + 1;
    }
    if (odd) need(pthread_mutex_lock(&arena->recursive) == 0 && pthread_mutex_lock(&arena->recursive) == 0, "a recursive mutex");
    else need(pthread_mutex_lock(&arena->plain) == 0, "a mutex");
    atomic_fetch_add(&arena->ready, 1);
    UNTIL(atomic_load(&arena->stage) >= 1, "the word to end");
    if (strcmp(how, "threads") == 0) return NULL;
    for (;;) nap(1000000);
}
static int doomed(char *self) {
    pthread_t threads[2], thread;
    for (int i = 0; i < 2; i++) started(&thread, waits_for_word, NULL);
    started(&thread, waits_for_ours, NULL);
    for (intptr_t odd = 0; odd < 2; odd++) started(&threads[odd], has_mutexes, (void *)odd);
    UNTIL(atomic_load(&arena->stage) >= 1, "the word to end");
#define IF(name) if (strcmp(how, name) == 0)
    IF("kill") kill(getpid(), SIGKILL);
    IF("fault") *(volatile char *)16 = 1;
    IF("ud2") __asm__ volatile("ud2");
    IF("exit") return 3;
    IF("program") execl("/proc/self/exe", self, "nothing", NULL);
    IF("killed") {
        if (fork() == 0) _exit(kill(getppid(), SIGKILL));
        for (;;) nap(1000000);
    }
    IF("getpid") syscall(SYS_getpid);
    IF("spin") {
        /* On each CPU in turn, asking the host for something each time. */
        cpu_set_t all, one;
        sched_getaffinity(0, sizeof all, &all);
        for (int cpu = 0;; cpu = (cpu + 1) % CPU_COUNT(&all)) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            sched_setaffinity(0, sizeof one, &one);
            nattch(segment);
        }
    }
    /* Threads only: the process goes when all has been seen. */
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    UNTIL(atomic_load(&arena->stage) >= 2, "the word to end for good");
    _exit(4);
}

/* --- those who are left --- */

struct wait { int number, result, consistent, unlocked; pthread_t thread; };
static void *waits_for_mutex(void *at) {
    struct wait *wait = at;
    struct timespec far = in_ms(60000);
    atomic_fetch_add(&arena->waiting, 1);
    pthread_mutex_t *mutex = &arena->robust[wait->number];
    wait->result = wait->number % 2 ? pthread_mutex_timedlock(mutex, &far) : pthread_mutex_lock(mutex);
    wait->consistent = pthread_mutex_consistent(mutex);
    wait->unlocked = pthread_mutex_unlock(mutex);
    return NULL;
}
static void *waits_behind(void *result) {
    *(long *)result = futex_wait(&arena->word, 0);
    return NULL;
}
static void witness(void) {
    struct wait waits[2] = {{2}, {3}};
    UNTIL(atomic_load(&arena->ready) == 3, "the doomed to be ready");
    for (int i = 0; i < 2; i++) started(&waits[i].thread, waits_for_mutex, &waits[i]);
    for (int i = 0; i < 2; i++) {
        need(pthread_join(waits[i].thread, NULL) == 0, "pthread_join");
        printf("witness: %s, consistent %s, unlock %s\n", told(waits[i].result), told(waits[i].consistent), told(waits[i].unlocked));
    }
    atomic_fetch_add(&arena->told, 1);
}
static void tells(void) {
    struct wait waits[2] = {{0}, {1}};
    pthread_t behind;
    long woken = -2;
    int witnesses = copies() - 2;
    UNTIL(atomic_load(&arena->ready) == 3 && waiters(&arena->word) == 2, "the doomed to be ready");
    started(&behind, waits_behind, &woken);
    UNTIL(waiters(&arena->word) == 3, "us to be behind");
    for (int i = 0; i < 2; i++) started(&waits[i].thread, waits_for_mutex, &waits[i]);
    UNTIL(atomic_load(&arena->waiting) == 2 + 2 * witnesses, "all to wait");
    nap(20000);
    printf("try before: %s, %s\n", told(pthread_mutex_trylock(&arena->robust[0])), told(pthread_mutex_trylock(&arena->robust[5])));
    atomic_store(&arena->stage, 1);
    for (int i = 0; i < 2; i++) {
        need(pthread_join(waits[i].thread, NULL) == 0, "pthread_join");
        printf("waited for number %d: %s, consistent %s, unlock %s\n", i, told(waits[i].result), told(waits[i].consistent), told(waits[i].unlocked));
        printf("what was intended: %ld\n", arena->intended[i]);
        printf("another tries: %s", told(pthread_mutex_trylock(&arena->robust[i])));
        printf(", unlock %s\n", told(pthread_mutex_unlock(&arena->robust[i])));
    }
    UNTIL(atomic_load(&arena->told) == witnesses, "the witnesses");
    for (int i = 4; i < HELD; i++) {
        /* One that the other thread had may still be its own for a moment. */
        int result;
        UNTIL((result = pthread_mutex_trylock(&arena->robust[i])) != EBUSY, "its death");
        printf("number %d: %s", i, told(result));
        /* Nobody makes number 7 consistent. */
        if (i != 7) printf(", consistent %s", told(pthread_mutex_consistent(&arena->robust[i])));
        printf(", unlock %s", told(pthread_mutex_unlock(&arena->robust[i])));
        result = pthread_mutex_lock(&arena->robust[i]);
        printf(", lock %s", told(result));
        if (result == 0) printf(", unlock %s", told(pthread_mutex_unlock(&arena->robust[i])));
        printf("\n");
    }
    struct timespec soon = in_ms(30);
    printf("a recursive one: %s", told(pthread_mutex_lock(&arena->recursive)));
    printf(", consistent %s", told(pthread_mutex_consistent(&arena->recursive)));
    printf(", unlock %s", told(pthread_mutex_unlock(&arena->recursive)));
    printf(", unlock %s\n", told(pthread_mutex_unlock(&arena->recursive)));
    printf("one that is not robust: %s\n", told(pthread_mutex_timedlock(&arena->plain, &soon)));
    soon = in_ms(30);
    printf("a semaphore it would have posted: %s\n", sem_timedwait(&arena->sem, &soon) ? errno_name(errno) : "ok");
    printf("one that nobody had: %s", told(pthread_mutex_lock(&arena->never)));
    printf(", unlock %s\n", told(pthread_mutex_unlock(&arena->never)));
    atomic_store(&arena->stage, 2);
    /* Its waiters are gone from their queues: a single wake-up finds the living one. */
    UNTIL(waiters(&arena->word) == 1, "its waiters to be gone");
    printf("waiting for the word: %ld", waiters(&arena->word));
    printf(", woken %ld", futex_wake(&arena->word, 1));
    need(pthread_join(behind, NULL) == 0, "pthread_join");
    printf(", it says %ld\n", woken);
    printf("ours: unlock %s", told(pthread_mutex_unlock(&arena->ours)));
    soon = in_ms(20000);
    printf(", lock %s", told(pthread_mutex_timedlock(&arena->ours, &soon)));
    printf(", unlock %s\n", told(pthread_mutex_unlock(&arena->ours)));
    UNTIL(nattch(segment) == 1, "it to be detached");
    printf("attaches 1\n");
    struct shmid_ds s = stat_of(segment);
    holds("detached by another", s.shm_lpid != getpid());
}

int main(int argc, char **argv) {
    need(argc > 1, "HOW");
    how = argv[1];
    if (strcmp(how, "nothing") == 0) return 5;
    setvbuf(stdout, NULL, _IOLBF, 0);
    segment = segment_of_all(0xdea7, sizeof *arena);
    arena = attached(segment, FREE_PLACE + (unsigned long)rank() * 0x1234000, 0);
    if (rank() == 0) {
        pthread_mutexattr_t shared, robust;
        pthread_mutexattr_init(&shared), pthread_mutexattr_init(&robust);
        need(pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED) == 0 && pthread_mutexattr_setpshared(&robust, PTHREAD_PROCESS_SHARED) == 0 &&
                 pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST) == 0, "attributes");
        int failed = pthread_mutex_init(&arena->plain, &shared);
        for (int i = 0; i < HELD; i++) failed |= pthread_mutex_init(&arena->robust[i], &robust);
        failed |= pthread_mutex_init(&arena->ours, &robust) | pthread_mutex_init(&arena->never, &robust);
        need(pthread_mutexattr_settype(&robust, PTHREAD_MUTEX_RECURSIVE) == 0, "attributes");
        failed |= pthread_mutex_init(&arena->recursive, &robust) | sem_init(&arena->sem, 1, 0);
        need(!failed && pthread_mutex_lock(&arena->ours) == 0, "mutexes");
    }
    meet(&arena->meeting);
    if (rank() == copies() - 1) return doomed(argv[0]);
    if (rank() > 0) {
        witness();
        return 0;
    }
    tells();
    removed(segment);
    return 0;
}
