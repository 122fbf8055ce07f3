/* One time for all: whatever a worker reads from a clock and leaves in shared memory, no other reads an earlier one
 * afterwards; deadlines mean the same to all.   usage: sync_clock threads|forks (sync.h) */
#include "sync.h"
#include <sys/time.h>

enum { RACE, ALONE, SLEEP, SLEEP_UNTIL, FUTEX, FOLLOW };
static const struct { const char *name; clockid_t clock; } clocks[] = {
    {"monotonic", CLOCK_MONOTONIC}, {"real-time", CLOCK_REALTIME}, {"boot", CLOCK_BOOTTIME}, {"raw monotonic", CLOCK_MONOTONIC_RAW},
    {"atomic", CLOCK_TAI}, {"coarse monotonic", CLOCK_MONOTONIC_COARSE}, {"coarse real-time", CLOCK_REALTIME_COARSE},
};
enum { CLOCKS = sizeof clocks / sizeof *clocks, WALL = CLOCKS };

/* The time the C library tells, by the vDSO if there is one, or the kernel itself. */
static int64_t library_or_kernel(clockid_t clock, int kernel) {
    if (!kernel) return clock_now(clock);
    struct timespec t;
    need(syscall(SYS_clock_gettime, clock, &t) == 0, "clock_gettime");
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}
static void leave(_Atomic long *last, int64_t time) {
    long seen = atomic_load(last);
    while (seen < time && !atomic_compare_exchange_weak(last, &seen, time)) {}
}

static long perform(int me, int what, int object, long argument) {
    long wrong = 0;
    clockid_t clock = clocks[object % CLOCKS].clock;
    struct timespec until;
    struct timeval day;
    int64_t before, seen;
    switch (what) {
    case RACE:
        for (long i = 0; i < argument; i++) {
            seen = atomic_load(&arena->cells[object]);
            int64_t now = library_or_kernel(clock, i % 16 == 0);
            wrong += now < seen;
            leave(&arena->cells[object], now);
        }
        return value(wrong);
    case FOLLOW: /* gettimeofday and time, which cut off what they can't tell, are the same wall clock. */
        for (long i = 0; i < argument; i++) {
            seen = atomic_load(&arena->cells[WALL]);
            gettimeofday(&day, NULL);
            int64_t now = day.tv_sec * 1000000000LL + day.tv_usec * 1000LL;
            wrong += now + 999 < seen;
            /* time(2) may be a tick behind. */
            wrong += (time(NULL) + 1) * 1000000000LL + 20000000 < seen;
            leave(&arena->cells[WALL], now);
            wrong += clock_now(CLOCK_REALTIME) < now;
        }
        return value(wrong);
    case ALONE: /* Clocks that are the process's or the thread's own. */
        seen = 0;
        for (long i = 0; i < argument; i++) {
            int64_t now = library_or_kernel(object ? CLOCK_THREAD_CPUTIME_ID : CLOCK_PROCESS_CPUTIME_ID, i % 16 == 0);
            wrong += now < seen;
            seen = now;
        }
        return value(wrong);
    case SLEEP:
        for (long i = 0; i < argument; i++) {
            long microseconds = (i * 7 + me * 3) % 20 * 300;
            before = clock_now(CLOCK_MONOTONIC);
            nap(microseconds);
            int64_t took = clock_now(CLOCK_MONOTONIC) - before;
            wrong += took < microseconds * 1000 || took > 20000000000LL;
        }
        return value(wrong);
    case SLEEP_UNTIL:
        until = (struct timespec){argument / 1000000000, argument % 1000000000};
        need(clock_nanosleep(clock, TIMER_ABSTIME, &until, NULL) == 0, "clock_nanosleep");
        return on_time(clock, &until, clock_now(clock) < argument ? TOO_EARLY : 0);
    case FUTEX:
        for (long i = 0; i < argument; i++) {
            before = clock_now(clock) + (i * 7 + me * 3) % 20 * 300000;
            until = (struct timespec){before / 1000000000, before % 1000000000};
            long result = answer(futex(&objects[0].word, FUTEX_WAIT_BITSET | (clock == CLOCK_REALTIME ? FUTEX_CLOCK_REALTIME : 0), 0, &until, NULL, EVERY_BIT));
            wrong += result != ETIMEDOUT || on_time(clock, &until, result) != ETIMEDOUT;
        }
        return value(wrong);
    }
    return ENOSYS;
}

int main(int argc, char **argv) {
    if (opened(argc, argv)) {
        for (int c = 0; c < CLOCKS; c++) all_do(form("earlier than others' by the %s clock", clocks[c].name), RACE, c, 150);
        all_do("earlier than others' by the wall clock's other calls", FOLLOW, 0, 150);
        all_do("earlier than its own by the process's clock", ALONE, 0, 100);
        all_do("earlier than its own by the thread's clock", ALONE, 1, 100);
        all_do("naps too short or far too long", SLEEP, 0, 20);
        all_do("waits too short or far too long", FUTEX, 0, 20);
        all_do("waits too short or far too long, by the wall clock", FUTEX, 1, 20);
        for (int c = 0; c < 3; c++) all_do(form("all until one time of the %s clock", clocks[c].name), SLEEP_UNTIL, c, clock_now(clocks[c].clock) + 40000000);
        holds("the wall clock is the wall clock", atomic_load(&arena->cells[1]) > 1704067200L * 1000000000);
    }
    return closed();
}
