/* Resource limits: those that keep processes from having more memory, processes or descriptors. Systems differ in how
 * much a process has at its start, so limits are set as so many pages more than there are. What CAP_SYS_RESOURCE allows
 * is not tried: root of a container may lack it. */
#include "conf.h"
#include <elf.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <setjmp.h>

#define UNLIMITED RLIM_INFINITY
enum { ANON = MAP_PRIVATE | MAP_ANONYMOUS, SHARED = MAP_SHARED | MAP_ANONYMOUS, RW = PROT_READ | PROT_WRITE };

/* The call itself: C libraries cover some of it. */
static long limits(pid_t pid, int which, const struct rlimit *new, struct rlimit *old) {
    return syscall(SYS_prlimit64, pid, which, new, old);
}
static void limit(int which, rlim_t value) {
    struct rlimit now;
    need(getrlimit(which, &now) == 0, "getrlimit");
    now.rlim_cur = value;
    need(setrlimit(which, &now) == 0, "setrlimit");
}
static char *map(size_t pages, int prot, int flags) { return mmap(NULL, pages * PAGE, prot, flags, -1, 0); }
static char *map_at(char *where, size_t pages, int prot, int flags) { return mmap(where, pages * PAGE, prot, flags | MAP_FIXED, -1, 0); }

/* Pages the process has: one fewer than the least limit that lets it have one more. */
static rlim_t pages(int which) {
    rlim_t low = 0, high = 1UL << 36;
    while (low + 1 < high) {
        rlim_t middle = (low + high) / 2;
        limit(which, middle * PAGE);
        char *p = map(1, RW, ANON);
        if (p == MAP_FAILED) low = middle;
        else high = middle, munmap(p, PAGE);
    }
    limit(which, UNLIMITED);
    return low;
}
/* So many pages more may be had. */
static void more(int which, rlim_t count) { limit(which, (pages(which) + count) * PAGE); }

