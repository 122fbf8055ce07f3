/* Processes that stop and go on, and what their parents are told: SIGSTOP, SIGTSTP and its kin, SIGCONT, WUNTRACED,
 * WCONTINUED, SA_NOCLDSTOP. */
#include "sig.h"

static struct shared *shared;
static siginfo_t told[16];
static volatile sig_atomic_t tellings;
static void tell(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    if (tellings < 16) told[tellings++] = *info;
}
static void tell_told(const char *name) {
    if (!tellings) printf("%s: told nothing\n", name);
    for (int i = 0; i < tellings; i++) printf("%s: told code %d status %d of %s\n", name, told[i].si_code, told[i].si_status, who(told[i].si_pid));
    tellings = 0;
}
static void counts(void) { for (;;) atomic_fetch_add(&shared->count, 1), nap(500); }
/* Whether the child counts: a stopped one may still have counted once when it was about to stop. */
static int goes_on(void) {
    long before = shared->count;
    for (int i = 0; i < 2000; i++) {
        nap(1000);
        if (shared->count > before + 3) return 1;
    }
    return 0;
}
static int stands_still(void) {
    long before = shared->count;
    nap(60000);
    return shared->count <= before + 1;
}
static const char *status_text(int status) {
    if (WIFSTOPPED(status)) return form("stopped by %d", WSTOPSIG(status));
    if (WIFCONTINUED(status)) return "goes on";
    return ended(status);
}
static void say_wait(const char *name, int options) {
    int status = -1;
    pid_t pid = waitpid(the_child, &status, options);
    printf("%s: %s\n", name, pid < 0 ? errno_name(errno) : pid == 0 ? "nothing" : status_text(status));
}
static void say_waitid(const char *name, int options) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    int result = waitid(P_PID, the_child, &info, options);
    if (result) printf("%s: %s\n", name, errno_name(errno));
    else printf("%s: signal %d code %d status %d of %s\n", name, info.si_signo, info.si_code, info.si_status, who(info.si_pid));
}

static void stopping(int number) {
    act_info(SIGCHLD, tell, SA_RESTART);
    tellings = 0;
    if (forked() == 0) signal(SIGCHLD, SIG_DFL), counts();
    holds(form("%d: it counts", number), goes_on());
    kill(the_child, number);
    say_wait("wait for a stop", WUNTRACED);
    holds("it stands still", stands_still());
    tell_told("stopped");
    say_wait("once only", WUNTRACED | WNOHANG);
    kill(the_child, number);
    nap(20000);
    say_wait("stopped again: no news", WUNTRACED | WNOHANG);
    kill(the_child, SIGUSR1);
    holds("a signal that ends it waits", stands_still());
    say_wait("and it has not ended", WNOHANG);
    kill(the_child, SIGCONT);
    int status = -1;
    /* It goes on and ends; of the first its parent may not hear any more. */
    while (waitpid(the_child, &status, WUNTRACED | WCONTINUED) == the_child && !WIFSIGNALED(status));
    printf("in the end: %s\n", status_text(status));
    tellings = 0;
}

static void going_on(void) {
    shared->count = 0;
    if (forked() == 0) signal(SIGCHLD, SIG_DFL), counts();
    kill(the_child, SIGSTOP);
    say_waitid("waitid for a stop, looking only", WSTOPPED | WNOWAIT);
    say_waitid("waitid for a stop", WSTOPPED);
    say_waitid("waitid again", WSTOPPED | WNOHANG);
    tell_told("stop");
    kill(the_child, SIGCONT);
    say_waitid("waitid for going on, looking only", WCONTINUED | WNOWAIT);
    say_waitid("waitid for going on", WCONTINUED);
    say_waitid("waitid again", WCONTINUED | WNOHANG);
    /* Who waits may be answered before the child runs, and it is the child that tells. */
    while (!tellings) nap(500);
    tell_told("going on");
    holds("it counts again", goes_on());
    kill(the_child, SIGCONT);
    nap(10000);
    say_wait("SIGCONT to one that runs: no news", WCONTINUED | WNOHANG);
    kill(the_child, SIGSTOP);
    say_wait("stopped", WUNTRACED);
    kill(the_child, SIGKILL);
    say_wait("killed while stopped", 0);
    tellings = 0;
    act_info(SIGCHLD, tell, SA_RESTART | SA_NOCLDSTOP);
    if (forked() == 0) signal(SIGCHLD, SIG_DFL), counts();
    kill(the_child, SIGSTOP);
    say_wait("stopped, SA_NOCLDSTOP", WUNTRACED);
    kill(the_child, SIGCONT);
    say_wait("going on, SA_NOCLDSTOP", WCONTINUED);
    tell_told("SA_NOCLDSTOP");
    kill(the_child, SIGKILL);
    say_wait("killed", 0);
    nap(10000);
    tell_told("its end");
    signal(SIGCHLD, SIG_DFL);
    if (forked() == 0) _exit(3);
    say_waitid("its end, looking only", WEXITED | WNOWAIT);
    say_waitid("for a stop of one that has ended", WSTOPPED | WNOHANG);
    say_waitid("for a stop of one that has ended, waiting", WSTOPPED);
    say_waitid("its end", WEXITED);
}

