/* What comes with a signal that someone sends, who may send what, and what queues up: kill, tkill, tgkill, sigqueue,
 * sigwaitinfo, sigtimedwait, RLIMIT_SIGPENDING. */
#include "sig.h"

static long tgqueue(pid_t group, pid_t thread, int number, const void *info) { return syscall(SYS_rt_tgsigqueueinfo, group, thread, number, info); }
static long queue(pid_t pid, int number, const void *info) { return syscall(SYS_rt_sigqueueinfo, pid, number, info); }
static long timed(const sigset_t *set, siginfo_t *info, const void *timeout, size_t size) { return syscall(SYS_rt_sigtimedwait, set, info, timeout, size); }
static const struct timespec now = {0, 0}, soon = {0, 2000000};

static void senders(void) {
    act_info(SIGUSR1, count_info, 0), act_info(RT(0), count_info, 0), act_info(SIGCHLD, count_info, 0);
    kill(getpid(), SIGUSR1), tell_sender("kill", &last_info);
    syscall(SYS_tkill, syscall(SYS_gettid), SIGUSR1), tell_sender("tkill", &last_info);
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1), tell_sender("tgkill", &last_info);
    kill(0, 0);
    raise(RT(0)), tell_sender("raise", &last_info);
    union sigval value = {.sival_ptr = (void *)0x123456789abc};
    sigqueue(getpid(), SIGUSR1, value), tell_sender("sigqueue", &last_info);
    sigqueue(getpid(), RT(0), value), tell_sender("sigqueue, real-time", &last_info);
    struct shared *shared = share();
    fflush(stdout);
    pid_t parent = getpid();
    if ((the_child = fork()) == 0) {
        need(setresuid(1001, 1002, 0) == 0, "setresuid");
        _exit(7);
    }
    while (caught[SIGCHLD] == 0) pause();
    printf("a child's end: signal %d errno %d code %d from %s user %d status %d\n", last_info.si_signo, last_info.si_errno, last_info.si_code, who(last_info.si_pid), last_info.si_uid, last_info.si_status);
    waited(the_child);
    caught[SIGCHLD] = 0;
    if (forked() == 0) signal(SIGUSR1, SIG_DFL), raise(SIGUSR1);
    while (caught[SIGCHLD] == 0) pause();
    printf("a child's end by a signal: signal %d code %d from %s status %d\n", last_info.si_signo, last_info.si_code, who(last_info.si_pid), last_info.si_status);
    waited(the_child);
    act(SIGCHLD, SIG_DFL, 0);
    block(SIGUSR1);
    if (forked() == 0) kill(parent, SIGUSR1), _exit(0);
    waited(the_child);
    unblock(SIGUSR1);
    tell_sender("kill by a child", &last_info);
}

