/* How threads begin and end, and what becomes of the process around them.   usage: thread_life [CASE] */
#include "conf.h"
#include <limits.h>
#include <pthread.h>

static const char *told(int error) { return error ? errno_name(error) : "ok"; }
static void started(pthread_t *thread, void *(*what)(void *), void *argument) {
    need(pthread_create(thread, NULL, what, argument) == 0, "pthread_create");
}
static void *joined(pthread_t thread) {
    void *result = NULL;
    need(pthread_join(thread, &result) == 0, "pthread_join");
    return result;
}

/* --- beginning --- */

static void *itself(void *argument) { return argument; }
static void *my_tid(void *unused) { return (void *)syscall(SYS_gettid); }
static void *my_self(void *unused) { return (void *)pthread_self(); }
static void *my_pids(void *unused) { return (void *)(intptr_t)(getpid() == syscall(SYS_getpid) ? getpid() * 10000L + getppid() % 10000 : 0); }
static void *exits(void *argument) {
    pthread_exit(argument);
}
static __attribute__((noinline)) void deep(int depth) {
    volatile char frame[1000];
    frame[0] = (char)depth;
    if (depth) deep(depth - 1);
    frame[999] = frame[0];
}
static void *deep_exit(void *argument) {
    if ((intptr_t)argument > 10) pthread_exit(argument);
    return deep_exit((void *)((intptr_t)argument + 1));
}
static void *uses_stack(void *kilobytes) {
    deep((int)(intptr_t)kilobytes);
    return kilobytes;
}
static void *floats(void *argument) {
    double x = (double)(intptr_t)argument, sum = 0;
    for (int i = 1; i < 3000; i++) {
        sum += x / i;
        if (i % 500 == 0) sched_yield();
    }
    return (void *)(intptr_t)(sum * 1000);
}
static pthread_barrier_t everybody;
static void *meets(void *argument) {
    pthread_barrier_wait(&everybody);
    return argument;
}

static void beginning(void) {
    pthread_t threads[200], self = pthread_self();
    started(threads, itself, (void *)123);
    says_value("what it returned", (long)joined(threads[0]));
    started(threads, exits, (void *)456);
    says_value("what it said when it ended itself", (long)joined(threads[0]));
    started(threads, deep_exit, (void *)1);
    says_value("from deep within", (long)joined(threads[0]));
    started(threads, my_tid, NULL);
    long tid = (long)joined(threads[0]);
    holds("its id is not the process's", tid > 0 && tid != getpid());
    holds("main's is", syscall(SYS_gettid) == getpid());
    started(threads, my_self, NULL);
    pthread_t first = threads[0];
    holds("it knows itself", pthread_equal((pthread_t)joined(first), first));
    holds("and is not main", !pthread_equal(first, self));
    started(threads, my_pids, NULL);
    holds("it is of the same process", (long)joined(threads[0]) == getpid() * 10000L + getppid() % 10000);
    pthread_attr_t attributes;
    size_t size = 0;
    need(pthread_attr_init(&attributes) == 0, "pthread_attr_init");
    for (size_t kilobytes = 64; kilobytes <= 16384; kilobytes *= 4) {
        printf("stack of %zu KiB %s\n", kilobytes, told(pthread_attr_setstacksize(&attributes, kilobytes << 10)));
        need(pthread_create(threads, &attributes, uses_stack, (void *)(kilobytes * 3 / 4)) == 0, "pthread_create");
        says_value("it can be used", (long)joined(threads[0]));
    }
    char *own = mmap(NULL, 256 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(own != MAP_FAILED, "mmap");
    printf("a stack of one's own %s\n", told(pthread_attr_setstack(&attributes, own, 256 << 10)));
    need(pthread_create(threads, &attributes, uses_stack, (void *)180) == 0, "pthread_create");
    says_value("it can be used", (long)joined(threads[0]));
    pthread_attr_destroy(&attributes);
    for (intptr_t i = 0; i < 20; i++) started(&threads[i], floats, (void *)i);
    long sum = 0;
    for (int i = 0; i < 20; i++) sum += (long)joined(threads[i]);
    says_value("floating point in twenty", sum);
    need(pthread_barrier_init(&everybody, NULL, 201) == 0, "pthread_barrier_init");
    need(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, 64 << 10) == 0, "attributes");
    sum = 0;
    for (intptr_t i = 0; i < 200; i++) need(pthread_create(&threads[i], &attributes, meets, (void *)i) == 0, "pthread_create");
    pthread_barrier_wait(&everybody);
    for (int i = 0; i < 200; i++) sum += (long)joined(threads[i]);
    says_value("two hundred at once", sum);
    sum = 0;
    for (intptr_t i = 0; i < 100; i++) {
        started(threads, itself, (void *)i);
        sum += (long)joined(threads[0]);
    }
    says_value("a hundred, one after the other", sum);
}

