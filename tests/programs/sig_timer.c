/* Timers that send signals: alarm, setitimer, timer_create. Counts are compared within wide bounds: a timer never comes
 * early, and how late is nobody's promise. */
#include "sig.h"

static double clock_of(clockid_t clock) { struct timespec t; clock_gettime(clock, &t); return t.tv_sec + t.tv_nsec * 1e-9; }
static double now(void) { return clock_of(CLOCK_MONOTONIC); }
static struct itimerval every(double value, double period) {
    return (struct itimerval){{(long)period, (long)((period - (long)period) * 1e6)}, {(long)value, (long)((value - (long)value) * 1e6)}};
}
static struct itimerspec spec(double value, double period) {
    return (struct itimerspec){{(long)period, (long)((period - (long)period) * 1e9)}, {(long)value, (long)((value - (long)value) * 1e9)}};
}
static double seconds(struct timeval t) { return t.tv_sec + t.tv_usec * 1e-6; }
static double seconds_of(struct timespec t) { return t.tv_sec + t.tv_nsec * 1e-9; }
/* Waits until `number` has come `times` times, and says how long that took. Not by a handler: a machine that is slow
 * enough would do nothing but run it. */
static double until(int number, int times) {
    double start = now();
    sigset_t set = set_of(1, number);
    int was_blocked = is_blocked(number);
    block(number);
    while (times-- > 0)
        while (syscall(SYS_rt_sigtimedwait, &set, &last_info, NULL, 8) != number) need(errno == EINTR, "EINTR");
    if (!was_blocked) unblock(number);
    return now() - start;
}

static void alarms(void) {
    act_info(SIGALRM, count_info, 0);
    says_value("no alarm yet", alarm(1000));
    says_value("the first one was", alarm(500));
    says_value("the second one was", alarm(0));
    says_value("and none now", alarm(0));
    struct itimerval timer;
    alarm(77);
    says("getitimer", getitimer(ITIMER_REAL, &timer));
    holds("an alarm is that timer", seconds(timer.it_value) > 70 && seconds(timer.it_value) <= 77 && seconds(timer.it_interval) == 0);
    timer = every(0.3, 0);
    setitimer(ITIMER_REAL, &timer, NULL);
    says_value("less than half a second left", alarm(0));
    timer = every(3.7, 0);
    setitimer(ITIMER_REAL, &timer, NULL);
    says_value("rounded", alarm(0));
    double start = now();
    alarm(1);
    while (!caught[SIGALRM]) pause();
    holds("an alarm comes, and not early", now() - start >= 0.99);
    tell_sender("it", &last_info);
    says_value("then there is none", alarm(0));
    alarm(0xffffffff);
    getitimer(ITIMER_REAL, &timer);
    holds("a long one", seconds(timer.it_value) > 1e9 && alarm(0) > 1000000000);
}

static void intervals(void) {
    struct itimerval timer = every(0.02, 0.01), old;
    forget_caught();
    block(SIGALRM);
    double start = now();
    says("setitimer", setitimer(ITIMER_REAL, &timer, NULL));
    until(SIGALRM, 20);
    double took = now() - start;
    holds("20 of a periodic timer, none early", took >= 0.02 + 19 * 0.01 - 0.001);
    says("getitimer", getitimer(ITIMER_REAL, &timer));
    /* It does not run while its signal waits. */
    holds("period and rest", seconds(timer.it_interval) == 0.01 && (seconds(timer.it_value) > 0 || is_pending(SIGALRM)) && seconds(timer.it_value) <= 0.0101);
    timer = every(0, 0.5);
    says("off, with a period", setitimer(ITIMER_REAL, &timer, &old));
    holds("the old one", seconds(old.it_interval) == 0.01);
    signal(SIGALRM, SIG_IGN), act_info(SIGALRM, count_info, 0), unblock(SIGALRM);
    getitimer(ITIMER_REAL, &timer);
    holds("is off", seconds(timer.it_value) == 0);
    printf("its period is kept: %.2f\n", seconds(timer.it_interval));
    forget_caught();
    nap(50000);
    says_value("caught when it is off", caught[SIGALRM]);
    /* While it is blocked one waits, and what is missed is missed. */
    timer = every(0.005, 0.005);
    block(SIGALRM);
    setitimer(ITIMER_REAL, &timer, NULL);
    nap(100000);
    getitimer(ITIMER_REAL, &timer);
    holds("it goes on in the end", seconds(timer.it_interval) == 0.005);
    timer = every(0, 0);
    setitimer(ITIMER_REAL, &timer, NULL);
    unblock(SIGALRM);
    holds("one came for all that were missed", caught[SIGALRM] == 1);
    says("setitimer 3", setitimer(3, &timer, NULL));
    says("setitimer -1", setitimer(-1, &timer, NULL));
    says("getitimer 3", getitimer(3, &timer));
    timer.it_value.tv_usec = 1000000;
    says("setitimer, a million microseconds", setitimer(ITIMER_REAL, &timer, NULL));
    timer.it_value.tv_usec = -1;
    says("setitimer, negative", setitimer(ITIMER_REAL, &timer, NULL));
    says("setitimer from a bad address", syscall(SYS_setitimer, ITIMER_REAL, 8, 0));
    says("setitimer, old to a bad address", syscall(SYS_setitimer, ITIMER_REAL, 0, 8));
    says("getitimer to a bad address", syscall(SYS_getitimer, ITIMER_REAL, 8));
}

