/* Time: that clocks run, agree with one another, and sleeping takes as long as it should. */
#include "common.h"
#include <sys/time.h>

static int64_t now(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t)) return -1;
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}
static int64_t raw(long clock, void *at) { return syscall(SYS_clock_gettime, clock, at); }

/* clock_nanosleep returns its error instead of setting errno. */
static void slept(const char *name, int error) { printf("%s %s\n", name, error ? errno_name(error) : "ok"); }

int main(void) {
    int64_t real = now(CLOCK_REALTIME);
    holds("it is later than 2024", real > 1704067200LL * 1000000000);
    holds("and earlier than 2100", real < 4102444800LL * 1000000000);
    long seconds = time(NULL), stored = 0;
    holds("time agrees", labs(seconds - real / 1000000000) <= 1);
    holds("time stores what it returns", labs(time(&stored) - stored) == 0);
    struct timeval tv;
    says("gettimeofday", gettimeofday(&tv, NULL));
    holds("gettimeofday agrees", llabs(tv.tv_sec * 1000000000LL + tv.tv_usec * 1000LL - real) < 5000000000LL);

    int64_t last = now(CLOCK_MONOTONIC);
    int backwards = 0;
    for (int i = 0; i < 2000; i++) {
        int64_t t = now(CLOCK_MONOTONIC);
        backwards += t < last;
        last = t;
    }
    holds("monotonic time never goes back", !backwards);
    holds("boot time is not behind it", now(CLOCK_BOOTTIME) >= last);
    holds("coarse time is not ahead of it", now(CLOCK_MONOTONIC_COARSE) <= now(CLOCK_MONOTONIC));
    holds("raw time runs", now(CLOCK_MONOTONIC_RAW) > 0);
    holds("coarse real time agrees", llabs(now(CLOCK_REALTIME_COARSE) - now(CLOCK_REALTIME)) < 1000000000);

    struct timespec resolution = {9, 9};
    says("clock_getres", clock_getres(CLOCK_MONOTONIC, &resolution));
    printf("resolution %ld s %ld ns\n", (long)resolution.tv_sec, resolution.tv_nsec);

    int64_t before = now(CLOCK_MONOTONIC);
    struct timespec pause = {0, 20000000};
    says("nanosleep", nanosleep(&pause, NULL));
    int64_t took = now(CLOCK_MONOTONIC) - before;
    holds("20 ms take at least that", took >= 20000000);
    holds("and not a second", took < 1000000000);
    before = now(CLOCK_MONOTONIC);
    struct timespec until = {(before + 15000000) / 1000000000, (before + 15000000) % 1000000000};
    slept("sleep until", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
    took = now(CLOCK_MONOTONIC) - before;
    holds("it was reached", took >= 15000000 && took < 1000000000);
    slept("sleep until the past", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){0, 1}, NULL));
    int64_t soon = now(CLOCK_REALTIME) + 5000000;
    until = (struct timespec){soon / 1000000000, soon % 1000000000};
    slept("sleep until a wall time", clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL));
    holds("it was reached, too", now(CLOCK_REALTIME) >= soon);
    says("sleep 0", nanosleep(&(struct timespec){0, 0}, NULL));
    says_value("usleep", usleep(1000));

    clock_t cpu = clock();
    holds("processor time is known", cpu != (clock_t)-1);
    int64_t until_cpu = now(CLOCK_MONOTONIC) + 30000000;
    while (now(CLOCK_MONOTONIC) < until_cpu) {}
    holds("processor time passes", clock() > cpu);

    says("nanosecond 10^9", nanosleep(&(struct timespec){0, 1000000000}, NULL));
    says("negative seconds", nanosleep(&(struct timespec){-1, 0}, NULL));
    says("sleep at a bad address", syscall(SYS_nanosleep, 16L, NULL));
    slept("no such clock to sleep by", clock_nanosleep(99, 0, &pause, NULL));
    struct timespec t;
    says("no such clock", raw(99, &t));
    says("clock_gettime to a bad address", raw(CLOCK_MONOTONIC, (void *)16));
    says("clock_gettime to a constant", raw(CLOCK_MONOTONIC, (void *)(uintptr_t)main));
    says("clock_gettime to the kernel", raw(CLOCK_MONOTONIC, (void *)0xffff800000200000UL));
    return 0;
}