static void setting(void) {
    struct rlimit now, r;
    says("getrlimit 15", getrlimit(15, &now));
    says("getrlimit 16", syscall(SYS_getrlimit, 16, &now));
    says("getrlimit -1", syscall(SYS_getrlimit, -1, &now));
    says("getrlimit to nowhere", syscall(SYS_getrlimit, RLIMIT_AS, 8));
    says("getrlimit 16 to nowhere", syscall(SYS_getrlimit, 16, 8));
    says("setrlimit from nowhere", syscall(SYS_setrlimit, RLIMIT_AS, 8));
    says("setrlimit 16 from nowhere", syscall(SYS_setrlimit, 16, 8));
    need(getrlimit(RLIMIT_AS, &now) == 0, "getrlimit");
    printf("%d %d\n", now.rlim_cur == UNLIMITED, now.rlim_max == UNLIMITED);
    r = (struct rlimit){now.rlim_max, now.rlim_max - 1};
    says("current above maximum", syscall(SYS_setrlimit, RLIMIT_AS, &r));
    says("16, current above maximum", syscall(SYS_setrlimit, 16, &r));
    r = (struct rlimit){0, (1UL << 20) + 1};
    says("more descriptors than a system has", syscall(SYS_setrlimit, RLIMIT_NOFILE, &r));
    r = (struct rlimit){1UL << 40, 1UL << 41};
    says("both", limits(0, RLIMIT_AS, &r, &now));
    printf("before: %d\n", now.rlim_cur == UNLIMITED);
    says("read", limits(0, RLIMIT_AS, NULL, &now));
    printf("%lx %lx\n", (long)now.rlim_cur, (long)now.rlim_max);
    says("neither", limits(0, RLIMIT_AS, NULL, NULL));
    says("new from nowhere", limits(0, RLIMIT_AS, (void *)8, &now));
    says("old to nowhere", limits(0, RLIMIT_AS, &(struct rlimit){5UL << 38, 1UL << 41}, (void *)8));
    says("read", limits(0, RLIMIT_AS, NULL, &now));
    printf("%lx %lx\n", (long)now.rlim_cur, (long)now.rlim_max);
    says("16", limits(0, 16, NULL, NULL));
    says("nobody's", limits(0x3fffff, RLIMIT_AS, NULL, &now));
    says("nobody's, from nowhere", limits(0x3fffff, RLIMIT_AS, (void *)8, &now));
    says("nobody's 16", limits(0x3fffff, 16, NULL, &now));
    says("-1's", limits(-1, RLIMIT_AS, NULL, &now));
    says("own", limits(getpid(), RLIMIT_AS, NULL, &now));
    for (int which = 0; which < 16; which++) {
        need(getrlimit(which, &now) == 0, "getrlimit");
        says(form("the same again: %d", which), setrlimit(which, &now));
    }
    IN_CHILD("a child as another") {
        need(setrlimit(RLIMIT_AS, &(struct rlimit){1UL << 40, 1UL << 41}) == 0, "setrlimit");
        become(61001, 62001, 0, NULL);
        says("more", limits(0, RLIMIT_AS, &(struct rlimit){1UL << 40, (1UL << 41) + 1}, NULL));
        says("more, and current above maximum", limits(0, RLIMIT_AS, &(struct rlimit){UNLIMITED, (1UL << 41) + 1}, NULL));
        says("as much", limits(0, RLIMIT_AS, &(struct rlimit){1UL << 41, 1UL << 41}, NULL));
        says("less", limits(0, RLIMIT_AS, &(struct rlimit){1UL << 39, 1UL << 40}, NULL));
        says("as before", limits(0, RLIMIT_AS, &(struct rlimit){1UL << 39, 1UL << 41}, NULL));
        says("root's", limits(getppid(), RLIMIT_AS, NULL, &now));
        says("root's, from nowhere", limits(getppid(), RLIMIT_AS, (void *)8, &now));
        says("root's 16", limits(getppid(), 16, NULL, &now));
        IN_CHILD("its child") {
            says("its parent's", limits(getppid(), RLIMIT_AS, NULL, &now));
            printf("%lx %lx\n", (long)now.rlim_cur, (long)now.rlim_max);
            says("its parent's to set", limits(getppid(), RLIMIT_AS, &(struct rlimit){1UL << 38, 1UL << 39}, &now));
        }
        need(getrlimit(RLIMIT_AS, &now) == 0, "getrlimit");
        printf("set: %lx %lx\n", (long)now.rlim_cur, (long)now.rlim_max);
    }
    pid_t other = forked();
    if (other == 0) { become(61001, 62001, 0, NULL); nap(100000000); _exit(0); }
    nap(100000);
    IN_CHILD("of two with one user") {
        need(setresgid(62001, 62001, 62002) == 0 && setresuid(61001, 61001, 61001) == 0, "another");
        says("other groups than the caller's: real one's the same", limits(other, RLIMIT_AS, NULL, &now));
    }
    IN_CHILD("of two with one user and two groups") {
        need(setresgid(62002, 62001, 62001) == 0 && setresuid(61001, 61001, 61001) == 0, "another");
        says("another group", limits(other, RLIMIT_AS, NULL, &now));
    }
    IN_CHILD("of two users, effectively one") {
        need(setresgid(62001, 62001, 62001) == 0 && setresuid(61002, 61001, 61001) == 0, "another");
        says("another user", limits(other, RLIMIT_AS, NULL, &now));
    }
    kill(other, SIGKILL), waited(other);
}

static void addresses(void) {
    char *p, *q;
    more(RLIMIT_AS, 10);
    at("11 pages", map(11, RW, ANON));
    at("11 pages, no rights", map(11, PROT_NONE, ANON));
    at("11 pages, no reserve", map(11, PROT_READ, ANON | MAP_NORESERVE));
    at("11 pages, shared", map(11, RW, SHARED));
    at("10 pages and a byte", mmap(NULL, 10 * PAGE + 1, RW, ANON, -1, 0));
    at("11 pages at a place", map_at(FREE_PLACE, 11, RW, ANON));
    at("11 pages at a crooked place", map_at(FREE_PLACE + 1, 11, RW, ANON));
    at("no pages", map(0, RW, ANON));
    at("11 pages of no kind", map(11, RW, MAP_ANONYMOUS));
    p = map(10, RW, ANON);
    at("10 pages", p);
    at("one more", map(1, PROT_NONE, ANON));
    at("the same place", map_at(p, 10, PROT_NONE, ANON));
    at("the same place and a page", map_at(p - PAGE, 11, PROT_NONE, ANON));
    at("the same place and a page, not replacing", mmap(p - PAGE, 11 * PAGE, PROT_NONE, ANON | MAP_FIXED_NOREPLACE, -1, 0));
    at("part of the place", map_at(p + 3 * PAGE, 4, RW, SHARED));
    says("one given back", munmap(p + 2 * PAGE, PAGE));
    at("two", map(2, RW, ANON));
    at("across the gap", map_at(p, 4, RW, ANON));
    at("one", map(1, RW, ANON));
    says("rights", mprotect(p, 10 * PAGE, PROT_READ));
    says("rights back", mprotect(p, 10 * PAGE, RW));
    says("all", munmap(p, 10 * PAGE));
    at("10 shared", q = map(10, RW, SHARED));
    at("one more", map(1, RW, SHARED));
    says("all", munmap(q, 10 * PAGE));
    /* A limit below what there is, and one that is no whole page. */
    limit(RLIMIT_AS, 5);
    at("at a limit of next to nothing", map(1, RW, ANON));
    says("munmap", munmap(q, PAGE));
    says("mprotect", mprotect((void *)((unsigned long)&setting & -PAGE), PAGE, PROT_READ | PROT_EXEC));
    limit(RLIMIT_AS, UNLIMITED);
    rlim_t there = pages(RLIMIT_AS);
    limit(RLIMIT_AS, (there + 3) * PAGE - 1);
    at("three pages but a byte: three", map(3, RW, ANON));
    at("three pages but a byte: two", p = map(2, RW, ANON));
    munmap(p, 2 * PAGE);
    limit(RLIMIT_AS, UNLIMITED);
    at("then", p = map(1000, RW, ANON));
    munmap(p, 1000 * PAGE);
}

