/* The system calls that make threads and speak of them, without a library in between where that is possible. */
#include "conf.h"
#include "futex.h"
#include <pthread.h>
#include <sys/prctl.h>

#ifndef CLONE_VM
#define CLONE_VM 0x100
#define CLONE_FS 0x200
#define CLONE_FILES 0x400
#define CLONE_SIGHAND 0x800
#define CLONE_VFORK 0x4000
#define CLONE_PARENT 0x8000
#define CLONE_THREAD 0x10000
#define CLONE_NEWNS 0x20000
#define CLONE_SYSVSEM 0x40000
#define CLONE_SETTLS 0x80000
#define CLONE_PARENT_SETTID 0x100000
#define CLONE_CHILD_CLEARTID 0x200000
#define CLONE_DETACHED 0x400000
#define CLONE_CHILD_SETTID 0x1000000
#endif
/* From linux/sched.h. */
struct clone_arguments {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};
enum { THREAD = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM };

static char stacks[8][65536] __attribute__((aligned(64)));
static char *top(int number) { return stacks[number] + sizeof stacks[0]; }
static long gettid_(void) { return syscall(SYS_gettid); }
static void wait_until_zero(_Atomic int *at) {
    int value;
    while ((value = atomic_load(at)) != 0) futex_wait((word *)at, value);
}

/* --- clone --- */

static _Atomic int ran, tid_inside, pid_inside, parent_tid, child_tid;
static int runs(void *argument) {
    atomic_store(&tid_inside, (int)gettid_());
    atomic_store(&pid_inside, (int)syscall(SYS_getpid));
    atomic_fetch_add(&ran, 1);
    return (int)(intptr_t)argument;
}
static int waits_for_child_tid(void *unused) {
    /* CLONE_CHILD_SETTID is done before it runs. */
    atomic_store(&ran, atomic_load(&child_tid) == (int)gettid_());
    return 0;
}

static void bad_flags(void) {
    static const struct { const char *name; unsigned long flags; } cases[] = {
        {"a thread without shared signals", CLONE_THREAD | CLONE_VM}, {"a thread without shared memory", CLONE_THREAD | CLONE_SIGHAND},
        {"shared signals without shared memory", CLONE_SIGHAND}, {"a thread of nothing", CLONE_THREAD},
        {"shared directories in another name space", CLONE_NEWNS | CLONE_FS},
        {"a thread with nothing else", CLONE_THREAD | CLONE_FS | CLONE_FILES},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        long child = syscall(SYS_clone, cases[i].flags | SIGCHLD, 0, 0, 0, 0);
        if (child == 0) _exit(0);
        says(cases[i].name, child);
    }
    struct clone_arguments good = {.exit_signal = SIGCHLD}, arguments;
    unsigned char large[8192];
#define TRY(name, size, ...)                                                            \
    do {                                                                                \
        arguments = good;                                                               \
        __VA_ARGS__;                                                                    \
        memset(large, 0, sizeof large);                                                 \
        memcpy(large, &arguments, sizeof arguments);                                    \
        long child = syscall(SYS_clone3, large, (size_t)(size));                        \
        if (child == 0) _exit(0);                                                       \
        if (child > 0) waited((pid_t)child);                                            \
        says("clone3 with " name, child);                                               \
    } while (0)
    TRY("nothing", 0, );
    TRY("less than the first version", 63, );
    TRY("the first version", 64, );
    TRY("the second version", 80, );
    TRY("the third version", 88, );
    TRY("more, all zero", 96, );
    TRY("a page, all zero", 4096, );
    TRY("more than a page", 4097, );
    TRY("a size beyond all bounds", -1L, );
    TRY("an unknown flag", 88, arguments.flags = 1UL << 40);
    TRY("a signal among the flags", 88, arguments.flags = SIGCHLD);
    TRY("a signal that is none", 88, arguments.exit_signal = 65);
    TRY("a signal that is none by far", 88, arguments.exit_signal = 1UL << 32);
    TRY("the flag of long ago", 88, arguments.flags = CLONE_DETACHED);
    TRY("a stack without a size", 88, arguments.stack = (uint64_t)stacks[0]);
    TRY("a size without a stack", 88, arguments.stack_size = 4096);
    TRY("a thread without memory", 88, arguments.flags = CLONE_THREAD | CLONE_SIGHAND, arguments.exit_signal = 0);
    TRY("a thread that signals", 88, arguments.flags = THREAD, arguments.stack = (uint64_t)stacks[0], arguments.stack_size = 65536);
    TRY("signals without memory", 88, arguments.flags = CLONE_SIGHAND);
    TRY("a count of ids without ids", 88, arguments.set_tid_size = 1);
    TRY("ids without a count", 88, arguments.set_tid = (uint64_t)stacks[0]);
    memset(large, 0, sizeof large);
    memcpy(large, &good, sizeof good);
    large[88 + 7] = 1;
    says("clone3 with something unknown", syscall(SYS_clone3, large, 96UL));
    says("clone3 at a bad address", syscall(SYS_clone3, 16UL, 88UL));
    says("clone3 in the kernel", syscall(SYS_clone3, KERNEL_ADDRESS, 88UL));
    says("clone3 at null", syscall(SYS_clone3, NULL, 88UL));
}

