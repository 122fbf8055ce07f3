/* Read-write locks.   usage: sync_rwlock threads|private|forks (sync.h) */
#include "sync.h"

enum { READ, TRYREAD, TIMEDREAD, WRITE, TRYWRITE, TIMEDWRITE, UNLOCK, COUNT, CLOCK_READ, CLOCK_WRITE };

static long perform(int me, int what, int object, long argument) {
    pthread_rwlock_t *lock = &objects[object].rwlock;
    clockid_t clock = what == CLOCK_READ || what == CLOCK_WRITE ? CLOCK_MONOTONIC : CLOCK_REALTIME;
    struct timespec until = deadline(clock, argument);
    switch (what) {
    case READ: return pthread_rwlock_rdlock(lock);
    case TRYREAD: return pthread_rwlock_tryrdlock(lock);
    case TIMEDREAD: return on_time(clock, &until, pthread_rwlock_timedrdlock(lock, &until));
    case WRITE: return pthread_rwlock_wrlock(lock);
    case TRYWRITE: return pthread_rwlock_trywrlock(lock);
    case TIMEDWRITE: return on_time(clock, &until, pthread_rwlock_timedwrlock(lock, &until));
    case UNLOCK: return pthread_rwlock_unlock(lock);
#ifdef __GLIBC__
    case CLOCK_READ: return on_time(clock, &until, pthread_rwlock_clockrdlock(lock, clock, &until));
    case CLOCK_WRITE: return on_time(clock, &until, pthread_rwlock_clockwrlock(lock, clock, &until));
#endif
    case COUNT: { /* Every fourth time as a writer, of two cells that must always be the same. */
        volatile long *left = &arena->plain[object], *right = &arena->plain[32 + object];
        for (long i = 0; i < argument; i++) {
            int writing = i % 4 == me % 4;
            int error = writing ? pthread_rwlock_wrlock(lock) : pthread_rwlock_rdlock(lock);
            if (error) return error;
            if (writing) ++*left;
            else if (*left != *right) return EINVAL;
            if (i % 8 == 0) sched_yield();
            if (writing) ++*right;
            else if (*left != *right) return EINVAL;
            if ((error = pthread_rwlock_unlock(lock))) return error;
        }
        return 0;
    }
    }
    return ENOSYS;
}

static void new_lock(int object, int kind) {
    pthread_rwlockattr_t attributes;
    need(pthread_rwlockattr_init(&attributes) == 0, "pthread_rwlockattr_init");
    need(pthread_rwlockattr_setpshared(&attributes, shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE) == 0, "setpshared");
#ifdef __GLIBC__
    need(pthread_rwlockattr_setkind_np(&attributes, kind) == 0, "pthread_rwlockattr_setkind_np");
#endif
    need(pthread_rwlock_init(&objects[object].rwlock, &attributes) == 0, "pthread_rwlock_init");
}

