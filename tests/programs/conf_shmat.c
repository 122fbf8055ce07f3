/* shmat: addresses, flags, rights and what is then in memory. */
#include "conf.h"

static void *at_address(int id, unsigned long address, int flags) { return (void *)syscall(SYS_shmat, id, address, flags); }

static void identifiers(void) {
    int id = made(IPC_PRIVATE, 1, 0600), gone = made(IPC_PRIVATE, 1, 0600);
    removed(gone);
    static const char *const names[] = {"of -1", "of INT_MIN", "of INT_MAX", "unknown", "removed", "of another sequence"};
    int ids[] = {-1, (int)0x80000000, 0x7fffffff, 60, gone, id + 32768};
    for (int i = 0; i < 6; i++) {
        at(form("identifier %s", names[i]), at_address(ids[i], 0, 0));
        at(form("identifier %s, unaligned", names[i]), at_address(ids[i], 1, 0));
        at(form("identifier %s, NULL and REMAP", names[i]), at_address(ids[i], 0, SHM_REMAP));
        at(form("identifier %s, kernel address", names[i]), at_address(ids[i], KERNEL_ADDRESS, 0));
    }
    attaches("after bad ones", id);
    removed(id);
}

static void addresses(void) {
    int id = made(IPC_PRIVATE, 5000, 0600);
    const unsigned long free_place = (unsigned long)FREE_PLACE, stack = (unsigned long)&id & ~(PAGE - 1);
    static char own[3 * PAGE];
    const unsigned long data = (unsigned long)own & ~(PAGE - 1);
    const struct { const char *name; unsigned long address; int detach; } places[] = {
        {"NULL", 0, 1}, {"free", free_place, 1}, {"free, unaligned by 1", free_place + 1, 1}, {"free, unaligned by 2048", free_place + 2048, 1},
        {"free, unaligned by 4095", free_place + 4095, 1}, {"stack", stack, 0}, {"data", data, 0}, {"page before the stack's", stack - PAGE, 0},
        {"last pages", 0x7fffffffd000UL, 0}, {"last page", 0x7fffffffe000UL, 0}, {"beyond the last page", 0x7ffffffff000UL, 0},
        {"not canonical", 0x800000000000UL, 0}, {"not canonical, high", 0xffff000000000000UL, 0}, {"kernel", KERNEL_ADDRESS, 0},
        {"last of all", ~0UL & ~(PAGE - 1), 0}, {"last byte of all", ~0UL, 0}, {"4 GiB - 4 KiB", 0xfffff000UL, 1}, {"2 MiB-aligned", free_place + 6 * MIB, 1},
        {"just below 2 MiB", free_place + 8 * MIB - PAGE, 1}, {"just below 512 GiB", free_place + (1UL << 39) - PAGE, 1},
    };
    static const struct { const char *name; int flags; } flags[] = {
        {"", 0}, {", RND", SHM_RND}, {", RDONLY", SHM_RDONLY}, {", EXEC", SHM_EXEC}, {", RND RDONLY EXEC", SHM_RND | SHM_RDONLY | SHM_EXEC}};
    for (int p = 0; p < 20; p++)
        for (int f = 0; f < 5; f++) {
            char *where = at_address(id, places[p].address, flags[f].flags);
            if (where == (void *)-1) {
                printf("at %s%s: %s\n", places[p].name, flags[f].name, errno_name(errno));
                continue;
            }
            const char *relation = (unsigned long)where == places[p].address ? "there"
                                   : (unsigned long)where == (places[p].address & ~(PAGE - 1)) ? "rounded" : "elsewhere";
            printf("at %s%s: %s, %s\n", places[p].name, flags[f].name, (unsigned long)where % PAGE ? "unaligned" : "aligned", relation);
            need(shmdt(where) == 0, "shmdt");
        }
    /* With SHM_REMAP only where nothing of the program's own is. */
    for (int p = 0; p < 20; p++) {
        if (!places[p].detach && places[p].address < 0x7fffffffe000UL) continue;
        tried(form("at %s, REMAP", places[p].name), at_address(id, places[p].address, SHM_REMAP));
        tried(form("at %s, REMAP RND", places[p].name), at_address(id, places[p].address, SHM_REMAP | SHM_RND));
    }
    tried("at 100, RND", at_address(id, 100, SHM_RND));
    tried("at 100, RND REMAP", at_address(id, 100, SHM_RND | SHM_REMAP));
    tried("at 100", at_address(id, 100, 0));
    tried("at 4095, RND", at_address(id, 4095, SHM_RND));
    char *zero = at_address(id, 100, SHM_RND);
    holds("page 0 can be attached by root", zero == NULL);
    if (zero == NULL) {
        attaches("at page 0", id);
        says("detach page 0", syscall(SYS_shmdt, 0L));
        attaches("without page 0", id);
    }
    IN_CHILD("page 0 for others") {
        need(shmctl(id, IPC_SET, &(struct shmid_ds){.shm_perm = {.uid = 1001, .gid = 2001, .mode = 0600}}) == 0, "IPC_SET");
        become(1001, 2001, 0, NULL);
        at("at 100, RND, by another user", at_address(id, 100, SHM_RND));
        at("at 100, RND REMAP, by another user", at_address(id, 100, SHM_RND | SHM_REMAP));
        tried("at a free place, by another user", at_address(id, free_place, 0));
    }
    attaches("after all", id);
    removed(id);
}