/* Calls that wait while their process is stopped. */
static void waiting(void) {
    static const char *const names[] = {"nanosleep", "pause", "futex", "sigtimedwait", "wait"};
    for (int i = 0; i < 5; i++) {
        atomic_store(&shared->ready, 0), atomic_store(&shared->done, 0), atomic_store(&shared->enough, 0);
        if (forked() == 0) {
            static unsigned word;
            struct timespec left = {0, 0};
            sigset_t set = set_of(1, SIGUSR2);
            long result = -2;
            pid_t child = 0;
            if (i == 1) act(SIGUSR1, count, 0);
            if (i == 4 && (child = fork()) == 0) { while (!atomic_load(&shared->go)) nap(1000); _exit(0); }
            atomic_store(&shared->ready, 1);
            switch (i) {
            case 0: result = nanosleep(&(struct timespec){0, 100000000}, &left); break;
            case 1: result = pause(); break;
            case 2: result = syscall(SYS_futex, &word, 128, 0, &(struct timespec){0, 100000000}, NULL, 0); break;
            case 3: result = syscall(SYS_rt_sigtimedwait, &set, NULL, &(struct timespec){0, 100000000}, 8); break;
            case 4: result = waitpid(child, NULL, 0) == child ? 0 : -1; break;
            }
            printf("%s while it was stopped: %s\n", names[i], outcome(result));
            fflush(stdout);
            /* Not before its parent has been told that it goes on. */
            wait_for(&shared->enough);
            _exit(0);
        }
        wait_for(&shared->ready);
        nap(5000);
        kill(the_child, SIGSTOP);
        say_wait("stopped", WUNTRACED);
        nap(30000);
        kill(the_child, SIGCONT);
        say_wait("goes on", WCONTINUED);
        atomic_store(&shared->enough, 1);
        if (i == 1) nap(5000), kill(the_child, SIGUSR1);
        if (i == 4) atomic_store(&shared->go, 1);
        say_wait("ended", 0);
    }
}

static void undoing(void) {
    IN_CHILD("SIGSTOP and SIGCONT, pending") {
        block(SIGTSTP), block(SIGCONT);
        send_self(SIGTSTP);
        says_value("SIGTSTP pending", is_pending(SIGTSTP));
        send_self(SIGCONT);
        printf("after SIGCONT: SIGTSTP %d SIGCONT %d\n", is_pending(SIGTSTP), is_pending(SIGCONT));
        act(SIGCONT, count, 0);
        send_self(SIGCONT);
        printf("caught, sent again: SIGCONT %d\n", is_pending(SIGCONT));
        send_self(SIGTSTP);
        printf("after SIGTSTP: SIGTSTP %d SIGCONT %d\n", is_pending(SIGTSTP), is_pending(SIGCONT));
        act(SIGTSTP, count, 0);
        unblock(SIGTSTP);
        says_value("SIGTSTP caught", caught[SIGTSTP]);
    }
    IN_CHILD("SIGCONT caught") {
        act(SIGCONT, count, 0);
        send_self(SIGCONT);
        says_value("handled though it was not stopped", caught[SIGCONT]);
    }
    IN_CHILD("SIGTSTP ignored") signal(SIGTSTP, SIG_IGN), send_self(SIGTSTP);
    /* A group nobody could let go on does not stop by what a terminal sends. */
    IN_CHILD("SIGTSTP in a session of its own") setsid(), send_self(SIGTSTP), send_self(SIGTTIN), send_self(SIGTTOU), _exit(5);
}

int main(void) {
    shared = share();
    int numbers[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
    for (int i = 0; i < 4; i++) shared->count = 0, stopping(numbers[i]);
    going_on();
    waiting();
    undoing();
    return 0;
}
