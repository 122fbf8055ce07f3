/* Reading what does not come, with an alarm every now and then. Its stdin is a pipe into which nobody writes. */
#include "sig.h"
#include <poll.h>
#include <sys/uio.h>

/* The fifth time, calls are no longer to be restarted. */
static void fifth(int number) {
    count(number);
    if (caught[number] == 5) act(SIGALRM, count, 0);
}
static void tell_read(const char *name, long result) { printf("%s: %s\n", name, outcome(result)); }

static long do_read(void) { char byte; return read(0, &byte, 1); }
static long do_readv(void) { char byte; struct iovec vector = {&byte, 1}; return readv(0, &vector, 1); }
static long do_poll(void) { struct pollfd fd = {0, POLLIN, 0}; return poll(&fd, 1, -1); }
static long do_poll_time(void) { struct pollfd fd = {0, POLLIN, 0}; return poll(&fd, 1, 1000000); }

int main(void) {
    static const struct { const char *name; long (*call)(void); int restarts; } calls[] = {{"read", do_read, 1}, {"readv", do_readv, 1}, {"poll", do_poll, 0}, {"poll with a time", do_poll_time, 0}};
    struct itimerval timer = {{0, 50000}, {0, 50000}}, off = {{0, 0}, {0, 0}};
    for (int i = 0; i < 4; i++) {
        forget_caught();
        act(SIGALRM, count, 0);
        setitimer(ITIMER_REAL, &timer, NULL);
        tell_read(calls[i].name, calls[i].call());
        holds("handled", caught[SIGALRM] > 0);
        setitimer(ITIMER_REAL, &off, NULL);
        forget_caught();
        act(SIGALRM, fifth, SA_RESTART);
        setitimer(ITIMER_REAL, &timer, NULL);
        tell_read(form("%s, SA_RESTART", calls[i].name), calls[i].call());
        holds("it went on until the handler thought better of it", !calls[i].restarts || caught[SIGALRM] >= 5);
        setitimer(ITIMER_REAL, &off, NULL);
    }
    act(SIGALRM, SIG_DFL, 0);
    IN_CHILD("an alarm nobody catches") alarm(1), do_read();
    return 0;
}
