/* mmap, munmap, mprotect, mremap, madvise, brk and malloc: results, contents, errors. Whether a page can be touched is
 * asked by letting write(2) read it (EFAULT) and read(2) or clock_gettime(2) write it. */
#include "common.h"

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)
/* In the middle of the address space, where no randomisation puts anything. */
#define NOWHERE ((char *)0x200000000000)

static char *map(size_t size, int prot) { return mmap(NULL, size, prot, ANON, -1, 0); }
static char *map_at(void *at, size_t size, int prot, int flags) { return mmap(at, size, prot, ANON | flags, -1, 0); }

static const char *readable(const void *at) {
    /* Blocking the signals of a set reads the set. */
    return syscall(SYS_rt_sigprocmask, SIG_BLOCK, at, NULL, 8UL) == 0 ? "readable" : errno_name(errno);
}
static const char *writable(void *at) {
    /* Not through the vDSO, which would fault itself. */
    return syscall(SYS_clock_gettime, CLOCK_REALTIME, at) == 0 ? "writable" : errno_name(errno);
}
/* A page whose first bytes are zero is an empty signal set, so asking changes nothing. */
static void page_is(const char *name, char *at) { printf("%s: %s, ", name, readable(at)); puts(writable(at)); }

static int all_are(const char *at, size_t size, char value) {
    for (size_t i = 0; i < size; i++)
        if (at[i] != value) return 0;
    return 1;
}

static void errors(void) {
    says("length 0", (long)map(0, RW));
    says("length wraps", (long)map(SIZE_MAX, RW));
    says("length beyond the address space", (long)map(1UL << 47, RW));
    says("neither private nor shared", (long)mmap(NULL, PAGE, RW, MAP_ANONYMOUS, -1, 0));
    says("unaligned fixed address", (long)map_at(NOWHERE + 0x123, PAGE, RW, MAP_FIXED));
    says("fixed address in the kernel", (long)map_at((void *)0xffff800000000000UL, PAGE, RW, MAP_FIXED));
    says("fixed address at the end", (long)map_at((void *)0x7ffffffff000UL, PAGE, RW, MAP_FIXED));
    says("descriptor that is not open", (long)mmap(NULL, PAGE, RW, MAP_PRIVATE, 77, 0));
    says("munmap of length 0", munmap(NOWHERE, 0));
    says("munmap unaligned", munmap(NOWHERE + 1, PAGE));
    says("munmap of nothing", munmap(NOWHERE, PAGE));
    says("munmap beyond the end", munmap((void *)0x7ffffffff000UL, PAGE));
    says("mprotect unaligned", mprotect(NOWHERE + 1, PAGE, PROT_READ));
    says("mprotect of nothing", mprotect(NOWHERE, PAGE, PROT_READ));
    says("mprotect of length 0", mprotect(NOWHERE, 0, PROT_READ));
    says("madvise unaligned", madvise(NOWHERE + 1, PAGE, MADV_DONTNEED));
    says("madvise of nothing", madvise(NOWHERE, PAGE, MADV_DONTNEED));
    says("madvise with unknown advice", madvise(NOWHERE, PAGE, 9999));
}