/* The timers of a process's own time: it has to use some. */
static void countdowns(void) {
    static const struct { int which, number; const char *name; } kinds[] = {{ITIMER_VIRTUAL, SIGVTALRM, "virtual"}, {ITIMER_PROF, SIGPROF, "prof"}};
    for (int i = 0; i < 2; i++) {
        struct itimerval timer = every(0.05, 0.02);
        forget_caught();
        act_info(kinds[i].number, count_info, SA_RESTART);
        double start = clock_of(CLOCK_PROCESS_CPUTIME_ID);
        need(setitimer(kinds[i].which, &timer, NULL) == 0, "setitimer");
        nap(100000);
        holds(form("%s: not while sleeping", kinds[i].name), caught[kinds[i].number] == 0);
        while (caught[kinds[i].number] < 5);
        double took = clock_of(CLOCK_PROCESS_CPUTIME_ID) - start;
        /* Linux counts in ticks, and guesses in between. */
        holds(form("%s: none early", kinds[i].name), took >= 0.03);
        holds(form("%s: from the kernel", kinds[i].name), last_info.si_code == 0x80);
        getitimer(kinds[i].which, &timer);
        holds(form("%s: period", kinds[i].name), seconds(timer.it_interval) > 0.0199 && seconds(timer.it_interval) < 0.0241 && seconds(timer.it_value) > 0);
        timer = every(0, 0);
        says(form("%s: off", kinds[i].name), setitimer(kinds[i].which, &timer, NULL));
        getitimer(kinds[i].which, &timer);
        holds(form("%s: is off", kinds[i].name), seconds(timer.it_value) == 0);
    }
}

