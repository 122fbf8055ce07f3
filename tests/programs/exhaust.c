/* Takes all there is of something, checks the error, gives it back, and takes again.
 * usage: exhaust processes|segments|attaches|frames|tables|descriptors LIMIT */
#include "conf.h"
#include <sys/utsname.h>

/* Processes, or MiB of a process: a guest has few anyway; a whole Linux must not be taken down. */
static long limit;

/* Forks sleeping children until it is refused; they are all[from] and those after it. */
static long fork_all(pid_t *all, long from) {
    while (from < 5000) {
        fflush(stdout);
        pid_t child = fork();
        if (child < 0) break;
        if (child == 0) { nap(600000000); _exit(0); }
        all[from++] = child;
    }
    printf("fork then says %s\n", errno_name(errno));
    return from;
}

/* Kills all[from] and those after it, and waits for them: zombies count, too. */
static void end_all(const pid_t *all, long from, long count) {
    for (long i = from; i < count; i++) need(kill(all[i], SIGKILL) == 0, "kill");
    for (long i = from; i < count; i++) need(waitpid(all[i], NULL, 0) == all[i], "waitpid");
}

static void processes(void) {
    static pid_t all[5000];
    need(setrlimit(RLIMIT_NPROC, &(struct rlimit){limit, limit}) == 0, "setrlimit");
    become(1031, 2031, 0, NULL);
    long count = fork_all(all, 0);
    says("vfork", syscall(SYS_vfork));
    holds("many", count > 20);
    need(kill(all[count - 1], SIGKILL) == 0 && waitid(P_PID, all[count - 1], &(siginfo_t){0}, WEXITED | WNOWAIT) == 0, "a zombie");
    says("fork while one is a zombie", fork());
    need(waitpid(all[count - 1], NULL, 0) == all[count - 1], "waitpid");
    holds("one given back, one to be had", fork_all(all, count - 1) == count);
    end_all(all, count - 16, count);
    holds("16 given back, 16 to be had", fork_all(all, count - 16) == count);
    end_all(all, 0, count);
    says("waitpid", waitpid(-1, NULL, 0));
    IN_CHILD("then a child");
}

/* Segments from number `from` on, until it is refused. */
static int make_all(int *ids, int from) {
    while (from < 5000 && (ids[from] = shmget(IPC_PRIVATE, 1, 0600)) >= 0) from++;
    printf("%d segments, then %s\n", from, errno_name(errno));
    return from;
}

static void segments(void) {
    static int ids[5000];
    static char *where[5000];
    struct shm_usage usage;
    int count = make_all(ids, 0), right = 1;
    for (int i = 0; i < count; i++) where[i] = attached(ids[i], NULL, 0), *where[i] = i * 7;
    for (int i = 0; i < count; i++) right &= *where[i] == (char)(i * 7);
    holds("each its own", right);
    /* Removed but attached, they still count. */
    for (int i = count - 100; i < count; i++) removed(ids[i]);
    got("100 removed, one more", shmget(IPC_PRIVATE, 1, 0600));
    for (int i = count - 100; i < count; i++) need(shmdt(where[i]) == 0, "shmdt");
    holds("100 gone, 100 to be had", make_all(ids, count - 100) == count);
    for (int i = 0; i < count; i++) removed(ids[i]);
    for (int i = 0; i < count - 100; i++) need(shmdt(where[i]) == 0, "shmdt");
    syscall(SYS_shmctl, 0, SHM_INFO, &usage);
    printf("used %d total %lu resident %lu\n", usage.used_ids, usage.total, usage.resident);
    int id = made(IPC_PRIVATE, PAGE, 0600);
    tried("then one more", shmat(id, NULL, 0));
    removed(id);
}

/* Linux limits the mappings of a process, a guest those of all: a thousand attaches inherited by so many children that
 * few more are to be had, and then one by one. */
