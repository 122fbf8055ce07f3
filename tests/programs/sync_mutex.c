/* Mutexes of every type but robust ones (sync_robust.c).   usage: sync_mutex threads|private|forks (sync.h) */
#include "sync.h"

enum { LOCK, TRYLOCK, TIMEDLOCK, UNLOCK, ADD, LOCK_CLOCK_MONOTONIC, LOCK_CLOCK_REALTIME };

static long perform(int me, int what, int object, long argument) {
    pthread_mutex_t *mutex = &objects[object].mutex;
    struct timespec until = deadline(what == LOCK_CLOCK_MONOTONIC ? CLOCK_MONOTONIC : CLOCK_REALTIME, argument);
    switch (what) {
    case LOCK: return pthread_mutex_lock(mutex);
    case TRYLOCK: return pthread_mutex_trylock(mutex);
    case TIMEDLOCK: return on_time(CLOCK_REALTIME, &until, pthread_mutex_timedlock(mutex, &until));
    case UNLOCK: return pthread_mutex_unlock(mutex);
    case ADD:
        for (long i = 0; i < argument; i++) {
            int error = pthread_mutex_lock(mutex);
            if (error) return error;
            long before = arena->plain[object];
            if (i % 16 == 0) sched_yield();
            arena->plain[object] = before + 1;
            if ((error = pthread_mutex_unlock(mutex))) return error;
        }
        return 0;
#ifdef __GLIBC__
    case LOCK_CLOCK_MONOTONIC: return on_time(CLOCK_MONOTONIC, &until, pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &until));
    case LOCK_CLOCK_REALTIME: return on_time(CLOCK_REALTIME, &until, pthread_mutex_clocklock(mutex, CLOCK_REALTIME, &until));
#endif
    }
    return ENOSYS;
}

static void new_mutex(int object, int type) {
    pthread_mutexattr_t attributes;
    need(pthread_mutexattr_init(&attributes) == 0, "pthread_mutexattr_init");
    need(pthread_mutexattr_settype(&attributes, type) == 0, "pthread_mutexattr_settype");
    need(pthread_mutexattr_setpshared(&attributes, shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE) == 0, "setpshared");
    need(pthread_mutex_init(&objects[object].mutex, &attributes) == 0, "pthread_mutex_init");
}

static void of_any_type(int m) {
    does("A locks", 0, LOCK, m, 0);
    does("B tries", 1, TRYLOCK, m, 0);
    waits("B locks", 1, LOCK, m, 0);
    does("A unlocks", 0, UNLOCK, m, 0);
    then("B has it", 1);
    does("A tries", 0, TRYLOCK, m, 0);
    does("A tries for 30 ms", 0, TIMEDLOCK, m, 30);
    does("A tries until the past", 0, TIMEDLOCK, m, LONG_PAST);
    does("A tries until before 1970", 0, TIMEDLOCK, m, BEFORE_TIME);
    does("A tries until an impossible time", 0, TIMEDLOCK, m, IMPOSSIBLE);
    waits("A tries for a minute", 0, TIMEDLOCK, m, FAR);
    does("B unlocks", 1, UNLOCK, m, 0);
    then("A has it", 0);
#ifdef __GLIBC__
    does("B tries for 20 ms by the monotonic clock", 1, LOCK_CLOCK_MONOTONIC, m, 20);
    does("B tries for 20 ms by the real-time clock", 1, LOCK_CLOCK_REALTIME, m, 20);
    does("B tries until the past by the monotonic clock", 1, LOCK_CLOCK_MONOTONIC, m, LONG_PAST);
    waits("B tries for a minute by the monotonic clock", 1, LOCK_CLOCK_MONOTONIC, m, FAR);
    does("A unlocks", 0, UNLOCK, m, 0);
    then("B has it", 1);
#else
    does("A unlocks", 0, UNLOCK, m, 0);
    does("B locks", 1, LOCK, m, 0);
#endif
    /* Three in a queue; who comes first is open, that all do is not. */
    for (int w = 0; w < EMPLOYED; w++)
        if (w != 1) waits(form("%c locks for a moment", 'A' + w), w, ADD, m, 1);
    does("B unlocks", 1, UNLOCK, m, 0);
    for (int w = 0; w < EMPLOYED; w++)
        if (w != 1) then(form("%c had it", 'A' + w), w);
    does("D tries until the past what is free", 3, TIMEDLOCK, m, LONG_PAST);
    does("D unlocks", 3, UNLOCK, m, 0);
    does("C tries what is free", 2, TRYLOCK, m, 0);
    /* One that gives up leaves the others in the queue. */
    waits("D locks", 3, LOCK, m, 0);
    does("A gives up after 20 ms", 0, TIMEDLOCK, m, 20);
    waits("B locks for a moment", 1, ADD, m, 1);
    does("C unlocks", 2, UNLOCK, m, 0);
    then("D has it", 3);
    does("D unlocks", 3, UNLOCK, m, 0);
    then("B had it", 1);
    long before = arena->plain[m];
    all_do("all count together", ADD, m, 60);
    printf("counted %ld\n", arena->plain[m] - before);
}