/* --- detaching and joining --- */

static _Atomic int detached_done, go;
static void *counts(void *unused) {
    atomic_fetch_add(&detached_done, 1);
    return NULL;
}
static void *waits_for_go(void *argument) {
    while (!atomic_load(&go)) nap(1000);
    return argument;
}
static void *joins(void *thread) { return (void *)(intptr_t)pthread_join(*(pthread_t *)thread, NULL); }
static pthread_t the_main;
static void *joins_main(void *unused) {
    void *result = NULL;
    int error = pthread_join(the_main, &result);
    printf("main joined %s, %ld\n", told(error), (long)result);
    fflush(stdout);
    _exit(5);
}
static void detaching(void) {
    pthread_t threads[40];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (int i = 0; i < 40; i++) need(pthread_create(&threads[i], &attributes, counts, NULL) == 0, "pthread_create");
    for (int naps = 0; atomic_load(&detached_done) < 40 && naps < 20000; naps++) nap(1000);
    says_value("detached from the start", atomic_load(&detached_done));
    for (int i = 0; i < 40; i++) {
        started(&threads[i], counts, NULL);
        need(pthread_detach(threads[i]) == 0, "pthread_detach");
    }
    for (int naps = 0; atomic_load(&detached_done) < 80 && naps < 20000; naps++) nap(1000);
    says_value("detached later", atomic_load(&detached_done));
    started(threads, waits_for_go, (void *)8);
#ifdef __GLIBC__
    void *result = NULL;
    struct timespec until;
    printf("try to join %s\n", told(pthread_tryjoin_np(threads[0], &result)));
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20000000;
    if (until.tv_nsec >= 1000000000) until.tv_nsec -= 1000000000, until.tv_sec++;
    printf("join for 20 ms %s\n", told(pthread_timedjoin_np(threads[0], &result, &until)));
    clock_gettime(CLOCK_MONOTONIC, &until);
    printf("join until now %s\n", told(pthread_clockjoin_np(threads[0], &result, CLOCK_MONOTONIC, &until)));
    printf("join oneself %s\n", told(pthread_join(pthread_self(), NULL)));
#endif
    pthread_t other = threads[0];
    started(&threads[1], joins, &other);
    nap(5000);
    atomic_store(&go, 1);
    printf("joined by another %s\n", told((int)(intptr_t)joined(threads[1])));
    atomic_store(&go, 0);
}

/* --- ending --- */

static void *ends_process(void *status) { exit((int)(intptr_t)status); }
static void *ends_group(void *status) {
    syscall(SYS_exit_group, (int)(intptr_t)status);
    return NULL;
}
static void *kills(void *signal) {
    kill(getpid(), (int)(intptr_t)signal);
    for (;;) pause();
}
static void *kills_thread(void *signal) {
    syscall(SYS_tgkill, getpid(), getpid(), (int)(intptr_t)signal);
    for (;;) pause();
}
static void *faults(void *unused) {
    nap(2000);
    *(volatile char *)16 = 1;
    return NULL;
}
static void *traps(void *unused) {
    nap(2000);
    __asm__ volatile("ud2");
    return NULL;
}
static void *overflows(void *unused) {
    deep(100000000);
    return NULL;
}
static void *spins(void *unused) {
    for (volatile long i = 0;; i++) {}
    return NULL;
}
static void *sleeps(void *unused) {
    for (;;) nap(100000000);
    return NULL;
}
static void *blocks(void *mutex) {
    pthread_mutex_lock(mutex);
    return NULL;
}
static void *yields(void *unused) {
    for (;;) sched_yield();
}
static void *exits_last(void *status) {
    nap(20000);
    printf("the last one still prints\n");
    return status;
}
static void *raw_exit(void *status) {
    syscall(SYS_exit, (int)(intptr_t)status);
    return NULL;
}
static void *raw_exit_later(void *status) {
    nap(20000);
    return raw_exit(status);
}
static void *becomes(void *argument) {
    execl("/proc/self/exe", "thread_life", "became", (char *)argument, NULL);
    return NULL;
}
/* Threads in every state that a thread can be in. */
static void company(void) {
    static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
    pthread_t thread;
    pthread_mutex_lock(&held);
    for (int i = 0; i < 2; i++) started(&thread, spins, NULL), started(&thread, sleeps, NULL), started(&thread, blocks, &held), started(&thread, yields, NULL);
    nap(3000);
}

