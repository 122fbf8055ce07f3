/* Processes made, shared and ended by threads.   usage: task_process [CASE …] (for itself) */
#include "common.h"
#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;
enum { SPINNERS = 3 };

struct page {
    _Atomic long ticks, stage;
    _Atomic int tid, child;
};
/* Shared by all that comes from here: processes, too. */
static struct page *page;

static void started(pthread_t *thread, void *(*what)(void *), void *argument) {
    need(pthread_create(thread, NULL, what, argument) == 0, "pthread_create");
}
static void *joined(pthread_t thread) {
    void *result = NULL;
    need(pthread_join(thread, &result) == 0, "pthread_join");
    return result;
}
static pid_t forked(void) {
    fflush(stdout);
    pid_t child = fork();
    need(child >= 0, "fork");
    return child;
}
static const char *how(int status) {
    static char text[40];
    if (WIFEXITED(status)) snprintf(text, sizeof text, "exit %d", WEXITSTATUS(status));
    else snprintf(text, sizeof text, "signal %d", WTERMSIG(status));
    return text;
}
static int waited(pid_t child) {
    int status = -1;
    need(waitpid(child, &status, 0) == child, "waitpid");
    return status;
}
static void until(_Atomic long *word, long value) {
    while (atomic_load(word) < value) nap(300);
}

static void *ticks(void *unused) {
    for (;;) atomic_fetch_add(&page->ticks, 1);
}
static void *sleeps(void *unused) {
    for (;;) nap(50000000);
}
static void *waits(void *unused) {
    static int word;
    for (;;) syscall(SYS_futex, &word, 0, 0, NULL);
}
/* Threads in every state. */
static void company(void) {
    pthread_t thread;
    for (int i = 0; i < SPINNERS; i++) started(&thread, ticks, NULL);
    started(&thread, sleeps, NULL), started(&thread, waits, NULL), started(&thread, waits, NULL);
    until(&page->ticks, atomic_load(&page->ticks) + 10);
}
/* Nothing ticks any more: all threads have gone. */
static int still(void) {
    long before = atomic_load(&page->ticks);
    nap(3000);
    return atomic_load(&page->ticks) == before;
}

/* --- signals to a process with threads --- */

static void set_mask(int how, int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    need(pthread_sigmask(how, &set, NULL) == 0, "pthread_sigmask");
}
static void *lets_in_later(void *signal) {
    atomic_store(&page->stage, 1);
    until(&page->stage, 2);
    sigset_t pending;
    sigpending(&pending);
    if (!sigismember(&pending, (int)(intptr_t)signal)) _exit(70);
    set_mask(SIG_UNBLOCK, (int)(intptr_t)signal);
    _exit(71);
}
static void *ends_now(void *unused) { return NULL; }