static void cloning(void) {
    atomic_store(&child_tid, 99);
    long tid = clone(runs, top(0), THREAD | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID, (void *)5, &parent_tid, NULL, &child_tid);
    need(tid > 0, "a thread");
    holds("the parent knows the thread's id", atomic_load(&parent_tid) == tid);
    wait_until_zero(&child_tid);
    printf("it ran %d times\n", atomic_load(&ran));
    holds("its id was what clone returned", atomic_load(&tid_inside) == tid);
    holds("its process is this one", atomic_load(&pid_inside) == getpid());
    says("a thread can't be waited for", waitpid((pid_t)tid, NULL, 0));
    says("nor with __WALL", waitpid((pid_t)tid, NULL, __WALL));
    atomic_store(&ran, 0);
    atomic_store(&child_tid, 99);
    need(clone(waits_for_child_tid, top(0), THREAD | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | SIGUSR1, NULL, NULL, NULL, &child_tid) > 0, "a thread");
    wait_until_zero(&child_tid);
    holds("its id is in its memory when it starts", atomic_load(&ran));
    /* Addresses that can't be written are passed over. */
    atomic_store(&ran, 0);
    tid = clone(runs, top(1), THREAD | CLONE_CHILD_CLEARTID, NULL, NULL, NULL, (void *)16);
    holds("an id to be cleared at a bad address", tid > 0);
    for (int naps = 0; syscall(SYS_tgkill, getpid(), tid, 0) == 0 && naps < 20000; naps++) nap(500);
    printf("it ran %d times\n", atomic_load(&ran));
    tid = clone(runs, top(2), THREAD | CLONE_PARENT_SETTID, NULL, (void *)16, NULL, NULL);
    holds("an id for the parent at a bad address", tid > 0);
    if (tid > 0) for (int naps = 0; syscall(SYS_tgkill, getpid(), tid, 0) == 0 && naps < 20000; naps++) nap(500);
    printf("it ran %d times\n", atomic_load(&ran));
    /* Processes that share memory. */
    static const struct { const char *name; int flags; } processes[] = {
        {"a process that shares memory", CLONE_VM | SIGCHLD},
        {"a process that shares memory, for a while", CLONE_VM | CLONE_VFORK | SIGCHLD},
        {"a process that shares nothing", SIGCHLD},
    };
    for (unsigned i = 0; i < sizeof processes / sizeof *processes; i++) {
        atomic_store(&ran, 0), atomic_store(&pid_inside, 0), atomic_store(&parent_tid, 0);
        pid_t child = clone(runs, top(3), processes[i].flags | CLONE_PARENT_SETTID, (void *)(intptr_t)(30 + i), &parent_tid, NULL, NULL);
        need(child > 0, processes[i].name);
        printf("%s: %s, ", processes[i].name, ended(waited(child)));
        printf("ran here %d, own process %s, told %s\n", atomic_load(&ran), atomic_load(&pid_inside) == (processes[i].flags & CLONE_VM ? child : 0) ? "yes" : "no",
               atomic_load(&parent_tid) == child ? "yes" : "no");
    }
    /* A child that says nothing when it ends is waited for only with __WALL or __WCLONE. */
    pid_t child = clone(runs, top(4), 0, (void *)3, NULL, NULL, NULL);
    need(child > 0, "a silent child");
    says("wait for a silent child", waitpid(child, NULL, 0));
    int status = -1;
    holds("with __WALL", waitpid(child, &status, __WALL) == child && WEXITSTATUS(status) == 3);
    child = clone(runs, top(4), 0, (void *)4, NULL, NULL, NULL);
    holds("with __WCLONE", waitpid(child, &status, __WCLONE) == child && WEXITSTATUS(status) == 4);
    /* fork's flags by hand: the child's id is cleared in its own memory, not here. */
    atomic_store(&child_tid, 77);
    child = (pid_t)syscall(SYS_clone, CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, 0, NULL, &child_tid, 0);
    if (child == 0) syscall(SYS_exit, atomic_load(&child_tid) == (int)syscall(SYS_getpid) ? 50 : 51);
    printf("fork with ids: %s, here %d\n", ended(waited(child)), atomic_load(&child_tid));
}