static void *joins_others(void *unused) {
    for (;;) {
        pthread_t thread;
        started(&thread, itself, NULL);
        joined(thread);
    }
}
static void *ends_soon(void *status) {
    nap(300000);
    _exit((int)(intptr_t)status);
}
/* Waits until /proc says that the process is in state `wanted`, and prints what it says. */
static void *sees_state(void *wanted) {
    char text[500], *state = text;
    for (int i = 0; i < 200; i++) {
        int fd = open("/proc/self/stat", O_RDONLY);
        ssize_t got = read(fd, text, sizeof text - 1);
        close(fd);
        need(got > 0, "stat");
        text[got] = 0;
        state = strrchr(text, ')') + 2;
        if (*state == *(char *)wanted) break;
        nap(10000);
    }
    printf("the process is %c\n", *state);
    return NULL;
}

static void ending(void) {
    pthread_t thread;
    static const struct { const char *name; void *(*what)(void *); long argument; } ends[] = {
        {"exit", ends_process, 3}, {"exit_group", ends_group, 4}, {"SIGKILL to the process", kills, SIGKILL}, {"SIGTERM to the process", kills, SIGTERM},
        {"SIGKILL to the first thread", kills_thread, SIGKILL}, {"SIGTERM to the first thread", kills_thread, SIGTERM}, {"a fault", faults, 0},
        {"an invalid instruction", traps, 0}, {"a stack that overflows", overflows, 0}, {"another program", becomes, 0},
    };
    for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++)
        for (int main_waits = 0; main_waits < 2; main_waits++)
            IN_CHILD(form("%s in a thread, main %s", ends[i].name, main_waits ? "joins" : "spins")) {
                company();
                started(&thread, ends[i].what, (void *)ends[i].argument);
                if (main_waits) joined(thread), joined(thread);
                spins(NULL);
            }
    IN_CHILD("exit in main") {
        company();
        exit(7);
    }
    for (int i = 0; i < 3; i++)
        IN_CHILD("an exit while the ends of threads are waited for") {
            started(&thread, ends_soon, (void *)8);
            for (int many = 0; many < 9; many++) started(&thread, joins_others, NULL);
            joins_others(NULL);
        }
    IN_CHILD("main sleeps, a thread looks") {
        started(&thread, sees_state, "S");
        joined(thread);
    }
    IN_CHILD("main has ended, a thread looks") {
        started(&thread, sees_state, "Z");
        fflush(stdout);
        syscall(SYS_exit, 0);
    }
    IN_CHILD("a return from main's thread by the system call, others end later") {
        started(&thread, exits_last, NULL);
        fflush(stdout);
        syscall(SYS_exit, 9);
    }
    /* Programs of their own: musl's main can't end itself in a forked child without taking a lock along. */
    static const char *const programs[] = {"main ends itself", "main ends itself, alone", "main ends itself and is joined",
                                           "main ends itself, a thread exits with a status", "main and then another end by the system call",
                                           "another and then main end by the system call", "main has ended, then it is killed"};
    for (unsigned i = 0; i < sizeof programs / sizeof *programs; i++)
        IN_CHILD(programs[i]) {
            execl("/proc/self/exe", "thread_life", programs[i], NULL);
            need(0, "execl");
        }
    IN_CHILD("many at once end the process") {
        for (intptr_t i = 0; i < 30; i++) started(&thread, ends_group, (void *)33);
        spins(NULL);
    }
}

