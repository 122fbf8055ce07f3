/* What a caught signal does to each call that waits: EINTR, or the call goes on (SA_RESTART), as signal(7) lists them.
 * Someone sends signals until the call has been seen to be interrupted, or to have gone on several times. */
#include "sig.h"
#include <poll.h>

static struct shared *shared;
static _Atomic int *handled;
static void note(int number) { (void)number; atomic_fetch_add(handled, 1); }

static const struct timespec long_time = {1000, 0};
static long futex(void *word, int operation, unsigned value, const void *time, unsigned bits) { return syscall(SYS_futex, word, operation, value, time, NULL, bits); }

/* The other side: sends SIGUSR1 to the parent until it has been handled `times` times, then, if the call is to end
 * otherwise, sees to that: by its exit, by a wake-up, or by what `finish` does. */
static unsigned word;
static unsigned *shared_word;
static pid_t beside(int times, int ends, void (*finish)(void)) {
    pid_t target = getpid(), child;
    atomic_store(&shared->enough, 0);
    atomic_store(handled, 0);
    fflush(stdout);
    if ((child = fork()) == 0) {
        signal(SIGUSR1, SIG_DFL);
        while (!atomic_load(&shared->enough) && (!ends || atomic_load(handled) < times)) kill(target, SIGUSR1), nap(2000);
        if (ends) {
            while (!atomic_load(&shared->enough)) {
                if (finish) finish();
                else _exit(7);
                nap(2000);
            }
        }
        _exit(7);
    }
    need(child > 0, "fork");
    return child;
}
static void end_of(pid_t child) {
    atomic_store(&shared->enough, 1);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR);
}

static pid_t child_of_wait;
static long wait_for_child(void) { return waitpid(child_of_wait, NULL, 0) > 0 ? 1 : -1; }
static long wait_for_any(void) { return wait(NULL) > 0 ? 1 : -1; }
static long wait_id(void) { siginfo_t info; return waitid(P_PID, child_of_wait, &info, WEXITED) == 0 ? 1 : -1; }
static long wait_futex(void) { return futex(shared_word, 0, 0, NULL, 0); }
static long wait_futex_private(void) { return futex(&word, 128, 0, NULL, 0); }
static long wait_futex_time(void) { return futex(shared_word, 0, 0, &long_time, 0); }
static long wait_futex_until(void) { struct timespec until; clock_gettime(CLOCK_MONOTONIC, &until); until.tv_sec += 1000; return futex(shared_word, 9, 0, &until, ~0U); }
static long wait_futex_bits(void) { return futex(shared_word, 9, 0, NULL, 5); }
static void wake(void) { futex(shared_word, 1, 100, NULL, 0); }
static long sleep_for(void) { return nanosleep(&long_time, NULL); }
static long sleep_clock(void) { return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &long_time, NULL); }
static long sleep_until(void) { struct timespec until; clock_gettime(CLOCK_REALTIME, &until); until.tv_sec += 1000; return syscall(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL); }
static long do_pause(void) { return pause(); }
static long do_suspend(void) { sigset_t none; sigemptyset(&none); return sigsuspend(&none); }
static long do_timedwait(void) { sigset_t set = set_of(1, SIGUSR2); return syscall(SYS_rt_sigtimedwait, &set, NULL, &long_time, 8); }
static long do_poll(void) { return syscall(SYS_poll, NULL, 0, 1000000); }
static long do_poll_forever(void) { return syscall(SYS_poll, NULL, 0, -1); }

static const struct { const char *name; long (*call)(void); void (*finish)(void); int is_wait; } calls[] = {
    {"waitpid", wait_for_child, NULL, 1}, {"wait", wait_for_any, NULL, 1}, {"waitid", wait_id, NULL, 1},
    {"futex", wait_futex, wake, 0}, {"futex, private", wait_futex_private, NULL, 0}, {"futex with a time", wait_futex_time, wake, 0}, {"futex until a time", wait_futex_until, wake, 0}, {"futex, bits", wait_futex_bits, wake, 0},
    {"nanosleep", sleep_for, NULL, 0}, {"clock_nanosleep", sleep_clock, NULL, 0}, {"clock_nanosleep until a time", sleep_until, NULL, 0},
    {"pause", do_pause, NULL, 0}, {"sigsuspend", do_suspend, NULL, 0}, {"sigtimedwait", do_timedwait, NULL, 0}, {"poll", do_poll, NULL, 0}, {"poll without end", do_poll_forever, NULL, 0}};

static void waits(void) {
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        act(SIGUSR1, note, 0);
        child_of_wait = beside(1, 0, NULL);
        long result = calls[i].call();
        printf("%s: %s\n", calls[i].name, outcome(result));
        end_of(child_of_wait);
        holds(form("%s: handled", calls[i].name), atomic_load(handled) > 0);
    }
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        /* Those that end without an event whatever the flags would hang on Linux if they did not. */
        act(SIGUSR1, note, SA_RESTART);
        int goes_on = calls[i].is_wait || calls[i].finish == wake && calls[i].call != wait_futex_time && calls[i].call != wait_futex_until;
        child_of_wait = beside(5, goes_on, calls[i].finish);
        if (calls[i].call == wait_futex_private) { end_of(child_of_wait); continue; }
        long result = calls[i].call();
        printf("%s, SA_RESTART: %s\n", calls[i].name, outcome(result));
        if (goes_on) holds(form("%s, SA_RESTART: handled several times before it ended", calls[i].name), atomic_load(handled) >= 5);
        end_of(child_of_wait);
    }
}