/* --- who is who --- */

static _Atomic long tids[8];
static _Atomic int stage;
static void *stays(void *number) {
    int me = (int)(intptr_t)number;
    atomic_store(&tids[me], gettid_());
    while (atomic_load(&stage) <= me) nap(500);
    return NULL;
}
static void wait_for_tid(int number) { while (atomic_load(&tids[number]) == 0) nap(200); }

static void identity(void) {
    static pthread_t threads[8];
    holds("set_tid_address tells one's id", syscall(SYS_set_tid_address, &child_tid) == gettid_());
    holds("also at a bad address", syscall(SYS_set_tid_address, 16L) == gettid_());
    for (intptr_t i = 0; i < 8; i++) need(pthread_create(&threads[i], NULL, stays, (void *)i) == 0, "pthread_create");
    for (int i = 0; i < 8; i++) wait_for_tid(i);
    int distinct = 1;
    for (int i = 0; i < 8; i++) {
        distinct &= atomic_load(&tids[i]) != getpid();
        for (int j = 0; j < i; j++) distinct &= atomic_load(&tids[i]) != atomic_load(&tids[j]);
    }
    holds("ids differ", distinct);
    long tid = atomic_load(&tids[0]), other = atomic_load(&tids[1]), pid = getpid();
    says("tgkill with nothing, to a thread", syscall(SYS_tgkill, pid, tid, 0));
    says("to main", syscall(SYS_tgkill, pid, pid, 0));
    says("of a thread's id as the group's", syscall(SYS_tgkill, tid, tid, 0));
    says("of another group", syscall(SYS_tgkill, 1, tid, 0));
    says("group 0", syscall(SYS_tgkill, 0, tid, 0));
    says("group -1", syscall(SYS_tgkill, -1, tid, 0));
    says("thread 0", syscall(SYS_tgkill, pid, 0, 0));
    says("thread -1", syscall(SYS_tgkill, pid, -1, 0));
    says("no such thread", syscall(SYS_tgkill, pid, 0x3ffffe, 0));
    says("signal 65", syscall(SYS_tgkill, pid, tid, 65));
    says("signal -1", syscall(SYS_tgkill, pid, tid, -1));
    says("tkill with nothing", syscall(SYS_tkill, tid, 0));
    says("tkill of thread 0", syscall(SYS_tkill, 0, 0));
    says("tkill of no such thread", syscall(SYS_tkill, 0x3ffffe, 0));
    says("kill by a thread's id", kill((pid_t)tid, 0));
    printf("pthread_kill with nothing %s\n", pthread_kill(threads[0], 0) ? "fails" : "ok");
    printf("pthread_kill with signal 65 %s\n", errno_name(pthread_kill(threads[0], 65)));

    void *head = NULL, *mine_now = NULL;
    size_t length = 0;
    says("get_robust_list of oneself", syscall(SYS_get_robust_list, 0, &mine_now, &length));
    says("of oneself by id", syscall(SYS_get_robust_list, gettid_(), &head, &length));
    holds("is the same", head == mine_now);
    says("of a thread", syscall(SYS_get_robust_list, tid, &head, &length));
    printf("length %zu\n", length);
    says("of another thread", syscall(SYS_get_robust_list, other, &head, &length));
    says("of no such thread", syscall(SYS_get_robust_list, 0x3ffffe, &head, &length));
    says("of thread -1", syscall(SYS_get_robust_list, -1, &head, &length));
    says("to a bad address", syscall(SYS_get_robust_list, 0, 16L, &length));
    says("its length to a bad address", syscall(SYS_get_robust_list, 0, &head, 16L));
    says("set_robust_list of another length", syscall(SYS_set_robust_list, mine_now, 23L));
    says("set_robust_list at a bad address", syscall(SYS_set_robust_list, 16L, 24L));
    syscall(SYS_get_robust_list, 0, &head, &length);
    holds("it is kept", head == (void *)16);
    says("set_robust_list", syscall(SYS_set_robust_list, mine_now, 24L));

    cpu_set_t all, set, first;
    CPU_ZERO(&all);
    says("sched_getaffinity of main", sched_getaffinity(0, sizeof all, &all));
    says("of a thread", sched_getaffinity((pid_t)tid, sizeof set, &set));
    holds("a thread inherits it", CPU_EQUAL(&all, &set));
    CPU_ZERO(&first);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all)) { CPU_SET(i, &first); break; }
    says("sched_setaffinity of a thread", sched_setaffinity((pid_t)tid, sizeof first, &first));
    CPU_ZERO(&set);
    says("sched_getaffinity", sched_getaffinity((pid_t)tid, sizeof set, &set));
    holds("it is that", CPU_EQUAL(&set, &first));
    sched_getaffinity((pid_t)other, sizeof set, &set);
    holds("another's is as it was", CPU_EQUAL(&set, &all));
    sched_getaffinity(0, sizeof set, &set);
    holds("main's as well", CPU_EQUAL(&set, &all));
    CPU_ZERO(&set);
    says("nowhere", sched_setaffinity((pid_t)tid, sizeof set, &set));
    says("of no such thread", sched_setaffinity(0x3ffffe, sizeof all, &all));
    says("of thread -1", sched_setaffinity(-1, sizeof all, &all));
    says("sched_getaffinity of no such thread", sched_getaffinity(0x3ffffe, sizeof set, &set));
    CPU_ZERO(&set);
    printf("pthread_getaffinity_np %s\n", pthread_getaffinity_np(threads[0], sizeof set, &set) ? "fails" : "ok");
    holds("it is that", CPU_EQUAL(&set, &first));
    printf("pthread_setaffinity_np %s\n", pthread_setaffinity_np(threads[0], sizeof all, &all) ? "fails" : "ok");
    sched_getaffinity((pid_t)tid, sizeof set, &set);
    holds("it may go anywhere again", CPU_EQUAL(&set, &all));

    atomic_store(&stage, 1);
    need(pthread_join(threads[0], NULL) == 0, "pthread_join");
    /* Joined, it may still be on its way out for a moment. */
    for (int naps = 0; syscall(SYS_tgkill, pid, tid, 0) == 0 && naps < 20000; naps++) nap(500);
    says("tgkill of one that is gone", syscall(SYS_tgkill, pid, tid, 0));
    says("get_robust_list of one that is gone", syscall(SYS_get_robust_list, tid, &head, &length));
    says("sched_getaffinity of one that is gone", sched_getaffinity((pid_t)tid, sizeof set, &set));
    atomic_store(&stage, 8);
    for (int i = 1; i < 8; i++) need(pthread_join(threads[i], NULL) == 0, "pthread_join");
}

