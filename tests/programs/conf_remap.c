/* mremap with MREMAP_DONTUNMAP and with an old length of 0: of private and of shared memory, and of attaches. */
#include "conf.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#define KEEP (MREMAP_MAYMOVE | MREMAP_DONTUNMAP)
#define KEEP_FIXED (KEEP | MREMAP_FIXED)

static char *remap(void *old, size_t old_length, size_t length, int flags, void *to) { return (char *)syscall(SYS_mremap, old, old_length, length, flags, to); }
static const char *placed(const char *q) { return q == MAP_FAILED ? errno_name(errno) : "ok"; }

enum { PRIVATE, SHARED, SEGMENT };
static int id;

/* Four pages with letters in them. */
static char *fresh(int kind) {
    char *p = FREE_PLACE;
    munmap(p, 4 * PAGE);
    if (kind == SEGMENT) attached(id, p, 0);
    else mmap(p, 4 * PAGE, PROT_READ | PROT_WRITE, (kind == SHARED ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (int i = 0; i < 4; i++) p[i * PAGE] = 'a' + i;
    return p;
}
static void pages(const char *name, const char *p, int count) {
    printf("%s: ", name);
    for (int i = 0; i < count; i++) putchar(readable(p + i * PAGE) ? (p[i * PAGE] ? p[i * PAGE] : '0') : '-');
    puts("");
}
/* What came of it: the new place, the old one, and that they are one or two. */
static void seen(const char *name, char *q, int from, int count) {
    char *p = FREE_PLACE;
    printf("%s: %s\n", name, placed(q));
    if (q == MAP_FAILED) return;
    pages("new", q, count), pages("old", p, 4);
    attaches("then", id);
    p[from * PAGE] = 'N', q[1] = 'n';
    printf("a byte written to the old one is seen: %d, to the new one: %d\n", *q == 'N', p[from * PAGE + 1] == 'n');
    AS_CHILD {
        pages("in a child, new", q, count), pages("old", p, 4);
        attaches("then", id);
        *q = 'C';
    }
    printf("a child's byte: %c %c\n", *q, p[from * PAGE]);
    if (shmdt(q)) munmap(q, count * PAGE);
    pages("the new one unmapped, old", p, 4);
    attaches("then", id);
}

static void kinds(int kind) {
    static const char *const names[] = {"private", "shared", "segment"};
    char *to = FREE_PLACE + 64 * PAGE, *p = fresh(kind);
    printf("--- %s\n", names[kind]);
    seen("an old length of 0", remap(p, 0, 4 * PAGE, MREMAP_MAYMOVE, 0), 0, 4);
    printf("in place: %s\n", placed(remap(p, 0, 4 * PAGE, 0, 0)));
    p = fresh(kind);
    seen("an old length of 0, from the middle, fixed", remap(p + PAGE, 0, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), 1, 2);
    p = fresh(kind);
    printf("an old and a new length of 0: %s\n", placed(remap(p, 0, 0, MREMAP_MAYMOVE, 0)));
    seen("keeping the old", remap(p, 4 * PAGE, 4 * PAGE, KEEP, 0), 0, 4);
    p = fresh(kind);
    seen("keeping the old, of the middle", remap(p + PAGE, 2 * PAGE, 2 * PAGE, KEEP, 0), 1, 2);
    p = fresh(kind);
    seen("keeping the old, fixed", remap(p, 4 * PAGE, 4 * PAGE, KEEP_FIXED, to), 0, 4);
    p = fresh(kind);
    seen("keeping the old, at a hint", remap(p, 4 * PAGE, 4 * PAGE, KEEP, to), 0, 4);
    p = fresh(kind);
    char *q = remap(p, 4 * PAGE, 4 * PAGE, KEEP, to);
    printf("the hint is taken: %d\n", q == to);
    p = fresh(kind);
    q = remap(p, 2 * PAGE, 2 * PAGE, KEEP, to);
    printf("%s, a hint that is not free is not taken: %d\n", placed(q), q != to);
    munmap(q, 2 * PAGE), munmap(to, 4 * PAGE);
    /* A part over another part of the same. */
    p = fresh(kind);
    q = remap(p, 2 * PAGE, 2 * PAGE, KEEP_FIXED, p + 2 * PAGE);
    printf("keeping the old, over what follows it: %s\n", placed(q));
    pages("then", p, 4);
    attaches("then", id);
    p = fresh(kind);
    q = remap(p, 0, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + 2 * PAGE);
    printf("an old length of 0, over what follows: %s\n", placed(q));
    pages("then", p, 4);
    attaches("then", id);
    p = fresh(kind);
    printf("smaller: %s\n", placed(remap(p, 4 * PAGE, 2 * PAGE, KEEP, 0)));
    printf("larger: %s\n", placed(remap(p, 2 * PAGE, 4 * PAGE, KEEP, 0)));
    printf("without MAYMOVE: %s\n", placed(remap(p, 4 * PAGE, 4 * PAGE, MREMAP_DONTUNMAP, 0)));
    printf("nothing: %s\n", placed(remap(p, 0, 0, KEEP, 0)));
    printf("an old length of 0, keeping the old: %s\n", placed(remap(p, 0, 4 * PAGE, KEEP, 0)));
    printf("beyond the end: %s\n", placed(remap(p, 5 * PAGE, 5 * PAGE, KEEP, 0)));
    printf("where nothing is: %s\n", placed(remap(p + 5 * PAGE, PAGE, PAGE, KEEP, 0)));
    printf("over itself: %s\n", placed(remap(p, 4 * PAGE, 4 * PAGE, KEEP_FIXED, p + PAGE)));
    printf("with a hint over itself: %s\n", placed(remap(p, 4 * PAGE, 4 * PAGE, KEEP, p + PAGE)));
    printf("with an unaligned hint: %s\n", placed(remap(p, 4 * PAGE, 4 * PAGE, KEEP, to + 1)));
    printf("with a hint beyond all: %s\n", placed(remap(p, 4 * PAGE, 4 * PAGE, KEEP, (char *)0x7ffffffff000)));
    printf("unaligned: %s\n", placed(remap(p + 1, PAGE, PAGE, KEEP, 0)));
    printf("an unknown flag: %s\n", placed(remap(p, PAGE, PAGE, KEEP | 8, 0)));
    /* Rights go along; two mappings are too many. */
    need(mprotect(p, 2 * PAGE, PROT_READ) == 0, "mprotect");
    q = remap(p, 2 * PAGE, 2 * PAGE, KEEP, 0);
    printf("read-only: %s, load %s, store %s, store to the old %s\n", placed(q), load(q), store(q), store(p));
    printf("two mappings: %s\n", placed(remap(p, 4 * PAGE, 4 * PAGE, KEEP, 0)));
    munmap(q, 2 * PAGE), munmap(p, 4 * PAGE);
    attaches("at the end", id);
}

/* Shared memory and attaches, longer than what is behind them: in place, moved, and at a second place. */
static void longer(int kind) {
    enum { SIZE = 16, LONG = 700 };
    char *p = FREE_PLACE, *to = FREE_PLACE + 4096 * PAGE, *q;
    printf("--- %s, longer than it is\n", kind == SEGMENT ? "segment" : "shared");
    for (int way = 0; way < 5; way++) {
        int from = way == 3 ? 2 : 0, has = 4 - from;
        p = fresh(kind);
        if (way == 0) q = remap(p, 4 * PAGE, LONG * PAGE, 0, 0);
        else if (way == 1) q = remap(p, 4 * PAGE, LONG * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
        else if (way == 2) q = remap(p, 0, LONG * PAGE, MREMAP_MAYMOVE, 0);
        else if (way == 3) q = remap(p + 2 * PAGE, 0, LONG * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
        else q = remap(p, 4 * PAGE, SIZE * PAGE, MREMAP_MAYMOVE, 0);
        int length = way == 4 ? SIZE : LONG;
        printf("way %d: %s\n", way, placed(q));
        pages("has", q, has + 1);
        printf("its last page: store %s\n", store(q + (has - 1) * PAGE));
        static const int beyond[] = {0, 1, 11, 508, 695};
        for (int i = 0; i < 5 && has + beyond[i] < length; i++)
            printf("page %d: load %s, store %s\n", beyond[i], load(q + (has + beyond[i]) * PAGE), store(q + (has + beyond[i]) * PAGE));
        says("populate", madvise(q, (has + 1) * PAGE, 22 /* MADV_POPULATE_READ */));
        says("populate what there is", madvise(q, has * PAGE, 23 /* MADV_POPULATE_WRITE */));
        says("rights beyond", mprotect(q + (has + 1) * PAGE, PAGE, PROT_READ));
        AS_CHILD {
            pages("in a child", q, has + 3);
            *q = 'C';
            printf("beyond: %s\n", store(q + has * PAGE));
        }
        printf("a child's byte: %c\n", *q);
        /* Longer still, and a part of what is beyond by itself. */
        char *r = remap(q + (has + 2) * PAGE, PAGE, 3 * PAGE, MREMAP_MAYMOVE, 0);
        printf("beyond, by itself: %s\n", placed(r));
        if (r != MAP_FAILED) {
            printf("then %s\n", load(r));
            munmap(r, 3 * PAGE);
        }
        munmap(q, length * PAGE);
        munmap(p, 4 * PAGE);
        attaches("then", id);
    }
}

/* Before and after a fork; of the program's own data; of large pages. */
static void others(void) {
    for (int kind = 0; kind < 2; kind++) {
        char *p = fresh(kind);
        AS_CHILD {
            char *q = remap(p, 4 * PAGE, 4 * PAGE, KEEP, 0);
            pages("moved in a child, new", q, 4);
            q[0] = 'C', p[PAGE] = 'D';
            pages("new", q, 4), pages("old", p, 4);
        }
        pages("parent", p, 4);
        char *q = remap(p, 3 * PAGE, 3 * PAGE, KEEP, 0);
        AS_CHILD *q = 'E', p[PAGE] = 'F', p[3 * PAGE] = 'G';
        pages("moved in the parent, new", q, 3), pages("old", p, 4);
        munmap(p, 4 * PAGE);
        pages("the old one unmapped, new", q, 3);
        munmap(q, 3 * PAGE);
    }
    static char data[8 * PAGE] __attribute__((aligned(4096))) = {1};
    data[0] = 'x', data[PAGE] = 'y';
    char *q = remap(data, 2 * PAGE, 2 * PAGE, KEEP, 0);
    printf("data: %s %c%c, old %d %d\n", placed(q), q[0], q[PAGE], data[0], data[PAGE]);
    char *code = (char *)((unsigned long)&others & ~(PAGE - 1));
    q = remap(code, PAGE, PAGE, KEEP, 0);
    printf("code: %s, the same %d\n", placed(q), memcmp(q, code, PAGE) == 0);
    char *heap = (char *)(((unsigned long)syscall(SYS_brk, 0) + PAGE - 1) & ~(PAGE - 1));
    need(syscall(SYS_brk, heap + 4 * PAGE) == (long)(heap + 4 * PAGE), "brk");
    heap[0] = 'h';
    q = remap(heap, 2 * PAGE, 2 * PAGE, KEEP, 0);
    printf("heap: %s %c, old %d\n", placed(q), q[0], heap[0]);
    for (int kind = 0; kind < 2; kind++)
        for (int odd = 0; odd < 2; odd++) {
            const size_t size = 6 * MIB;
            char *p = mmap(FREE_PLACE + 512 * MIB, size, PROT_READ | PROT_WRITE, (kind ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            memset(p, 3, size);
            const size_t from = odd ? MIB : 0, length = odd ? 4 * MIB + PAGE : size;
            q = remap(p + from, length, length, KEEP_FIXED, FREE_PLACE + 1024 * MIB + odd * PAGE);
            long new = 0, old = 0;
            for (size_t i = 0; i < length; i++) new += q[i];
            for (size_t i = 0; i < size; i++) old += p[i];
            printf("%s, large%s: %s, new %ld, old %ld\n", kind ? "shared" : "private", odd ? ", a part" : "", placed(q), new, old);
            AS_CHILD memset(q, 5, length);
            p[from] = 7;
            for (size_t i = old = new = 0; i < length; i++) new += q[i];
            for (size_t i = 0; i < size; i++) old += p[i];
            munmap(p, size);
            printf("after a child, new %ld, old %ld, the old one gone: %d\n", new, old, q[0]);
            munmap(q, length);
        }
}

int main(void) {
    id = made(IPC_PRIVATE, 4 * PAGE, 0600);
    for (int kind = 0; kind < 3; kind++) kinds(kind);
    longer(SHARED), longer(SEGMENT);
    others();
    removed(id);
    return 0;
}