static void overlaps(void) {
    int id = made(IPC_PRIVATE, 4 * PAGE, 0600), other = made(IPC_PRIVATE, 2 * PAGE, 0600);
    char *p = attached(id, FREE_PLACE + 10 * PAGE, 0);
    for (int page = 5; page <= 15; page++) tried(form("two pages at %d, four are at 10", page), shmat(other, FREE_PLACE + page * PAGE, 0));
    memset(p, 1, 4 * PAGE);
    for (int page = 9; page <= 13; page++) {
        char *q = shmat(other, FREE_PLACE + page * PAGE, SHM_REMAP);
        at(form("two pages at %d with REMAP", page), q);
        printf("attaches %ld and %ld\n", nattch(id), nattch(other));
        q[0] = 2;
        for (int i = 9; i <= 14; i++) {
            char *there = FREE_PLACE + i * PAGE;
            printf("%s ", readable(there) ? (*there == 1 ? "old" : *there == 2 ? "new" : "zero") : "none");
        }
        printf("\ndetach the new: %s", outcome(shmdt(q)));
        printf(", the old: %s, attaches %ld and %ld\n", outcome(shmdt(p)), nattch(id), nattch(other));
        for (int i = 9; i <= 14; i++) need(!readable(FREE_PLACE + i * PAGE), "nothing left");
        p = attached(id, FREE_PLACE + 10 * PAGE, 0);
    }
    char *q = shmat(id, p, SHM_REMAP);
    holds("REMAP over itself", q == p);
    attaches("then", id);
    says("detach it", shmdt(p));
    says("detach it again", shmdt(p));
    attaches("then", id);
    char *anonymous = mmap(FREE_PLACE, 6 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memset(anonymous, 7, 6 * PAGE);
    at("over an ordinary mapping", shmat(other, anonymous + PAGE, 0));
    at("over an ordinary mapping, unaligned, RND", shmat(other, anonymous + PAGE + 5, SHM_RND));
    at("over an ordinary mapping, REMAP", shmat(other, anonymous + PAGE, SHM_REMAP));
    printf("bytes %d %d %d %d\n", anonymous[0], anonymous[PAGE], anonymous[2 * PAGE], anonymous[3 * PAGE]);
    at("REMAP RND", shmat(id, anonymous + PAGE + 99, SHM_REMAP | SHM_RND));
    printf("bytes %d %d %d %d %d\n", anonymous[0], anonymous[PAGE], anonymous[3 * PAGE], anonymous[4 * PAGE], anonymous[5 * PAGE]);
    attaches("of the one remapped over", other);
    says("detach", shmdt(anonymous + PAGE));
    printf("bytes %d %d, between %s\n", anonymous[0], anonymous[5 * PAGE], readable(anonymous + 2 * PAGE) ? "some" : "none");
    munmap(anonymous, 6 * PAGE);
    /* A failing REMAP leaves what is there. */
    p = attached(id, FREE_PLACE, 0);
    at("REMAP with an unknown identifier", shmat(60, p, SHM_REMAP));
    at("REMAP, unaligned", shmat(other, p + 1, SHM_REMAP));
    holds("leaves the old", p[0] == 1 && nattch(id) == 1);
    AS_CHILD {
        become(1001, 2001, 0, NULL);
        at("REMAP without the right to attach", shmat(other, p, SHM_REMAP));
        holds("leaves the old to it", p[0] == 1);
    }
    shmdt(p);
    removed(id), removed(other);
}

static void flags(void) {
    int id = made(IPC_PRIVATE, 5000, 0700);
    at("all flags and NULL", shmat(id, NULL, ~0));
    for (int bit = 0; bit < 31; bit++) {
        if (1 << bit == SHM_REMAP) continue;
        char *p = shmat(id, NULL, 1 << bit);
        printf("flag %o: %s", 1 << bit, outcome((long)p));
        if (p != (void *)-1) {
            printf(", store %s", store(p));
            printf(", shmdt %s", outcome(shmdt(p)));
        }
        puts("");
    }
    char *p = attached(id, NULL, SHM_EXEC);
    memcpy(p, "\xb8\x2a\0\0\0\xc3", 6); /* mov eax, 42; ret */
    says_value("code in an executable attach returns", ((int (*)(void))p)());
    char *q = attached(id, NULL, SHM_EXEC | SHM_RDONLY);
    says_value("code in a read-only executable attach returns", ((int (*)(void))q)());
    printf("store there: %s\n", store(q));
    char *r = attached(id, NULL, 0);
    IN_CHILD("code in an attach without EXEC") printf("returns %d\n", ((int (*)(void))r)());
    says("mprotect it executable", mprotect(r, PAGE, PROT_READ | PROT_EXEC));
    IN_CHILD("code there then") printf("returns %d\n", ((int (*)(void))r)());
    printf("store there: %s\n", store(r));
    shmdt(p), shmdt(q), shmdt(r);
    attaches("after all", id);
    removed(id);
    id = made(IPC_PRIVATE, 1, 0600);
    tried("EXEC, mode 600, root", shmat(id, NULL, SHM_EXEC));
    removed(id);
}

static void read_only(void) {
    int id = made(IPC_PRIVATE, 5000, 0600);
    char *rw = attached(id, NULL, 0), *ro = attached(id, NULL, SHM_RDONLY);
    rw[0] = 5;
    says_value("what one writes the other reads", ro[0]);
    printf("load %s, store %s\n", load(ro), store(ro));
    printf("store to its last byte %s, to the last of the page %s\n", store(ro + 4999), store(ro + 2 * PAGE - 1));
    says("mprotect writable", mprotect(ro, PAGE, PROT_READ | PROT_WRITE));
    says("mprotect write-only", mprotect(ro, PAGE, PROT_WRITE));
    says("mprotect nothing", mprotect(ro, PAGE, PROT_NONE));
    printf("load %s\n", load(ro));
    says("mprotect readable", mprotect(ro, PAGE, PROT_READ));
    printf("load %s, store %s\n", load(ro), store(ro));
    says("a system call writes into it", syscall(SYS_shmctl, id, IPC_STAT, ro));
    says("a system call writes across its end", syscall(SYS_shmctl, id, IPC_STAT, ro + 2 * PAGE - 8));
    says("a system call reads from it", readable(ro) ? 0 : -1);
    says("a system call writes into the writable one", syscall(SYS_shmctl, id, IPC_STAT, rw + 64));
    holds("and the read-only one shows it", ((struct shmid_ds *)(ro + 64))->shm_segsz == 5000);
    says("mprotect the writable one read-only", mprotect(rw, 2 * PAGE, PROT_READ));
    printf("store %s\n", store(rw));
    says("a system call writes into it", syscall(SYS_shmctl, id, IPC_STAT, rw));
    says("and back", mprotect(rw, 2 * PAGE, PROT_READ | PROT_WRITE));
    printf("store %s\n", store(rw));
    rw[4999] = 6;
    says_value("seen", ro[4999]);
    shmdt(ro), shmdt(rw);
    removed(id);
}

static void ends(void) {
    static const size_t sizes[] = {1, 4095, 4096, 4097, 8192, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1};
    for (int i = 0; i < 8; i++) {
        int id = made(IPC_PRIVATE, sizes[i], 0600);
        size_t pages = (sizes[i] + PAGE - 1) / PAGE * PAGE;
        char *p = attached(id, FREE_PLACE, 0), *q = attached(id, FREE_PLACE + 32 * MIB + PAGE, SHM_RDONLY);
        p[pages - 1] = 9;
        printf("size %zu: its page's last byte is shared %s, zero before %s", sizes[i], q[pages - 1] == 9 ? "yes" : "no", q[sizes[i] / 2] == 0 ? "yes" : "no");
        printf(", the byte after: %s and %s, the byte before: %s\n", load(p + pages), load(q + pages), load(p - 1));
        shmdt(p), shmdt(q);
        p = attached(id, FREE_PLACE, 0);
        printf("the tail stays: %d\n", p[pages - 1]);
        shmdt(p);
        removed(id);
    }
}

static void many(void) {
    int id = made(IPC_PRIVATE, 3 * PAGE, 0600);
    static char *where[200];
    for (int i = 0; i < 200; i++) where[i] = attached(id, NULL, i % 3 ? 0 : SHM_RDONLY);
    attaches("attached 200 times", id);
    where[1][0] = 42;
    int all = 1;
    for (int i = 0; i < 200; i++) all &= where[i][0] == 42;
    holds("all show the same", all);
    for (int i = 0; i < 200; i++) need(shmdt(where[(i * 77) % 200]) == 0, "shmdt");
    attaches("detached 200 times", id);
    removed(id);
    int ids[50];
    for (int i = 0; i < 50; i++) {
        ids[i] = made(IPC_PRIVATE, (i + 1) * 1000, 0600);
        where[i] = attached(ids[i], NULL, 0);
        where[i][0] = i;
        where[i][i * 1000] = i + 1;
    }
    all = 1;
    for (int i = 0; i < 50; i++) all &= (i == 0 || where[i][0] == i) && where[i][i * 1000] == i + 1;
    holds("50 segments, each its own bytes", all);
    for (int i = 0; i < 50; i++) shmdt(where[i]), removed(ids[i]);
}

static void bookkeeping(void) {
    int id = made(IPC_PRIVATE, 100, 0600);
    state("not attached", id);
    char *p = attached(id, NULL, 0);
    state("attached", id);
    struct shmid_ds s = stat_of(id);
    holds("atime is now", labs(s.shm_atime - time(NULL)) <= 1);
    removed(id);
    state("being removed", id);
    char *q = shmat(id, NULL, 0), *r = shmat(id, NULL, SHM_RDONLY);
    holds("can be attached", q != (void *)-1 && r != (void *)-1);
    state("attached again", id);
    shmdt(p), shmdt(q);
    state("one left", id);
    shmdt(r);
    state("none left", id);
    at("attach it", shmat(id, NULL, 0));
}

int main(void) {
    identifiers();
    addresses();
    overlaps();
    flags();
    read_only();
    ends();
    many();
    bookkeeping();
    return 0;
}