static void breaks(void) {
    char *start = sbrk(0), *p;
    more(RLIMIT_AS, 10);
    holds("the break by 11 pages", (char *)syscall(SYS_brk, start + 11 * PAGE) == start + 11 * PAGE);
    holds("the break by 10 pages", (char *)syscall(SYS_brk, start + 10 * PAGE) == start + 10 * PAGE);
    at("one page", map(1, RW, ANON));
    holds("the break within a page", (char *)syscall(SYS_brk, start + 10 * PAGE - 7) == start + 10 * PAGE - 7);
    holds("the break back by 4", (char *)syscall(SYS_brk, start + 6 * PAGE) == start + 6 * PAGE);
    at("5 pages", map(5, RW, ANON));
    at("4 pages", p = map(4, RW, ANON));
    munmap(p, 4 * PAGE);
    holds("the break back", (char *)syscall(SYS_brk, start) == start);
    limit(RLIMIT_AS, UNLIMITED);
    /* RLIMIT_DATA holds the break and the file's data together, and shrinking is refused above it, too. */
    rlim_t mapped = pages(RLIMIT_DATA) * PAGE;
    holds("data there is", mapped > 0);
    limit(RLIMIT_DATA, mapped + 20 * PAGE);
    p = (char *)syscall(SYS_brk, start + 21 * PAGE);
    holds("21 pages of 20", p == start + 21 * PAGE);
    p = (char *)syscall(SYS_brk, start + 20 * PAGE);
    holds("20 pages of 20", p == start + 20 * PAGE);
    at("one page", map(1, RW, ANON));
    at("one page to read", p = map(1, PROT_READ, ANON));
    says("then to write", mprotect(p, PAGE, RW));
    munmap(p, PAGE);
    limit(RLIMIT_DATA, PAGE);
    p = (char *)syscall(SYS_brk, start + PAGE);
    holds("shrinking above the limit", p == start + PAGE);
    limit(RLIMIT_DATA, UNLIMITED);
    p = (char *)syscall(SYS_brk, start);
    holds("shrinking", p == start);
}

/* The least limit of data with which the break may be where it is. */
static rlim_t least_for_break(char *where) {
    rlim_t low = 0, high = 1UL << 40;
    while (low + 1 < high) {
        rlim_t middle = (low + high) / 2;
        limit(RLIMIT_DATA, middle);
        if ((char *)syscall(SYS_brk, where) == where) {
            high = middle;
            limit(RLIMIT_DATA, UNLIMITED);
            syscall(SYS_brk, where + 1);
        } else low = middle;
    }
    limit(RLIMIT_DATA, UNLIMITED);
    return high;
}
static void break_of_data(void) {
    unsigned long first = 0, last = 0;
    const Elf64_Phdr *headers = (void *)getauxval(AT_PHDR);
    for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++)
        if (headers[i].p_type == PT_LOAD) {
            if (headers[i].p_vaddr > first) first = headers[i].p_vaddr;
            if (headers[i].p_vaddr + headers[i].p_filesz > last) last = headers[i].p_vaddr + headers[i].p_filesz;
        }
    char *start = sbrk(0);
    need((char *)syscall(SYS_brk, start + 1) == start + 1, "brk");
    rlim_t here = least_for_break(start), there = least_for_break(start + 5 * PAGE + 100);
    printf("a break further by %ld takes as much more\n", (long)(there - here));
    holds("at least the file's data", here >= last - first);
    syscall(SYS_brk, start);
}