static long make(clockid_t clock, struct sigevent *event, int *id) { return syscall(SYS_timer_create, clock, event, id); }
static void made_timers(void) {
    int id = -1, other = -1;
    struct itimerspec set = spec(1000, 0), old;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = RT(1), .sigev_value.sival_ptr = (void *)0x123456789};
    says("timer_create without an event", make(CLOCK_MONOTONIC, NULL, &id));
    says_value("its id", id);
    says("another", make(CLOCK_REALTIME, &event, &other));
    says_value("its id", other);
    says("delete", syscall(SYS_timer_delete, id));
    says("delete again", syscall(SYS_timer_delete, id));
    says("a third", make(CLOCK_MONOTONIC, &event, &id));
    says_value("its id", id);
    static const struct { const char *name; clockid_t clock; int notify, number; } bad[] = {{"clock 77", 77, SIGEV_SIGNAL, 41}, {"raw clock", CLOCK_MONOTONIC_RAW, SIGEV_SIGNAL, 41},
        {"coarse clock", CLOCK_REALTIME_COARSE, SIGEV_SIGNAL, 41}, {"signal 0", CLOCK_MONOTONIC, SIGEV_SIGNAL, 0}, {"signal 65", CLOCK_MONOTONIC, SIGEV_SIGNAL, 65}, {"notify 77", CLOCK_MONOTONIC, 77, 41}, {"signal 0 for nobody", CLOCK_MONOTONIC, SIGEV_NONE, 0}};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        int given = -1;
        event.sigev_notify = bad[i].notify, event.sigev_signo = bad[i].number;
        long result = make(bad[i].clock, &event, &given);
        printf("%s: %s, id %d\n", bad[i].name, outcome(result), given);
    }
    event.sigev_notify = SIGEV_SIGNAL, event.sigev_signo = RT(1);
    int given = -1;
    says("from a bad address", make(CLOCK_MONOTONIC, (void *)8, &given));
    printf("id %d\n", given);
    says("to a bad address", make(CLOCK_MONOTONIC, &event, (void *)8));
    says("a fourth", make(CLOCK_MONOTONIC, &event, &given));
    printf("id %d\n", given);
    says("settime of nothing", syscall(SYS_timer_settime, 77, 0, &set, NULL));
    says("settime from 0", syscall(SYS_timer_settime, id, 0, NULL, NULL));
    says("settime from a bad address", syscall(SYS_timer_settime, id, 0, 8, NULL));
    says("gettime of nothing", syscall(SYS_timer_gettime, 77, &old));
    says("gettime to a bad address", syscall(SYS_timer_gettime, id, 8));
    says("getoverrun of nothing", syscall(SYS_timer_getoverrun, 77));
    set.it_value.tv_nsec = 1000000000;
    says("settime, crooked", syscall(SYS_timer_settime, id, 0, &set, NULL));
    set = spec(1000, 7);
    says("settime", syscall(SYS_timer_settime, id, 0, &set, &old));
    holds("it was off", seconds_of(old.it_value) == 0 && seconds_of(old.it_interval) == 0);
    says("gettime", syscall(SYS_timer_gettime, id, &old));
    holds("what is left", seconds_of(old.it_value) > 900 && seconds_of(old.it_value) <= 1000 && seconds_of(old.it_interval) == 7);
    set = spec(0, 7);
    says("off", syscall(SYS_timer_settime, id, 0, &set, &old));
    says("gettime", syscall(SYS_timer_gettime, id, &old));
    printf("off: %g %g\n", seconds_of(old.it_value), seconds_of(old.it_interval));

    block(RT(1));
    set = spec(0.02, 0.01);
    double start = now();
    says("settime", syscall(SYS_timer_settime, id, 0, &set, NULL));
    int came = 0;
    while (came < 15) until(RT(1), 1), came += 1 + last_info.si_overrun;
    holds("15 of it, none early", now() - start >= 0.02 + 14 * 0.01 - 0.001);
    printf("it says: signal %d %s id %s value %lx\n", last_info.si_signo, code_name(0, last_info.si_code), last_info.si_timerid == id ? "its own" : "other", (long)last_info.si_value.sival_ptr);
    set = spec(0, 0);
    syscall(SYS_timer_settime, id, 0, &set, NULL);
    /* Blocked: one signal, and it counts what it missed. */
    set = spec(0.002, 0.002);
    syscall(SYS_timer_settime, id, 0, &set, NULL);
    nap(100000);
    until(RT(1), 1);
    holds("overrun", last_info.si_overrun >= 48);
    says_value("told again", syscall(SYS_timer_getoverrun, id) == last_info.si_overrun);
    until(RT(1), 5);
    act_info(RT(1), count_info, 0);
    set = spec(0, 0);
    syscall(SYS_timer_settime, id, 0, &set, NULL);
    /* What has not been taken when it is set or deleted is not taken. */
    set = spec(0.001, 0);
    syscall(SYS_timer_settime, id, 0, &set, NULL);
    nap(20000);
    says_value("expired: pending", is_pending(RT(1)));
    says("gettime", syscall(SYS_timer_gettime, id, &old));
    holds("nothing is left", seconds_of(old.it_value) == 0);
    forget_caught();
    says("delete", syscall(SYS_timer_delete, id));
    unblock(RT(1));
    says_value("its signal came", caught[RT(1)]);
    /* A point in time. */
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    set = (struct itimerspec){{0, 0}, {at.tv_sec + 1, at.tv_nsec}};
    start = clock_of(CLOCK_REALTIME);
    block(RT(1));
    says("until a time", syscall(SYS_timer_settime, other, TIMER_ABSTIME, &set, NULL));
    until(RT(1), 1);
    holds("not early", clock_of(CLOCK_REALTIME) - start >= 0.999);
    set = (struct itimerspec){{0, 0}, {at.tv_sec - 5, at.tv_nsec}};
    says("until a time that has passed", syscall(SYS_timer_settime, other, TIMER_ABSTIME, &set, NULL));
    until(RT(1), 1);
    says("delete", syscall(SYS_timer_delete, other));
    event.sigev_notify = SIGEV_NONE;
    says("one that tells nobody", make(CLOCK_MONOTONIC, &event, &id));
    set = spec(0.01, 1000);
    syscall(SYS_timer_settime, id, 0, &set, NULL);
    nap(30000);
    says("gettime", syscall(SYS_timer_gettime, id, &old));
    holds("it is in its next period", seconds_of(old.it_value) > 900);
    /* To one thread: this one. */
    event.sigev_notify = 4, event.sigev_signo = RT(2);
    ((int *)&event)[4] = syscall(SYS_gettid);
    block(RT(2));
    says("one that tells a thread", make(CLOCK_MONOTONIC, &event, &other));
    set = spec(0.001, 0);
    syscall(SYS_timer_settime, other, 0, &set, NULL);
    until(RT(2), 1);
    ((int *)&event)[4] = 1;
    says("one that tells another's thread", make(CLOCK_MONOTONIC, &event, &other));
}