static void recursive(int m) {
    for (int i = 0; i < 3; i++) does("A locks", 0, LOCK, m, 0);
    does("A tries", 0, TRYLOCK, m, 0);
    does("A tries for 20 ms", 0, TIMEDLOCK, m, 20);
    does("B unlocks what A has", 1, UNLOCK, m, 0);
    waits("B locks", 1, LOCK, m, 0);
    for (int i = 0; i < 4; i++) does("A unlocks", 0, UNLOCK, m, 0);
    still("B", 1);
    does("A unlocks a fifth time", 0, UNLOCK, m, 0);
    then("B has it", 1);
    does("A unlocks what B has", 0, UNLOCK, m, 0);
    does("B unlocks", 1, UNLOCK, m, 0);
    does("B unlocks again", 1, UNLOCK, m, 0);
    does("A unlocks what nobody has", 0, UNLOCK, m, 0);
}

static void errorcheck(int m) {
    does("A locks", 0, LOCK, m, 0);
    does("A locks again", 0, LOCK, m, 0);
    does("A tries again", 0, TRYLOCK, m, 0);
    does("A tries for 20 ms again", 0, TIMEDLOCK, m, 20);
    does("B unlocks what A has", 1, UNLOCK, m, 0);
    does("A unlocks", 0, UNLOCK, m, 0);
    does("A unlocks again", 0, UNLOCK, m, 0);
    does("C unlocks what nobody has", 2, UNLOCK, m, 0);
}

static void normal(int m) {
    does("A locks", 0, LOCK, m, 0);
    does("A tries again", 0, TRYLOCK, m, 0);
    does("A waits for itself, 20 ms", 0, TIMEDLOCK, m, 20);
    does("A unlocks", 0, UNLOCK, m, 0);
    /* A real deadlock, until somebody else unlocks: undefined by POSIX, plain in both libraries. */
    does("A locks", 0, LOCK, m, 0);
    waits("A locks again", 0, LOCK, m, 0);
    does("B unlocks what A has", 1, UNLOCK, m, 0);
    then("A has it twice", 0);
    does("A unlocks", 0, UNLOCK, m, 0);
}

static void attributes(void) {
    pthread_mutexattr_t a;
    int got = -1;
    need(pthread_mutexattr_init(&a) == 0, "pthread_mutexattr_init");
    printf("unknown type %s\n", told(pthread_mutexattr_settype(&a, 77)));
    printf("unknown sharing %s\n", told(pthread_mutexattr_setpshared(&a, 77)));
    printf("unknown robustness %s\n", told(pthread_mutexattr_setrobust(&a, 77)));
    printf("unknown protocol %s\n", told(pthread_mutexattr_setprotocol(&a, 77)));
    printf("default sharing %s\n", told(pthread_mutexattr_getpshared(&a, &got)));
    holds("is private", got == PTHREAD_PROCESS_PRIVATE);
    printf("sharing %s\n", told(pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED)));
    pthread_mutexattr_getpshared(&a, &got);
    holds("is shared", got == PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_gettype(&a, &got);
    holds("the default type", got == PTHREAD_MUTEX_DEFAULT);
    pthread_mutexattr_getrobust(&a, &got);
    holds("not robust", got == PTHREAD_MUTEX_STALLED);
    printf("destroy %s\n", told(pthread_mutexattr_destroy(&a)));
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int type;
        void (*more)(int);
    } types[] = {
        {"normal", PTHREAD_MUTEX_NORMAL, normal},
        {"recursive", PTHREAD_MUTEX_RECURSIVE, recursive},
        {"error-checking", PTHREAD_MUTEX_ERRORCHECK, errorcheck},
        {"default", PTHREAD_MUTEX_DEFAULT, normal},
    };
    if (opened(argc, argv)) {
        attributes();
        for (int m = 0; m < 4; m++) {
            printf("--- %s\n", types[m].name);
            new_mutex(m, types[m].type);
            of_any_type(m);
            types[m].more(m);
            printf("destroy %s\n", told(pthread_mutex_destroy(&objects[m].mutex)));
        }
    }
    return closed();
}
