/* mlock and its kin, mincore, remap_file_pages, MAP_POPULATE: of private memory, files, shared memory and attaches. */
#include "conf.h"
#include <sys/prctl.h>

static long status_of(const char *field) {
    char line[200];
    long value = -1;
    FILE *f = fopen("/proc/self/status", "r");
    need(f != NULL, "status");
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, field, strlen(field))) value = atol(line + strlen(field));
    fclose(f);
    return value;
}
static void locked(const char *name) { printf("%s: locked %ld\n", name, status_of("VmLck:")); }

static char *anonymous(int pages, int flags) {
    char *p = FREE_PLACE;
    munmap(p, 64 * PAGE);
    need(mmap(p, pages * PAGE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_FIXED | flags, -1, 0) == p, "mmap");
    return p;
}
static int there(const void *p, int pages) {
    unsigned char vector[64];
    int count = 0;
    if (syscall(SYS_mincore, p, pages * PAGE, vector)) return -1;
    for (int i = 0; i < pages; i++) count += vector[i] & 1;
    return count;
}
static void limit(long bytes) { need(setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){bytes, bytes}) == 0, "a limit"); }
static long lock2(void *p, size_t length, int flags) { return syscall(SYS_mlock2, p, length, flags); }

static void locking(void) {
    puts("--- locking");
    char *p = anonymous(8, MAP_PRIVATE);
    printf("untouched: %d\n", there(p, 8));
    says("a page from the middle of one on", mlock(p + 100, PAGE));
    locked("two pages");
    printf("they are there: %d\n", there(p, 2));
    says("again", mlock(p, 2 * PAGE));
    locked("still two");
    says("no bytes", mlock(p, 0));
    says("all", mlock(p, 8 * PAGE));
    printf("all there: %d\n", there(p, 8));
    locked("eight");
    says("beyond the end", mlock(p + 6 * PAGE, 4 * PAGE));
    says("where nothing is", mlock(p + 20 * PAGE, PAGE));
    says("where nothing is, unlocked", munlock(p + 20 * PAGE, PAGE));
    says("a range that wraps", mlock(p, -PAGE));
    says("a length that wraps", mlock(p + 1, -1UL));
    says("in the kernel", mlock((void *)KERNEL_ADDRESS, PAGE));
    says("unlocked in the middle", munlock(p + 3 * PAGE, 2 * PAGE));
    locked("six");
    says("a hole", munmap(p + 6 * PAGE, PAGE));
    locked("five");
    says("over a hole", mlock(p, 8 * PAGE));
    locked("up to the hole");
    says("without rights", mprotect(p, PAGE, PROT_NONE));
    says("locked without rights", mlock(p, 2 * PAGE));
    locked("all the same");
    says("DONTNEED", madvise(p + PAGE, PAGE, MADV_DONTNEED));
    says("FREE", madvise(p + PAGE, PAGE, 8));
    says("COLD", madvise(p + PAGE, PAGE, 20));
    says("PAGEOUT", madvise(p + PAGE, PAGE, 21));
    says("REMOVE", madvise(p + PAGE, PAGE, MADV_REMOVE));
    says("DONTNEED_LOCKED", madvise(p + PAGE, PAGE, 24));
    says("invalidated", msync(p + PAGE, PAGE, MS_INVALIDATE));
    says("synced", msync(p + PAGE, PAGE, MS_SYNC));
    AS_CHILD {
        locked("in a child");
        says("DONTNEED there", madvise(p + PAGE, PAGE, MADV_DONTNEED));
    }
    char *q = mremap(p + PAGE, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE);
    printf("longer: %d\n", q != MAP_FAILED);
    locked("longer");
    printf("there: %d\n", there(q, 4));
    munmap(q, 4 * PAGE);
    locked("gone");
    munmap(p, 8 * PAGE);
    locked("all gone");
    p = anonymous(8, MAP_PRIVATE);
    says("on fault", lock2(p, 8 * PAGE, 1));
    printf("none there: %d\n", there(p, 8));
    locked("on fault");
    says("an unknown flag", lock2(p, 8 * PAGE, 2));
    says("no flag", lock2(p, 2 * PAGE, 0));
    printf("two there: %d\n", there(p, 2));
    p = anonymous(4, MAP_PRIVATE | MAP_LOCKED);
    locked("MAP_LOCKED");
    printf("there: %d\n", there(p, 4));
    p = anonymous(4, MAP_PRIVATE | MAP_POPULATE);
    locked("MAP_POPULATE");
    printf("there: %d\n", there(p, 4));
    p = anonymous(4, MAP_PRIVATE | MAP_POPULATE | MAP_NONBLOCK);
    printf("NONBLOCK, there: %d\n", there(p, 4));
    p = anonymous(4, MAP_SHARED | MAP_LOCKED);
    locked("shared");
    says("REMOVE of shared", madvise(p, PAGE, MADV_REMOVE));
    munmap(p, 4 * PAGE);
}

