/* SIGCHLD: who is told of which end, loops that reap, SA_NOCLDWAIT, children that stop and go on. */
#include "sig.h"

static volatile sig_atomic_t reaped, sum, wrong;
static void reap(int number) {
    (void)number;
    int status, saved = errno;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        reaped++;
        if (WIFEXITED(status)) sum += WEXITSTATUS(status);
        else if (WIFSIGNALED(status)) sum += 1000 * WTERMSIG(status);
        else wrong++;
    }
    if (pid < 0 && errno != ECHILD) wrong++;
    errno = saved;
}
static void loops(void) {
    act(SIGCHLD, reap, SA_RESTART);
    int expected = 0;
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        need(child >= 0, "fork");
        if (child == 0) {
            signal(SIGCHLD, SIG_DFL);
            if (i % 10 == 3) raise(SIGKILL);
            if (i % 10 == 7) raise(SIGTERM);
            _exit(i);
        }
        expected += i % 10 == 3 ? 9000 : i % 10 == 7 ? 15000 : i;
        while (i - reaped > 20) nap(500);
    }
    sigset_t chld = set_of(1, SIGCHLD), old;
    sigprocmask(SIG_BLOCK, &chld, &old);
    while (reaped < 100) sigsuspend(&old);
    sigprocmask(SIG_SETMASK, &old, NULL);
    says_value("reaped by the handler", reaped);
    holds("with their statuses", sum == expected && wrong == 0);
    says("and no more", waitpid(-1, NULL, 0));
    signal(SIGCHLD, SIG_DFL);
}

static siginfo_t infos[8];
static volatile sig_atomic_t told;
static void tell(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    if (told < 8) infos[told++] = *info;
}
static void tell_infos(const char *name) {
    for (int i = 0; i < told; i++) printf("%s: signal %d code %d status %d from %s errno %d\n", name, infos[i].si_signo, infos[i].si_code, infos[i].si_status, who(infos[i].si_pid), infos[i].si_errno);
    if (told == 0) printf("%s: nothing told\n", name);
    told = 0;
}
static void ends(void) {
    act_info(SIGCHLD, tell, SA_RESTART);
    static const struct { const char *name; int status, number; } ways[] = {{"exit 0", 0, 0}, {"exit 255", 255, 0}, {"SIGKILL", 0, SIGKILL}, {"SIGTERM", 0, SIGTERM}, {"SIGSEGV", 0, SIGSEGV}, {"SIGABRT", 0, SIGABRT}, {"a real-time signal", 0, RT(3)}};
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
        int status;
        if (forked() == 0) {
            struct rlimit none = {0, 0};
            setrlimit(RLIMIT_CORE, &none);
            if (ways[i].number) signal(ways[i].number, SIG_DFL), raise(ways[i].number);
            _exit(ways[i].status);
        }
        need(waitpid(the_child, &status, 0) == the_child, "waitpid");
        while (!told) nap(500);
        printf("%s: status %x\n", ways[i].name, status);
        tell_infos(ways[i].name);
    }
    /* Told while blocked: one for many. */
    block(SIGCHLD);
    for (int i = 0; i < 3; i++) if (forked() == 0) _exit(i);
    for (int i = 0; i < 3; i++) need(wait(NULL) > 0, "wait");
    unblock(SIGCHLD);
    says_value("three ends while it is blocked: told", told);
    told = 0;
    siginfo_t info;
    memset(&info, 0, sizeof info);
    block(SIGCHLD);
    if (forked() == 0) _exit(9);
    sigset_t set = set_of(1, SIGCHLD);
    says_value("sigwaitinfo of a child's end", sigwaitinfo(&set, &info));
    printf("it says code %d status %d from %s\n", info.si_code, info.si_status, who(info.si_pid));
    waited(the_child);
    unblock(SIGCHLD);
    signal(SIGCHLD, SIG_DFL);
}

static void unwanted(void) {
    act_info(SIGCHLD, tell, SA_NOCLDWAIT);
    if (forked() == 0) _exit(3);
    says("SA_NOCLDWAIT: wait", waitpid(-1, NULL, 0));
    while (!told) nap(500);
    tell_infos("SA_NOCLDWAIT");
    signal(SIGCHLD, SIG_IGN);
    if (forked() == 0) _exit(3);
    says("ignored: wait", waitpid(-1, NULL, 0));
    signal(SIGCHLD, SIG_DFL);
    if (forked() == 0) _exit(3);
    printf("default: %s\n", ended(waited(the_child)));
    /* Another signal for the end, by clone. */
    act_info(SIGUSR1, tell, 0), act_info(SIGCHLD, tell, 0);
    fflush(stdout);
    long child = syscall(SYS_clone, SIGUSR1, 0, 0, 0, 0);
    if (child == 0) _exit(4);
    the_child = child;
    int status = 0;
    says("clone with SIGUSR1: wait", waitpid(child, &status, 0) == child ? 0 : -1);
    says("clone with SIGUSR1: wait, __WALL", waitpid(child, &status, 0x40000000) == child ? 0 : -1);
    while (!told) nap(500);
    tell_infos("clone with SIGUSR1");
    fflush(stdout);
    child = syscall(SYS_clone, 0, 0, 0, 0, 0);
    if (child == 0) _exit(4);
    the_child = child;
    says("clone with no signal: wait, __WCLONE", waitpid(child, &status, 0x80000000) == child ? 0 : -1);
    tell_infos("clone with no signal");
    signal(SIGUSR1, SIG_DFL), signal(SIGCHLD, SIG_DFL);
}

int main(void) {
    signal(SIGCHLD, SIG_DFL);
    loops();
    ends();
    unwanted();
    return 0;
}
