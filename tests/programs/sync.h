/* What the programs about synchronisation (sync_*.c) share. A conductor, the first copy's main thread, plays a scenario:
 * it gives workers orders, one at a time, and prints what each says of it. Workers are threads of one process, processes
 * forked from it, or either spread over the copies, which may be in different guests; the scenario, and so the
 * transcript, is always the same. Orders and answers pass through a segment; who waits for them sleeps for a moment at a
 * time and is woken if waking works, so that what is tested is not needed to test it, only to do so quickly.
 *
 *   usage: sync_* threads|private|forks
 *     threads: workers are threads; what they synchronise with lies in the segment and is PTHREAD_PROCESS_SHARED
 *     private: workers are threads; it lies in their process's own memory and is PTHREAD_PROCESS_PRIVATE
 *     forks:   workers are processes
 *
 * A program says what its workers can do (perform) and plays its scenario between opened() and closed(). */
#ifndef SYNC_H
#define SYNC_H
#include "conf.h"
#include "futex.h"
#include <pthread.h>
#include <semaphore.h>

/* Workers that are there from the start, and how many may be hired after them. */
#define EMPLOYED 4
#ifndef WORKERS
#define WORKERS EMPLOYED
#endif
#define OBJECTS 48

/* A worker's orders, which it gets one at a time. */
struct post {
    _Atomic uint32_t asked, begun, done;
    int what, object;
    long argument, result;
    _Atomic int hired, gone; /* It is to be there; it has died and can't be asked any more. */
} __attribute__((aligned(64)));

/* What is synchronised with. */
union object {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    pthread_rwlock_t rwlock;
    pthread_barrier_t barrier;
    pthread_spinlock_t spin;
    sem_t sem;
    _Atomic uint32_t word;
    char room[128];
} __attribute__((aligned(64)));

struct arena {
    struct meeting meeting;
    _Atomic int over, closing;
    struct post posts[WORKERS];
    union object objects[OBJECTS];
    _Atomic long cells[64];
    volatile long plain[64]; /* What a lock must protect. */
};

static struct arena *arena;
static union object own_objects[OBJECTS], *objects;
static int arena_id, forking, shared;

/* What a worker does when it is ordered `what`: the answer is 0, an error number, or one of the below. */
static long perform(int me, int what, int object, long argument);
enum { END = -1 };
enum { SERIAL = 10001, TOO_EARLY, TOO_LATE, VALUE = 1000000 };

static inline long answer(long result) { return result == -1 ? errno : 0; } /* For calls that set errno. */
static inline long value(long result) { return result == -1 ? errno : VALUE + result; }

/* --- time --- */

static inline int64_t clock_now(clockid_t clock) {
    struct timespec t;
    need(clock_gettime(clock, &t) == 0, "clock_gettime");
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}
/* Deadlines are told as milliseconds from now, or as one of these. */
enum { LONG_PAST = -1, IMPOSSIBLE = -2, BEFORE_TIME = -3, FAR = 60000 };
static inline struct timespec deadline(clockid_t clock, long milliseconds) {
    if (milliseconds == BEFORE_TIME) return (struct timespec){-1, 0};
    int64_t then = clock_now(clock) + (milliseconds < 0 ? -1000 : milliseconds) * 1000000LL;
    struct timespec t = {then / 1000000000, then % 1000000000};
    if (milliseconds == IMPOSSIBLE) t.tv_sec += 60, t.tv_nsec = 1000000000;
    return t;
}
/* A time-out must not come before its time, and not absurdly late. */
static inline long on_time(clockid_t clock, const struct timespec *until, long result) {
    int64_t then = until->tv_sec * 1000000000LL + until->tv_nsec, now = clock_now(clock);
    if (result == ETIMEDOUT && now < then) return TOO_EARLY;
    if (result == ETIMEDOUT && until->tv_sec > 0 && now > then + 20000000000LL) return TOO_LATE;
    return result;
}

/* --- waiting without what is tested --- */

#define PATIENCE 40000000000LL /* nanoseconds */

static inline void look_again(int *looks) {
    nap(100 << (*looks < 4 ? *looks : 4));
    ++*looks;
}
#define UNTIL(condition, what)                                                                        \
    do {                                                                                              \
        int64_t began = clock_now(CLOCK_MONOTONIC);                                                   \
        for (int looks = 0; !(condition); look_again(&looks)) {                                       \
            if (looks == 500) fflush(stdout);                                                         \
            if (clock_now(CLOCK_MONOTONIC) - began > PATIENCE) need(0, what);                          \
        }                                                                                             \
    } while (0)

/* --- workers --- */

/* Until the word there is `value`, as said above; not if that takes too long. */
static inline int becomes(const _Atomic uint32_t *at, uint32_t value, int64_t patience) {
    int64_t began = clock_now(CLOCK_MONOTONIC);
    struct timespec moment = {0, 200000000};
    for (uint32_t seen; (seen = atomic_load(at)) != value;) {
        if (atomic_load(&arena->over)) return 0;
        if (clock_now(CLOCK_MONOTONIC) - began > patience) return 0;
        if (futex(at, FUTEX_WAIT, seen, &moment, NULL, 0) && errno == ETIMEDOUT && patience == PATIENCE) fflush(stdout);
    }
    return 1;
}
static void work(int me) {
    struct post *post = &arena->posts[me];
    for (uint32_t number = 1;; number++) {
        if (!becomes(&post->asked, number, INT64_MAX) || post->what == END) return;
        atomic_store(&post->begun, number);
        post->result = perform(me, post->what, post->object, post->argument);
        atomic_store(&post->done, number);
        futex_wake(&post->done, 1);
    }
}
static void *thread_of(void *me) {
    work((int)(intptr_t)me);
    return NULL;
}