static void all(void) {
    puts("--- all");
    static const int flags[] = {0, 4, 8, 1 | 8, -1};
    for (int i = 0; i < 5; i++) says(form("mlockall %d", flags[i]), mlockall(flags[i]));
    long size = status_of("VmSize:");
    says("future", mlockall(MCL_FUTURE));
    locked("future");
    char *p = anonymous(8, MAP_PRIVATE);
    locked("what comes");
    printf("there: %d\n", there(p, 8));
    AS_CHILD {
        locked("a child");
        mmap(p, 8 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        locked("what comes in a child");
    }
    char *end = (char *)syscall(SYS_brk, 0);
    syscall(SYS_brk, end + 2 * PAGE);
    locked("the break");
    syscall(SYS_brk, end);
    int id = made(IPC_PRIVATE, 3 * PAGE, 0600);
    char *q = attached(id, NULL, 0);
    locked("an attach");
    shmdt(q);
    says("future, on fault", mlockall(MCL_FUTURE | 4));
    p = anonymous(8, MAP_PRIVATE);
    printf("there: %d\n", there(p, 8));
    locked("on fault");
    says("current", mlockall(MCL_CURRENT));
    printf("all is locked: %d\n", status_of("VmLck:") >= size - 64);
    printf("and there: %d\n", there(p, 8));
    says("none", munlockall());
    locked("none");
    p = anonymous(8, MAP_PRIVATE);
    locked("what comes then");
    removed(id);
}

static void limits(void) {
    puts("--- limits");
    int id = made(IPC_PRIVATE, 8 * PAGE, 0666);
    IN_CHILD("little") {
        limit(4 * PAGE + 100);
        become(1001, 1001, 0, NULL);
        char *p = anonymous(16, MAP_PRIVATE);
        says("four", mlock(p, 4 * PAGE));
        says("and one", mlock(p + 4 * PAGE, PAGE));
        says("the same and one", mlock(p, 5 * PAGE));
        says("the same", mlock(p + PAGE, 3 * PAGE));
        says("too long", mlock(p, -PAGE));
        char *q = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
        says("MAP_LOCKED", (long)q);
        munlock(p, 2 * PAGE);
        q = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
        says("MAP_LOCKED, less", (long)q == -1 ? -1 : 0);
        says("longer", (long)mremap(q, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE));
        says("all", mlockall(MCL_CURRENT));
        says("all that comes", mlockall(MCL_FUTURE));
        says("something comes", (long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        says("an attach", (long)shmat(id, NULL, 0));
        char *end = (char *)syscall(SYS_brk, 0);
        printf("the break: %d\n", (char *)syscall(SYS_brk, end + 2 * PAGE) == end);
        munlockall();
        says("an attach", (long)shmat(id, NULL, 0) == -1 ? -1 : 0);
        locked("at the end");
    }
    IN_CHILD("nothing") {
        limit(0);
        become(1001, 1001, 0, NULL);
        char *p = anonymous(16, MAP_PRIVATE);
        says("mlock", mlock(p, PAGE));
        says("of nothing", mlock(p, 0));
        says("all", mlockall(MCL_FUTURE));
        says("crooked", mlockall(0));
        says("MAP_LOCKED", (long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0));
        says("munlock", munlock(p, PAGE));
        says("munlockall", munlockall());
    }
    removed(id);
}

static void attach(void) {
    puts("--- an attach");
    munmap(FREE_PLACE, 64 * PAGE);
    int id = made(IPC_PRIVATE, 8 * PAGE, 0600);
    char *p = attached(id, FREE_PLACE, 0);
    says("locked in the middle", mlock(p + 2 * PAGE, 2 * PAGE));
    attaches("then", id);
    locked("two");
    says("unlocked", munlock(p, 8 * PAGE));
    attaches("then", id);
    says("all", mlock(p, 8 * PAGE));
    attaches("then", id);
    locked("all");
    AS_CHILD locked("a child");
    shmdt(p);
    locked("gone");
    p = attached(id, FREE_PLACE, SHM_RDONLY);
    says("read-only", mlock(p, 8 * PAGE));
    locked("read-only");
    printf("there: %d\n", there(p, 8));
    shmdt(p), removed(id);
}

static void residence(void) {
    puts("--- mincore");
    unsigned char vector[64];
    char *p = anonymous(8, MAP_PRIVATE);
    says("crooked", syscall(SYS_mincore, p + 1, PAGE, vector));
    says("nothing", syscall(SYS_mincore, p, 0, vector));
    says("nothing, nowhere", syscall(SYS_mincore, FREE_PLACE + 100 * PAGE, 0, NULL));
    says("nowhere to write", syscall(SYS_mincore, p, PAGE, NULL));
    says("in the kernel to write", syscall(SYS_mincore, p, PAGE, KERNEL_ADDRESS));
    says("where nothing is", syscall(SYS_mincore, p + 20 * PAGE, PAGE, vector));
    says("in the kernel", syscall(SYS_mincore, KERNEL_ADDRESS, PAGE, vector));
    says("up to the end of all", syscall(SYS_mincore, 0x7ffffffff000 - PAGE, PAGE, vector));
    says("beyond", syscall(SYS_mincore, 0x7ffffffff000 - PAGE, 2 * PAGE, vector));
    says("all", syscall(SYS_mincore, 0, -1UL, vector));
    says("a length that is no whole page", syscall(SYS_mincore, p, PAGE + 1, vector));
    memset(vector, 9, sizeof vector);
    says("over the end", syscall(SYS_mincore, p, 9 * PAGE, vector));
    printf("what comes before is told: %d %d %d\n", vector[0], vector[7], vector[8]);
    char *q = anonymous(8, MAP_SHARED);
    printf("shared: %d\n", there(q, 8));
    int fd = open("/tmp/calls_memory.file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    need(fd >= 0 && ftruncate(fd, 4 * PAGE) == 0 && pwrite(fd, "abc", 3, 2 * PAGE) == 3, "a file");
    p = mmap(NULL, 6 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_mincore, p, 6 * PAGE, vector);
    printf("a file's written page: %d, beyond its end: %d %d\n", vector[2], vector[4], vector[5]);
    says("locked", mlock(p, 4 * PAGE));
    printf("all of it: %d\n", there(p, 4));
    says("beyond", mlock(p, 6 * PAGE));
    munmap(p, 6 * PAGE), close(fd), unlink("/tmp/calls_memory.file");
}

static long rearrange(void *p, size_t size, int prot, size_t page, int flags) { return syscall(SYS_remap_file_pages, p, size, prot, page, flags); }
static void letters(const char *name, const char *p, int count) {
    printf("%s: ", name);
    for (int i = 0; i < count; i++) putchar(readable(p + i * PAGE) ? (p[i * PAGE] ? p[i * PAGE] : '0') : '-');
    puts("");
}
enum { SEGMENT, FILE_SHARED, OBJECT, ANONYMOUS };
static void rearranged(int kind) {
    static const char *const names[] = {"an attach", "a file", "an object", "anonymous memory"};
    printf("--- pages of %s\n", names[kind]);
    char *p = FREE_PLACE;
    /* Of anonymous memory a guest knows no pages that are shown nowhere. */
    int some = kind == ANONYMOUS ? 2 : 0;
    int id = kind == SEGMENT ? made(IPC_PRIVATE, 4 * PAGE, 0600) : -1, fd = -1;
    munmap(p, 64 * PAGE);
    if (kind == SEGMENT) attached(id, p, 0);
    else {
        if (kind == FILE_SHARED) fd = open("/tmp/calls_memory.file", O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (kind == OBJECT) fd = open("/dev/shm/calls_memory", O_RDWR | O_CREAT | O_TRUNC, 0600);
        need(kind == ANONYMOUS || (fd >= 0 && ftruncate(fd, 4 * PAGE) == 0), "a file");
        need(mmap(p, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | (kind == ANONYMOUS ? MAP_ANONYMOUS : 0), fd, 0) == p, "mmap");
    }
    for (int i = 0; i < 4; i++) p[i * PAGE] = 'a' + i;
    says("the same", rearrange(p, 4 * PAGE, 0, 0, 0));
    letters("then", p, 4);
    if (id >= 0) attaches("then", id);
    says("a page at its own place", rearrange(p + PAGE, PAGE, 0, 1, 0));
    letters("then", p, 4);
    if (id >= 0) attaches("then", id);
    says("two from the third on first", rearrange(p, 2 * PAGE, 0, 2, 0));
    letters("then", p, 4);
    if (id >= 0) attaches("then", id), state("then", id);
    p[0] = 'C';
    letters("seen twice", p, 4);
    says("all of one kind, later", rearrange(p + PAGE, 2 * PAGE, 0, 3 - 1, 0));
    letters("then", p, 4);
    if (id >= 0) attaches("then", id);
    AS_CHILD {
        letters("a child", p, 4);
        p[0] = 'X';
        says("a child rearranges", rearrange(p + 3 * PAGE, PAGE, 0, 2, 0));
        letters("a child", p, 4);
    }
    letters("then", p, 4);
    if (kind != ANONYMOUS) {
        says("beyond the end", rearrange(p + 3 * PAGE, PAGE, 0, 10, 0));
        if (id >= 0) attaches("then", id);
        printf("its page: %s\n", load(p + 3 * PAGE));
        says("half beyond", rearrange(p + 2 * PAGE, 2 * PAGE, 0, 3, 0));
        printf("its pages: %s %s\n", load(p + 2 * PAGE), load(p + 3 * PAGE));
        says("back", rearrange(p, 4 * PAGE, 0, 0, 0));
        letters("then", p, 4);
        if (id >= 0) attaches("then", id);
        says("far beyond", rearrange(p, PAGE, 0, 1UL << 51, 0));
        says("a page number that wraps", rearrange(p, 2 * PAGE, 0, -1UL, 0));
        for (int i = 0; i < 4; i++) rearrange(p + i * PAGE, PAGE, 0, 3 - i, 0);
        letters("turned round", p, 4);
        if (id >= 0) attaches("then", id);
    }
    says("with rights", rearrange(p, PAGE, PROT_READ, 0, 0));
    says("no length", rearrange(p, 0, 0, 0, 0));
    says("less than a page", rearrange(p, PAGE - 1, 0, 0, 0));
    says("a crooked address", rearrange(p + 1, PAGE + 1, 0, some, 0));
    says("other flags", rearrange(p, PAGE, 0, some, 0xffff));
    says("beyond the mapping", rearrange(p, 5 * PAGE, 0, 0, 0));
    says("where nothing is", rearrange(p + 10 * PAGE, PAGE, 0, 0, 0));
    says("a range that wraps", rearrange(p, -PAGE, 0, 0, 0));
    says("in the kernel", rearrange((void *)KERNEL_ADDRESS, PAGE, 0, 0, 0));
    mprotect(p + PAGE, PAGE, PROT_READ);
    says("over other rights", rearrange(p, 4 * PAGE, 0, 0, 0));
    says("read-only now", rearrange(p + PAGE, PAGE, 0, some + 1, 0));
    printf("its rights: load %s, store %s\n", load(p + PAGE), store(p + PAGE));
    mlock(p + 2 * PAGE, PAGE);
    locked("a locked page");
    says("a locked page", rearrange(p + 2 * PAGE, PAGE, 0, 2, 0));
    locked("still");
    if (id >= 0) {
        attaches("then", id);
        removed(id);
        says("of a segment that is removed", rearrange(p, PAGE, 0, 0, 0));
        says("shmdt", shmdt(p));
        says("again", shmdt(p));
    }
    munmap(p, 64 * PAGE);
    if (kind == FILE_SHARED || kind == OBJECT) {
        const char *path = kind == OBJECT ? "/dev/shm/calls_memory" : "/tmp/calls_memory.file";
        int other = open(path, O_RDONLY);
        p = mmap(p, 4 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, other, 0);
        says("of a file opened for reading", rearrange(p, PAGE, 0, 1, 0));
        p = mmap(p, 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0);
        says("of a private mapping", rearrange(p, PAGE, 0, 1, 0));
        munmap(p, 4 * PAGE), close(other), unlink(path);
    }
    if (kind == SEGMENT) {
        id = made(IPC_PRIVATE, 2 * PAGE, 0600);
        p = attached(id, FREE_PLACE, SHM_RDONLY);
        says("of a read-only attach", rearrange(p, PAGE, 0, 1, 0));
        shmdt(p), removed(id);
    }
    p = anonymous(4, MAP_PRIVATE);
    says("of private memory", rearrange(p, PAGE, 0, 1, 0));
    munmap(p, 4 * PAGE);
    if (fd >= 0) close(fd);
}

/* A segment that is removed goes with the last of its attaches, also where that is only rearranged. */
static void kept_by_nothing(void) {
    puts("--- a removed segment, rearranged");
    int key = 0x70b0, id = made(key, 2 * PAGE, IPC_CREAT | 0600);
    char *p = attached(id, FREE_PLACE, 0);
    p[0] = 'x', p[PAGE] = 'y';
    says("all of it", rearrange(p, 2 * PAGE, 0, 0, 0));
    letters("then", p, 2);
    removed(id);
    says("a part, removed", rearrange(p, PAGE, 0, 1, 0));
    letters("then", p, 2);
    attaches("then", id);
    says("its first place", rearrange(p, PAGE, 0, 0, 0));
    AS_CHILD { says("all of it, while a parent has it", rearrange(p, 2 * PAGE, 0, 0, 0)), letters("a child", p, 2); }
    attaches("then", id);
    int second = made(key, 2 * PAGE, IPC_CREAT | 0600);
    says("all of it, removed", rearrange(p, 2 * PAGE, 0, 0, 0));
    printf("there: %d\n", there(p, 2));
    letters("then", p, 2);
    struct shmid_ds status;
    says("its state", shmctl(id, IPC_STAT, &status));
    attaches("another with its key", second);
    says("again", rearrange(p, 2 * PAGE, 0, 0, 0));
    says("shmdt", shmdt(p));
    removed(second);
}

int main(void) {
    locking(), all(), limits(), attach(), residence();
    for (int kind = SEGMENT; kind <= ANONYMOUS; kind++) rearranged(kind);
    kept_by_nothing();
    return 0;
}
