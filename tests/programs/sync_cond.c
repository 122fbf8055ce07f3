/* Condition variables.   usage: sync_cond threads|private|forks (sync.h)
 * Object 0 is the mutex, objects 1 and 2 the condition variables: one by the real-time clock, one by the monotonic one.
 * That a worker waits is known without waiting for it: it counts itself in while it has the mutex, and only waiting
 * gives the mutex back. */
#include "sync.h"

enum {
    WAIT, TIMEDWAIT, SIGNAL, BROADCAST, TAKE, GIVE, ROUND, WAIT_CLOCK_MONOTONIC, WAIT_CLOCK_REALTIME, BARE_WAIT,
    LOCK, UNLOCK, PRODUCE, CONSUME, LATE_WAIT
};
enum { MUTEX, REAL, MONOTONIC, NOT_EMPTY, NOT_FULL };
enum { INSIDE, TOKENS, TURN, HELD, IN, OUT, SUM }; /* plain cells, which the mutex protects */
enum { SLOTS = 5 };

static clockid_t clock_of(int object) { return object == MONOTONIC ? CLOCK_MONOTONIC : CLOCK_REALTIME; }

static long perform(int me, int what, int object, long argument) {
    pthread_mutex_t *mutex = &objects[MUTEX].mutex;
    pthread_cond_t *cond = &objects[object].cond;
    volatile long *plain = arena->plain;
    int error = 0;
    clockid_t clock = what == WAIT_CLOCK_MONOTONIC ? CLOCK_MONOTONIC : what == WAIT_CLOCK_REALTIME ? CLOCK_REALTIME : clock_of(object);
    struct timespec until = deadline(clock, argument);
    switch (what) {
    case SIGNAL: return pthread_cond_signal(cond);
    case BROADCAST: return pthread_cond_broadcast(cond);
    case LOCK: return pthread_mutex_lock(&objects[object].mutex);
    case UNLOCK: return pthread_mutex_unlock(&objects[object].mutex);
    case BARE_WAIT: return pthread_cond_wait(cond, mutex);
    }
    if ((error = pthread_mutex_lock(mutex))) return error;
    plain[INSIDE]++;
    switch (what) {
    case WAIT:
        error = pthread_cond_wait(cond, mutex);
        plain[HELD]++;
        break;
    case TIMEDWAIT: error = on_time(clock, &until, pthread_cond_timedwait(cond, mutex, &until)); break;
    case LATE_WAIT: /* As TIMEDWAIT, when the conductor says so. */
        for (int looks = 0; atomic_load(&arena->cells[0]) == 0; look_again(&looks)) {}
        until = deadline(clock, argument);
        error = on_time(clock, &until, pthread_cond_timedwait(cond, mutex, &until));
        break;
#ifdef __GLIBC__
    case WAIT_CLOCK_MONOTONIC:
    case WAIT_CLOCK_REALTIME: error = on_time(clock, &until, pthread_cond_clockwait(cond, mutex, clock, &until)); break;
#endif
    case TAKE: /* A token, waiting `argument` milliseconds for it at most. */
        while (plain[TOKENS] == 0 && error == 0) error = pthread_cond_timedwait(cond, mutex, &until);
        if (plain[TOKENS] > 0) error = 0, plain[TOKENS]--;
        break;
    case GIVE: plain[TOKENS] += argument; break;
    case ROUND: /* `argument` turns, in the order of the workers. */
        for (long i = 0; i < argument && !error; i++) {
            while (plain[TURN] % EMPLOYED != me && !error) error = pthread_cond_wait(cond, mutex);
            plain[TURN]++;
            pthread_cond_broadcast(cond);
        }
        break;
    case PRODUCE: /* Numbers up to `argument` through a buffer of five slots. */
        for (long i = 1; i <= argument && !error; i++) {
            while (plain[IN] - plain[OUT] == SLOTS && !error) error = pthread_cond_wait(&objects[NOT_FULL].cond, mutex);
            plain[32 + plain[IN]++ % SLOTS] = i;
            pthread_cond_signal(&objects[NOT_EMPTY].cond);
        }
        break;
    case CONSUME:
        for (long i = 1; i <= argument && !error; i++) {
            while (plain[IN] == plain[OUT] && !error) error = pthread_cond_wait(&objects[NOT_EMPTY].cond, mutex);
            plain[SUM] += plain[32 + plain[OUT]++ % SLOTS];
            pthread_cond_signal(&objects[NOT_FULL].cond);
        }
        break;
    }
    plain[INSIDE]--;
    int unlocked = pthread_mutex_unlock(mutex);
    return error ? error : unlocked;
}

