/* Attaches and detaches, and after each step says on stderr what its page tables ought to hold; see tests/inspect.rs. */
#include "common.h"

static char said[4096];
static size_t length;

static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    length += (size_t)vsnprintf(said + length, sizeof said - length, format, arguments);
    va_end(arguments);
}
static void look(const void *base, size_t pages, const char *label) {
    length = 0;
    say("look %lx %lx %s\n", (unsigned long)base, pages, label);
}
static void part(const void *virt, size_t pages, const char *rights, int id, const char *window, size_t first) {
    say("part %lx %lx %s %x %s %lx\n", (unsigned long)virt, pages, rights, (unsigned)id, window, first);
}
static void looked(void) { need(write(2, said, length) == (long)length, "write"); }

int main(void) {
    char *base = (char *)0x280000000000;
    const size_t all = 8192;
    int large = shmget(IPC_PRIVATE, 2 * MIB + PAGE, 0700), small = shmget(IPC_PRIVATE, 5000, 0700);
    need(large >= 0 && small >= 0, "shmget");

    look(base, all, "nothing yet"), looked();
    char *a = attached(large, base, 0);
    look(base, all, "one large leaf and one small"), part(a, 513, "rw", large, "rw", 0), looked();
    char *b = attached(large, base + 1025 * PAGE, 0);
    look(base, all, "again, where no large leaf fits");
    part(a, 513, "rw", large, "rw", 0), part(b, 513, "rw", large, "rw", 0), looked();
    char *c = attached(large, base + 2048 * PAGE, SHM_RDONLY);
    look(base, all, "read-only from its own window");
    part(a, 513, "rw", large, "rw", 0), part(b, 513, "rw", large, "rw", 0), part(c, 513, "r", large, "ro", 0), looked();
    char *d = attached(small, base + 3000 * PAGE, 0), *e = attached(small, base + 3002 * PAGE, SHM_RDONLY | SHM_EXEC);
    look(d, 100, "two small ones side by side"), part(d, 2, "rw", small, "rw", 0), part(e, 2, "rx", small, "ro", 0), looked();
    ((volatile char *)a)[0] = 1, ((volatile char *)b)[512 * PAGE] = c[0];
    look(base, 2048, "touching changes nothing"), part(a, 513, "rw", large, "rw", 0), part(b, 513, "rw", large, "rw", 0), looked();

    need(mprotect(a + 3 * PAGE, PAGE, PROT_READ) == 0, "mprotect");
    look(base, 1024, "a page made read-only"), part(a, 3, "rw", large, "rw", 0), part(a + 3 * PAGE, 1, "r", large, "rw", 3);
    part(a + 4 * PAGE, 509, "rw", large, "rw", 4), looked();
    need(munmap(a + 10 * PAGE, 2 * PAGE) == 0, "munmap");
    look(base, 1024, "a hole"), part(a, 3, "rw", large, "rw", 0), part(a + 3 * PAGE, 1, "r", large, "rw", 3);
    part(a + 4 * PAGE, 6, "rw", large, "rw", 4), part(a + 12 * PAGE, 501, "rw", large, "rw", 12), looked();
    need(shmdt(a) == 0, "shmdt");
    look(base, 1024, "all of it gone"), looked();
    look(base + 1024 * PAGE, 2000, "and nothing else");
    part(b, 513, "rw", large, "rw", 0), part(c, 513, "r", large, "ro", 0), part(d, 2, "rw", small, "rw", 0);
    part(e, 2, "rx", small, "ro", 0), looked();

    char *f = attached(large, base + 300 * PAGE + 77, SHM_RND);
    look(base, 1024, "rounded down"), part(f, 513, "rw", large, "rw", 0), looked();
    need(munmap(f, 100 * PAGE) == 0, "munmap");
    look(base, 1024, "its beginning gone"), part(f + 100 * PAGE, 413, "rw", large, "rw", 100), looked();
    need(shmdt(f) == 0, "shmdt");
    look(base, 1024, "and the rest"), looked();

    char *to = base + 4096 * PAGE;
    char *m = mremap(b, 513 * PAGE, 513 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    need(m == to, "mremap");
    look(base, all, "moved to where a large leaf fits"), part(c, 513, "r", large, "ro", 0), part(d, 2, "rw", small, "rw", 0);
    part(e, 2, "rx", small, "ro", 0), part(m, 513, "rw", large, "rw", 0), looked();
    need(shmdt(m) == 0 && shmdt(c) == 0, "shmdt");
    look(base, all, "the small ones are left"), part(d, 2, "rw", small, "rw", 0), part(e, 2, "rx", small, "ro", 0), looked();
    need(shmdt(d) == 0 && shmdt(e) == 0, "shmdt");
    look(base, all, "nothing"), looked();

    for (int i = 0; i < 4; i++) {
        char *g = attached(i % 2 ? small : large, NULL, i < 2 ? 0 : SHM_RDONLY);
        size_t pages = i % 2 ? 2 : 513;
        look(g, pages, "where the kernel likes");
        part(g, pages, i < 2 ? "rw" : "r", i % 2 ? small : large, i < 2 ? "rw" : "ro", 0), looked();
        need(shmdt(g) == 0, "shmdt");
        look(g, pages, "gone"), looked();
    }
    need(shmctl(large, IPC_RMID, NULL) == 0 && shmctl(small, IPC_RMID, NULL) == 0, "IPC_RMID");
    return 0;
}
