/* Two copies show each other times through a segment: one that was read before it was shown is never later than the
 * reader's own. First neither waits, then they take turns.   usage: stamps LOOKS TURNS */
#include "common.h"

static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW};
enum { CLOCKS = sizeof clocks / sizeof clocks[0] };

struct court {
    struct meeting meeting;
    _Atomic int64_t shown[2][CLOCKS];
    /* Counts hand-overs: copy 0 acts on even numbers, copy 1 on odd ones. */
    _Atomic uint32_t turn;
};

static int64_t now(int clock, int by_call) {
    struct timespec t;
    need((by_call ? syscall(SYS_clock_gettime, (long)clocks[clock], &t) : clock_gettime(clocks[clock], &t)) == 0,
         "the time");
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Looks at the other's times, and shows new ones. Returns how many of the other's come from the future. */
static int look(struct court *court, int by_call) {
    int late = 0;
    for (int i = 0; i < CLOCKS; i++) {
        int64_t theirs = atomic_load_explicit(&court->shown[!rank()][i], memory_order_acquire);
        late += theirs > now(i, by_call);
        atomic_store_explicit(&court->shown[rank()][i], now(i, by_call), memory_order_release);
    }
    return late;
}

int main(int argc, char **argv) {
    long looks = argc > 1 ? atol(argv[1]) : 50000, turns = argc > 2 ? atol(argv[2]) : 1000, late = 0;
    need(copies() == 2, "two copies");
    key_t key = 0x5a31;
    struct court *court = attached(segment_of_all(key, sizeof *court), NULL, 0);
    meet(&court->meeting);
    for (long i = 0; i < looks; i++) late += look(court, 0);
    for (uint32_t turn = (uint32_t)rank(); turn < 2 * turns; turn += 2) {
        for (int spins = 1; atomic_load_explicit(&court->turn, memory_order_acquire) != turn; spins++)
            if (spins % 20000 == 0) sched_yield();
        /* Both ways of reading a clock, in both directions. */
        late += look(court, turn % 64 >= 62);
        atomic_store_explicit(&court->turn, turn + 1, memory_order_release);
    }
    meet(&court->meeting);
    printf("%ld looks, %ld turns: %ld times from the future\n", looks, turns, late);
    if (rank() == 0) says("remove", shmctl(shmget(key, 0, 0), IPC_RMID, NULL));
    return late != 0;
}