static void new_mutex(int object, int type) {
    pthread_mutexattr_t attributes;
    need(pthread_mutexattr_init(&attributes) == 0, "pthread_mutexattr_init");
    need(pthread_mutexattr_settype(&attributes, type) == 0, "pthread_mutexattr_settype");
    need(pthread_mutexattr_setpshared(&attributes, shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE) == 0, "setpshared");
    need(pthread_mutex_init(&objects[object].mutex, &attributes) == 0, "pthread_mutex_init");
}
static void new_cond(int object) {
    pthread_condattr_t attributes;
    need(pthread_condattr_init(&attributes) == 0, "pthread_condattr_init");
    need(pthread_condattr_setpshared(&attributes, shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE) == 0, "setpshared");
    need(pthread_condattr_setclock(&attributes, clock_of(object)) == 0, "pthread_condattr_setclock");
    need(pthread_cond_init(&objects[object].cond, &attributes) == 0, "pthread_cond_init");
}

static void wait_until_inside(int count) { UNTIL(arena->plain[INSIDE] == count, "the workers to be inside"); }
/* Until `count` workers wait, and have given the mutex back. */
static void wait_inside(int count) {
    for (int inside = -1; inside != count;) {
        wait_until_inside(count);
        need(ask(3, LOCK, MUTEX, 0) == 0, "the mutex");
        inside = arena->plain[INSIDE];
        need(ask(3, UNLOCK, MUTEX, 0) == 0, "the mutex");
    }
}

static void signalling(int c) {
    does("D signals nobody", 3, SIGNAL, c, 0);
    does("D broadcasts to nobody", 3, BROADCAST, c, 0);
    waits("A waits", 0, WAIT, c, 0);
    wait_inside(1);
    does("D signals", 3, SIGNAL, c, 0);
    then("A", 0);
    for (int w = 0; w < 3; w++) order(w, WAIT, c, 0);
    wait_inside(3);
    does("D broadcasts to three", 3, BROADCAST, c, 0);
    for (int w = 0; w < 3; w++) then(form("%c", 'A' + w), w);
    /* With the mutex held, whoever is woken waits for the mutex. */
    for (int w = 0; w < 3; w++) order(w, WAIT, c, 0);
    wait_inside(3);
    arena->plain[HELD] = 0;
    does("D locks", 3, LOCK, MUTEX, 0);
    does("D broadcasts", 3, BROADCAST, c, 0);
    for (int w = 0; w < 3; w++) still(form("%c", 'A' + w), w);
    printf("woken %ld\n", arena->plain[HELD]);
    does("D unlocks", 3, UNLOCK, MUTEX, 0);
    for (int w = 0; w < 3; w++) then(form("%c", 'A' + w), w);
    printf("woken %ld\n", arena->plain[HELD]);
    /* A signal wakes one of three, and the next one another: by tokens, as a waiter may wake without one. */
    for (int w = 0; w < 3; w++) order(w, TAKE, c, FAR);
    wait_inside(3);
    for (int given = 1; given <= 3; given++) {
        does("D gives one", 3, GIVE, c, 1);
        does("D signals", 3, SIGNAL, c, 0);
        UNTIL(done(0) + done(1) + done(2) == given, "one to take it");
        nap(5000);
        printf("taken by %d\n", done(0) + done(1) + done(2));
    }
    for (int w = 0; w < 3; w++) then(form("%c", 'A' + w), w);
}

