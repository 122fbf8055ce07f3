/* What munmap, mmap, mprotect, mremap, madvise and shmat with SHM_REMAP do to attaches: contents, rights, nattch. */
#include "conf.h"

enum { PAGES = 6 };
static int id;
static char *p;

static void fresh(void) {
    p = attached(id, FREE_PLACE + 16 * PAGE, 0);
    for (int i = 0; i < PAGES; i++) p[i * PAGE] = 'a' + i;
}
/* What is where: a letter a page, - for none. */
static void pages(const char *name) {
    printf("%s: pages ", name);
    for (int i = -1; i <= PAGES; i++) putchar(readable(p + i * (long)PAGE) ? (p[i * (long)PAGE] ? p[i * (long)PAGE] : '0') : '-');
    printf(", attaches %ld\n", nattch(id));
}
/* Takes away whatever is there. */
static void cleared(void) {
    munmap(p - 8 * PAGE, 64 * PAGE);
    if (nattch(id)) attaches("left over", id);
}

static void unmapping(void) {
    for (int from = 0; from < PAGES; from++)
        for (int count = 1; from + count <= PAGES; count++) {
            fresh();
            munmap(p + from * PAGE, count * PAGE);
            pages(form("munmap %d from %d", count, from));
            printf("shmdt %s, ", outcome(shmdt(p)));
            printf("attaches %ld\n", nattch(id));
            cleared();
        }
    fresh();
    says("munmap one byte of the third page", munmap(p + 2 * PAGE, 1));
    pages("then");
    says("munmap, unaligned", munmap(p + 1, PAGE));
    says("munmap of nothing", munmap(p, 0));
    says("munmap over the beginning", munmap(p - 2 * PAGE, 3 * PAGE));
    pages("then");
    says("munmap over the end", munmap(p + 5 * PAGE, 3 * PAGE));
    pages("then");
    says("munmap of what is not there", munmap(p, PAGE));
    says("munmap everything", munmap(p - 4 * PAGE, 20 * PAGE));
    pages("then");
    says("shmdt", shmdt(p));
    /* Several at once. */
    fresh();
    int other = made(IPC_PRIVATE, 2 * PAGE, 0600);
    char *q = attached(other, p + PAGES * PAGE, 0), *r = attached(id, p + (PAGES + 2) * PAGE, SHM_RDONLY);
    printf("three side by side: attaches %ld and %ld\n", nattch(id), nattch(other));
    says("munmap across", munmap(p + PAGE, (PAGES + 2) * PAGE));
    printf("attaches %ld and %ld\n", nattch(id), nattch(other));
    says("shmdt the first", shmdt(p));
    says("shmdt the second", shmdt(q));
    says("shmdt the third", shmdt(r));
    printf("attaches %ld and %ld\n", nattch(id), nattch(other));
    removed(other);
    cleared();
}

