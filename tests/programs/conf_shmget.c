/* shmget: every row of its table, and all combinations of key, flags and size. */
#include "conf.h"

#define LARGEST (SIZE_MAX - (1UL << 24))

static long get(key_t key, size_t size, int flags) { return syscall(SYS_shmget, key, size, flags); }

/* Whether it can be got, and whether that made one. */
static void got_or_made(const char *name, key_t key, size_t size, int flags) {
    struct shm_usage before, after;
    syscall(SYS_shmctl, 0, SHM_INFO, &before);
    long id = get(key, size, flags);
    const char *how = id < 0 ? errno_name(errno) : "ok";
    syscall(SYS_shmctl, 0, SHM_INFO, &after);
    printf("%s: %s, made %d\n", name, how, after.used_ids - before.used_ids);
    if (after.used_ids > before.used_ids) removed(id);
}

static void combinations(void) {
    static const struct { const char *name; int flags; } flags[] = {
        {"nothing", 0}, {"CREAT", IPC_CREAT}, {"EXCL", IPC_EXCL}, {"CREAT EXCL", IPC_CREAT | IPC_EXCL}};
    static const struct { const char *name; size_t size; } sizes[] = {
        {"0", 0}, {"1", 1}, {"4999", 4999}, {"5000", 5000}, {"5001", 5001}, {"8192", 8192}, {"8193", 8193},
        {"beyond all", LARGEST + 1}, {"everything", SIZE_MAX}};
    int id = made(0x111, 5000, IPC_CREAT | 0600);
    for (int present = 0; present < 3; present++)
        for (int f = 0; f < 4; f++)
            for (int s = 0; s < 9; s++) {
                static const key_t keys[] = {0x222, 0x111, IPC_PRIVATE};
                static const char *const names[] = {"absent", "present", "private"};
                got_or_made(form("%s, %s, size %s", names[present], flags[f].name, sizes[s].name), keys[present],
                            sizes[s].size, flags[f].flags | 0600);
            }
    removed(id);
}

static void keys(void) {
    static const key_t values[] = {1, -1, 0x7fffffff, (key_t)0x80000000, 0x12345678};
    for (int i = 0; i < 5; i++) {
        int id = get(values[i], 1, IPC_CREAT | IPC_EXCL | 0600);
        got(form("key %x", values[i]), id);
        holds("is found again", get(values[i], 0, 0) == id);
        holds("is what the state says", stat_of(id).shm_perm.__key == values[i]);
        got("and is exclusive", get(values[i], 1, IPC_CREAT | IPC_EXCL | 0600));
        removed(id);
        got("and gone", get(values[i], 1, 0600));
    }
    long one = get(IPC_PRIVATE, 1, 0600), two = get(IPC_PRIVATE, 1, IPC_CREAT | IPC_EXCL | 0600);
    holds("two private ones differ", one >= 0 && two >= 0 && one != two);
    removed(one), removed(two);
}

static void sizes(void) {
    static const size_t values[] = {1, 2, 4095, 4096, 4097, 8191, 65536, 2 * MIB, 2 * MIB + 1, 1UL << 30};
    for (int i = 0; i < 10; i++) {
        struct shm_usage before, after;
        syscall(SYS_shmctl, 0, SHM_INFO, &before);
        int id = get(0x333, values[i], IPC_CREAT | 0600);
        got(form("size %zu", values[i]), id);
        printf("is remembered as %zu\n", stat_of(id).shm_segsz);
        syscall(SYS_shmctl, 0, SHM_INFO, &after);
        printf("in pages: %ld\n", after.total - before.total);
        got("one byte more", get(0x333, values[i] + 1, 0));
        got("one byte more, creating", get(0x333, values[i] + 1, IPC_CREAT | 0600));
        got("one byte more, exclusively", get(0x333, values[i] + 1, IPC_CREAT | IPC_EXCL | 0600));
        removed(id);
    }
    static const struct { const char *name; size_t size; int flags; } large[] = {
        {"1 TiB", 1UL << 40, 0}, {"1 TiB, no reserve", 1UL << 40, SHM_NORESERVE}, {"128 TiB", 1UL << 47, 0},
        {"128 TiB, no reserve", 1UL << 47, SHM_NORESERVE}, {"4 EiB", 1UL << 62, 0}, {"4 EiB, no reserve", 1UL << 62, SHM_NORESERVE},
        {"just below 8 EiB, no reserve", (1UL << 63) - PAGE, SHM_NORESERVE}, {"8 EiB, no reserve", 1UL << 63, SHM_NORESERVE},
        {"SHMMAX", LARGEST, 0}, {"SHMMAX, no reserve", LARGEST, SHM_NORESERVE}, {"beyond SHMMAX", LARGEST + 1, SHM_NORESERVE}};
    for (int i = 0; i < 11; i++) {
        long id = get(0x334, large[i].size, IPC_CREAT | 0600 | large[i].flags);
        got(form("size %s", large[i].name), id);
        if (id < 0) continue;
        /* 1 TiB may be more than a guest's window has room for; 128 TiB is more than any process has. */
        if (large[i].size > 1UL << 40) at("attach such a one", shmat(id, NULL, 0));
        removed(id);
        got("its key after its removal", get(0x334, 0, 0));
    }
}