static void killed(const char *name, int signal, int blocked_by_main) {
    atomic_store(&page->stage, 0);
    pid_t child = forked();
    if (child == 0) {
        company();
        if (blocked_by_main) set_mask(SIG_BLOCK, signal);
        atomic_store(&page->stage, 1);
        for (;;) nap(50000000);
    }
    until(&page->stage, 1);
    need(kill(child, signal) == 0, "kill");
    int status = waited(child);
    printf("%s: %s, ", name, how(status));
    holds("all threads gone", still());
}
static void signals(void) {
    killed("SIGKILL", SIGKILL, 0);
    killed("SIGTERM", SIGTERM, 0);
    killed("SIGTERM, main blocks it", SIGTERM, 1);
    killed("SIGUSR1", SIGUSR1, 0);
    /* Blocked by all: waits until one lets it in. */
    atomic_store(&page->stage, 0);
    pid_t child = forked();
    if (child == 0) {
        pthread_t thread;
        set_mask(SIG_BLOCK, SIGTERM);
        company();
        started(&thread, lets_in_later, (void *)SIGTERM);
        for (;;) nap(50000000);
    }
    until(&page->stage, 1);
    need(kill(child, SIGTERM) == 0, "kill");
    nap(3000);
    says("blocked by all, it lives", kill(child, 0));
    atomic_store(&page->stage, 2);
    printf("one lets it in: %s\n", how(waited(child)));
    /* What nobody wants does nothing; main has gone, others take it. */
    for (int gone = 0; gone < 2; gone++) {
        atomic_store(&page->stage, 0);
        child = forked();
        if (child == 0) {
            signal(SIGUSR2, SIG_IGN);
            company();
            atomic_store(&page->stage, 1);
            if (gone) syscall(SYS_exit, 5);
            for (;;) nap(50000000);
        }
        until(&page->stage, 1);
        nap(2000);
        says("ignored", kill(child, SIGUSR2));
        says("to its first thread", syscall(SYS_tgkill, child, child, SIGUSR2));
        says("it lives", kill(child, 0));
        if (gone) says("a signal to the thread that has gone", syscall(SYS_tgkill, child, child, SIGTERM)), says("it lives", kill(child, 0));
        need(kill(child, SIGTERM) == 0, "kill");
        printf("then %s\n", how(waited(child)));
    }
    /* While threads begin and end. */
    for (int i = 0; i < 8; i++) {
        atomic_store(&page->stage, 0);
        child = forked();
        if (child == 0)
            for (;;) {
                pthread_t thread;
                started(&thread, ends_now, NULL);
                atomic_store(&page->stage, 1);
                joined(thread);
            }
        until(&page->stage, 1);
        nap(500 * i);
        need(kill(child, i % 2 ? SIGTERM : SIGKILL) == 0, "kill");
        printf("while threads begin and end: %s\n", how(waited(child)));
    }
}

/* --- an end that is said several times --- */

static void *ends_with(void *status) {
    atomic_fetch_add(&page->stage, 1);
    while (atomic_load(&page->stage) < 8) sched_yield();
    syscall(SYS_exit_group, (int)(intptr_t)status);
    return NULL;
}
static void *faults(void *unused) {
    atomic_fetch_add(&page->stage, 1);
    while (atomic_load(&page->stage) < 8) sched_yield();
    *(volatile int *)16 = 1;
    return NULL;
}
static void at_once(void) {
    int odd = 0;
    for (int round = 0; round < 8; round++) {
        atomic_store(&page->stage, 0);
        pid_t child = forked();
        if (child == 0) {
            pthread_t thread;
            for (intptr_t i = 0; i < 8; i++) started(&thread, i % 2 ? ends_with : faults, (void *)(40 + i));
            for (;;) pause();
        }
        int status = waited(child);
        odd += !(WIFEXITED(status) ? WEXITSTATUS(status) % 2 && WEXITSTATUS(status) < 48 : WTERMSIG(status) == SIGSEGV);
    }
    holds("whoever says it first says how it ends", !odd);
}

/* --- vfork and CLONE_VM --- */

static void *vforks(void *unused) {
    pid_t child = vfork();
    if (child == 0) {
        /* The other threads go on meanwhile, in the same memory. */
        long before = atomic_load(&page->ticks);
        while (atomic_load(&page->ticks) < before + 1000) sched_yield();
        _exit(14);
    }
    return (void *)(intptr_t)waited(child);
}
static void *vforks_and_runs(void *unused) {
    pid_t child = vfork();
    if (child == 0) {
        execl("/proc/self/exe", "task_process", "15", NULL);
        _exit(1);
    }
    return (void *)(intptr_t)waited(child);
}
static void *vforks_for_long(void *unused) {
    pid_t child = vfork();
    if (child == 0) {
        atomic_store(&page->child, (int)syscall(SYS_getpid));
        atomic_store(&page->stage, 1);
        until(&page->stage, 2);
        atomic_store(&page->stage, 3);
        _exit(0);
    }
    return NULL;
}
static void lending(void) {
    pthread_t thread;
    started(&thread, ticks, NULL);
    pthread_t threads[4];
    started(&thread, vforks, NULL);
    printf("vforked by a thread: %s\n", how((int)(intptr_t)joined(thread)));
    for (int i = 0; i < 4; i++) started(&threads[i], i % 2 ? vforks : vforks_and_runs, NULL);
    for (int i = 0; i < 4; i++) printf("vforked by one of four: %s\n", how((int)(intptr_t)joined(threads[i])));
    /* Killed while the child of one of its threads has the memory: the child goes on. */
    for (int i = 0; i < 2; i++) {
        atomic_store(&page->stage, 0);
        pid_t child = forked();
        if (child == 0) {
            started(&thread, vforks_for_long, NULL);
            for (;;) nap(50000000);
        }
        until(&page->stage, 1);
        need(kill(child, i ? SIGTERM : SIGKILL) == 0, "kill");
        printf("killed while its child has its memory: %s\n", how(waited(child)));
        atomic_store(&page->stage, 2);
        until(&page->stage, 3);
        holds("the child went on", 1);
    }
}

