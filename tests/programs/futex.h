/* futex(2) for test programs: linux/futex.h is something musl does not bring along. */
#ifndef FUTEX_H
#define FUTEX_H
#include "common.h"

enum {
    FUTEX_WAIT = 0, FUTEX_WAKE = 1, FUTEX_FD = 2, FUTEX_REQUEUE = 3, FUTEX_CMP_REQUEUE = 4, FUTEX_WAKE_OP = 5,
    FUTEX_LOCK_PI = 6, FUTEX_WAIT_BITSET = 9, FUTEX_WAKE_BITSET = 10,
    FUTEX_PRIVATE = 128, FUTEX_CLOCK_REALTIME = 256
};
#define FUTEX_WAITERS 0x80000000u
#define FUTEX_OWNER_DIED 0x40000000u
#define FUTEX_TID_MASK 0x3fffffffu
#define EVERY_BIT (~0u)
#define HOUR 3600

typedef _Atomic uint32_t word;

static inline long futex(const volatile void *address, long operation, long value, const void *timeout, const volatile void *second,
                         long value3) {
    return syscall(SYS_futex, address, operation, value, timeout, second, value3);
}
static inline long futex_wait(const word *at, uint32_t value) { return futex(at, FUTEX_WAIT, value, NULL, NULL, 0); }
static inline long futex_wake(const word *at, int count) { return futex(at, FUTEX_WAKE, count, NULL, NULL, 0); }
/* The second count goes where other operations have the time. */
static inline long futex_requeue(const word *from, int wake, int move, const word *to) {
    return futex(from, FUTEX_REQUEUE, wake, (void *)(long)move, to, 0);
}
static inline long futex_cmp_requeue(const word *from, int wake, int move, const word *to, uint32_t value) {
    return futex(from, FUTEX_CMP_REQUEUE, wake, (void *)(long)move, to, value);
}

/* How many wait for the word: a requeue to itself, which wakes nobody and moves nobody, counts them. */
static inline long waiters(const word *at) { return futex_requeue(at, 0, INT32_MAX, at); }

static inline void until_waiters(const word *at, long count) {
    while (waiters(at) != count) nap(500);
}

/* Tells, and waits to be told. */
static inline void tell(word *at, uint32_t value) {
    *at = value;
    futex_wake(at, INT32_MAX);
}
static inline void until(const word *at, uint32_t value) {
    for (uint32_t is; (is = *at) != value;) futex_wait(at, is);
}

/* As `meet`, asleep: with a guest for each copy, copies that look all the time would keep each other from running. */
static inline void gather(struct meeting *meeting) {
    uint32_t all = (uint32_t)copies(), mine = atomic_fetch_add(&meeting->arrived, 1), target = (mine / all + 1) * all, is;
    if (mine + 1 == target) futex_wake(&meeting->arrived, INT32_MAX);
    while ((is = meeting->arrived) < target) futex_wait(&meeting->arrived, is);
}

/* Whether `since` is as long ago as it should be. */
static inline struct timespec now(clockid_t clock) {
    struct timespec time;
    need(clock_gettime(clock, &time) == 0, "clock_gettime");
    return time;
}
static inline struct timespec after(struct timespec time, long nanoseconds) {
    time.tv_nsec += nanoseconds % 1000000000;
    time.tv_sec += nanoseconds / 1000000000 + time.tv_nsec / 1000000000;
    time.tv_nsec %= 1000000000;
    return time;
}
static inline int is_past(clockid_t clock, struct timespec time) {
    struct timespec it_is = now(clock);
    return it_is.tv_sec > time.tv_sec || (it_is.tv_sec == time.tv_sec && it_is.tv_nsec >= time.tv_nsec);
}
#endif
