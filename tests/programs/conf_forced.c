/* /proc/sys/kernel/shm_rmid_forced: what nobody has attached goes by itself, once who made it has ended. */
#include "conf.h"
#include <pthread.h>

static const char FORCED[] = "/proc/sys/kernel/shm_rmid_forced";

static void show(const char *name) {
    char text[100];
    int fd = open(FORCED, O_RDONLY);
    long got = read(fd, text, sizeof text);
    printf("%s: %.*s", name, (int)got, text);
    if (got <= 0) puts(outcome(got));
    close(fd);
}
static void force(const char *value) {
    int fd = open(FORCED, O_WRONLY);
    need(fd >= 0, FORCED);
    says_value(form("forced < %s", value), write(fd, value, strlen(value)));
    close(fd);
}
/* Whether it is there, and what its state is. */
static void now(const char *name, int id) { state(name, id); }
/* A segment that a child makes, attached there or not. */
static int by_child(int flags, int attaches) {
    int *id = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    AS_CHILD {
        *id = made(IPC_PRIVATE, PAGE, flags);
        while (attaches--) attached(*id, NULL, 0);
    }
    return *id;
}

static void file(void) {
    struct stat s;
    says("stat", stat(FORCED, &s));
    printf("mode %o size %ld owner %d:%d links %d\n", s.st_mode, (long)s.st_size, (int)s.st_uid, (int)s.st_gid, (int)s.st_nlink);
    show("at first");
    static const char *const values[] = {"1", "0\n", "2", "-1", "-0", "01", "0x1", " 1 \n", "0 1", "x", "", "\n", "0"};
    for (int i = 0; i < (int)(sizeof values / sizeof *values); i++) {
        force(values[i]);
        show("then");
    }
    AS_CHILD {
        become(1007, 2007, 0, NULL);
        says("another user opens it for reading", open(FORCED, O_RDONLY));
        says("another user opens it for writing", open(FORCED, O_WRONLY));
    }
}

static void orphans(void) {
    int mine = made(IPC_PRIVATE, PAGE, 0600), child = by_child(0600, 0), held = by_child(0600, 0), twice = by_child(0600, 2);
    char *p = attached(held, NULL, 0);
    now("mine", mine), now("a dead child's", child), now("a dead child's, attached", held), now("a dead child's, once attached", twice);
    force("1");
    now("mine", mine), now("a dead child's", child), now("a dead child's, attached", held), now("a dead child's, once attached", twice);
    got("attach the dead child's", (long)shmat(child, NULL, 0) == -1 ? -1 : 0);
    force("0");
    shmdt(p);
    now("detached while not forced", held);
    force("1");
    now("forced", held);
    now("mine", mine);
    force("1");
    now("forced again, mine", mine);
    removed(mine);
}

static void *making(void *argument) {
    _Atomic int *word = argument;
    word[0] = made(IPC_PRIVATE, PAGE, 0600);
    while (!word[1]) nap(500);
    return NULL;
}