static void mappings(void) {
    char *a = map(3 * PAGE, RW);
    holds("a mapping is page-aligned", a != MAP_FAILED && (uintptr_t)a % PAGE == 0);
    holds("it is zero", all_are(a, 3 * PAGE, 0));
    memset(a, 5, 3 * PAGE);
    says("its middle can go", munmap(a + PAGE, PAGE));
    holds("its ends stay", all_are(a, PAGE, 5) && all_are(a + 2 * PAGE, PAGE, 5));
    page_is("the hole", a + PAGE);
    char *b = map_at(a + PAGE, PAGE, RW, MAP_FIXED);
    holds("the hole can be filled", b == a + PAGE && all_are(b, PAGE, 0));
    char *c = map_at(a, PAGE, RW, MAP_FIXED);
    holds("fixed replaces what is there", c == a && all_are(a, PAGE, 0) && all_are(a + 2 * PAGE, PAGE, 5));
    says("no-replace refuses", (long)map_at(a, PAGE, RW, MAP_FIXED_NOREPLACE));
    says("munmap of all", munmap(a, 3 * PAGE));
    holds("no-replace where nothing is", map_at(a, PAGE, RW, MAP_FIXED_NOREPLACE) == a);
    munmap(a, PAGE);
    holds("a free hint is taken", map_at((void *)0x300000000000, PAGE, RW, 0) == (char *)0x300000000000);
    char *other = map_at((void *)0x300000000000, PAGE, RW, 0);
    holds("a taken hint is not", other != (char *)0x300000000000 && other != MAP_FAILED);
    munmap((void *)0x300000000000, PAGE);
    munmap(other, PAGE);

    size_t large = 40 * MIB + PAGE;
    char *big = map(large, RW);
    holds("a large mapping is zero at its ends", big[0] == 0 && big[large - 1] == 0);
    for (size_t i = 0; i < large; i += PAGE) big[i] = (char)(i / PAGE);
    int right = 1;
    for (size_t i = 0; i < large; i += PAGE) right &= big[i] == (char)(i / PAGE);
    holds("each of its pages is its own", right);
    says("a part of it can go", munmap(big + 4 * MIB + PAGE, 8 * MIB));
    right = 1;
    for (size_t i = 0; i < large; i += PAGE)
        if (i < 4 * MIB + PAGE || i >= 12 * MIB + PAGE) right &= big[i] == (char)(i / PAGE);
    holds("the rest stays", right);
    munmap(big, large);
    says("room that is never touched costs nothing", (long)mmap(NULL, 1UL << 34, PROT_NONE, ANON | MAP_NORESERVE, -1, 0));
}

static void protection(void) {
    char *a = map(4 * PAGE, RW);
    memset(a, 0, 4 * PAGE);
    page_is("read-write", a);
    says("make a page read-only", mprotect(a + PAGE, PAGE, PROT_READ));
    page_is("read-only", a + PAGE);
    page_is("its neighbour", a + 2 * PAGE);
    says("make a page unreadable", mprotect(a + PAGE, PAGE, PROT_NONE));
    page_is("none", a + PAGE);
    says("make it read-write again", mprotect(a + PAGE, PAGE, RW));
    page_is("read-write again", a + PAGE);
    memset(a + PAGE, 9, PAGE);
    mprotect(a, 4 * PAGE, PROT_READ);
    holds("protection keeps contents", all_are(a + PAGE, PAGE, 9));
    munmap(a + 2 * PAGE, PAGE);
    says("mprotect over a gap", mprotect(a, 4 * PAGE, RW));
    printf("before the gap: %s\n", writable(a));
    printf("after the gap: %s\n", writable(a + 3 * PAGE));

    char *code = map(PAGE, RW);
    static const unsigned char returns_42[] = {0xb8, 42, 0, 0, 0, 0xc3};
    memcpy(code, returns_42, sizeof returns_42);
    says("make a page executable", mprotect(code, PAGE, PROT_READ | PROT_EXEC));
    says_value("run it", ((int (*)(void))(uintptr_t)code)());
    page_is("executable", code);
}