static char stack[2][16384] __attribute__((aligned(16)));
static _Atomic long in_memory;
static int in_the_same_memory(void *stop) {
    for (long i = 1; i < (long)(intptr_t)stop; i++) atomic_fetch_add(&in_memory, 1);
    syscall(SYS_exit_group, 16);
    return 0;
}
static void sharing_memory(void) {
    pid_t a = clone(in_the_same_memory, stack[0] + sizeof stack[0], CLONE_VM | SIGCHLD, (void *)1001);
    pid_t b = clone(in_the_same_memory, stack[1] + sizeof stack[1], CLONE_VM | SIGCHLD, (void *)501);
    need(a > 0 && b > 0, "clone");
    printf("two processes in this memory: %s", how(waited(a)));
    printf(" and %s, ", how(waited(b)));
    says_value("they counted to", atomic_load(&in_memory));
    /* A brother, and a child without a signal. */
    pid_t me = getpid(), child = forked();
    if (child == 0) {
        pid_t brother = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
        if (brother == 0) _exit(getppid() == me ? 17 : 1);
        int status;
        _exit(waitpid(brother, &status, 0) == -1 && errno == ECHILD ? 18 : 1);
    }
    printf("a process: %s", how(waited(child)));
    int status = -1;
    need(wait(&status) > 0, "wait");
    printf(", its brother: %s\n", how(status));
    says("nobody else", wait(&status));
}

/* --- descriptors and signal actions in common --- */

static int opens_and_closes(void *fd) {
    close((int)(intptr_t)fd);
    _exit(open("/proc/sysvipc/shm", O_RDONLY) == (int)(intptr_t)fd ? 30 : 1);
}
static int opens_and_sets(void *unused) {
    int fd = open("/proc/sysvipc/shm", O_RDONLY);
    struct sigaction action = {.sa_handler = SIG_IGN};
    syscall(SYS_exit_group, fd >= 3 && sigaction(SIGUSR1, &action, NULL) == 0 ? 31 + fd : 1);
    return 0;
}
static int runs_another(void *unused) {
    struct sigaction action = {.sa_handler = SIG_IGN};
    sigaction(SIGUSR2, &action, NULL);
    execl("/proc/self/exe", "task_process", "32", NULL);
    return 1;
}
static int ignored(int signal) {
    struct sigaction action;
    need(sigaction(signal, NULL, &action) == 0, "sigaction");
    return action.sa_handler == SIG_IGN;
}
static int is_open(int fd) {
    char byte;
    return read(fd, &byte, 1) == 1;
}
static void handles(int signal) {}
static void having_in_common(void) {
    char *top = stack[0] + sizeof stack[0];
    struct sigaction action = {.sa_handler = handles};
    int fd = open("/proc/sysvipc/shm", O_RDONLY);
    need(fd >= 3, "open");
    says_value("a descriptor of a copy", clone(opens_and_closes, top, SIGCHLD, (void *)(intptr_t)fd) > 0);
    int status = -1;
    wait(&status);
    printf("closed and opened there: %s, ", how(status));
    holds("here it is open", is_open(fd));
    char byte;
    while (read(fd, &byte, 1) == 1) continue;
    holds("read to its end", !is_open(fd));
    need(clone(opens_and_closes, top, CLONE_FILES | SIGCHLD, (void *)(intptr_t)fd) > 0, "clone");
    wait(&status);
    printf("in common, closed and opened there: %s, ", how(status));
    holds("it begins again", is_open(fd));
    close(fd);
    says_value("a child with everything in common", clone(opens_and_sets, top, CLONE_VM | CLONE_FILES | CLONE_SIGHAND | SIGCHLD, NULL) > 0);
    wait(&status);
    need(WEXITSTATUS(status) == 31 + fd, "its end");
    holds("what it opened is open here", is_open(fd));
    holds("what it ignores is ignored here", ignored(SIGUSR1));
    /* One that runs another program has its own from then on. */
    sigaction(SIGUSR1, &action, NULL);
    need(clone(runs_another, top, CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_SIGHAND | SIGCHLD, NULL) > 0, "clone");
    wait(&status);
    printf("another program: %s\n", how(status));
    holds("what it ignored before is ignored here", ignored(SIGUSR2));
    struct sigaction now;
    sigaction(SIGUSR1, NULL, &now);
    holds("a handler here stays", now.sa_handler == handles);
    holds("what is open here stays", is_open(fd));
    close(fd);
}