static void protecting(void) {
    static const struct { const char *name; int prot; } rights[] = {
        {"nothing", PROT_NONE}, {"read", PROT_READ}, {"write", PROT_WRITE}, {"read write", PROT_READ | PROT_WRITE}, {"execute", PROT_EXEC},
        {"read execute", PROT_READ | PROT_EXEC}, {"all", PROT_READ | PROT_WRITE | PROT_EXEC}};
    for (int read_only = 0; read_only < 2; read_only++)
        for (int i = 0; i < 7; i++) {
            fresh();
            char *q = read_only ? attached(id, FREE_PLACE + 64 * PAGE, SHM_RDONLY) : p;
            printf("%s attach, %s: %s, ", read_only ? "read-only" : "writable", rights[i].name, outcome(mprotect(q + PAGE, 2 * PAGE, rights[i].prot)));
            printf("load %s, store %s, beside ", load(q + PAGE), store(q + PAGE));
            printf("load %s, store %s, attaches %ld\n", load(q), store(q), nattch(id));
            if (q != p) shmdt(q);
            shmdt(p);
        }
    for (int from = 0; from < PAGES; from++)
        for (int count = 1; from + count <= PAGES; count += 2) {
            fresh();
            mprotect(p + from * PAGE, count * PAGE, PROT_READ);
            printf("read-only %d from %d: attaches %ld", count, from, nattch(id));
            mprotect(p + from * PAGE, count * PAGE, PROT_READ | PROT_WRITE);
            printf(", back %ld", nattch(id));
            mprotect(p, PAGES * PAGE, PROT_NONE);
            printf(", all closed %ld\n", nattch(id));
            shmdt(p);
        }
    fresh();
    for (int i = 0; i < PAGES; i += 2) mprotect(p + i * PAGE, PAGE, PROT_READ);
    attaches("every second page read-only", id);
    mprotect(p, PAGES * PAGE, PROT_READ);
    attaches("all read-only", id);
    mprotect(p, 3 * PAGE, PROT_READ | PROT_WRITE);
    attaches("half writable", id);
    munmap(p + 2 * PAGE, 2 * PAGE);
    pages("without the middle");
    mprotect(p + 4 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE);
    pages("the same rights on both sides of a hole");
    says("shmdt", shmdt(p));
    attaches("then", id);
    fresh();
    says("mprotect, unaligned", syscall(SYS_mprotect, p + 1, PAGE, PROT_READ)); /* musl would round. */
    says("mprotect of nothing", syscall(SYS_mprotect, p, 0, PROT_READ));
    says("mprotect beyond the end", mprotect(p + 5 * PAGE, 2 * PAGE, PROT_READ));
    attaches("then", id);
    printf("its last page: store %s\n", store(p + 5 * PAGE));
    says("mprotect from before", mprotect(p - PAGE, 2 * PAGE, PROT_READ));
    printf("its first page: store %s\n", store(p));
    attaches("then", id);
    shmdt(p);
    int other = made(IPC_PRIVATE, PAGE, 0600);
    fresh();
    char *q = attached(other, p + PAGES * PAGE, SHM_RDONLY);
    says("mprotect across a writable and a read-only one", mprotect(p + 5 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE));
    says("mprotect both read-only", mprotect(p + 5 * PAGE, 2 * PAGE, PROT_READ));
    printf("attaches %ld and %ld\n", nattch(id), nattch(other));
    says("and writable again", mprotect(p + 5 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE));
    printf("attaches %ld and %ld\n", nattch(id), nattch(other));
    shmdt(p), shmdt(q);
    removed(other);
}

