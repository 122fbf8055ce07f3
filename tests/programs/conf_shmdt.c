/* shmdt: which addresses it takes, and what it removes. */
#include "conf.h"

static int id;
static char *p;

/* Four fresh pages with their numbers in them. */
static void fresh(int flags) {
    p = attached(id, FREE_PLACE + 16 * PAGE, flags);
    for (int i = 0; i < 4 && !(flags & SHM_RDONLY); i++) p[i * PAGE] = 'a' + i;
}
/* Which of the pages from one before to one after are there. */
static void pages(const char *name) {
    printf("%s: pages ", name);
    for (int i = -1; i < 5; i++) putchar(readable(p + i * (long)PAGE) ? (p[i * (long)PAGE] ? p[i * (long)PAGE] : '0') : '-');
    printf(", attaches %ld\n", nattch(id));
}
static void detach(const char *name, const void *where) {
    says(name, shmdt(where));
    pages("then");
}

static void addresses(void) {
    fresh(0);
    static char data[PAGE];
    char *heap = malloc(5 * MIB), *ordinary = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *shared = mmap(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const struct { const char *name; unsigned long address; } places[] = {
        {"NULL", 0}, {"1", 1}, {"unaligned by 1", (unsigned long)p + 1}, {"unaligned by 4095", (unsigned long)p + 4095}, {"second page", (unsigned long)p + PAGE},
        {"last page", (unsigned long)p + 3 * PAGE}, {"page after", (unsigned long)p + 4 * PAGE}, {"page before", (unsigned long)p - PAGE},
        {"stack", (unsigned long)&heap & ~(PAGE - 1)}, {"data", (unsigned long)data & ~(PAGE - 1)}, {"code", (unsigned long)&addresses & ~(PAGE - 1)},
        {"heap", (unsigned long)heap & ~(PAGE - 1)}, {"ordinary mapping", (unsigned long)ordinary}, {"shared anonymous mapping", (unsigned long)shared},
        {"last page of all", 0x7fffffffe000UL}, {"beyond", 0x7ffffffff000UL}, {"not canonical", 0x800000000000UL}, {"kernel", KERNEL_ADDRESS}, {"highest", ~0UL}};
    for (int i = 0; i < 19; i++) says(form("detach %s", places[i].name), syscall(SYS_shmdt, places[i].address));
    pages("after bad ones");
    detach("detach", p);
    detach("detach again", p);
}

static void several(void) {
    fresh(0);
    char *q = attached(id, NULL, 0), *r = attached(id, FREE_PLACE + 64 * PAGE, SHM_RDONLY);
    attaches("three", id);
    says("detach the second", shmdt(q));
    says("detach the second again", shmdt(q));
    attaches("two", id);
    holds("the others are there", p[PAGE] == 'b' && r[PAGE] == 'b');
    says("detach the read-only one", shmdt(r));
    says("detach the first", shmdt(p));
    attaches("none", id);
    /* Neighbours of the same segment are not one attach. */
    p = attached(id, FREE_PLACE, 0), q = attached(id, FREE_PLACE + 4 * PAGE, 0);
    attaches("two side by side", id);
    says("detach the first", shmdt(p));
    holds("the second is there", q[0] == 'a');
    p = attached(id, FREE_PLACE, 0);
    says("detach the second", shmdt(q));
    holds("the first is there", p[3 * PAGE] == 'd');
    shmdt(p);
    attaches("none", id);
    /* Another segment right behind is not touched. */
    int other = made(IPC_PRIVATE, PAGE, 0600);
    fresh(0);
    q = attached(other, p + 4 * PAGE, 0);
    munmap(p, PAGE);
    says("detach what is left in front of another segment", shmdt(p));
    pages("then");
    attaches("the other", other);
    shmdt(q);
    removed(other);
}

static void fragments(void) {
    fresh(0);
    says("munmap all", munmap(p, 4 * PAGE));
    pages("then");
    detach("detach", p);
    for (int page = 0; page < 4; page++) {
        fresh(0);
        says(form("munmap page %d", page), munmap(p + page * PAGE, PAGE));
        pages("then");
        for (int i = 1; i < 4; i++) says(form("detach at page %d", i), shmdt(p + i * PAGE));
        pages("then");
        detach("detach at its start", p);
    }
    for (int first = 0; first < 3; first++) {
        fresh(0);
        munmap(p + first * PAGE, 2 * PAGE);
        pages(form("without pages %d and %d", first, first + 1));
        detach("detach", p);
    }
    fresh(0);
    munmap(p + PAGE, PAGE), munmap(p + 3 * PAGE, PAGE);
    pages("without the second and the fourth");
    detach("detach", p);
    for (int page = 0; page < 4; page++) {
        fresh(0);
        says(form("mprotect page %d", page), mprotect(p + page * PAGE, PAGE, PROT_READ));
        pages("then");
        detach("detach", p);
    }
    fresh(0);
    mprotect(p + PAGE, PAGE, PROT_NONE);
    munmap(p, PAGE);
    pages("one gone, one closed");
    detach("detach", p);
    fresh(0);
    mprotect(p + PAGE, PAGE, PROT_READ);
    says("detach at a fragment", shmdt(p + PAGE));
    pages("then");
    detach("detach", p);
}

static void strangers(void) {
    for (int page = 0; page < 4; page++) {
        fresh(0);
        char *over = mmap(p + page * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        need(over == p + page * PAGE, "mmap");
        *over = '#';
        pages(form("mapped over page %d", page));
        detach("detach", p);
        munmap(over, PAGE);
    }
    /* Another attach over a part: shmdt of the address both begin at takes the one that is there. */
    int other = made(IPC_PRIVATE, 2 * PAGE, 0600);
    fresh(0);
    char *q = shmat(other, p, SHM_REMAP);
    *q = 'A';
    pages("another over the beginning");
    attaches("the other", other);
    detach("detach", p);
    attaches("the other", other);
    detach("detach again", p);
    attaches("the other", other);
    detach("detach once more", p);
    fresh(0);
    q = shmat(other, p + PAGE, SHM_REMAP);
    *q = 'A';
    pages("another over the middle");
    detach("detach the one around", p);
    attaches("the other", other);
    detach("detach the middle", q);
    attaches("the other", other);
    removed(other);
    fresh(0);
    q = shmat(id, p + PAGE, SHM_REMAP);
    pages("the same over its middle");
    detach("detach the first", p);
    detach("detach the second", p + PAGE);
}

static void moved(void) {
    fresh(0);
    char *to = FREE_PLACE + 100 * PAGE;
    char *q = mremap(p, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    holds("moved", q == to && q[PAGE] == 'b');
    attaches("moved", id);
    detach("detach where it was", p);
    says("detach where it is", shmdt(q));
    attaches("then", id);
    fresh(0);
    q = mremap(p + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    holds("a page moved", q == to && *q == 'b');
    pages("then");
    says("detach the page", shmdt(q));
    pages("then");
    detach("detach the rest", p);
    attaches("the page is left", id);
    munmap(q, PAGE);
    attaches("without it", id);
    fresh(0);
    q = mremap(p, 4 * PAGE, 2 * PAGE, 0);
    holds("made smaller", q == p);
    pages("then");
    detach("detach", p);
}

static void bookkeeping(void) {
    fresh(0);
    char *q = attached(id, NULL, 0);
    state("before", id);
    shmdt(q);
    state("after", id);
    struct shmid_ds s = stat_of(id);
    holds("dtime is now", labs(s.shm_dtime - time(NULL)) <= 1);
    shmdt(p);
    holds("contents stay", (p = attached(id, NULL, SHM_RDONLY), p[0] == 'a' && p[3 * PAGE] == 'd'));
    shmdt(p);
    IN_CHILD("stores to what is detached") p[0] = 1;
    IN_CHILD("loads from what is detached") printf("%d\n", p[0]);
    AS_CHILD {
        p = attached(id, NULL, 0);
        become(1001, 2001, 0, NULL);
        says("another user detaches", shmdt(p));
    }
    removed(id);
    id = made(0x888, PAGE, IPC_CREAT | 0600);
    p = attached(id, NULL, 0), q = attached(id, NULL, 0);
    removed(id);
    says("detach from one being removed", shmdt(p));
    state("one left", id);
    says("detach the last", shmdt(q));
    state("none left", id);
    says("detach again", shmdt(q));
}

int main(void) {
    id = made(IPC_PRIVATE, 4 * PAGE, 0600);
    addresses();
    several();
    fragments();
    strangers();
    moved();
    bookkeeping();
    return 0;
}
