/* As sync_stress, with robust mutexes, and while it goes on copies end in the middle of what they do: the others repair
 * what they left behind and go on.   usage: sync_victims OPERATIONS THREADS SURVIVORS HOW
 *   SURVIVORS copies do their share and end; the others go on until they are ended.
 *   HOW a victim is ended: kill, exit, fault (by itself, after a while), or spin: by somebody else.
 *
 * Each mutex guards two numbers that are equal whenever nobody has it. Who changes them first writes down what they are to
 * become; whoever is told that the owner died finds it there. */
#include "conf.h"
#include <pthread.h>

enum { ACCOUNTS = 4, MOST = 256 };
struct account {
    pthread_mutex_t mutex;
    volatile long intended, left, right, repaired;
} __attribute__((aligned(64)));
struct arena {
    _Atomic int ready, arrived, wrong;
    struct account accounts[ACCOUNTS];
    _Atomic long done[MOST]; /* By thread, counted after the mutex was unlocked. */
    _Atomic int wounded[MOST];
};
static struct arena *arena;
static int threads, survivors, segment;
static long operations;
static const char *how;

static void good(int result) {
    if (result) atomic_fetch_add(&arena->wrong, 1);
}
static unsigned next(unsigned *seed) { return (*seed = *seed * 1103515245 + 12345) >> 16; }

static void repair(struct account *account) {
    if (account->intended) account->left = account->right = account->intended, account->intended = 0;
    account->repaired++;
    good(pthread_mutex_consistent(&account->mutex));
}
static int locked(struct account *account, unsigned *seed) {
    int result;
    struct timespec soon;
    if (next(seed) % 4) result = pthread_mutex_lock(&account->mutex);
    else {
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_sec += 50; /* Whoever waits as long has been forgotten. */
        result = pthread_mutex_timedlock(&account->mutex, &soon);
    }
    if (result == EOWNERDEAD) repair(account), result = 0;
    return result;
}
static void ends_now(void) {
    if (strcmp(how, "kill") == 0) kill(getpid(), SIGKILL);
    if (strcmp(how, "exit") == 0) syscall(SYS_exit_group, 0);
    if (strcmp(how, "fault") == 0) *(volatile char *)16 = 1;
}

static void *works(void *number) {
    int me = rank() * threads + (int)(intptr_t)number, doomed = rank() >= survivors;
    unsigned seed = (unsigned)me * 7919 + 1;
    long share = operations / (survivors * threads);
    for (long i = 0; doomed || i < share; i++) {
        struct account *account = &arena->accounts[next(&seed) % ACCOUNTS], *other = &arena->accounts[next(&seed) % ACCOUNTS];
        if (account > other) { struct account *swap = account; account = other, other = swap; }
        if (locked(account, &seed)) {
            good(1);
            return NULL;
        }
        good(account->left != account->right || account->intended != 0);
        long becomes = account->left + 1;
        account->intended = becomes;
        account->left = becomes;
        /* In between: whoever is ended here leaves it torn. Sometimes with a second mutex as well. */
        int both = other != account && next(&seed) % 8 == 0;
        if (both && locked(other, &seed)) good(1), both = 0;
        if (doomed) {
            if (next(&seed) % 4 == 0) nattch(segment);
            if (i > 200 && (int)(intptr_t)number == 0) ends_now();
        } else if (next(&seed) % 16 == 0) sched_yield();
        account->right = becomes;
        account->intended = 0;
        if (both) good(pthread_mutex_unlock(&other->mutex));
        good(pthread_mutex_unlock(&account->mutex));
        atomic_fetch_add(&arena->done[me], 1);
    }
    return NULL;
}

int main(int argc, char **argv) {
    need(argc > 4, "OPERATIONS, THREADS, SURVIVORS and HOW");
    setvbuf(stdout, NULL, _IOLBF, 0);
    operations = atol(argv[1]), threads = atoi(argv[2]), survivors = atoi(argv[3]), how = argv[4];
    need(threads * copies() <= MOST, "256 threads at most");
    segment = segment_of_all(0x71c7, sizeof *arena);
    arena = attached(segment, FREE_PLACE + (unsigned long)rank() * 0x1234000, 0);
    if (rank() == 0) {
        pthread_mutexattr_t attributes;
        need(pthread_mutexattr_init(&attributes) == 0 && pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0 &&
                 pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0, "attributes");
        for (int i = 0; i < ACCOUNTS; i++) need(pthread_mutex_init(&arena->accounts[i].mutex, &attributes) == 0, "pthread_mutex_init");
        atomic_store(&arena->ready, 1);
    }
    while (!atomic_load(&arena->ready)) nap(500);
    atomic_fetch_add(&arena->arrived, 1);
    /* All are to be there, but one that is ended early may never come. */
    for (int naps = 0; atomic_load(&arena->arrived) < copies() && naps < 2000; naps++) nap(1000);
    pthread_t all[MOST];
    for (intptr_t i = 0; i < threads; i++) need(pthread_create(&all[i], NULL, works, (void *)i) == 0, "pthread_create");
    for (int i = 0; i < threads; i++) need(pthread_join(all[i], NULL) == 0, "pthread_join");
    if (rank() != 0) return 0;
    /* The others have ended, one way or the other, when nobody else is attached. */
    for (int naps = 0; nattch(segment) > 1; naps++) need(naps < 50000, "the others to end"), nap(1000);
    int balanced = 1, recovered = 1;
    long sum = 0, done = 0, repaired = 0;
    unsigned seed = 1;
    for (int i = 0; i < ACCOUNTS; i++) {
        struct account *account = &arena->accounts[i];
        recovered &= locked(account, &seed) == 0;
        balanced &= account->left == account->right && account->intended == 0;
        sum += account->left, repaired += account->repaired;
        recovered &= pthread_mutex_unlock(&account->mutex) == 0;
    }
    for (int i = 0; i < threads * copies(); i++) done += atomic_load(&arena->done[i]);
    int victims = (copies() - survivors) * threads;
    holds("all mutexes can be had", recovered);
    holds("what they guard is whole", balanced);
    printf("unexpected results %d\n", atomic_load(&arena->wrong));
    /* Each victim may have done one thing more than it could say. */
    holds("nothing is lost", sum >= done && sum <= done + victims);
    holds("survivors did their share", done >= operations / (survivors * threads) * survivors * threads);
    holds("no more deaths than mutexes the victims could have", repaired <= 2 * victims);
    if (argc > 5) printf("repaired %ld, done %ld\n", repaired, done);
    removed(segment);
    return 0;
}