static void data(void) {
    char *p, *q;
    more(RLIMIT_DATA, 10);
    at("11 pages", map(11, RW, ANON));
    at("11 pages to execute, too", map(11, RW | PROT_EXEC, ANON));
    at("11 pages only to write", map(11, PROT_WRITE, ANON));
    at("11 pages to read", p = map(11, PROT_READ, ANON));
    at("11 pages shared", q = map(11, RW, SHARED));
    munmap(q, 11 * PAGE);
    says("one to write", mprotect(p, PAGE, RW));
    says("11 to write", mprotect(p, 11 * PAGE, RW));
    says("9 more to write", mprotect(p + PAGE, 9 * PAGE, RW));
    says("the last", mprotect(p + 10 * PAGE, PAGE, RW));
    at("one page", map(1, RW, ANON));
    says("one to read", mprotect(p, PAGE, PROT_READ));
    at("one page", q = map(1, RW, ANON));
    at("two", map(2, RW, ANON));
    at("in place of what is data", map_at(p, 11, RW, ANON));
    at("in place of what is data, and one", map_at(p - PAGE, 12, RW, ANON));
    at("in place of what is not", map_at(p, 1, RW, ANON));
    munmap(p, 11 * PAGE), munmap(q, PAGE);
    limit(RLIMIT_DATA, 0);
    struct rlimit now;
    need(getrlimit(RLIMIT_DATA, &now) == 0, "getrlimit");
    at("no data, of any maximum", p = map(1, RW, ANON));
    munmap(p, PAGE);
    IN_CHILD("no data") {
        need(setrlimit(RLIMIT_DATA, &(struct rlimit){0, 0}) == 0, "setrlimit");
        at("no data at all", map(1, RW, ANON));
        at("no data at all, to read", map(1, PROT_READ, ANON));
        at("no data at all, shared", map(1, RW, SHARED));
    }
    limit(RLIMIT_DATA, 1);
    at("a byte of data", map(1, RW, ANON));
    limit(RLIMIT_DATA, UNLIMITED);
}