/* --- names --- */

static void *names_itself(void *unused) {
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    int inherited = strcmp(name, "the main one") == 0;
    need(pthread_setname_np(pthread_self(), "another") == 0, "pthread_setname_np");
    pthread_getname_np(pthread_self(), name, sizeof name);
    return (void *)(intptr_t)(inherited * 2 + (strcmp(name, "another") == 0));
}
static void names(void) {
    char name[16] = "";
    pthread_t thread;
    void *result;
    says("PR_GET_NAME", prctl(PR_GET_NAME, name));
    holds("it has a name", name[0] != 0);
    says("PR_SET_NAME", prctl(PR_SET_NAME, "the main one"));
    prctl(PR_GET_NAME, name);
    printf("name %s\n", name);
    need(pthread_create(&thread, NULL, names_itself, NULL) == 0 && pthread_join(thread, &result) == 0, "a thread");
    printf("inherited and changed %ld\n", (long)result);
    prctl(PR_GET_NAME, name);
    printf("main's is still %s\n", name);
    says("a long one", prctl(PR_SET_NAME, "a name of more than fifteen bytes"));
    prctl(PR_GET_NAME, name);
    printf("is cut off: %s\n", name);
    printf("a long one by the library %s\n", errno_name(pthread_setname_np(pthread_self(), "a name of more than fifteen bytes")));
    says("from a bad address", prctl(PR_SET_NAME, 16L));
    says("to a bad address", prctl(PR_GET_NAME, 16L));
}