static void forging(void) {
    unsigned char bytes[128];
    siginfo_t *info = (siginfo_t *)bytes;
    static const int codes[] = {SI_USER, 1, 0x80, SI_QUEUE, SI_TIMER, SI_MESGQ, SI_ASYNCIO, SI_SIGIO, SI_TKILL, -7, -60, -100, 0x7fffffff, (int)0x80000000};
    AS_CHILD {
        act_info(SIGUSR1, count_info, 0), act_info(RT(0), count_info, 0);
        for (unsigned i = 0; i < sizeof codes / sizeof *codes; i++) {
            memset(bytes, 0, sizeof bytes);
            info->si_signo = 5, info->si_errno = 66, info->si_code = codes[i], info->si_pid = 77, info->si_uid = 88, info->si_value.sival_int = 99;
            long result = queue(getpid(), SIGUSR1, bytes);
            printf("queue to oneself, code %d: %s\n", codes[i], outcome(result));
            if (result == 0) printf("comes as signal %d errno %d code %d from %d user %d value %d\n", last_info.si_signo, last_info.si_errno, last_info.si_code, last_info.si_pid, last_info.si_uid, last_info.si_value.sival_int);
            says(form("queue to a child, code %d", codes[i]), queue(getppid(), 0, bytes));
            says(form("tgqueue to another, code %d", codes[i]), tgqueue(getppid(), getppid(), 0, bytes));
            says(form("tgqueue to oneself, code %d", codes[i]), tgqueue(getpid(), getpid(), RT(0), bytes));
            /* What is beyond the structure must be zero where the kernel does not know the code. */
            for (int at = 47; at < 128; at += at == 47 ? 1 : 79) {
                memset(bytes, 0, sizeof bytes);
                info->si_code = codes[i], bytes[at] = 1;
                printf("code %d, byte %d set: %s\n", codes[i], at, outcome(queue(getpid(), SIGUSR1, bytes)));
                printf("code %d, byte %d set, SIGCHLD: %s\n", codes[i], at, outcome(queue(getpid(), SIGCHLD, bytes)));
                if (last_info.si_signo == SIGUSR1) holds("it comes", ((unsigned char *)&last_info)[at]);
            }
        }
    }
    memset(bytes, 0, sizeof bytes);
    info->si_code = SI_QUEUE;
    says("queue signal 0", queue(getpid(), 0, bytes));
    says("queue signal 65", queue(getpid(), 65, bytes));
    says("queue signal -1", queue(getpid(), -1, bytes));
    says("queue to nobody", queue(0x3fffff, SIGUSR1, bytes));
    says("queue to nobody, signal 65", queue(0x3fffff, 65, bytes));
    says("queue to 0", queue(0, SIGUSR1, bytes));
    says("queue to -1", queue(-1, SIGUSR1, bytes));
    says("queue from a bad address", queue(getpid(), SIGUSR1, (void *)8));
    says("queue to nobody from a bad address", queue(0x3fffff, SIGUSR1, (void *)8));
    says("tgqueue to group 0", tgqueue(0, getpid(), 0, bytes));
    says("tgqueue to thread 0", tgqueue(getpid(), 0, 0, bytes));
    says("tgqueue to another group", tgqueue(getppid(), getpid(), 0, bytes));
    says("tgqueue signal 65", tgqueue(getpid(), getpid(), 65, bytes));
    says("tgqueue from a bad address", tgqueue(getpid(), getpid(), 0, (void *)8));
    says("tgqueue to thread -1 from a bad address", tgqueue(getpid(), -1, 0, (void *)8));
    says("tkill thread 0", syscall(SYS_tkill, 0, 0));
    says("tkill thread -1", syscall(SYS_tkill, -1, 0));
    says("tkill nobody", syscall(SYS_tkill, 0x3fffff, 0));
    says("tkill signal 65", syscall(SYS_tkill, getpid(), 65));
    says("tkill nobody signal 65", syscall(SYS_tkill, 0x3fffff, 65));
    says("tgkill another group", syscall(SYS_tgkill, getppid(), getpid(), 0));
    says("tgkill group 0", syscall(SYS_tgkill, 0, getpid(), 0));
    says("tgkill signal 65", syscall(SYS_tgkill, getpid(), getpid(), 65));
    says("tgkill signal 0", syscall(SYS_tgkill, getpid(), getpid(), 0));
}

static void waiting(void) {
    sigset_t set = set_of(3, SIGUSR1, RT(0), RT(1));
    siginfo_t info;
    sigprocmask(SIG_BLOCK, &set, NULL);
    says("sigtimedwait, nothing there, no time", timed(&set, &info, &now, 8));
    says("sigtimedwait, nothing there, a little time", timed(&set, &info, &soon, 8));
    says("sigtimedwait, set of 4 bytes", timed(&set, &info, &now, 4));
    says("sigtimedwait, crooked time", timed(&set, &info, &(struct timespec){0, 1000000000}, 8));
    says("sigtimedwait, negative time", timed(&set, &info, &(struct timespec){-1, 0}, 8));
    says("sigtimedwait, bad set", timed((void *)8, &info, &now, 8));
    says("sigtimedwait, bad time", timed(&set, &info, (void *)8, 8));
    send_self(SIGUSR1);
    says("sigtimedwait, bad info", timed(&set, (void *)8, &now, 8));
    says_value("pending after that", is_pending(SIGUSR1));
    for (int i = 0; i < 3; i++) queue_to(getpid(), RT(1), 100 + i), queue_to(getpid(), RT(0), 200 + i), queue_to(getpid(), SIGUSR1, 300 + i);
    for (int i = 0; i < 8; i++) {
        says_value("taken", timed(&set, &info, &now, 8));
        if (info.si_signo) tell_sender("it", &info);
        memset(&info, 0, sizeof info);
    }
    send_self(SIGUSR1);
    set = set_of(1, RT(0));
    says("what is not in the set is not taken", timed(&set, &info, &now, 8));
    set = set_of(2, SIGUSR1, RT(0));
    says_value("sigwaitinfo without room for info", sigwaitinfo(&set, NULL));
    set = set_of(2, SIGKILL, SIGSTOP);
    says("SIGKILL and SIGSTOP can't be waited for", timed(&set, &info, &now, 8));
    int number = 0;
    set = set_of(1, SIGUSR1);
    send_self(SIGUSR1);
    says_value("sigwait", sigwait(&set, &number));
    says_value("sigwait gives", number);

    struct shared *shared = share();
    fflush(stdout);
    pid_t parent = getpid();
    if ((the_child = fork()) == 0) {
        nap(3000);
        for (int i = 0; i < 5; i++) queue_to(parent, RT(0), i), nap(2000);
        _exit(0);
    }
    set = set_of(2, RT(0), RT(1));
    for (int i = 0; i < 5; i++) need(timed(&set, &info, NULL, 8) == RT(0), "RT(0)"), tell_sender("waited for", &info);
    waited(the_child);
    /* One that is caught and not waited for interrupts it, restart or not. */
    forget_caught();
    act(SIGUSR2, count, SA_RESTART);
    pid_t child = pester(shared, SIGUSR2);
    says("sigwaitinfo, another caught", timed(&set, &info, NULL, 8));
    says("sigtimedwait, another caught", timed(&set, &info, &(struct timespec){1000, 0}, 8));
    enough(shared, child);
    act(SIGUSR2, SIG_DFL, 0);
    /* What is waited for need not be blocked before: then the handler may have it, or who waits. */
    act_info(RT(1), count_info, 0);
    set = set_of(2, RT(1), SIGUSR1);
    unblock(RT(1));
    if ((the_child = fork()) == 0) {
        atomic_store(&shared->go, 0);
        while (!atomic_load(&shared->done)) queue_to(parent, RT(1), 5), nap(2000);
        _exit(0);
    }
    long taken;
    while ((taken = timed(&set, &info, NULL, 8)) != RT(1)) need(errno == EINTR, "EINTR");
    says_value("taken although it is caught and not blocked", taken);
    atomic_store(&shared->done, 1);
    while (waitpid(the_child, NULL, 0) < 0);
    /* Ignored ones can be waited for where they are blocked. */
    signal(SIGUSR1, SIG_IGN);
    send_self(SIGUSR1);
    says_value("an ignored one, blocked and sent, is taken", timed(&set, &info, &now, 8));
    signal(SIGUSR1, SIG_DFL);
    unblock_all();
}

