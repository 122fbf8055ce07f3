/* futex(2) within one process: what needs no second one. */
#include "common.h"

/* From linux/futex.h, which musl does not bring along. */
enum {
    FUTEX_WAIT = 0, FUTEX_WAKE = 1, FUTEX_WAIT_BITSET = 9, FUTEX_WAKE_BITSET = 10,
    FUTEX_PRIVATE = 128, FUTEX_CLOCK_REALTIME = 256
};

static long futex(void *word, int operation, unsigned value, const struct timespec *timeout, unsigned mask) {
    return syscall(SYS_futex, word, operation, value, timeout, NULL, mask);
}

int main(void) {
    static uint32_t words[4] = {7};
    struct timespec shortly = {0, 5000000};
    says("wait, other value", futex(words, FUTEX_WAIT, 8, NULL, 0));
    says("wait, time over", futex(words, FUTEX_WAIT, 7, &shortly, 0));
    says("wait privately, time over", futex(words, FUTEX_WAIT | FUTEX_PRIVATE, 7, &shortly, 0));
    says("wait, no time at all", futex(words, FUTEX_WAIT, 7, &(struct timespec){0, 0}, 0));
    says_value("wake, none waits", futex(words, FUTEX_WAKE, 1, NULL, 0));
    says_value("wake all, none waits", futex(words, FUTEX_WAKE | FUTEX_PRIVATE, INT32_MAX, NULL, 0));
    says("wait, unaligned", futex((char *)words + 1, FUTEX_WAIT, 7, &shortly, 0));
    says("wait, bad address", futex((void *)16, FUTEX_WAIT, 7, &shortly, 0));
    says("wait, kernel address", futex((void *)0xffff800000200000UL, FUTEX_WAIT, 7, &shortly, 0));
    says("wake, unaligned", futex((char *)words + 2, FUTEX_WAKE, 1, NULL, 0));
    says("wait, impossible time", futex(words, FUTEX_WAIT, 7, &(struct timespec){0, 1000000000}, 0));
    says("wait, negative time", futex(words, FUTEX_WAIT, 7, &(struct timespec){-1, 0}, 0));
    says("wait, time at a bad address", futex(words, FUTEX_WAIT, 7, (void *)16, 0));
    says("wait bitset, mask 0", futex(words, FUTEX_WAIT_BITSET, 7, &shortly, 0));
    says("wait bitset, past", futex(words, FUTEX_WAIT_BITSET, 7, &shortly, ~0u));
    says("wait bitset by wall clock, past", futex(words, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 7, &shortly, ~0u));
    says("wait bitset, other value", futex(words, FUTEX_WAIT_BITSET, 6, NULL, ~0u));
    says_value("wake bitset", futex(words, FUTEX_WAKE_BITSET, 1, NULL, ~0u));
    says("unknown operation", futex(words, 77, 1, NULL, 0));
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    futex(words, FUTEX_WAIT, 7, &(struct timespec){0, 20000000}, 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    long took = (end.tv_sec - start.tv_sec) * 1000000000 + end.tv_nsec - start.tv_nsec;
    holds("20 ms take at least that", took >= 20000000);
    holds("and not a second", took < 1000000000);
    int id = shmget(IPC_PRIVATE, PAGE, 0600);
    void *shared = attached(id, NULL, 0);
    need(shmctl(id, IPC_RMID, NULL) == 0, "IPC_RMID");
    says("wait in a segment, other value", futex(shared, FUTEX_WAIT, 8, NULL, 0));
    says("wait in a segment, time over", futex(shared, FUTEX_WAIT, 0, &shortly, 0));
    says_value("wake in a segment", futex(shared, FUTEX_WAKE, 1, NULL, 0));
    return 0;
}