/* --- several that spawn and wait --- */

static void *spawns(void *number) {
    char text[16];
    snprintf(text, sizeof text, "%d", (int)(intptr_t)number);
    char *argv[] = {"task_process", text, NULL};
    pid_t child = -1;
#ifdef __GLIBC__
    int error = posix_spawn(&child, "/proc/self/exe", NULL, NULL, argv, environ);
#else /* musl's makes a pipe */
    child = vfork();
    if (child == 0) execv("/proc/self/exe", argv), _exit(1);
    int error = child == -1 ? errno : 0;
#endif
    if (error) return (void *)(intptr_t)-error;
    return (void *)(intptr_t)waited(child);
}
static void *waits_for_any(void *unused) {
    int status = -1;
    pid_t got = wait(&status);
    return (void *)(intptr_t)(got == -1 ? -errno : WEXITSTATUS(status));
}
static void *waits_for_it(void *child) {
    int status = -1;
    pid_t got = waitpid((pid_t)(intptr_t)child, &status, 0);
    return (void *)(intptr_t)(got == -1 ? -errno : WEXITSTATUS(status));
}
static void waiting(void) {
    pthread_t threads[6];
    for (intptr_t i = 0; i < 6; i++) started(&threads[i], spawns, (void *)(20 + i));
    for (int i = 0; i < 6; i++) printf("spawned by one of six: %s\n", how((int)(intptr_t)joined(threads[i])));
    started(threads, spawns, (void *)26);
    printf("spawned: %s\n", how((int)(intptr_t)joined(threads[0])));
    int sum = 0, none = 0;
    for (int i = 0; i < 3; i++) {
        pid_t child = forked();
        if (child == 0) nap(5000 + 3000 * i), _exit(i + 1);
    }
    for (int i = 0; i < 4; i++) started(&threads[i], waits_for_any, NULL);
    for (int i = 0; i < 4; i++) {
        int got = (int)(intptr_t)joined(threads[i]);
        if (got == -ECHILD) none++;
        else sum += got;
    }
    printf("four wait for three: %d, none for %d\n", sum, none);
    pid_t child = forked();
    if (child == 0) nap(5000), _exit(9);
    sum = none = 0;
    for (int i = 0; i < 4; i++) started(&threads[i], waits_for_it, (void *)(intptr_t)child);
    for (int i = 0; i < 4; i++) {
        int got = (int)(intptr_t)joined(threads[i]);
        if (got == -ECHILD) none++;
        else sum += got;
    }
    printf("four wait for one: %d, none for %d\n", sum, none);
}

int main(int argc, char **argv) {
    if (argc > 1) return atoi(argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    need(page != MAP_FAILED, "mmap");
    signals();
    at_once();
    waiting();
    sharing_memory();
    having_in_common();
    lending();
    return 0;
}