static void of_any_kind(int l) {
    does("A reads", 0, READ, l, 0);
    does("B reads, too", 1, READ, l, 0);
    does("A reads again", 0, READ, l, 0);
    does("C tries to write", 2, TRYWRITE, l, 0);
    does("C tries to write for 20 ms", 2, TIMEDWRITE, l, 20);
    does("C tries to write until the past", 2, TIMEDWRITE, l, LONG_PAST);
    does("C tries to write until an impossible time", 2, TIMEDWRITE, l, IMPOSSIBLE);
    does("C tries to read", 2, TRYREAD, l, 0);
    does("C unlocks", 2, UNLOCK, l, 0);
    does("C reads until the past what can be read", 2, TIMEDREAD, l, LONG_PAST);
    does("C unlocks", 2, UNLOCK, l, 0);
    waits("C writes", 2, WRITE, l, 0);
    does("A unlocks", 0, UNLOCK, l, 0);
    does("A unlocks again", 0, UNLOCK, l, 0);
    still("C", 2);
    does("B unlocks", 1, UNLOCK, l, 0);
    then("C", 2);
    does("A tries to read", 0, TRYREAD, l, 0);
    does("A tries to write", 0, TRYWRITE, l, 0);
    does("A tries to read for 20 ms", 0, TIMEDREAD, l, 20);
    does("A tries to write for 20 ms", 0, TIMEDWRITE, l, 20);
    does("A tries to read until the past", 0, TIMEDREAD, l, LONG_PAST);
    does("A tries to read until an impossible time", 0, TIMEDREAD, l, IMPOSSIBLE);
    does("C tries to read what it writes", 2, TRYREAD, l, 0);
#ifdef __GLIBC__
    does("C reads what it writes", 2, READ, l, 0);
    does("C writes what it writes", 2, WRITE, l, 0);
    does("A tries to read for 20 ms, monotonic", 0, CLOCK_READ, l, 20);
    does("A tries to write for 20 ms, monotonic", 0, CLOCK_WRITE, l, 20);
#endif
    waits("A reads", 0, READ, l, 0);
    waits("B reads for a minute", 1, TIMEDREAD, l, FAR);
    does("C unlocks", 2, UNLOCK, l, 0);
    then("A", 0);
    then("B", 1);
    does("D reads, too", 3, READ, l, 0);
    for (int w = 0; w < 4; w++)
        if (w != 2) does(form("%c unlocks", 'A' + w), w, UNLOCK, l, 0);
    does("D writes", 3, WRITE, l, 0);
    waits("A writes", 0, WRITE, l, 0);
    waits("B writes for a minute", 1, TIMEDWRITE, l, FAR);
    does("D unlocks", 3, UNLOCK, l, 0);
    UNTIL(done(0) || done(1), "a writer");
    nap(5000);
    printf("writers in %d\n", done(0) + done(1));
    int first = done(0) ? 0 : 1;
    then("the first", first);
    does("it unlocks", first, UNLOCK, l, 0);
    then("the second", 1 - first);
    does("it unlocks", 1 - first, UNLOCK, l, 0);
    /* A writer that gives up lets readers in again. */
    does("A reads", 0, READ, l, 0);
    does("B tries to write for 30 ms", 1, TIMEDWRITE, l, 30);
    does("C reads", 2, READ, l, 0);
    does("A unlocks", 0, UNLOCK, l, 0);
    does("C unlocks", 2, UNLOCK, l, 0);
    all_do("all count together", COUNT, l, 60);
    printf("counted %ld and %ld\n", arena->plain[l], arena->plain[32 + l]);
}

int main(int argc, char **argv) {
    if (opened(argc, argv)) {
        pthread_rwlockattr_t attributes;
        int sharing = -1;
        pthread_rwlockattr_init(&attributes);
        pthread_rwlockattr_getpshared(&attributes, &sharing);
        holds("private by default", sharing == PTHREAD_PROCESS_PRIVATE);
        printf("unknown sharing %s\n", told(pthread_rwlockattr_setpshared(&attributes, 77)));
        printf("--- default\n");
        new_lock(0, 0);
        of_any_kind(0);
        does("A reads", 0, READ, 0, 0);
        waits("B writes", 1, WRITE, 0, 0);
        does("C reads past a writer that waits", 2, TIMEDREAD, 0, FAR);
        does("C unlocks", 2, UNLOCK, 0, 0);
        does("A unlocks", 0, UNLOCK, 0, 0);
        then("B", 1);
        does("B unlocks", 1, UNLOCK, 0, 0);
        printf("destroy %s\n", told(pthread_rwlock_destroy(&objects[0].rwlock)));
#ifdef __GLIBC__
        printf("--- writers first\n");
        new_lock(1, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
        of_any_kind(1);
        does("A reads", 0, READ, 1, 0);
        order(1, WRITE, 1, 0);
        long tried;
        for (int looks = 0; (tried = ask(2, TRYREAD, 1, 0)) == 0; look_again(&looks)) need(ask(2, UNLOCK, 1, 0) == 0, "unlock");
        printf("C tries to read past a writer that waits %s\n", told(tried));
        waits("C reads", 2, READ, 1, 0);
        does("D reads for 20 ms", 3, TIMEDREAD, 1, 20);
        does("A unlocks", 0, UNLOCK, 1, 0);
        then("B writes", 1);
        does("B unlocks", 1, UNLOCK, 1, 0);
        then("C reads", 2);
        does("C unlocks", 2, UNLOCK, 1, 0);
#endif
    }
    return closed();
}