static pthread_t threads[WORKERS];
static pid_t children[WORKERS];
static int there[WORKERS];
static inline int mine(int worker) { return worker % copies() == rank(); }

/* Starts those of this copy's workers that are hired and not there yet. */
static inline void employ(void) {
    for (int w = 0; w < WORKERS; w++) {
        if (!mine(w) || there[w] || !atomic_load(&arena->posts[w].hired)) continue;
        there[w] = 1;
        if (!forking) need(pthread_create(&threads[w], NULL, thread_of, (void *)(intptr_t)w) == 0, "pthread_create");
        else if ((children[w] = forked()) == 0) work(w), _exit(0);
    }
}
static inline void dismiss(void) {
    for (int w = 0; w < WORKERS; w++) {
        if (!there[w]) continue;
        if (forking) need(waitpid(children[w], NULL, 0) == children[w], "waitpid");
        else if (!atomic_load(&arena->posts[w].gone)) need(pthread_join(threads[w], NULL) == 0, "pthread_join");
    }
}

static inline void give(int worker, int what, int object, long argument) {
    struct post *post = &arena->posts[worker];
    need(atomic_load(&post->asked) == atomic_load(&post->done), "the worker to have no other order");
    post->what = what, post->object = object, post->argument = argument;
    atomic_fetch_add(&post->asked, 1);
    futex_wake(&post->asked, 1);
}
/* Nobody waits for a conductor that has given up. */
static void at_the_end(void) {
    if (rank() == 0) atomic_store(&arena->over, 1);
}
/* Everybody is there. True in the conductor. */
static inline int opened(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "threads";
    forking = strcmp(mode, "forks") == 0;
    shared = strcmp(mode, "private") != 0;
    need(shared || copies() == 1, "threads of one process to be private");
    arena_id = segment_of_all(0x5c, sizeof *arena);
    /* Each copy attaches elsewhere: nothing may depend on addresses. */
    arena = attached(arena_id, FREE_PLACE + (unsigned long)rank() * 0x1234000, 0);
    objects = shared ? arena->objects : own_objects;
    atexit(at_the_end);
    for (int w = 0; w < EMPLOYED; w++) atomic_store(&arena->posts[w].hired, 1);
    employ();
    meet(&arena->meeting);
    return rank() == 0;
}
static inline int closed(void) {
    if (rank() != 0)
        for (; !atomic_load(&arena->closing) && !atomic_load(&arena->over); nap(2000)) employ();
    else
        for (int w = 0; w < WORKERS; w++) {
            atomic_store(&arena->closing, 1);
            if (!atomic_load(&arena->posts[w].hired) || atomic_load(&arena->posts[w].gone)) continue;
            give(w, END, 0, 0);
        }
    dismiss();
    meet(&arena->meeting);
    if (rank() == 0) removed(arena_id);
    return 0;
}

/* --- the conductor --- */

/* Gives an order and returns when the worker has begun it. */
static inline void order(int worker, int what, int object, long argument) {
    give(worker, what, object, argument);
    UNTIL(atomic_load(&arena->posts[worker].begun) == atomic_load(&arena->posts[worker].asked), "a worker to begin");
}
static inline int done(int worker) {
    return atomic_load(&arena->posts[worker].done) == atomic_load(&arena->posts[worker].asked);
}
static inline long result(int worker) {
    need(becomes(&arena->posts[worker].done, atomic_load(&arena->posts[worker].asked), PATIENCE), form("worker %d to have done it", worker));
    return arena->posts[worker].result;
}
static inline long ask(int worker, int what, int object, long argument) {
    give(worker, what, object, argument);
    return result(worker);
}
static inline const char *told(long result) {
    if (result >= VALUE) return form("%ld", result - VALUE);
    switch (result) {
    case 0: return "ok";
    case SERIAL: return "serial";
    case TOO_EARLY: return "ended too early";
    case TOO_LATE: return "ended far too late";
    default: return errno_name((int)result);
    }
}
/* `name ok` or what else it was. */
static inline void does(const char *name, int worker, int what, int object, long argument) {
    printf("%s %s\n", name, told(ask(worker, what, object, argument)));
}
/* `name waits`: it has not done it a while later. */
static inline void waits(const char *name, int worker, int what, int object, long argument) {
    order(worker, what, object, argument);
    nap(8000);
    printf("%s %s\n", name, done(worker) ? told(result(worker)) : "waits");
}
/* `name waits`: it still has not. */
static inline void still(const char *name, int worker) {
    nap(8000);
    printf("%s %s\n", name, done(worker) ? told(result(worker)) : "waits");
}
/* What came of an order that had to wait. */
static inline void then(const char *name, int worker) { printf("%s %s\n", name, told(result(worker))); }
/* The same order to all who are there from the start, at once, each must answer `expected`. */
static inline void all_do(const char *name, int what, int object, long argument) {
    for (int w = 0; w < EMPLOYED; w++) give(w, what, object, argument);
    long first = result(0);
    int same = 1;
    for (int w = 1; w < EMPLOYED; w++) same &= result(w) == first;
    printf("%s %s\n", name, same ? told(first) : "not the same");
}
/* One more worker. */
static inline void hire(int worker) {
    atomic_store(&arena->posts[worker].hired, 1);
    employ();
}
/* An order that kills the worker. */
static inline void kills(int worker, int what, int object, long argument) {
    order(worker, what, object, argument);
    atomic_store(&arena->posts[worker].gone, 1);
}
#endif