static void limits(void) {
    AS_CHILD {
        become(1001, 2001, 0, NULL);
        struct rlimit limit = {8, 8};
        need(setrlimit(RLIMIT_SIGPENDING, &limit) == 0, "setrlimit");
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        for (int i = 0; i < 10; i++) says(form("queued, number %d", i), queue_to(getpid(), RT(0), i));
        says("queued, another number", queue_to(getpid(), RT(1), 1));
        says("kill, real-time", kill(getpid(), RT(1)));
        says("kill, real-time again", kill(getpid(), RT(1)));
        says("tgkill, real-time", syscall(SYS_tgkill, getpid(), getpid(), RT(3)));
        says("queued, standard", queue_to(getpid(), SIGUSR1, 2));
        says("kill, standard", kill(getpid(), SIGUSR2));
        siginfo_t info;
        for (;;) {
            memset(&info, 0, sizeof info);
            if (timed(&all, &info, &now, 8) < 0) break;
            tell_sender("taken", &info);
        }
        says("queued when all were taken", queue_to(getpid(), RT(0), 9));
        limit = (struct rlimit){0, 8};
        need(setrlimit(RLIMIT_SIGPENDING, &limit) == 0, "setrlimit");
        says("queued, none allowed", queue_to(getpid(), RT(0), 9));
        says("kill, none allowed", kill(getpid(), SIGUSR2));
        /* A child's count is its user's. */
        limit = (struct rlimit){4, 8};
        setrlimit(RLIMIT_SIGPENDING, &limit);
        struct shared *shared = share();
        if (forked() == 0) { atomic_store(&shared->ready, 1); wait_for(&shared->go); _exit(0); }
        wait_for(&shared->ready);
        for (int i = 0; i < 4; i++) says("queued to a child", queue_to(the_child, RT(0), i));
        says("queued here", queue_to(getpid(), RT(0), 9));
        atomic_store(&shared->go, 1);
        waited(the_child);
        says("queued here when it has gone", queue_to(getpid(), RT(0), 9));
    }
}

static void order_of_many(void) {
    enum { MANY = 300 };
    static int next;
    act(RT(0), SIG_DFL, 0);
    block(RT(0)), block(RT(1));
    for (int i = 0; i < MANY; i++) need(queue_to(getpid(), RT(i % 2), i) == 0, "sigqueue");
    sigset_t set = set_of(2, RT(0), RT(1));
    siginfo_t info;
    int right = 1;
    for (int i = 0; i < MANY; i++) {
        need(timed(&set, &info, &now, 8) > 0, "it is there");
        int expected = i < MANY / 2 ? 2 * i : 2 * (i - MANY / 2) + 1;
        right &= info.si_value.sival_int == expected;
    }
    holds("many come in order, the lower number first", right);
    says("and no more", timed(&set, &info, &now, 8));
}

int main(void) {
    senders();
    forging();
    waiting();
    limits();
    order_of_many();
    return 0;
}