/* What main may do with itself, by name. */
static int alone(const char *what) {
    pthread_t thread;
#define IF(name) if (strcmp(what, name) == 0)
    IF("became") {
        /* Started by a thread of what was there before. */
        holds("another program's only thread is its first", syscall(SYS_gettid) == getpid());
        return 6;
    }
    IF("main ends itself") {
        started(&thread, exits_last, NULL);
        pthread_exit((void *)9);
    }
    IF("main ends itself, alone") pthread_exit((void *)9);
    IF("main ends itself and is joined") {
        the_main = pthread_self();
        started(&thread, joins_main, NULL);
        pthread_exit((void *)11);
    }
    IF("main ends itself, a thread exits with a status") {
        started(&thread, ends_process, (void *)12);
        pthread_exit(NULL);
    }
    IF("main and then another end by the system call") {
        started(&thread, raw_exit_later, (void *)22);
        syscall(SYS_exit, 21);
    }
    IF("another and then main end by the system call") {
        started(&thread, raw_exit, (void *)22);
        nap(20000);
        syscall(SYS_exit, 23);
    }
    IF("main has ended, then it is killed") {
        started(&thread, sleeps, NULL);
        if (forked() == 0) {
            nap(20000);
            _exit(kill(getppid(), SIGKILL) ? 1 : 0);
        }
        syscall(SYS_exit, 24);
    }
    return 99;
}

/* --- processes made by threads --- */

static void *forks(void *unused) {
    pid_t child = fork();
    if (child == 0) _exit(syscall(SYS_gettid) == getpid() ? 41 : 1);
    int status = -1;
    need(waitpid(child, &status, 0) == child, "waitpid");
    return (void *)(intptr_t)status;
}
static void *forks_and_leaves(void *unused) {
    pid_t child = fork();
    if (child == 0) {
        nap(10000);
        _exit(getppid() == 1 ? 2 : 43);
    }
    return (void *)(intptr_t)child;
}
static void *vforks(void *unused) {
    volatile int stored = 0;
    pid_t child = vfork();
    if (child == 0) {
        stored = 1;
        _exit(44);
    }
    int status = -1;
    need(waitpid(child, &status, 0) == child, "waitpid");
    return (void *)(intptr_t)(status + stored);
}
static void *forks_threads(void *unused) {
    pid_t child = fork();
    if (child == 0) {
        pthread_t threads[5];
        long sum = 0;
        for (intptr_t i = 0; i < 5; i++) started(&threads[i], itself, (void *)i);
        for (int i = 0; i < 5; i++) sum += (long)joined(threads[i]);
        _exit(sum == 10 ? 45 : 1);
    }
    int status = -1;
    need(waitpid(child, &status, 0) == child, "waitpid");
    return (void *)(intptr_t)status;
}
static void *waits_for(void *child) {
    int status = -1;
    return (void *)(intptr_t)(waitpid((pid_t)(intptr_t)child, &status, 0) == (pid_t)(intptr_t)child ? status : -errno);
}
static void forking(void) {
    pthread_t threads[8];
    started(threads, forks, NULL);
    printf("forked by a thread: %s\n", ended((int)(intptr_t)joined(threads[0])));
    for (int i = 0; i < 8; i++) started(&threads[i], forks, NULL);
    int same = 1;
    for (int i = 0; i < 8; i++) same &= (intptr_t)joined(threads[i]) == 41 << 8;
    holds("by eight at once", same);
    started(threads, forks_and_leaves, NULL);
    pid_t child = (pid_t)(intptr_t)joined(threads[0]);
    printf("forked by a thread that is gone: %s\n", ended(waited(child)));
    started(threads, forks_and_leaves, NULL);
    child = (pid_t)(intptr_t)joined(threads[0]);
    started(threads, waits_for, (void *)(intptr_t)child);
    printf("waited for by another thread: %s\n", ended((int)(intptr_t)joined(threads[0])));
    started(threads, vforks, NULL);
    printf("vforked by a thread: %lx\n", (long)joined(threads[0]));
    started(threads, forks_threads, NULL);
    printf("threads in a child: %s\n", ended((int)(intptr_t)joined(threads[0])));
    started(threads, my_tid, NULL);
    pid_t gone = (pid_t)(intptr_t)joined(threads[0]);
    says("wait for a thread", waitpid(gone, NULL, 0));
    says("wait for anybody", waitpid(-1, NULL, 0));
    atomic_store(&go, 0);
    started(threads, waits_for_go, NULL);
    says("wait for anybody, with a thread", waitpid(-1, NULL, WNOHANG));
    atomic_store(&go, 1);
    joined(threads[0]);
}

int main(int argc, char **argv) {
    if (argc > 1) return alone(argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    beginning();
    detaching();
    ending();
    forking();
    return 0;
}
