/* How long it takes to hand a word back and forth by futex: two copies take turns, each sleeps until the other has
 * written and woken it; and how long from a store to the return of who slept until then. Not a test (nothing here is the same twice): a measurement, for docs/waiting.md.
 *   natively:       TOMBOLO_PROCS=2 taskset -c 0 ./futex_round_trip & TOMBOLO_PROCS=2 TOMBOLO_PROC=1 taskset -c 1 ./futex_round_trip
 *   in one guest:   tombolo run --vcpus 2 --procs 2 ./futex_round_trip
 *   across guests:  tombolo run -n 2 ./futex_round_trip
 * Arguments: round trips to time (2000), and looks at the word before going to sleep (0). */
#include "futex.h"

struct shared {
    struct meeting meeting;
    _Alignas(64) word turn;
    _Alignas(64) volatile uint64_t stored;
};

/* Reading a clock by a system call would cost as much as what is measured. */
static uint64_t tsc(void) {
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double ticks_a_microsecond(void) {
    struct timespec start = now(CLOCK_MONOTONIC), end;
    uint64_t ticks = tsc();
    nap(100000);
    end = now(CLOCK_MONOTONIC);
    return (double)(tsc() - ticks) * 1000 / (double)((end.tv_sec - start.tv_sec) * 1000000000 + end.tv_nsec - start.tv_nsec);
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 2000, spins = argc > 2 ? atoi(argv[2]) : 0, me = rank();
    uint64_t *took = calloc((size_t)rounds, sizeof *took), sleeps = 0;
    need(copies() == 2, "two copies");
    double microsecond = ticks_a_microsecond();
    int id = segment_of_all(0xf07f, sizeof(struct shared));
    struct shared *s = attached(id, NULL, 0);
    /* The first pass warms up. */
    for (int pass = 0; pass < 2; pass++) {
        meet(&s->meeting);
        if (me == 0) s->turn = 0;
        meet(&s->meeting);
        sleeps = 0;
        for (int i = 0; i < rounds; i++) {
            uint64_t start = tsc();
            for (uint32_t mine = (uint32_t)(2 * i + me), is; (is = s->turn) != mine;) {
                int left = spins;
                while (left > 0 && s->turn == is) left--;
                if (s->turn == is) sleeps += futex_wait(&s->turn, is) == 0;
            }
            s->turn = (uint32_t)(2 * i + me + 1);
            futex_wake(&s->turn, 1);
            took[i] = tsc() - start;
        }
    }
    qsort(took, (size_t)rounds, sizeof *took, by_size);
    if (me == 0)
        printf("%d round trips, microseconds: least %.1f, median %.1f, 90%% below %.1f; slept in %d%%\n", rounds,
               (double)took[0] / microsecond, (double)took[rounds / 2] / microsecond,
               (double)took[rounds * 9 / 10] / microsecond, (int)(sleeps * 100 / (uint64_t)rounds));
    /* The clock is one for all guests, so it can be read on one side and compared on the other. */
    rounds /= 4;
    meet(&s->meeting);
    if (me == 0) s->turn = 0;
    meet(&s->meeting);
    for (int i = 0; i < rounds; i++) {
        if (me == 1) {
            futex_wait(&s->turn, (uint32_t)i);
            took[i] = tsc() - s->stored;
        } else {
            until_waiters(&s->turn, 1);
            nap(1000);
            s->stored = tsc();
            s->turn = (uint32_t)i + 1;
            futex_wake(&s->turn, 1);
        }
    }
    qsort(took, (size_t)rounds, sizeof *took, by_size);
    if (me == 1)
        printf("%d wake-ups, microseconds: least %.1f, median %.1f, 90%% below %.1f\n", rounds, (double)took[0] / microsecond,
               (double)took[rounds / 2] / microsecond, (double)took[rounds * 9 / 10] / microsecond);
    return me == 0 ? shmctl(id, IPC_RMID, NULL) : 0;
}
