/* What sigaction(2), sigprocmask(2), sigpending(2) and sigsuspend(2) keep, refuse and bring about; the order in which
 * signals are delivered; what fork and exec do to them. */
#include "sig.h"

struct kernel_action { void *handler; unsigned long flags; void *restorer; unsigned long mask; };
static long raw_action(long number, const void *new, void *old, size_t size) { return syscall(SYS_rt_sigaction, number, new, old, size); }
static long raw_mask(int how, const void *new, void *old, size_t size) { return syscall(SYS_rt_sigprocmask, how, new, old, size); }

static void nested(int number) {
    count(number);
    if (caught[number] == 1) send_self(number);
    holds(form("signal %d blocked in its handler", number), is_blocked(number));
    count(number);
}
static void sends_second(int number) {
    count(number);
    if (number == SIGUSR1) send_self(SIGUSR2), count(1);
}
static void resets(int number) {
    struct sigaction now;
    count(number);
    sigaction(number, NULL, &now);
    holds("SA_RESETHAND: default while it runs", now.sa_handler == SIG_DFL);
    holds("SA_RESETHAND: the flag stays", !!(now.sa_flags & SA_RESETHAND));
}
static void masks(int number) {
    count(number);
    printf("in the handler of %d blocked:", number);
    for (int i = 1; i < 65; i++) if (is_blocked(i)) printf(" %d", i);
    puts("");
}

static void actions(void) {
    struct kernel_action action = {(void *)count, SA_RESTART, NULL, ~0UL}, old;
    says("action of signal 0", raw_action(0, &action, NULL, 8));
    says("action of signal 65", raw_action(65, &action, NULL, 8));
    says("action of signal -1", raw_action(-1, &action, NULL, 8));
    says("asking for signal 0", raw_action(0, NULL, &old, 8));
    says("action of SIGKILL", raw_action(SIGKILL, &action, NULL, 8));
    says("action of SIGSTOP", raw_action(SIGSTOP, &action, NULL, 8));
    says("asking for SIGKILL", raw_action(SIGKILL, NULL, &old, 8));
    says("action, set of 4 bytes", raw_action(10, &action, NULL, 4));
    says("action, set of 128 bytes", raw_action(10, &action, NULL, 128));
    says("action at a bad address", raw_action(10, (void *)8, NULL, 8));
    says("old action to a bad address", raw_action(10, NULL, (void *)8, 8));
    says("set, old to a bad address", raw_action(10, &action, (void *)8, 8));
    says("asking", raw_action(10, NULL, &old, 8));
    holds("it was set all the same", old.handler == (void *)count);
    printf("what is kept: flags %lx mask %lx\n", old.flags, old.mask);
    action.flags = ~0UL, action.handler = SIG_DFL;
    says("every flag", raw_action(10, &action, NULL, 8));
    says("asking", raw_action(10, NULL, &old, 8));
    printf("what is kept of all flags: %lx\n", old.flags);
    for (int number = 1; number < 65; number++) {
        action = (struct kernel_action){SIG_IGN, 0, NULL, 0};
        long set = raw_action(number, &action, NULL, 8), asked = raw_action(number, NULL, &old, 8);
        printf("signal %d: ignore %s, ask %s, handler %ld\n", number, outcome(set), outcome(asked), (long)old.handler);
        action.handler = SIG_DFL;
        raw_action(number, &action, NULL, 8);
    }
}

static void masking(void) {
    unsigned long set = ~0UL, old = 0;
    says("mask, set of 16 bytes", raw_mask(SIG_BLOCK, &set, NULL, 16));
    says("mask, how 3", raw_mask(3, &set, NULL, 8));
    says("mask, how 3 without a set", raw_mask(3, NULL, &old, 8));
    says("mask at a bad address", raw_mask(SIG_BLOCK, (void *)8, NULL, 8));
    says("mask all", raw_mask(SIG_SETMASK, &set, NULL, 8));
    says("asking for the mask", raw_mask(SIG_BLOCK, NULL, &old, 8));
    printf("blocked: %lx\n", old);
    set = 0xff;
    says("unblock some, old to a bad address", raw_mask(SIG_UNBLOCK, &set, (void *)8, 8));
    raw_mask(SIG_BLOCK, NULL, &old, 8);
    printf("blocked: %lx\n", old);
    set = 0;
    says("mask nothing", raw_mask(SIG_SETMASK, &set, &old, 8));
    says("pending, set of 16 bytes", syscall(SYS_rt_sigpending, &set, 16));
    says("pending, set of 4 bytes", syscall(SYS_rt_sigpending, &set, 4));
    says("pending to a bad address", syscall(SYS_rt_sigpending, 8, 8));
    says("suspend, set of 4 bytes", syscall(SYS_rt_sigsuspend, &set, 4));
    says("suspend at a bad address", syscall(SYS_rt_sigsuspend, 8, 8));
}