/* --- signal masks --- */

static _Atomic int signal_stage;
static int bits(const sigset_t *set) {
    int all = 0;
    for (int signal = 1; signal < 32; signal++)
        if (sigismember(set, signal) == 1) all |= 1 << signal;
    return all;
}
static int mask_now(void) {
    sigset_t set;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    return bits(&set);
}
static int pending_now(void) {
    sigset_t set;
    sigpending(&set);
    return bits(&set);
}
struct seen { int inherited, changed, pending; };
static void *masks_itself(void *at) {
    struct seen *seen = at;
    sigset_t set;
    seen->inherited = mask_now();
    sigemptyset(&set), sigaddset(&set, SIGUSR2), sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sigemptyset(&set), sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    seen->changed = mask_now();
    atomic_fetch_add(&signal_stage, 1);
    while (atomic_load(&signal_stage) < 10) nap(500);
    seen->pending = pending_now();
    return NULL;
}
static void *lets_in(void *unused) {
    sigset_t set;
    signal(SIGUSR1, SIG_DFL);
    sigfillset(&set);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    atomic_store(&signal_stage, 1);
    while (atomic_load(&signal_stage) < 2) nap(500);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    for (;;) nap(1000000);
}
static void masks(void) {
    static const int many = 1 << SIGUSR1 | 1 << SIGUSR2 | 1 << SIGTERM | 1 << SIGHUP;
    sigset_t set;
    pthread_t threads[2];
    struct seen seen[2];
    sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGHUP);
    printf("block %s\n", pthread_sigmask(SIG_BLOCK, &set, NULL) ? "fails" : "ok");
    printf("mask %x\n", mask_now() & many);
    printf("no such way %s\n", errno_name(pthread_sigmask(77, &set, NULL)));
    for (int i = 0; i < 2; i++) need(pthread_create(&threads[i], NULL, masks_itself, &seen[i]) == 0, "pthread_create");
    while (atomic_load(&signal_stage) < 2) nap(500);
    printf("main's mask %x\n", mask_now() & many);
    printf("to the first thread %s\n", pthread_kill(threads[0], SIGUSR1) ? "fails" : "ok");
    printf("to the second thread %s\n", pthread_kill(threads[1], SIGTERM) ? "fails" : "ok");
    printf("to main %s\n", pthread_kill(pthread_self(), SIGHUP) ? "fails" : "ok");
    printf("pending in main %x\n", pending_now() & many);
    /* Everybody blocks it, so it waits for anybody. */
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    says("to the process", kill(getpid(), SIGUSR2));
    printf("pending in main %x\n", pending_now() & many);
    atomic_store(&signal_stage, 10);
    for (int i = 0; i < 2; i++) {
        need(pthread_join(threads[i], NULL) == 0, "pthread_join");
        printf("thread %d: inherited %x, then %x, pending %x\n", i, seen[i].inherited & many, seen[i].changed & many, seen[i].pending & many);
    }
    /* What is ignored is dropped when it is let in. */
    signal(SIGUSR2, SIG_IGN), signal(SIGHUP, SIG_IGN);
    printf("pending when ignored %x\n", pending_now() & many);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    printf("mask %x\n", mask_now() & many);
    IN_CHILD("a signal to a thread, which main lets in") {
        signal(SIGUSR1, SIG_DFL);
        sigfillset(&set);
        pthread_sigmask(SIG_SETMASK, &set, NULL);
        atomic_store(&signal_stage, 0);
        need(pthread_create(&threads[0], NULL, masks_itself, &seen[0]) == 0, "pthread_create");
        while (atomic_load(&signal_stage) < 1) nap(500);
        pthread_kill(threads[0], SIGUSR1);
        nap(20000);
        sigemptyset(&set), sigaddset(&set, SIGUSR1);
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        printf("main goes on\n"); /* It was not for main. */
        fflush(stdout);
        _exit(3);
    }
    IN_CHILD("a signal to a thread, which the thread lets in") {
        atomic_store(&signal_stage, 0);
        need(pthread_create(&threads[0], NULL, lets_in, NULL) == 0, "pthread_create");
        while (atomic_load(&signal_stage) < 1) nap(500);
        pthread_kill(threads[0], SIGUSR1);
        printf("it waits\n");
        fflush(stdout);
        atomic_store(&signal_stage, 2);
        for (;;) pause();
    }
    IN_CHILD("a signal to the process, which only one thread lets in") {
        atomic_store(&signal_stage, 0);
        need(pthread_create(&threads[0], NULL, lets_in, NULL) == 0, "pthread_create");
        while (atomic_load(&signal_stage) < 1) nap(500);
        sigfillset(&set);
        pthread_sigmask(SIG_SETMASK, &set, NULL);
        kill(getpid(), SIGUSR1);
        printf("it waits\n");
        fflush(stdout);
        atomic_store(&signal_stage, 2);
        for (;;) pause();
    }
}