static void inheriting(char *self) {
    struct itimerval timer = every(1000, 3);
    int id;
    setitimer(ITIMER_REAL, &timer, NULL);
    need(make(CLOCK_MONOTONIC, NULL, &id) == 0, "timer_create");
    struct itimerspec set = spec(1000, 0);
    syscall(SYS_timer_settime, id, 0, &set, NULL);
    IN_CHILD("forked") {
        getitimer(ITIMER_REAL, &timer);
        holds("forked: no timer", seconds(timer.it_value) == 0 && seconds(timer.it_interval) == 0);
        says("forked: none that was made", syscall(SYS_timer_gettime, id, &set));
        need(make(CLOCK_MONOTONIC, NULL, &id) == 0, "timer_create");
        says_value("forked: the first id", id);
    }
    fflush(stdout);
    if (forked() == 0) {
        setitimer(ITIMER_REAL, &timer, NULL);
        need(make(CLOCK_MONOTONIC, NULL, &id) == 0, "timer_create");
        execl("/proc/self/exe", self, "after", NULL);
        _exit(97);
    }
    printf("after exec: %s\n", ended(waited(the_child)));
    IN_CHILD("an alarm nobody catches") signal(SIGALRM, SIG_DFL), alarm(1), pause();
    IN_CHILD("an alarm in a loop") {
        timer = every(0.02, 0);
        signal(SIGALRM, SIG_DFL), setitimer(ITIMER_REAL, &timer, NULL);
        for (;;);
    }
    IN_CHILD("an alarm beside others that loop") {
        pid_t others[3];
        for (int i = 0; i < 3; i++)
            if ((others[i] = fork()) == 0) for (;;);
        act(SIGALRM, count, 0);
        timer = every(0.02, 0.05), setitimer(ITIMER_REAL, &timer, NULL);
        while (caught[SIGALRM] < 5);
        holds("caught in a loop", caught[SIGALRM] >= 5);
        timer = every(0, 0), setitimer(ITIMER_REAL, &timer, NULL);
        for (int i = 0; i < 3; i++) kill(others[i], SIGKILL), waited(others[i]);
    }
}

int main(int argc, char **argv) {
    if (argc > 1) {
        struct itimerval timer;
        struct itimerspec set;
        getitimer(ITIMER_REAL, &timer);
        holds("exec: the timer goes on", seconds(timer.it_value) > 900 && seconds(timer.it_interval) == 3);
        says("exec: none that was made", syscall(SYS_timer_gettime, 0, &set));
        return 0;
    }
    for (int i = 1; i < 65; i++) signal(i, SIG_DFL);
    unblock_all();
    alarms();
    intervals();
    countdowns();
    made_timers();
    inheriting(argv[0]);
    return 0;
}