/* Whether what is left of a sleep is told, and sleeping on takes no longer. */
static void remaining(void) {
    struct timespec left = {-1, -1};
    act(SIGUSR1, note, SA_RESTART);
    pid_t child = beside(1, 0, NULL);
    says("nanosleep", nanosleep(&long_time, &left));
    holds("most is left", left.tv_sec >= 900 && left.tv_sec <= 1000 && left.tv_nsec >= 0 && left.tv_nsec < 1000000000);
    left = (struct timespec){-1, -1};
    says("clock_nanosleep", syscall(SYS_clock_nanosleep, CLOCK_REALTIME, 0, &long_time, &left));
    holds("most is left", left.tv_sec >= 900 && left.tv_sec <= 1000);
    left = (struct timespec){-1, -1};
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until), until.tv_sec += 1000;
    says("clock_nanosleep until a time", syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &until, &left));
    holds("nothing is told", left.tv_sec == -1);
    says("nanosleep, what is left to a bad address", nanosleep(&long_time, (void *)8));
    int pieces = 0, result;
    struct timespec before, after;
    left = (struct timespec){0, 100000000};
    clock_gettime(CLOCK_MONOTONIC, &before);
    while ((result = nanosleep(&left, &left)) < 0) pieces++;
    clock_gettime(CLOCK_MONOTONIC, &after);
    double seconds = after.tv_sec - before.tv_sec + (after.tv_nsec - before.tv_nsec) * 1e-9;
    holds("a sleep in pieces has as many as it needs", pieces > 0);
    holds("and takes as long as it should, at least", seconds >= 0.1);
    end_of(child);
}

/* One that blocks the signal is not interrupted. */
static void blocked(void) {
    act(SIGUSR1, note, 0);
    block(SIGUSR1);
    pid_t child = beside(1, 0, NULL);
    says("nanosleep, blocked", nanosleep(&(struct timespec){0, 30000000}, NULL));
    says_value("handled", atomic_load(handled));
    says_value("poll, blocked", syscall(SYS_poll, NULL, 0, 30));
    says_value("handled", atomic_load(handled));
    while (!is_pending(SIGUSR1)) nap(1000); /* The child may be late. */
    unblock(SIGUSR1);
    end_of(child);
    holds("handled when unblocked", atomic_load(handled) > 0);
    signal(SIGUSR1, SIG_IGN);
    child = beside(1, 0, NULL);
    says("nanosleep, ignored", nanosleep(&(struct timespec){0, 30000000}, NULL));
    end_of(child);
}

/* Out of a call that waits by siglongjmp. */
static sigjmp_buf out;
static void jump(int number) { (void)number; atomic_fetch_add(handled, 1); siglongjmp(out, 1); }
static void jumps(void) {
    act(SIGUSR1, jump, SA_RESTART);
    static volatile int rounds;
    block(SIGUSR1);
    pid_t child = beside(1, 0, NULL);
    for (rounds = 0; rounds < 20; rounds++) {
        if (sigsetjmp(out, 1) == 0) {
            sigset_t none;
            sigemptyset(&none);
            switch (rounds % 4) {
            case 0: sigsuspend(&none); break;
            case 1: unblock(SIGUSR1), nanosleep(&long_time, NULL); break;
            case 2: unblock(SIGUSR1), futex(shared_word, 0, 0, NULL, 0); break;
            case 3: unblock(SIGUSR1), waitpid(child, NULL, 0); break;
            }
            puts("came back");
        }
        need(is_blocked(SIGUSR1), "siglongjmp restores the mask");
    }
    says_value("jumped out of calls that wait", rounds);
    signal(SIGUSR1, SIG_IGN);
    unblock(SIGUSR1);
    end_of(child);
}

/* A handler that itself waits, and is interrupted by another. */
static void note_other(int number) { (void)number; atomic_fetch_add(&shared->count, 1); }
static void wait_in_handler(int number) {
    (void)number;
    if (atomic_fetch_add(handled, 1) == 0) {
        act(SIGUSR2, note_other, 0);
        pid_t own = getpid(), child = fork();
        if (child == 0) {
            while (!atomic_load(&shared->done)) kill(own, SIGUSR2), nap(2000);
            _exit(0);
        }
        long result = nanosleep(&long_time, NULL);
        printf("nanosleep in a handler: %s\n", outcome(result));
        atomic_store(&shared->done, 1);
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR);
    }
}
static void nested(void) {
    act(SIGUSR1, wait_in_handler, 0);
    pid_t child = beside(1, 0, NULL);
    says("pause, its handler waits itself", pause());
    end_of(child);
    holds("the inner one was handled", atomic_load(&shared->count) > 0);
}

int main(void) {
    shared = share();
    handled = &shared->number;
    shared_word = (unsigned *)&shared->value;
    waits();
    remaining();
    blocked();
    jumps();
    nested();
    return 0;
}