static void timing(int c) {
    does("A waits 30 ms", 0, TIMEDWAIT, c, 30);
    does("A waits until the past", 0, TIMEDWAIT, c, LONG_PAST);
    does("A waits until before the clock began", 0, TIMEDWAIT, c, BEFORE_TIME);
    does("A waits until an impossible time", 0, TIMEDWAIT, c, IMPOSSIBLE);
    waits("A waits a minute", 0, TIMEDWAIT, c, FAR);
    wait_inside(1);
    does("D signals", 3, SIGNAL, c, 0);
    then("A", 0);
    /* One gives up, the other does not. */
    waits("A waits a minute", 0, TIMEDWAIT, c, FAR);
    wait_inside(1);
    does("B waits 20 ms", 1, TIMEDWAIT, c, 20);
    does("D signals", 3, SIGNAL, c, 0);
    then("A", 0);
    /* A time-out while another has the mutex: it comes back with the mutex, later. */
    atomic_store(&arena->cells[0], 0);
    order(0, LATE_WAIT, c, 100);
    wait_until_inside(1);
    order(3, LOCK, MUTEX, 0); /* It gets the mutex from A's waiting. */
    nap(5000);
    atomic_store(&arena->cells[0], 1);
    then("D locks", 3);
    nap(130000);
    still("A waits 100 ms, but D has the mutex, and A", 0);
    does("D unlocks", 3, UNLOCK, MUTEX, 0);
    then("A", 0);
#ifdef __GLIBC__
    for (int what = WAIT_CLOCK_MONOTONIC; what <= WAIT_CLOCK_REALTIME; what++) {
        printf("by the %s clock, whatever its own is\n", what == WAIT_CLOCK_MONOTONIC ? "monotonic" : "real-time");
        does("A waits 20 ms", 0, what, c, 20);
        does("A waits until the past", 0, what, c, LONG_PAST);
        waits("A waits a minute", 0, what, c, FAR);
        wait_inside(1);
        does("D broadcasts", 3, BROADCAST, c, 0);
        then("A", 0);
    }
#endif
}

int main(int argc, char **argv) {
    if (opened(argc, argv)) {
        pthread_condattr_t attributes;
        clockid_t clock = -1;
        pthread_condattr_init(&attributes);
        pthread_condattr_getclock(&attributes, &clock);
        holds("the default clock is the real-time one", clock == CLOCK_REALTIME);
        printf("no such clock %s\n", told(pthread_condattr_setclock(&attributes, 99)));
        printf("a process's clock %s\n", told(pthread_condattr_setclock(&attributes, CLOCK_PROCESS_CPUTIME_ID)));
        for (int c = REAL; c <= MONOTONIC; c++) {
            printf("--- by the %s clock, with %s mutex\n", c == REAL ? "real-time" : "monotonic", c == REAL ? "a normal" : "an error-checking");
            new_mutex(MUTEX, c == REAL ? PTHREAD_MUTEX_NORMAL : PTHREAD_MUTEX_ERRORCHECK);
            new_cond(c);
            signalling(c);
            timing(c);
            all_do("all take turns", ROUND, c, 12);
            printf("turns %ld\n", arena->plain[TURN]);
            printf("destroy %s\n", told(pthread_cond_destroy(&objects[c].cond)));
            new_cond(NOT_EMPTY), new_cond(NOT_FULL);
            for (int w = 0; w < 4; w++) order(w, w % 2 ? CONSUME : PRODUCE, NOT_FULL, 60);
            for (int w = 0; w < 4; w++) then(w % 2 ? "consumer" : "producer", w);
            printf("in %ld out %ld sum %ld\n", arena->plain[IN], arena->plain[OUT], arena->plain[SUM]);
        }
        printf("--- mistakes\n");
        does("A waits with a mutex it has not", 0, BARE_WAIT, NOT_EMPTY, 0);
        does("B locks", 1, LOCK, MUTEX, 0);
        does("A waits with B's", 0, BARE_WAIT, NOT_EMPTY, 0);
        does("B unlocks", 1, UNLOCK, MUTEX, 0);
    }
    return closed();
}