static void delivery(void) {
    act(SIGUSR1, count, 0), act(SIGUSR2, count, 0), act(SIGTERM, count, 0), act(RT(0), count, 0), act(RT(1), count, 0);
    forget_caught();
    says("kill oneself", kill(getpid(), SIGUSR1));
    says_value("handled when kill returns", caught[SIGUSR1]);
    block(SIGUSR1);
    send_self(SIGUSR1), send_self(SIGUSR1), send_thread(SIGUSR1);
    says_value("handled while blocked", caught[SIGUSR1]);
    says_value("pending", is_pending(SIGUSR1));
    unblock(SIGUSR1);
    says_value("handled when unblocked: merged, but for the thread's own", caught[SIGUSR1]);
    says_value("pending", is_pending(SIGUSR1));

    /* All that is due gets its frame at once; the last one pushed runs first. */
    forget_caught();
    sigset_t some = set_of(5, SIGUSR1, SIGUSR2, SIGTERM, RT(0), RT(1));
    sigprocmask(SIG_BLOCK, &some, NULL);
    send_self(RT(1)), send_self(SIGTERM), send_self(SIGUSR2), send_self(RT(0)), send_self(SIGUSR1), send_self(RT(0));
    unblock_all();
    tell_order("five unblocked at once");
    forget_caught();
    sigprocmask(SIG_BLOCK, &some, NULL);
    send_self(SIGUSR1), send_thread(SIGTERM), send_self(SIGUSR2), send_thread(RT(0));
    unblock_all();
    tell_order("the thread's before the process's");
    forget_caught();
    struct sigaction all = {.sa_handler = count};
    sigfillset(&all.sa_mask);
    for (int i = 0; i < 5; i++) sigaction((int[]){SIGUSR1, SIGUSR2, SIGTERM, RT(0), RT(1)}[i], &all, NULL);
    sigprocmask(SIG_BLOCK, &some, NULL);
    send_self(RT(1)), send_self(SIGTERM), send_self(SIGUSR2), send_self(RT(0)), send_self(SIGUSR1), send_self(RT(0));
    unblock_all();
    tell_order("one after the other where handlers block all");

    forget_caught();
    act(SIGUSR1, nested, 0);
    send_self(SIGUSR1);
    tell_order("sent in its own handler");
    forget_caught();
    act(SIGUSR1, nested, SA_NODEFER);
    send_self(SIGUSR1);
    tell_order("sent in its own handler, SA_NODEFER");
    forget_caught();
    act(SIGUSR1, sends_second, 0), act(SIGUSR2, sends_second, 0);
    send_self(SIGUSR1);
    tell_order("another sent in a handler");
    forget_caught();
    struct sigaction one = {.sa_handler = sends_second};
    sigaddset(&one.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &one, NULL);
    send_self(SIGUSR1);
    tell_order("another sent in a handler that blocks it");

    forget_caught();
    act(SIGUSR1, resets, SA_RESETHAND);
    send_self(SIGUSR1);
    IN_CHILD("SA_RESETHAND, the second time") {
        act(SIGUSR1, count, SA_RESETHAND);
        send_self(SIGUSR1), send_self(SIGUSR1);
    }
    one = (struct sigaction){.sa_handler = masks};
    sigaddset(&one.sa_mask, SIGTERM), sigaddset(&one.sa_mask, SIGKILL), sigaddset(&one.sa_mask, RT(2));
    sigaction(SIGUSR2, &one, NULL);
    block(SIGHUP);
    send_self(SIGUSR2);
    one.sa_flags = SA_NODEFER;
    sigaction(SIGUSR2, &one, NULL);
    send_self(SIGUSR2);
    holds("the mask is restored", is_blocked(SIGHUP) && !is_blocked(SIGTERM) && !is_blocked(SIGUSR2));
    unblock_all();
}

static void ignoring(void) {
    forget_caught();
    act(SIGUSR1, SIG_IGN, 0);
    send_self(SIGUSR1);
    act(SIGUSR1, count, 0);
    says_value("sent while ignored, then caught", caught[SIGUSR1]);
    act(SIGUSR1, SIG_IGN, 0);
    block(SIGUSR1);
    send_self(SIGUSR1);
    says_value("ignored and blocked: pending", is_pending(SIGUSR1));
    act(SIGUSR1, count, 0);
    unblock(SIGUSR1);
    says_value("ignored and blocked, then caught", caught[SIGUSR1]);
    forget_caught();
    block(SIGUSR1);
    send_self(SIGUSR1), send_thread(SIGUSR1);
    act(SIGUSR1, SIG_IGN, 0);
    says_value("pending, then ignored: pending", is_pending(SIGUSR1));
    act(SIGUSR1, count, 0);
    unblock(SIGUSR1);
    says_value("pending, ignored, caught, unblocked", caught[SIGUSR1]);
    block(SIGCHLD);
    act(SIGCHLD, count, 0);
    send_self(SIGCHLD);
    says_value("SIGCHLD pending", is_pending(SIGCHLD));
    act(SIGCHLD, SIG_DFL, 0);
    says_value("SIGCHLD pending, default again", is_pending(SIGCHLD));
    send_self(SIGCHLD);
    says_value("SIGCHLD sent by default while blocked", is_pending(SIGCHLD));
    unblock(SIGCHLD);
    act(SIGUSR1, SIG_DFL, 0);
    block(SIGUSR1);
    send_self(SIGUSR1);
    act(SIGUSR1, SIG_DFL, 0);
    says_value("SIGUSR1 pending, default again", is_pending(SIGUSR1));
    act(SIGUSR1, SIG_IGN, 0), act(SIGUSR1, SIG_DFL, 0), unblock(SIGUSR1);
    for (int number = 1; number < 65; number++) {
        if (number == SIGSTOP || number == SIGTSTP || number == SIGTTIN || number == SIGTTOU) continue;
        IN_CHILD(form("default of %d", number)) signal(number, SIG_DFL), send_self(number);
    }
}