/* --- time spent --- */

static _Atomic int busy_stage;
static void *is_busy(void *unused) {
    atomic_store(&busy_stage, 1);
    for (volatile int i = 0; atomic_load(&busy_stage) < 2; i++) {}
    while (atomic_load(&busy_stage) < 3) nap(20000);
    return NULL;
}
static int64_t spent(clockid_t clock) {
    struct timespec t;
    return clock_gettime(clock, &t) ? -1 : t.tv_sec * 1000000000LL + t.tv_nsec;
}
static void spending(void) {
    pthread_t thread;
    clockid_t clock = 0, own = 0;
    struct timespec t;
    printf("one's own clock %s\n", pthread_getcpuclockid(pthread_self(), &own) ? "fails" : "ok");
    need(pthread_create(&thread, NULL, is_busy, NULL) == 0, "pthread_create");
    while (atomic_load(&busy_stage) < 1) nap(200);
    printf("a thread's clock %s\n", pthread_getcpuclockid(thread, &clock) ? "fails" : "ok");
    int64_t whole = spent(CLOCK_PROCESS_CPUTIME_ID);
    int64_t before = spent(clock), until = before + 30000000;
    int waits = 0;
    for (; spent(clock) < until && waits < 20000; waits++) nap(1000);
    holds("a busy thread spends time", spent(clock) >= until);
    holds("the process spends all of it", spent(CLOCK_PROCESS_CPUTIME_ID) - whole >= 30000000);
    int64_t first = spent(own), second = spent(CLOCK_THREAD_CPUTIME_ID), third = spent(own);
    holds("one's own clock by either name", first <= second && second <= third);
    says("clock_getres of a thread's clock", clock_getres(clock, &t));
    atomic_store(&busy_stage, 2);
    nap(5000);
    before = spent(clock);
    nap(60000);
    holds("a thread that sleeps spends little", spent(clock) - before < 20000000);
    atomic_store(&busy_stage, 3);
    need(pthread_join(thread, NULL) == 0, "pthread_join");
    for (int naps = 0; clock_gettime(clock, &t) == 0 && naps < 20000; naps++) nap(500);
    says("the clock of one that is gone", clock_gettime(clock, &t));
    says("the clock of no such thread", clock_gettime((clockid_t)(~0x3ffffeU << 3 | 6), &t));
    says("the clock of no such process", clock_gettime((clockid_t)(~0x3ffffeU << 3 | 2), &t));
    clockid_t process = 0;
    printf("clock_getcpuclockid %s\n", clock_getcpuclockid(getpid(), &process) ? "fails" : "ok");
    holds("it is the process's", spent(process) >= whole && spent(process) <= spent(CLOCK_PROCESS_CPUTIME_ID));
    printf("clock_getcpuclockid of nobody %s\n", errno_name(clock_getcpuclockid(0x3ffffe, &process)));
}

/* --- a thread's stack as the library sees it --- */

static void *knows_its_stack(void *unused) {
    pthread_attr_t attributes;
    void *at = NULL;
    size_t size = 0;
    int here;
    if (pthread_getattr_np(pthread_self(), &attributes)) return (void *)1;
    pthread_attr_getstack(&attributes, &at, &size);
    pthread_attr_destroy(&attributes);
    return (void *)((char *)&here > (char *)at && (char *)&here < (char *)at + size ? 2L : 3L);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("--- flags\n");
    bad_flags();
    printf("--- cloning\n");
    cloning();
    printf("--- identity\n");
    identity();
    printf("--- names\n");
    names();
    printf("--- time spent\n");
    spending();
    pthread_t thread;
    void *result;
    need(pthread_create(&thread, NULL, knows_its_stack, NULL) == 0 && pthread_join(thread, &result) == 0, "a thread");
    printf("a thread knows its stack %ld\n", (long)result);
    printf("--- signal masks\n");
    masks();
    return 0;
}