static void moving(void) {
    char *a = map(4 * PAGE, RW);
    memset(a, 3, 4 * PAGE);
    holds("shrink", mremap(a, 4 * PAGE, 2 * PAGE, 0) == a);
    page_is("what was cut off", a + 3 * PAGE);
    char *fence = map_at(a + 2 * PAGE, PAGE, PROT_NONE, MAP_FIXED);
    says("grow where there is no room", (long)mremap(a, 2 * PAGE, 64 * PAGE, 0));
    char *b = mremap(a, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    holds("move to where there is", b != MAP_FAILED && b != a);
    holds("contents move along, new pages are zero", all_are(b, 2 * PAGE, 3) && all_are(b + 2 * PAGE, 62 * PAGE, 0));
    page_is("where it was", a);
    munmap(fence, PAGE);
    char *target = map(80 * PAGE, RW);
    char *c = mremap(b, 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    holds("move to a given place", c == target && all_are(c, 2 * PAGE, 3));
    munmap(c + 64 * PAGE, 16 * PAGE);
    char *d = mremap(c, 64 * PAGE, 70 * PAGE, 0);
    holds("grow in place", d == c && all_are(c + 64 * PAGE, 6 * PAGE, 0));
    says("mremap unaligned", (long)mremap(c + 1, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
    says("mremap to length 0", (long)mremap(c, PAGE, 0, MREMAP_MAYMOVE));
    munmap(c, 70 * PAGE);
    says("mremap of nothing", (long)mremap(c, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
    says("mremap with unknown flags", (long)mremap(c, PAGE, 2 * PAGE, 0x100));
}

static void advice(void) {
    char *a = map(8 * PAGE, RW);
    memset(a, 7, 8 * PAGE);
    says("DONTNEED", madvise(a + PAGE, 2 * PAGE, MADV_DONTNEED));
    holds("drops contents", all_are(a + PAGE, 2 * PAGE, 0) && all_are(a, PAGE, 7) && all_are(a + 3 * PAGE, PAGE, 7));
    says("NORMAL", madvise(a, 8 * PAGE, MADV_NORMAL));
    says("WILLNEED", madvise(a, 8 * PAGE, MADV_WILLNEED));
    says("SEQUENTIAL", madvise(a, 8 * PAGE, MADV_SEQUENTIAL));
    says("DONTFORK", madvise(a, 8 * PAGE, MADV_DONTFORK));
    says("length 0", madvise(a, 0, MADV_DONTNEED));
    munmap(a + 4 * PAGE, PAGE);
    says("over a gap", madvise(a, 8 * PAGE, MADV_DONTNEED));
    holds("both sides of the gap are dropped", all_are(a, PAGE, 0) && all_are(a + 7 * PAGE, PAGE, 0));
}

static void the_break(void) {
    char *start = (char *)syscall(SYS_brk, 0);
    holds("there is a break", start != NULL);
    char *aligned = (char *)(((uintptr_t)start + PAGE - 1) & ~(PAGE - 1));
    holds("it grows", (char *)syscall(SYS_brk, aligned + 5 * PAGE) == aligned + 5 * PAGE);
    holds("new pages are zero", all_are(aligned, 5 * PAGE, 0));
    memset(aligned, 4, 5 * PAGE);
    holds("it shrinks", (char *)syscall(SYS_brk, aligned + PAGE) == aligned + PAGE);
    page_is("given back", aligned + 2 * PAGE);
    syscall(SYS_brk, aligned + 2 * PAGE);
    holds("zero again", all_are(aligned + PAGE, PAGE, 0));
    holds("below its start it stays", (char *)syscall(SYS_brk, 0x1000) == aligned + 2 * PAGE);
    holds("absurdly far it stays", (char *)syscall(SYS_brk, 0x7fffffff0000) == aligned + 2 * PAGE);
    syscall(SYS_brk, start);
}

static void heap(void) {
    enum { N = 2000 };
    static char *piece[N];
    uint32_t random = 1;
    int right = 1;
    for (int round = 0; round < 4 * N; round++) {
        random = random * 1664525 + 1013904223;
        int i = (int)(random >> 8) % N;
        if (piece[i]) {
            right &= piece[i][0] == (char)i;
            free(piece[i]);
            piece[i] = NULL;
        } else {
            size_t size = 1 + (random >> 20) * (round % 50 == 0 ? 100 : 1);
            piece[i] = malloc(size);
            right &= piece[i] != NULL;
            memset(piece[i], i, size);
        }
    }
    for (int i = 0; i < N; i++) free(piece[i]);
    holds("malloc and free", right);
    char *zeroed = calloc(300, 1000);
    holds("calloc is zero", all_are(zeroed, 300000, 0));
    zeroed = realloc(zeroed, 3000000);
    holds("realloc keeps contents", all_are(zeroed, 300000, 0));
    free(zeroed);
    void *aligned = NULL;
    holds("posix_memalign", posix_memalign(&aligned, 2 * MIB, 100) == 0 && (uintptr_t)aligned % (2 * MIB) == 0);
    free(aligned);
    volatile size_t absurd = SIZE_MAX / 4;
    says("an absurd malloc", malloc(absurd) ? 0 : -1);
}

int main(void) {
    errors();
    mappings();
    protection();
    moving();
    advice();
    the_break();
    heap();
    return 0;
}