static void forced(void) {
    force("1");
    /* The last detach destroys, removed or not, whoever made it. */
    int id = made(0x600, PAGE, IPC_CREAT | 0600);
    now("made", id);
    char *p = attached(id, NULL, 0), *q = attached(id, NULL, SHM_RDONLY);
    shmdt(p);
    now("one of two detached", id);
    shmdt(q);
    now("both detached", id);
    got("its key", shmget(0x600, 0, 0));
    id = made(0x600, 2 * PAGE, IPC_CREAT | 0600);
    p = attached(id, NULL, 0);
    munmap(p, PAGE);
    attaches("half unmapped", id);
    munmap(p + PAGE, PAGE);
    now("unmapped", id);
    id = made(IPC_PRIVATE, PAGE, 0600);
    p = attached(id, NULL, 0);
    AS_CHILD now("in a child", id);
    now("the child has ended", id);
    mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    now("mapped over", id);
    munmap(p, PAGE);
    /* Who made it ends. */
    now("a child's, not attached", by_child(0600, 0));
    now("a child's, attached twice", by_child(0600, 2));
    int *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    _Atomic int *step = (_Atomic int *)(shared + 8);
    pid_t maker = forked();
    if (maker == 0) {
        for (int i = 0; i < 3; i++) shared[i] = made(IPC_PRIVATE, PAGE, 0600);
        atomic_store(step, 1);
        while (atomic_load(step) != 2) nap(500);
        _exit(0);
    }
    while (atomic_load(step) != 1) nap(500);
    p = attached(shared[1], NULL, 0);
    q = attached(shared[2], NULL, 0);
    shmdt(q);
    for (int i = 0; i < 3; i++) now(form("while its maker lives %d", i), shared[i]);
    atomic_store(step, 2);
    waited(maker);
    for (int i = 0; i < 3; i++) now(form("its maker has ended %d", i), shared[i]);
    shmdt(p);
    now("the attached one, detached", shared[1]);
    /* Killed, and a zombie. */
    atomic_store(step, 0);
    maker = forked();
    if (maker == 0) {
        shared[0] = made(IPC_PRIVATE, PAGE, 0600);
        atomic_store(step, 1);
        for (;;) nap(1000);
    }
    while (atomic_load(step) != 1) nap(500);
    now("before the kill", shared[0]);
    kill(maker, SIGKILL);
    siginfo_t info;
    need(waitid(P_PID, maker, &info, WEXITED | WNOWAIT) == 0, "waitid");
    now("its maker is a zombie", shared[0]);
    waited(maker);
    /* Its children are not makers; execve is no end. */
    AS_CHILD {
        shared[0] = made(IPC_PRIVATE, PAGE, 0600);
        AS_CHILD attaches("in a grandchild", shared[0]);
        now("the grandchild has ended", shared[0]);
        pid_t other = vfork();
        if (other == 0) _exit(0);
        waited(other);
        now("a vfork child has ended", shared[0]);
    }
    now("the child has ended", shared[0]);
    AS_CHILD {
        int made_before = made(0x601, PAGE, IPC_CREAT | 0600);
        fflush(stdout);
        execl("/proc/self/exe", "conf_forced", "after exec", NULL);
    }
    got("by who executed another program and ended", shmget(0x601, 0, 0));
    AS_CHILD {
        int held = made(0x602, PAGE, IPC_CREAT | 0600);
        attached(held, NULL, 0);
        fflush(stdout);
        execl("/proc/self/exe", "conf_forced", "after exec, attached", NULL);
    }
    /* A maker is a thread. Who joins one may be there before its end is complete. */
    pthread_t thread;
    _Atomic int of_thread[2] = {-1, 0};
    need(pthread_create(&thread, NULL, making, of_thread) == 0, "pthread_create");
    while (of_thread[0] < 0) nap(500);
    now("a thread's, while it lives", of_thread[0]);
    of_thread[1] = 1;
    need(pthread_join(thread, NULL) == 0, "pthread_join");
    for (int naps = 0; shmctl(of_thread[0], IPC_STAT, &(struct shmid_ds){0}) == 0 && naps < 20000; naps++) nap(500);
    now("a thread's, after its end", of_thread[0]);
    /* A new owner is no new maker. */
    id = by_child(0600, 0);
    now("another", id);
    /* A segment that can't be attached is touched all the same. */
    id = made(IPC_PRIVATE, PAGE, 0600);
    at("attach where something is", shmat(id, (void *)((uintptr_t)&id & ~(PAGE - 1)), 0));
    now("then", id);
    id = made(IPC_PRIVATE, PAGE, 0600);
    at("attach at a crooked address", shmat(id, FREE_PLACE + 1, 0));
    now("then", id);
    at("attach in the kernel", shmat(id, (void *)KERNEL_ADDRESS, 0));
    now("then", id);
    id = made(IPC_PRIVATE, 3 * PAGE, 0600);
    char *there = mmap(FREE_PLACE + 2 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    at("attach what is too large for a place", shmat(id, FREE_PLACE, 0));
    now("then", id);
    munmap(there, PAGE);
    id = made(IPC_PRIVATE, PAGE, 0600);
    AS_CHILD {
        become(1007, 2007, 0, NULL);
        at("attach without permission", shmat(id, NULL, 0));
    }
    now("then", id);
    shmctl(id, IPC_RMID, NULL);
    id = made(IPC_PRIVATE, PAGE, 0);
    p = attached(id, NULL, 0);
    removed(id);
    now("removed, attached", id);
    force("0");
    now("not forced", id);
    shmdt(p);
    now("detached", id);
    struct shm_usage usage;
    syscall(SYS_shmctl, 0, SHM_INFO, &usage);
    printf("used %d total %lu\n", usage.used_ids, usage.total);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        int id = shmget(strstr(argv[1], "attached") ? 0x602 : 0x601, 0, 0);
        if (id < 0) got(argv[1], id);
        else now(argv[1], id);
        return 0;
    }
    file();
    orphans();
    forced();
    return 0;
}
