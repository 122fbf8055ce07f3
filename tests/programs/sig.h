/* What the signal programs (sig_*.c) use beyond conf.h: counting handlers, and someone who sends signals until told
 * that it is enough, so that no result depends on when a signal comes. */
#ifndef SIG_H
#define SIG_H
#include "conf.h"
#include <setjmp.h>
#include <sys/time.h>
#include <ucontext.h>

/* Real-time signals by number: the C libraries keep different ones for themselves. */
#define RT(n) (40 + (n))

/* What handlers have seen. */
static volatile sig_atomic_t caught[65];
static volatile sig_atomic_t caught_all;
static volatile int order[4096];
static siginfo_t last_info;
static sigset_t mask_in_handler;

static void count(int number) {
    caught[number]++;
    if (caught_all < 4096) order[caught_all++] = number;
}
static void count_info(int number, siginfo_t *info, void *context) {
    (void)context;
    last_info = *info;
    sigprocmask(SIG_BLOCK, NULL, &mask_in_handler);
    count(number);
}
static inline void forget_caught(void) {
    for (int i = 0; i < 65; i++) caught[i] = 0;
    caught_all = 0;
    memset(&last_info, 0, sizeof last_info);
}

static inline sigset_t set_of(int count, ...) {
    sigset_t set;
    sigemptyset(&set);
    va_list list;
    va_start(list, count);
    while (count-- > 0) sigaddset(&set, va_arg(list, int));
    va_end(list);
    return set;
}
static inline void act(int number, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    need(sigaction(number, &action, NULL) == 0, "sigaction");
}
static inline void act_info(int number, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};
    need(sigaction(number, &action, NULL) == 0, "sigaction");
}
static inline void block(int number) { sigset_t set = set_of(1, number); sigprocmask(SIG_BLOCK, &set, NULL); }
static inline void unblock(int number) { sigset_t set = set_of(1, number); sigprocmask(SIG_UNBLOCK, &set, NULL); }
static inline void unblock_all(void) { sigset_t set; sigemptyset(&set); sigprocmask(SIG_SETMASK, &set, NULL); }
static inline int is_pending(int number) { sigset_t set; sigpending(&set); return sigismember(&set, number); }
static inline int is_blocked(int number) { sigset_t set; sigprocmask(SIG_BLOCK, NULL, &set); return sigismember(&set, number); }
static inline void send_self(int number) { need(kill(getpid(), number) == 0, "kill"); }
static inline void send_thread(int number) { need(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number) == 0, "tgkill"); }
/* sigqueue(3), with whatever number. */
static inline int queue_to(pid_t pid, int number, long value) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_code = SI_QUEUE, info.si_pid = getpid(), info.si_uid = getuid(), info.si_value.sival_ptr = (void *)value;
    return syscall(SYS_rt_sigqueueinfo, pid, number, &info);
}

/* `name: 10 12 14`, what handlers have seen since it was forgotten. */
static inline void tell_order(const char *name) {
    printf("%s:", name);
    for (int i = 0; i < caught_all; i++) printf(" %d", order[i]);
    puts("");
}
static inline const char *code_name(int number, int code) {
    switch (code) {
    case SI_USER: return "SI_USER";
    case SI_QUEUE: return "SI_QUEUE";
    case SI_TIMER: return "SI_TIMER";
    case SI_TKILL: return "SI_TKILL";
    case 0x80: return "SI_KERNEL";
    }
    return form("%d", code);
}
/* Who sent it and why. */
static inline void tell_sender(const char *name, const siginfo_t *info) {
    printf("%s: signal %d errno %d %s from %s user %d value %ld\n", name, info->si_signo, info->si_errno, code_name(info->si_signo, info->si_code),
           who(info->si_pid), (int)info->si_uid, (long)info->si_value.sival_ptr);
}

/* Shared by parent and children. */
struct shared {
    _Atomic int enough, ready, go, done, number;
    _Atomic long count, value;
};
static inline struct shared *share(void) {
    struct shared *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    need(shared != MAP_FAILED, "shared memory");
    memset(shared, 0, sizeof *shared);
    return shared;
}
static inline void wait_for(_Atomic int *word) { while (!atomic_load(word)) nap(500); }

/* A child that sends `number` to this process again and again until `enough`, and ends then. */
static inline pid_t pester(struct shared *shared, int number) {
    pid_t target = getpid(), child;
    atomic_store(&shared->enough, 0);
    fflush(stdout);
    if ((child = fork()) == 0) {
        signal(number, SIG_DFL);
        while (!atomic_load(&shared->enough)) {
            if (kill(target, number)) _exit(1);
            nap(3000);
        }
        _exit(0);
    }
    need(child > 0, "fork");
    return child;
}
/* Ends the one who pesters. May itself be interrupted. */
static inline void enough(struct shared *shared, pid_t child) {
    atomic_store(&shared->enough, 1);
    int status;
    while (waitpid(child, &status, 0) < 0) need(errno == EINTR, "waitpid");
    need(status == 0, "a child that ends well");
}
#endif