static void suspending(void) {
    struct shared *shared = share();
    forget_caught();
    act(SIGUSR1, count_info, 0), act(SIGUSR1, count, 0);
    act_info(SIGUSR1, count_info, 0), act(SIGUSR2, count, 0);
    sigset_t some = set_of(2, SIGUSR1, SIGHUP), open = set_of(2, SIGHUP, SIGUSR2);
    sigprocmask(SIG_SETMASK, &some, NULL);
    send_self(SIGUSR1);
    says("suspend with a signal pending", sigsuspend(&open));
    says_value("handled", caught[SIGUSR1]);
    holds("its handler had the temporary mask", sigismember(&mask_in_handler, SIGUSR2) && sigismember(&mask_in_handler, SIGUSR1));
    holds("the old mask is back", is_blocked(SIGUSR1) && is_blocked(SIGHUP) && !is_blocked(SIGUSR2));
    pid_t child = pester(shared, SIGUSR1);
    says("suspend until someone sends", sigsuspend(&open));
    holds("the old mask is back", is_blocked(SIGUSR1) && is_blocked(SIGHUP) && !is_blocked(SIGUSR2));
    unblock_all();
    says("pause", pause());
    enough(shared, child);
    holds("handled more than once", caught[SIGUSR1] > 1);
    act(SIGUSR1, SIG_IGN, 0);
    /* Signals that do nothing don't end a pause: the one that does comes later. */
    forget_caught();
    fflush(stdout);
    pid_t parent = getpid();
    if ((child = fork()) == 0) {
        for (int i = 0; i < 20; i++) kill(parent, SIGUSR1), kill(parent, SIGCHLD), kill(parent, SIGCONT), nap(1000);
        while (!atomic_load(&shared->done)) kill(parent, SIGUSR2), nap(3000);
        _exit(0);
    }
    says("pause, ignored signals first", pause());
    atomic_store(&shared->done, 1);
    int status;
    while (waitpid(child, &status, 0) < 0);
    holds("only what is caught ends a pause", caught[SIGUSR2] > 0 && caught[SIGUSR1] == 0);
    act(SIGUSR1, SIG_DFL, 0), act(SIGUSR2, SIG_DFL, 0);
}

static void inheriting(char *self) {
    act(SIGUSR1, count, 0), act(SIGUSR2, SIG_IGN, 0), act(SIGTERM, count, 0);
    block(SIGUSR1), block(SIGHUP);
    forget_caught();
    send_self(SIGUSR1), send_thread(SIGHUP), queue_to(getpid(), RT(5), 1) ;
    IN_CHILD("forked") {
        holds("forked: nothing is pending", !is_pending(SIGUSR1) && !is_pending(SIGHUP));
        holds("forked: blocked as before", is_blocked(SIGUSR1) && is_blocked(SIGHUP) && !is_blocked(SIGTERM));
        send_self(SIGUSR1);
        unblock(SIGUSR1);
        says_value("forked: handled by the same handler", caught[SIGUSR1]);
    }
    fflush(stdout);
    if (forked() == 0) {
        send_self(SIGUSR1);
        execl(self, self, "after-exec", NULL);
        _exit(97);
    }
    printf("after exec: %s\n", ended(waited(the_child)));
    says_value("still pending here", is_pending(SIGUSR1));
    unblock(SIGUSR1);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        struct sigaction action;
        sigaction(SIGUSR1, NULL, &action);
        holds("exec: a handler is default", action.sa_handler == SIG_DFL);
        sigaction(SIGUSR2, NULL, &action);
        holds("exec: what was ignored is", action.sa_handler == SIG_IGN);
        holds("exec: blocked as before", is_blocked(SIGUSR1) && is_blocked(SIGHUP) && !is_blocked(SIGTERM));
        says_value("exec: pending as before", is_pending(SIGUSR1));
        fflush(stdout);
        unblock(SIGUSR1);
        puts("not reached");
        return 0;
    }
    signal(RT(5), SIG_IGN);
    /* Whatever whoever started this has left. */
    for (int i = 1; i < 65; i++) signal(i, SIG_DFL);
    unblock_all();
    actions();
    masking();
    delivery();
    ignoring();
    suspending();
    signal(RT(5), SIG_IGN);
    inheriting("/proc/self/exe");
    return 0;
}