/* MREMAP_DONTUNMAP to a place of the kernel's choice, which C libraries differ in. */
static char *kept(char *what, size_t bytes) {
    return (char *)syscall(SYS_mremap, what, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
}

static void moving(void) {
    char *p = map(8, RW, ANON), *q = map(8, RW, SHARED), *r;
    need(p != MAP_FAILED && q != MAP_FAILED, "mmap");
    more(RLIMIT_AS, 10);
    at("private: by 11", mremap(p, 8 * PAGE, 19 * PAGE, MREMAP_MAYMOVE));
    at("private: by 11, in place", mremap(p, 8 * PAGE, 19 * PAGE, 0));
    at("private: by 10", r = mremap(p, 8 * PAGE, 18 * PAGE, MREMAP_MAYMOVE));
    p = r;
    at("private: by one more", mremap(p, 18 * PAGE, 19 * PAGE, MREMAP_MAYMOVE));
    at("private: moved", r = mremap(p, 18 * PAGE, 18 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, FREE_PLACE));
    p = r;
    at("private: moved and larger", mremap(p, 18 * PAGE, 19 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, FREE_PLACE + MIB));
    at("private: kept", kept(p, PAGE));
    at("across what is mapped", mremap(p, 19 * PAGE, 20 * PAGE, MREMAP_MAYMOVE));
    at("not mapped", mremap(FREE_PLACE + 64 * MIB, PAGE, 50 * PAGE, MREMAP_MAYMOVE));
    at("private: smaller", r = mremap(p, 18 * PAGE, 8 * PAGE, MREMAP_MAYMOVE));
    p = r;
    at("shared: a second place, too long", mremap(q, 0, 11 * PAGE, MREMAP_MAYMOVE));
    at("shared: a second place, at a place, too long", mremap(q, 0, 11 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p));
    printf("what was there: %s\n", load(p));
    at("shared: a second place", r = mremap(q, 0, 10 * PAGE, MREMAP_MAYMOVE));
    at("one page", map(1, RW, ANON));
    munmap(r, 10 * PAGE);
    at("private: kept", r = kept(p, 8 * PAGE));
    at("private: kept again", kept(p, 8 * PAGE));
    at("private: kept, in place of it", mremap(p, 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP | MREMAP_FIXED, r));
    printf("what was there: %s\n", load(r));
    limit(RLIMIT_AS, UNLIMITED);
    munmap(p, 8 * PAGE), munmap(q, 8 * PAGE), munmap(r, 8 * PAGE);
    p = map(8, RW, ANON), q = map(8, PROT_READ, ANON);
    more(RLIMIT_DATA, 3);
    at("data: by 4", mremap(p, 8 * PAGE, 12 * PAGE, MREMAP_MAYMOVE));
    at("data: by 3", p = mremap(p, 8 * PAGE, 11 * PAGE, MREMAP_MAYMOVE));
    at("no data: by 40", q = mremap(q, 8 * PAGE, 48 * PAGE, MREMAP_MAYMOVE));
    limit(RLIMIT_DATA, UNLIMITED);
    munmap(p, 11 * PAGE), munmap(q, 48 * PAGE);
}

static void attaching(void) {
    int small = made(IPC_PRIVATE, 3 * PAGE + 5, 0600), large = made(IPC_PRIVATE, 20 * PAGE, 0600);
    char *p, *q;
    more(RLIMIT_AS, 10);
    state("before", large);
    at("20 of 10 pages", shmat(large, NULL, 0));
    at("20 of 10 pages, read-only", shmat(large, NULL, SHM_RDONLY));
    at("20 of 10 pages at a place", shmat(large, FREE_PLACE, 0));
    at("20 of 10 pages at a place, replacing nothing", shmat(large, FREE_PLACE, SHM_REMAP));
    at("at a crooked place", shmat(large, FREE_PLACE + 1, 0));
    at("at a kernel address", shmat(large, (void *)KERNEL_ADDRESS, 0));
    at("what is not", shmat(0x7fffffff, NULL, 0));
    p = shmat(small, FREE_PLACE + 10 * PAGE, 0);
    at("4 pages", p);
    at("20 pages that overlap them", shmat(large, FREE_PLACE, 0));
    at("20 pages over them", shmat(large, FREE_PLACE, SHM_REMAP));
    state("refused", large);
    at("4 more", q = shmat(small, NULL, SHM_RDONLY));
    at("4 more", shmat(small, NULL, 0));
    at("4 in place of 4", shmat(small, p, SHM_REMAP));
    at("4 in place of 3 and a page", shmat(small, p - PAGE, SHM_REMAP));
    attaches("small", small);
    at("4 in place of nothing", shmat(small, p - 5 * PAGE, SHM_REMAP));
    attaches("small", small);
    says("munmap of two", munmap(q, 2 * PAGE));
    at("3 of one and two", map(4, RW, ANON));
    removed(large);
    at("removed", shmat(large, NULL, 0));
    says("shmdt", shmdt(q));
    for (int i = -4; i < 3; i++) shmdt(p + i * (long)PAGE);
    attaches("small", small);
    limit(RLIMIT_AS, UNLIMITED);
    /* One that is removed goes with the last attach, and not with one that is refused. */
    large = made(IPC_PRIVATE, 20 * PAGE, 0600);
    p = attached(large, NULL, 0);
    removed(large);
    more(RLIMIT_AS, 5);
    at("removed and attached", shmat(large, NULL, 0));
    state("then", large);
    says("shmdt", shmdt(p));
    at("gone", shmat(large, NULL, 0));
    limit(RLIMIT_AS, UNLIMITED);
    removed(small);
    /* Data is what is private. */
    small = made(IPC_PRIVATE, 30 * PAGE, 0600);
    more(RLIMIT_DATA, 1);
    tried("an attach is no data", shmat(small, NULL, 0));
    limit(RLIMIT_DATA, UNLIMITED);
    removed(small);
}

static sigjmp_buf back;
static void jump(int signal) { siglongjmp(back, signal); }

/* The address after the stack, which ends with a word of zero behind the program's name. */
static char *stack_end(void) {
    char *name = (char *)getauxval(AT_EXECFN);
    return (char *)(((unsigned long)name + strlen(name) + 1 + 8 + PAGE - 1) & -PAGE);
}
/* Touches the stack page by page from here down; the lowest page it had, counted from its end. */
static long depth(void) {
    static volatile char *volatile page;
    page = (char *)((unsigned long)__builtin_frame_address(0) & -PAGE);
    if (sigsetjmp(back, 1) == 0)
        for (;; page -= PAGE) *page = 0;
    return (stack_end() - (char *)page) / (long)PAGE - 1;
}
static void own_stack_for_signals(void) {
    static char room[65536];
    stack_t stack = {.ss_sp = room, .ss_size = sizeof room};
    need(sigaltstack(&stack, NULL) == 0, "sigaltstack");
    struct sigaction action = {.sa_handler = jump, .sa_flags = SA_ONSTACK};
    need(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0, "sigaction");
}

static void stacks(void) {
    own_stack_for_signals();
    static const rlim_t sizes[] = {64, 65, 100, 256, 1000, 2048, 5000};
    for (int i = 0; i < 7; i++) IN_CHILD("a child") {
        limit(RLIMIT_STACK, sizes[i] * PAGE + (i % 2 ? 100 : 0));
        printf("stack of %lu pages: %ld\n", (long)sizes[i], depth());
    }
    IN_CHILD("a child") {
        limit(RLIMIT_STACK, 300 * PAGE);
        printf("%ld\n", depth());
        limit(RLIMIT_STACK, 200 * PAGE);
        printf("less than there is: %ld\n", depth());
        limit(RLIMIT_STACK, 400 * PAGE);
        printf("more: %ld\n", depth());
    }
    IN_CHILD("a child") {
        limit(RLIMIT_STACK, 300 * PAGE);
        *(volatile char *)(stack_end() - 300 * PAGE) = 1;
        puts("the last page at once");
        printf("%s %s\n", load(stack_end() - 300 * PAGE), load(stack_end() - 301 * PAGE));
        need(munmap(stack_end() - 280 * PAGE, PAGE) == 0, "munmap");
        printf("a page unmapped: %s\n", store(stack_end() - 280 * PAGE + 50));
        need(munmap(stack_end() - 300 * PAGE, 50 * PAGE) == 0, "munmap");
        printf("all below unmapped: %s\n", store(stack_end() - 300 * PAGE));
    }
    IN_CHILD("a child") {
        /* The kernel writes there, too, and a call reads. */
        struct rlimit *far = (struct rlimit *)(stack_end() - 500 * PAGE);
        says("a call writes far below", getrlimit(RLIMIT_STACK, far));
        says("a call reads further below", syscall(SYS_setrlimit, RLIMIT_CORE, (char *)far - 50 * PAGE));
        limit(RLIMIT_STACK, 600 * PAGE);
        says("a call writes beyond", syscall(SYS_getrlimit, RLIMIT_STACK, stack_end() - 601 * PAGE));
        says("a call writes to the end", syscall(SYS_getrlimit, RLIMIT_STACK, stack_end() - 600 * PAGE));
    }
    /* What lies below keeps it away. */
    static const int prots[] = {RW, PROT_READ, PROT_NONE};
    for (int i = 0; i < 3; i++) IN_CHILD("a child") {
        need(map_at(stack_end() - 1000 * PAGE, 1, prots[i], ANON) != MAP_FAILED, "mmap");
        printf("rights %d below: %ld\n", prots[i], depth());
    }
    IN_CHILD("a child") {
        int id = made(IPC_PRIVATE, 3 * PAGE, 0600);
        attached(id, stack_end() - 1000 * PAGE, SHM_RDONLY);
        printf("an attach below: %ld\n", depth());
        at("an attach in the gap", shmat(id, stack_end() - 800 * PAGE, 0));
        at("an attach on the stack", shmat(id, stack_end() - 5 * PAGE, 0));
        at("an attach just below the stack", shmat(id, stack_end() - 744 * PAGE, 0));
        removed(id);
    }
    /* The address space holds it, too. */
    static const int rooms[] = {1, 7, 16, 17, 100};
    for (int i = 0; i < 5; i++) IN_CHILD("a child") {
        long before = (stack_end() - (char *)__builtin_frame_address(0)) / PAGE + 20;
        *(volatile char *)(stack_end() - before * PAGE) = 1;
        limit(RLIMIT_STACK, 5000 * PAGE);
        /* As far as it has been grown already. */
        rlim_t there = pages(RLIMIT_AS);
        limit(RLIMIT_AS, there * PAGE);
        long least = depth();
        limit(RLIMIT_AS, (there + rooms[i]) * PAGE);
        printf("%d pages more: %ld\n", rooms[i], depth() - least);
        at("and a page", map(1, RW, ANON));
    }
    IN_CHILD("a child") {
        limit(RLIMIT_STACK, 5000 * PAGE);
        more(RLIMIT_DATA, 3);
        depth();
        at("a stack is no data", map(3, RW, ANON));
        at("a stack is no data", map(1, RW, ANON));
    }
}

static _Atomic int go;
static void *waits(void *unused) {
    while (!atomic_load(&go)) nap(1000);
    return unused;
}
/* Threads count as processes do. */
static void threads(void) {
    pthread_t all[8];
    int count = 0, error = 0;
    while (count < 8 && (error = pthread_create(&all[count], NULL, waits, NULL)) == 0) count++;
    printf("%d threads, then %s\n", count, errno_name(error));
    says("and a process", fork());
    atomic_store(&go, 1);
    for (int i = 0; i < count; i++) pthread_join(all[i], NULL);
    /* A thread is joined a little before it has gone. */
    nap(50000);
    IN_CHILD("then a process") ;
}

static void users(void) {
    IN_CHILD("a user") {
        need(setrlimit(RLIMIT_NPROC, &(struct rlimit){4, 4}) == 0, "setrlimit");
        IN_CHILD("root is not held") ;
        become(61003, 62003, 0, NULL);
        pid_t all[8];
        int count = 0;
        fflush(stdout);
        while (count < 8 && (all[count] = fork()) >= 0)
            if (all[count++] == 0) { nap(100000000); _exit(0); }
        printf("%d children, then %s\n", count, errno_name(errno));
        says("vfork", syscall(SYS_vfork));
        kill(all[0], SIGKILL);
        need(waitid(P_PID, all[0], &(siginfo_t){0}, WEXITED | WNOWAIT) == 0, "waitid");
        says("with a zombie", fork());
        waited(all[0]);
        need((all[0] = forked()) >= 0 || 1, "fork");
        if (all[0] == 0) _exit(0);
        waited(all[0]);
        need(setrlimit(RLIMIT_NPROC, &(struct rlimit){0, 4}) == 0, "setrlimit");
        says("none at all", fork());
        for (int i = 1; i < count; i++) kill(all[i], SIGKILL), waited(all[i]);
        says("none at all, alone", fork());
        need(setrlimit(RLIMIT_NPROC, &(struct rlimit){2, 4}) == 0, "setrlimit");
        IN_CHILD("one") says("its child", fork());
    }
    IN_CHILD("a user's threads") {
        need(setrlimit(RLIMIT_NPROC, &(struct rlimit){5, 5}) == 0, "setrlimit");
        become(61007, 62007, 0, NULL);
        threads();
    }
    IN_CHILD("root in name only") {
        need(setrlimit(RLIMIT_NPROC, &(struct rlimit){1, 1}) == 0, "setrlimit");
        need(setresuid(61004, 0, 0) == 0, "setresuid");
        IN_CHILD("privileged") ;
        need(setresuid(61004, 61004, 0) == 0, "setresuid");
        says("not privileged", fork());
    }
    IN_CHILD("root's, effectively another") {
        need(setrlimit(RLIMIT_NPROC, &(struct rlimit){1, 1}) == 0, "setrlimit");
        need(setresuid(0, 61005, 0) == 0, "setresuid");
        IN_CHILD("root's are not held") ;
    }
    /* Becoming another who has too many is found out by execve. */
    pid_t there[2];
    for (int i = 0; i < 2; i++)
        if ((there[i] = forked()) == 0) { become(61006, 62006, 0, NULL); nap(100000000); _exit(0); }
    nap(200000);
    static char *const none[] = {NULL};
    for (int most = 1; most <= 3; most++) IN_CHILD(form("at most %d", most)) {
        need(setrlimit(RLIMIT_NPROC, &(struct rlimit){most, most}) == 0, "setrlimit");
        says("root execve", execve("/nowhere", none, none));
        need(setresuid(61006, 61006, 61006) == 0, "setresuid");
        says("execve", execve("/nowhere", none, none));
        says("execve from nowhere", syscall(SYS_execve, 8, none, none));
        says("execve again", execve("/nowhere", none, none));
    }
    IN_CHILD("once too many, then not") {
        need(setrlimit(RLIMIT_NPROC, &(struct rlimit){1, 5}) == 0, "setrlimit");
        need(setresuid(61006, 61006, 61006) == 0, "setresuid");
        says("execve", execve("/nowhere", none, none));
        need(setrlimit(RLIMIT_NPROC, &(struct rlimit){5, 5}) == 0, "setrlimit");
        says("execve with more", execve("/nowhere", none, none));
        need(setrlimit(RLIMIT_NPROC, &(struct rlimit){1, 5}) == 0, "setrlimit");
        says("execve with less", execve("/nowhere", none, none));
    }
    IN_CHILD("too many, but a child") {
        need(setrlimit(RLIMIT_NPROC, &(struct rlimit){1, 5}) == 0, "setrlimit");
        need(setresuid(61006, 0, 0) == 0, "setresuid");
        IN_CHILD("the child") says("execve", execve("/nowhere", none, none));
        says("its maker", execve("/nowhere", none, none));
    }
    IN_CHILD("too many, and back to root") {
        need(setrlimit(RLIMIT_NPROC, &(struct rlimit){1, 5}) == 0, "setrlimit");
        need(setresuid(61006, 0, 0) == 0, "setresuid");
        need(setresuid(0, 0, 0) == 0, "setresuid");
        says("execve", execve("/nowhere", none, none));
    }
    for (int i = 0; i < 2; i++) kill(there[i], SIGKILL), waited(there[i]);
}

static void descriptors(void) {
    const char *file = "/proc/sysvipc/shm";
    limit(RLIMIT_NOFILE, 6);
    int a = open(file, O_RDONLY), b = open(file, O_RDONLY), c = open(file, O_RDONLY);
    printf("%d %d %d\n", a, b, c);
    says("a fourth", open(file, O_RDONLY));
    says("a fourth that is not there", open("/nowhere", O_RDONLY));
    says("a fourth without a name", open("", O_RDONLY));
    says("a fourth from nowhere", open((void *)8, O_RDONLY));
    close(b);
    says_value("one closed", open(file, O_RDONLY));
    limit(RLIMIT_NOFILE, 4);
    says("fewer", open(file, O_RDONLY));
    char byte;
    says_value("what is open stays so", read(c, &byte, 1));
    close(a);
    says_value("the lowest", open(file, O_RDONLY));
    close(4), close(5);
    says("none above", open(file, O_RDONLY));
    limit(RLIMIT_NOFILE, 0);
    close(3);
    says("none", open(file, O_RDONLY));
    says("none that is not there", open("/nowhere", O_RDONLY));
    limit(RLIMIT_NOFILE, 3);
    says("none but the first three", open(file, O_RDONLY));
    limit(RLIMIT_NOFILE, 256);
    says_value("many", open(file, O_RDONLY));
    close(3);
}

/* This program again, which says what it may have. */
static void again(char *self, const char *what) { execl(self, self, what, (char *)NULL); says("execve", -1); }

static void inherited(void) {
    IN_CHILD("a child runs it anew") {
        need(setrlimit(RLIMIT_AS, &(struct rlimit){1UL << 33, 1UL << 34}) == 0, "setrlimit");
        need(setrlimit(RLIMIT_STACK, &(struct rlimit){1UL << 20, 1UL << 21}) == 0, "setrlimit");
        need(setrlimit(RLIMIT_NPROC, &(struct rlimit){77, 88}) == 0, "setrlimit");
        IN_CHILD("its child") again("/proc/self/exe", "tell");
    }
    IN_CHILD("a stack for a program") {
        limit(RLIMIT_STACK, 200 * PAGE);
        again("/proc/self/exe", "stack");
    }
    IN_CHILD("no room for a program") {
        limit(RLIMIT_AS, 10 * PAGE);
        again("/proc/self/exe", "tell");
    }
    IN_CHILD("no data for a program") {
        need(setrlimit(RLIMIT_DATA, &(struct rlimit){PAGE, PAGE}) == 0, "setrlimit");
        again("/proc/self/exe", "tell");
    }
    /* A child that has the memory of its parent is held to its own limits, and its parent to its. */
    more(RLIMIT_AS, 5);
    rlim_t five;
    struct rlimit now;
    need(getrlimit(RLIMIT_AS, &now) == 0, "getrlimit");
    five = now.rlim_cur;
    fflush(stdout);
    pid_t child = vfork();
    if (child == 0) {
        struct rlimit three = {five - 2 * PAGE, now.rlim_max};
        int bad = setrlimit(RLIMIT_AS, &three) != 0 || map(4, RW, ANON) != MAP_FAILED;
        char *p = map(3, RW, ANON);
        bad |= p == MAP_FAILED;
        munmap(p, 3 * PAGE);
        _exit(bad);
    }
    printf("after vfork: %s\n", ended(waited(child)));
    char *p = map(5, RW, ANON);
    at("its parent", p);
    at("its parent, one more", map(1, RW, ANON));
    munmap(p, 5 * PAGE);
    limit(RLIMIT_AS, UNLIMITED);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "tell") == 0) {
        for (int which = 3; which < 10; which += 3) {
            struct rlimit now;
            need(getrlimit(which, &now) == 0, "getrlimit");
            printf("%d: %ld %ld\n", which, (long)now.rlim_cur, (long)now.rlim_max);
        }
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "stack") == 0) {
        own_stack_for_signals();
        printf("%ld pages\n", depth());
        return 0;
    }
    limit(RLIMIT_STACK, 8 * MIB);
    IN_CHILD("setting") setting();
    addresses();
    breaks();
    break_of_data();
    data();
    moving();
    attaching();
    stacks();
    users();
    descriptors();
    inherited();
    return 0;
}