static void modes(void) {
    for (int bit = 0; bit < 9; bit++) {
        int id = get(0x444, 1, IPC_CREAT | 1 << bit);
        got(form("mode %o", 1 << bit), id);
        printf("is remembered as %o\n", stat_of(id).shm_perm.mode);
        removed(id);
    }
    int id = get(0x444, 1, IPC_CREAT | 0777);
    printf("mode 777 is %o\n", stat_of(id).shm_perm.mode);
    printf("get it with other bits: %s\n", outcome(get(0x444, 1, 0700)));
    removed(id);
    for (int bit = 9; bit < 31; bit++) {
        if (1 << bit == IPC_CREAT || 1 << bit == SHM_HUGETLB) continue;
        id = get(0x445, 1, IPC_CREAT | 0640 | 1 << bit);
        got(form("flag %o", 1 << bit), id);
        if (id < 0) continue;
        printf("gives mode %o\n", stat_of(id).shm_perm.mode);
        removed(id);
    }
    id = get(0x446, 1, (int)0x80000000 | IPC_CREAT | 0604);
    got("the highest flag", id);
    if (id >= 0) removed(id);
}

static void huge_pages(void) {
    /* What comes of it depends on the host's pool: the transcript of this host is what counts. */
    static const int classes[] = {0, 12, 21, 30, 63};
    for (int i = 0; i < 5; i++) {
        long id = get(IPC_PRIVATE, 2 * MIB, SHM_HUGETLB | 0600 | (int)((unsigned)classes[i] << 26));
        got(form("huge pages of class %d", classes[i]), id);
        if (id >= 0) removed(id);
    }
    got("huge pages, size 0", get(IPC_PRIVATE, 0, SHM_HUGETLB | 0600));
    IN_CHILD("huge pages for others") {
        become(1001, 2001, 0, NULL);
        long id = get(IPC_PRIVATE, 2 * MIB, SHM_HUGETLB | 0600);
        got("huge pages", id);
        if (id >= 0) removed(id);
        got("huge pages of no class", get(IPC_PRIVATE, 2 * MIB, SHM_HUGETLB | 0600 | 63 << 26));
    }
}

static void order(void) {
    int id = made(0x555, 5000, IPC_CREAT | 0);
    AS_CHILD {
        become(1001, 2001, 0, NULL);
        got("other, present, exclusive, too large, no right", get(0x555, 9999, IPC_CREAT | IPC_EXCL | 0600));
        got("other, present, too large, no right", get(0x555, 9999, 0600));
        got("other, present, too large, creating, no right", get(0x555, 9999, IPC_CREAT | 0600));
        got("other, present, no right", get(0x555, 5000, 0600));
        got("other, present, nothing asked", get(0x555, 5000, 0));
        got("other, present, reading asked", get(0x555, 0, 0444));
        got("other, present, executing asked", get(0x555, 0, 0001));
        got("other, private, size 0", get(IPC_PRIVATE, 0, 0));
        got("other, absent, size 0", get(0x556, 0, 0));
        got("other, absent, creating, size 0", get(0x556, 0, IPC_CREAT));
    }
    removed(id);
}

static void pending(void) {
    int id = made(0x666, 100, IPC_CREAT | 0600);
    char *p = attached(id, NULL, 0);
    removed(id);
    got("key of one being removed", get(0x666, 0, 0));
    got("key of one being removed, EXCL", get(0x666, 0, IPC_EXCL));
    int other = get(0x666, 200, IPC_CREAT | IPC_EXCL | 0600);
    got("key of one being removed, anew", other);
    holds("is another", other != id);
    state("the old one", id);
    state("the new one", other);
    shmdt(p);
    state("the old one, detached", id);
    state("the new one", other);
    removed(other);
}

static void fresh(void) {
    int id = made(0x777, 5000, IPC_CREAT | 0640);
    state("fresh", id);
    struct shmid_ds s = stat_of(id);
    holds("ctime is now", labs(s.shm_ctime - time(NULL)) <= 1);
    holds("the identifier's sequence is the state's", id >> 15 == s.shm_perm.__seq);
    char *p = attached(id, NULL, SHM_RDONLY);
    long sum = 0;
    for (size_t i = 0; i < 2 * PAGE; i++) sum += p[i];
    says_value("sum of its bytes", sum);
    shmdt(p);
    removed(id);
    IN_CHILD("made by another user") {
        need(setresgid(2001, 2002, 2001) == 0 && setresuid(1001, 1002, 1001) == 0, "another user");
        id = made(IPC_PRIVATE, 1, 0644);
        state("effective ids count", id);
        removed(id);
    }
    /* What a removed segment held must not be seen again. */
    for (int i = 0; i < 20; i++) {
        id = made(IPC_PRIVATE, 4 * PAGE, 0600);
        p = attached(id, NULL, 0);
        sum = 0;
        for (size_t j = 0; j < 4 * PAGE; j++) sum += p[j] != 0;
        if (sum) printf("round %d: %ld old bytes\n", i, sum);
        memset(p, 0x5a, 4 * PAGE);
        shmdt(p);
        removed(id);
    }
    puts("20 rounds of fresh segments");
}

int main(void) {
    combinations();
    keys();
    sizes();
    modes();
    huge_pages();
    order();
    pending();
    fresh();
    return 0;
}