static void attachments(void) {
    enum { EACH = 1000, CHILDREN = 15 };
    static char *where[70000];
    pid_t all[CHILDREN];
    int id = made(IPC_PRIVATE, 3 * PAGE, 0600);
    long count = 0, inherited = EACH * CHILDREN;
    while (count < EACH) where[count++] = attached(id, NULL, 0);
    for (int i = 0; i < CHILDREN; i++)
        if ((all[i] = forked()) == 0) { nap(600000000); _exit(0); }
    while (count < 70000 && (where[count] = shmat(id, NULL, 0)) != (void *)-1) count++;
    printf("shmat then says %s\n", errno_name(errno));
    at("shmat at a given place", shmat(id, FREE_PLACE, 0));
    at("shmat of what is not", shmat(0x7fffffff, FREE_PLACE, 0));
    says("mprotect of a page in the middle", mprotect(where[0] + PAGE, PAGE, PROT_READ));
    says("munmap of a page in the middle", munmap(where[0] + PAGE, PAGE));
    says("madvise of a page in the middle", madvise(where[0] + PAGE, PAGE, MADV_DONTFORK));
    at("mremap of a page in the middle", mremap(where[0] + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, FREE_PLACE));
    at("mmap", mmap(NULL, PAGE, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    holds("refused, they count for nothing", nattch(id) == inherited + count);
    pid_t child = fork();
    if (child == 0) _exit(0);
    holds("fork: a child, or ENOMEM", child > 0 || errno == ENOMEM);
    if (child > 0) waited(child);
    holds("which counts for nothing any more", nattch(id) == inherited + count);
    need(shmdt(where[count - 1]) == 0, "shmdt");
    at("one given back, one to be had", where[count - 1] = shmat(id, NULL, 0));
    at("and no more", shmat(id, NULL, 0));
    end_all(all, CHILDREN - 1, CHILDREN), inherited -= EACH;
    for (int i = 1; i <= 10; i++) need(shmdt(where[count - i]) == 0, "shmdt");
    count -= 10;
    holds("a child gone, all of its attaches are", nattch(id) == inherited + count);
    says("mprotect of a page in the middle", mprotect(where[0] + PAGE, PAGE, PROT_READ));
    holds("three instead of one", nattch(id) == inherited + count + 2);
    end_all(all, 0, CHILDREN - 1);
    for (long i = 0; i < count; i++) need(shmdt(where[i]) == 0, "shmdt");
    attaches("then", id);
    IN_CHILD("a child, too") tried("attaches", shmat(id, NULL, 0));
    removed(id);
}

/* A guest has no more memory than it should take. */
static int in_a_guest(void) {
    struct utsname names;
    need(uname(&names) == 0, "uname");
    return strcmp(names.nodename, "tombolo") == 0;
}

static void frugal(void) {
    if (in_a_guest()) return;
    rlim_t bytes = limit << 20;
    need(setrlimit(RLIMIT_AS, &(struct rlimit){bytes, bytes}) == 0, "setrlimit");
}

/* A child that takes memory until it is refused or killed. */
static void greedy(const char *name, size_t step, size_t stride) {
    for (int round = 0; round < 2; round++) {
        pid_t child = forked();
        if (child == 0) {
            frugal();
            for (;;) {
                char *p = mmap(NULL, step, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
                if (p == MAP_FAILED) _exit(errno == ENOMEM ? 0 : 1);
                for (size_t i = 0; i < step; i += stride) p[i] = 1;
            }
        }
        int status = waited(child);
        holds(form("%s: refused with ENOMEM, or killed", name), status == 0 || status == SIGKILL);
        char *p = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        need(p != MAP_FAILED, "mmap");
        memset(p, 1, 4 * MIB);
        munmap(p, 4 * MIB);
        IN_CHILD("a child afterwards") memset(malloc(MIB), 1, MIB);
    }
    /* Attaching, forking and detaching with next to nothing left. */
    int id = made(IPC_PRIVATE, 3 * MIB + PAGE, 0600);
    char *kept = attached(id, NULL, 0);
    *kept = 7;
    pid_t child = forked();
    if (child == 0) {
        frugal();
        for (size_t size = 16 * MIB; size >= PAGE; size /= 2)
            for (int times = 0; times < 64; times++) {
                char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | 0x8000 /* MAP_POPULATE */, -1, 0);
                if (p == MAP_FAILED) break;
            }
        for (int i = 0; i < 50; i++) {
            char *p = shmat(id, FREE_PLACE + i * (1UL << 31), i % 2 ? SHM_RDONLY : 0);
            if (p != (void *)-1) need(*p == 7 && shmdt(p) == 0, "what is attached to work");
            pid_t grandchild = fork();
            if (grandchild == 0) _exit(0);
            if (grandchild > 0) waitpid(grandchild, NULL, 0);
        }
        _exit(0);
    }
    int status = waited(child);
    holds(form("%s: one that had taken all got through, or was killed", name), status == 0 || status == SIGKILL);
    attaches("then", id);
    shmdt(kept);
    removed(id);
}

static void descriptors(void) {
    long first = 0;
    for (int round = 0; round < 2; round++) {
        int last = -1, fd;
        long count = 0;
        while ((fd = open("/proc/sysvipc/shm", O_RDONLY)) >= 0) last = fd, count++;
        printf("open then says %s\n", errno_name(errno));
        if (round == 0) first = count;
        holds("as many as at first", count == first && count > 5);
        for (long i = 0; i < count; i++) need(close(last - i) == 0, "close");
    }
}

int main(int argc, char **argv) {
    need(argc == 3, "what to exhaust, and a limit");
    limit = atol(argv[2]);
    if (strcmp(argv[1], "processes") == 0) processes();
    if (strcmp(argv[1], "segments") == 0) segments();
    if (strcmp(argv[1], "attaches") == 0) attachments();
    if (strcmp(argv[1], "frames") == 0) greedy("frames", 8 * MIB, PAGE);
    if (strcmp(argv[1], "tables") == 0) greedy("tables", 1UL << 30, 2 * MIB);
    if (strcmp(argv[1], "descriptors") == 0) descriptors();
    puts("it goes on");
    return 0;
}
