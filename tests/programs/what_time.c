/* What its clocks say, in nanoseconds: a line each, the clock's number first. */
#include "common.h"

int main(void) {
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
                                       CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI};
    for (size_t i = 0; i < sizeof clocks / sizeof clocks[0]; i++) {
        struct timespec t;
        need(clock_gettime(clocks[i], &t) == 0, "the time");
        printf("%d %lld\n", (int)clocks[i], t.tv_sec * 1000000000LL + t.tv_nsec);
    }
    return 0;
}
