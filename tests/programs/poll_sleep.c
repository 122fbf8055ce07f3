/* poll as a sleep, after other sleeps: each waits as long as it was asked to, and not much less. */
#include "common.h"
#include <poll.h>
#include <time.h>

static long waited(int milliseconds) {
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    long ready = poll(NULL, 0, milliseconds);
    clock_gettime(CLOCK_MONOTONIC, &after);
    need(ready == 0, "poll of nothing");
    return (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
}

int main(void) {
    struct timespec nap = {0, 5000000};
    nanosleep(&nap, NULL);
    printf("after a sleep %s\n", waited(40) >= 39 ? "waits" : "returns at once");
    printf("after a poll %s\n", waited(40) >= 39 ? "waits" : "returns at once");
    waited(0);
    return 0;
}