static void mapping_over(void) {
    for (int from = 0; from < PAGES; from++)
        for (int count = 1; from + count <= PAGES; count += from ? 2 : 1) {
            fresh();
            char *q = mmap(p + from * PAGE, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            memset(q, '#', count * PAGE);
            pages(form("mmap %d over %d", count, from));
            printf("shmdt %s", outcome(shmdt(p)));
            pages(", then");
            cleared();
        }
    fresh();
    says("mmap over it, not replacing", mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | 0x100000, -1, 0) == MAP_FAILED ? -1 : 0);
    char *q = mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    holds("mmap with that as a hint goes elsewhere", q != p + PAGE);
    munmap(q, PAGE);
    pages("then");
    q = mmap(p + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    *q = '#';
    pages("a shared mapping over it");
    says("shmdt", shmdt(p));
    pages("then");
    says("shmdt the mapping", shmdt(q));
    cleared();
    for (int page = -1; page <= PAGES; page++) {
        int other = made(IPC_PRIVATE, 2 * PAGE, 0600);
        fresh();
        q = attached(other, p + page * (long)PAGE, SHM_REMAP);
        q[0] = '1', q[PAGE] = '2';
        pages(form("another with REMAP at %d", page));
        printf("attaches of it %ld, shmdt the old %s", nattch(other), outcome(shmdt(p)));
        pages(", then");
        printf("shmdt the new %s, ", outcome(shmdt(q)));
        printf("attaches %ld and %ld\n", nattch(id), nattch(other));
        cleared();
        removed(other);
    }
}

static const char *placed(char *q) { return q == MAP_FAILED ? errno_name(errno) : "ok"; }

static void moving(void) {
    char *to = FREE_PLACE + 128 * PAGE;
    for (int from = 0; from < PAGES; from++)
        for (int count = 1; from + count <= PAGES; count += 2) {
            fresh();
            char *q = mremap(p + from * PAGE, count * PAGE, count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
            printf("move %d from %d: %s", count, from, placed(q));
            pages(", left");
            printf("moved first %c, last %c, shmdt the old ", q[0], q[(count - 1) * PAGE]);
            printf("%s, shmdt the new ", outcome(shmdt(p)));
            printf("%s, ", outcome(shmdt(to)));
            printf("attaches %ld\n", nattch(id));
            munmap(to, PAGES * PAGE);
            cleared();
        }
    /* Onto another page of the same attach. */
    for (int from = 0; from < PAGES; from++)
        for (int onto = 0; onto < PAGES; onto++) {
            if (from == onto) continue;
            fresh();
            char *q = mremap(p + from * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + onto * PAGE);
            printf("page %d onto page %d: %s", from, onto, placed(q));
            pages(", then");
            printf("munmap %s", outcome(munmap(p, PAGES * PAGE)));
            pages(", then");
        }
    for (int count = 1; count < PAGES; count++) {
        fresh();
        char *q = mremap(p, PAGES * PAGE, count * PAGE, 0);
        printf("shrink to %d: %s, in place %d", count, placed(q), q == p);
        pages(", then");
        printf("shmdt %s, ", outcome(shmdt(p)));
        printf("attaches %ld\n", nattch(id));
    }
    fresh();
    printf("mremap, unaligned: %s\n", placed(mremap(p + 1, PAGE, PAGE, MREMAP_MAYMOVE)));
    printf("mremap to nothing: %s\n", placed(mremap(p, PAGE, 0, MREMAP_MAYMOVE)));
    printf("mremap of what is not there: %s\n", placed(mremap(p - 2 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE)));
    printf("mremap beyond the end: %s\n", placed(mremap(p, (PAGES + 1) * PAGE, (PAGES + 2) * PAGE, MREMAP_MAYMOVE)));
    printf("fixed without MAYMOVE: %s\n", placed(mremap(p, PAGE, PAGE, MREMAP_FIXED, to)));
    printf("fixed over itself: %s\n", placed(mremap(p, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + PAGE)));
    printf("fixed, unaligned: %s\n", placed(mremap(p, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + 1)));
    pages("then");
    char *same = mremap(p, PAGES * PAGE, PAGES * PAGE, 0);
    holds("mremap to what it is", same == p);
    /* Over another. */
    char *q = attached(id, to, SHM_RDONLY);
    char *r = mremap(p, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + PAGE);
    printf("move over another: %s", placed(r));
    pages(", then");
    printf("shmdt the other %s, ", outcome(shmdt(q)));
    printf("attaches %ld, shmdt the moved ", nattch(id));
    printf("%s, shmdt the rest ", outcome(shmdt(r)));
    printf("%s, attaches %ld\n", outcome(shmdt(p)), nattch(id));
    munmap(to, PAGES * PAGE);
    cleared();
    /* Back and forth. */
    fresh();
    q = mremap(p + 2 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    attaches("a middle moved out", id);
    r = mremap(q, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + 2 * PAGE);
    printf("and back: %s", placed(r));
    pages(", then");
    says("shmdt", shmdt(p));
    attaches("then", id);
    cleared();
    fresh();
    q = mremap(p, 0, 2 * PAGE, MREMAP_MAYMOVE);
    printf("a second view by an old size of 0: %s\n", placed(q));
    if (q != MAP_FAILED) {
        attaches("then", id);
        printf("it shows %c\n", q[PAGE]);
        says("shmdt it", shmdt(q));
        attaches("then", id);
    }
    printf("in place by an old size of 0: %s\n", placed(mremap(p, 0, 2 * PAGE, 0)));
    shmdt(p);
    cleared();
    fresh();
    q = mremap(p, PAGES * PAGE, (PAGES + 2) * PAGE, 0);
    printf("grow in place: %s\n", placed(q));
    if (q != MAP_FAILED) {
        attaches("grown", id);
        printf("its last page: load %s, the one after: load %s, store %s\n", load(p + (PAGES - 1) * PAGE), load(p + PAGES * PAGE), store(p + (PAGES + 1) * PAGE));
        printf("a system call reads there: %s\n", readable(p + PAGES * PAGE) ? "ok" : "EFAULT");
    }
    says("shmdt", shmdt(p));
    attaches("then", id);
    cleared();
    fresh();
    q = (char *)syscall(SYS_mremap, p, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | 4 /* MREMAP_DONTUNMAP */, 0);
    printf("leaving the old one mapped: %s\n", placed(q));
    if (q != MAP_FAILED) {
        attaches("then", id);
        printf("new %c, old load %s\n", q[PAGE], load(p + PAGE));
        says("shmdt the new", shmdt(q));
        says("shmdt the old", shmdt(p));
    } else shmdt(p);
    attaches("then", id);
    cleared();
}

/* mremap over several mappings (Linux 6.17 and later): m is memory, r memory that can only be read, s the segment, - nothing. */
static void moving_several(void) {
    static const char *const rows[] = {"mmrr", "mm-rr", "mm---", "-mm", "mmss", "ssmm", "ss--", "ss", "mm-ss", "sSsS", "rmrmrm"};
    static const struct { int from, pages, to; } moves[] = {{0, 6, 6}, {0, 4, 4}, {1, 3, 3}, {0, 5, 2}, {0, 3, 1}, {1, 2, 4}};
    char *to = FREE_PLACE + 128 * PAGE;
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++)
        for (size_t move = 0; move < sizeof moves / sizeof *moves; move++)
            for (int over = 0; over < 2; over++) {
                int length = strlen(rows[row]), attach = -1;
                p = FREE_PLACE + 16 * PAGE;
                for (int i = 0; i < length; i++) {
                    char what = rows[row][i];
                    if (what == '-') continue;
                    if (what == 's' || what == 'S') {
                        if (attach < 0) attached(id, p + i * PAGE, SHM_REMAP), attach = i;
                        mprotect(p + i * PAGE, PAGE, what == 's' ? PROT_READ | PROT_WRITE : PROT_READ);
                        continue;
                    }
                    need(mmap(p + i * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED, "mmap");
                    p[i * PAGE] = '0' + i;
                    mprotect(p + i * PAGE, PAGE, what == 'm' ? PROT_READ | PROT_WRITE : PROT_READ);
                }
                if (attach >= 0) munmap(p + length * PAGE, PAGES * PAGE);
                if (over) attached(id, to - PAGE, 0);
                int pages = moves[move].pages, wanted = moves[move].to;
                char *q = mremap(p + moves[move].from * PAGE, pages * PAGE, wanted * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
                printf("%s%s: %d from %d as %d: %s, ", rows[row], over ? " over an attach" : "", pages, moves[move].from, wanted, placed(q));
                for (int i = 0; i < length; i++) putchar(readable(p + i * PAGE) ? (p[i * PAGE] ? p[i * PAGE] : '.') : '-');
                putchar(' ');
                for (int i = -1; i <= PAGES; i++) putchar(readable(to + i * PAGE) ? (to[i * PAGE] ? to[i * PAGE] : '.') : '-');
                printf(", attaches %ld\n", nattch(id));
                munmap(to - PAGE, 16 * PAGE), munmap(p, 16 * PAGE);
                if (nattch(id)) attaches("left over", id);
            }
}

static void advising(void) {
    static const struct { const char *name; int advice; } all[] = {
        {"NORMAL", MADV_NORMAL}, {"RANDOM", MADV_RANDOM}, {"SEQUENTIAL", MADV_SEQUENTIAL}, {"WILLNEED", MADV_WILLNEED}, {"DONTNEED", MADV_DONTNEED},
        {"FREE", 8}, {"DONTFORK", MADV_DONTFORK}, {"DOFORK", MADV_DOFORK}, {"999", 999}, {"-1", -1}};
    for (int i = 0; i < 10; i++) {
        fresh();
        printf("madvise %s of two pages: %s", all[i].name, outcome(madvise(p + PAGE, 2 * PAGE, all[i].advice)));
        pages(", then");
        says("of all", madvise(p, PAGES * PAGE, all[i].advice));
        pages("then");
        says("beyond the end", madvise(p + 5 * PAGE, 2 * PAGE, all[i].advice));
        says("unaligned", madvise(p + 1, PAGE, all[i].advice));
        says("of nothing", madvise(p, 0, all[i].advice));
        AS_CHILD pages("in a child");
        says("shmdt", shmdt(p));
        attaches("then", id);
    }
    char *ro = attached(id, FREE_PLACE, SHM_RDONLY);
    says("DONTNEED of a read-only one", madvise(ro, PAGE, MADV_DONTNEED));
    says("REMOVE of a read-only one", madvise(ro, PAGE, MADV_REMOVE));
    shmdt(ro);
    fresh();
    says("REMOVE of a page", madvise(p + PAGE, PAGE, MADV_REMOVE));
    pages("its bytes are zero");
    shmdt(p);
}

/* What each act counts as: an attach, a detach, both or nothing. Before it a child was the last to attach, and nobody has
 * detached. */
static void recorded(void) {
    static const char *const acts[] = {
        "nothing", "munmap of all", "munmap of the first page", "munmap of the last", "munmap of the middle", "mprotect of all", "mprotect of the first page",
        "mprotect of the middle", "mprotect and back", "mprotect to what it is", "mmap over the first page", "mmap over the middle", "mmap over all",
        "REMAP by itself", "REMAP by another over the middle", "mremap away", "mremap of the middle", "mremap of the middle and back", "shrinking", "growing",
        "a second view", "DONTFORK of the middle", "DONTNEED", "munmap of the middle, then of the rest", "shmdt", "a failing munmap", "a failing mremap", "munmap from before", "onto its own page", "mprotect of the first half, then of the second"};
    struct { _Atomic int there, end; } *word;
    int control = made(IPC_PRIVATE, PAGE, 0600), other = made(IPC_PRIVATE, PAGE, 0600);
    word = attached(control, NULL, 0);
    char *to = FREE_PLACE + 128 * PAGE;
    for (int act = 0; act < 30; act++) {
        int segment = made(IPC_PRIVATE, PAGES * PAGE, 0600);
        p = attached(segment, FREE_PLACE + 16 * PAGE, 0);
        madvise(p, PAGES * PAGE, MADV_DONTFORK);
        word->there = word->end = 0;
        pid_t child = forked();
        if (child == 0) {
            attached(segment, NULL, 0);
            word->there = 1;
            while (!word->end) nap(300);
            _exit(0);
        }
        while (!word->there) nap(300);
        madvise(p, PAGES * PAGE, MADV_DOFORK);
        struct shmid_ds before = stat_of(segment);
        need(before.shm_dtime == 0 && before.shm_lpid == child && before.shm_nattch == 2, "a child that was the last");
        char *middle = p + 2 * PAGE;
        switch (act) {
        case 1: munmap(p, PAGES * PAGE); break;
        case 2: munmap(p, PAGE); break;
        case 3: munmap(p + (PAGES - 1) * PAGE, PAGE); break;
        case 4: munmap(middle, PAGE); break;
        case 5: mprotect(p, PAGES * PAGE, PROT_READ); break;
        case 6: mprotect(p, PAGE, PROT_READ); break;
        case 7: mprotect(middle, PAGE, PROT_READ); break;
        case 8: mprotect(middle, PAGE, PROT_READ), mprotect(middle, PAGE, PROT_READ | PROT_WRITE); break;
        case 9: mprotect(middle, PAGE, PROT_READ | PROT_WRITE); break;
        case 10: mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0); break;
        case 11: mmap(middle, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0); break;
        case 12: mmap(p, PAGES * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0); break;
        case 13: attached(segment, p, SHM_REMAP); break;
        case 14: attached(other, middle, SHM_REMAP); break;
        case 15: mremap(p, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to); break;
        case 16: mremap(middle, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to); break;
        case 17: mremap(middle, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), mremap(to, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, middle); break;
        case 18: mremap(p, PAGES * PAGE, PAGE, 0); break;
        case 19: mremap(p, PAGES * PAGE, (PAGES + 1) * PAGE, 0); break;
        case 20: mremap(p, 0, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to); break;
        case 21: madvise(middle, PAGE, MADV_DONTFORK); break;
        case 22: madvise(p, PAGES * PAGE, MADV_DONTNEED); break;
        case 23: munmap(middle, PAGE), munmap(p, PAGES * PAGE); break;
        case 24: shmdt(p); break;
        case 25: munmap(p + 1, PAGE); break;
        case 26: mremap(middle, PAGE, PAGE, MREMAP_FIXED, to); break;
        case 27: munmap(p - PAGE, 2 * PAGE); break;
        case 28: mremap(middle, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, middle + PAGE); break;
        case 29: mprotect(p, 3 * PAGE, PROT_READ), mprotect(p + 3 * PAGE, 3 * PAGE, PROT_READ); break;
        }
        struct shmid_ds after = stat_of(segment);
        printf("%s: attaches %ld, last by %s, %s\n", acts[act], (long)after.shm_nattch, who(after.shm_lpid), after.shm_dtime ? "detached" : "not detached");
        word->end = 1;
        waited(child);
        munmap(p - 8 * PAGE, 64 * PAGE), munmap(to, PAGES * PAGE);
        attaches("nothing is left", segment);
        removed(segment);
    }
    shmdt(word);
    removed(control), removed(other);
}

/* 2 MiB and more: the kernel may map it in large pages; a part must still be a part. */
static void large(void) {
    const size_t size = 6 * MIB + 3 * PAGE;
    int big = made(IPC_PRIVATE, size - 1, 0600);
    static const struct { const char *name; char *place; } places[] = {{"aligned", FREE_PLACE + 64 * MIB}, {"odd", FREE_PLACE + 128 * MIB + 5 * PAGE}, {"chosen", NULL}};
    for (int i = 0; i < 3; i++) {
        char *q = attached(big, places[i].place, 0), *view = attached(big, NULL, SHM_RDONLY);
        for (size_t at = 0; at < size; at += MIB / 2) q[at] = 'A' + at / (MIB / 2);
        q[size - 1] = 'Z';
        printf("%s: last byte %c", places[i].name, view[size - 1]);
        munmap(q + 2 * MIB + PAGE, PAGE);
        printf(", hole: %s %c %s", load(q + 2 * MIB), view[2 * MIB], load(q + 2 * MIB + PAGE));
        mprotect(q + 4 * MIB, PAGE, PROT_READ);
        printf(", read-only page: %s %s, attaches %ld", store(q + 4 * MIB), store(q + 4 * MIB + PAGE), nattch(big));
        char *anonymous = mmap(q + 5 * MIB, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        *anonymous = '#';
        printf(", under a mapping %c, attaches %ld", view[5 * MIB], nattch(big));
        char *moved = mremap(q, MIB, MIB, MREMAP_MAYMOVE | MREMAP_FIXED, FREE_PLACE + 256 * MIB + 7 * PAGE);
        printf(", moved %c%c", moved[0], moved[MIB / 2]);
        AS_CHILD { q[2 * MIB] = 'c'; moved[1] = 'm'; }
        printf(", a child's bytes %c%c, shmdt", view[2 * MIB], view[1]);
        printf(" %s", outcome(shmdt(q)));
        printf(" %s", outcome(shmdt(moved)));
        printf(" %s, mapping %c, attaches %ld\n", outcome(shmdt(view)), *anonymous, nattch(big));
        munmap(q, size);
        munmap(moved, MIB);
        attaches("then", big);
    }
    removed(big);
}

int main(void) {
    id = made(IPC_PRIVATE, PAGES * PAGE - 100, 0600);
    unmapping();
    protecting();
    mapping_over();
    moving();
    moving_several();
    advising();
    recorded();
    large();
    removed(id);
    return 0;
}
