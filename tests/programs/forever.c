/* Never ends: odd copies sleep, even ones compute. All hold a segment. With an argument it says so first. */
#include "common.h"

int main(int argc, char **argv) {
    (void)argv;
    volatile int *p = attached(segment_of_all(0xf0, 12345), NULL, 0);
    if (argc > 1) puts("forever"), fflush(stdout);
    for (;;)
        if (rank() % 2) nap(1000000);
        else p[rank()]++;
}
