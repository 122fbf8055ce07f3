/* shmctl: every command on every kind of identifier and buffer, what it changes and what not. */
#include "conf.h"

static long control(int id, int command, void *buffer) { return syscall(SYS_shmctl, id, command, buffer); }

static const struct { const char *name; int command; } commands[] = {
    {"RMID", IPC_RMID}, {"SET", IPC_SET}, {"STAT", IPC_STAT}, {"IPC_INFO", IPC_INFO}, {"LOCK", SHM_LOCK}, {"UNLOCK", SHM_UNLOCK},
    {"SHM_STAT", SHM_STAT}, {"SHM_INFO", SHM_INFO}, {"SHM_STAT_ANY", SHM_STAT_ANY}, {"4", 4}, {"10", 10}, {"16", 16}, {"9999", 9999},
    {"-1", -1}, {"INT_MIN", (int)0x80000000}, {"STAT with IPC_64", IPC_STAT | 0x100}};

static void matrix(void) {
    for (int c = 0; c < 16; c++) {
        for (int kind = 0; kind < 7; kind++) {
            static const char *const kinds[] = {"good", "-1", "INT_MIN", "unknown", "beyond all", "removed", "of another sequence"};
            static const char *const buffers[] = {"good", "NULL", "bad", "kernel's", "read-only", "across an end"};
            for (int b = 0; b < 6; b++) {
                if (kind && b > 2) continue;
                int gone = made(IPC_PRIVATE, 1, 0600);
                removed(gone);
                int id = made(IPC_PRIVATE, 12345, 0600), keeper = made(IPC_PRIVATE, PAGE, 0600);
                struct shmid_ds buffer = stat_of(id);
                char *end = attached(keeper, FREE_PLACE, 0), *constant = attached(keeper, FREE_PLACE + 2 * PAGE, SHM_RDONLY);
                int ids[] = {id, -1, (int)0x80000000, (id & 32767) + 40, 0x7fffffff, gone, id + 32768};
                char *pointers[] = {(char *)&buffer, NULL, (char *)16, (char *)KERNEL_ADDRESS, constant, end + PAGE - 24};
                long result = control(ids[kind], commands[c].command, pointers[b]);
                const char *text = result == -1 ? errno_name(errno) : result == id ? "the identifier" : result == (keeper & 32767) ? "the highest index" : form("%ld", result);
                struct shmid_ds after;
                long there = shmctl(id, IPC_STAT, &after);
                printf("%s, identifier %s, buffer %s: %s", commands[c].name, kinds[kind], buffers[b], text);
                if (there == 0) printf(", leaves mode %o owner %d:%d\n", after.shm_perm.mode, (int)after.shm_perm.uid, (int)after.shm_perm.gid);
                else puts(", removes it");
                shmdt(end), shmdt(constant);
                if (there == 0) removed(id);
                removed(keeper);
            }
        }
    }
}

static void structures(void) {
    unsigned char bytes[200];
    int id = made(0xabcdef, 12345, IPC_CREAT | 0604);
    char *p = attached(id, NULL, 0);
    memset(bytes, 0x5a, sizeof bytes);
    says_value("STAT returns", control(id, IPC_STAT, bytes));
    const unsigned long *words = (const unsigned long *)bytes;
    const unsigned *halves = (const unsigned *)bytes;
    printf("key %x uid %u gid %u cuid %u cgid %u mode %o\n", halves[0], halves[1], halves[2], halves[3], halves[4], halves[5]);
    holds("sequence and the padding behind", halves[6] == (unsigned)id >> 15 && halves[7] == 0);
    printf("size %lu attaches %lu\n", words[6], words[11]);
    holds("times", labs((long)words[7] - time(NULL)) <= 1 && words[8] == 0 && labs((long)words[9] - time(NULL)) <= 1);
    holds("pids", halves[20] == (unsigned)getpid() && halves[21] == (unsigned)getpid());
    holds("reserved words are zero", words[4] == 0 && words[5] == 0 && words[12] == 0 && words[13] == 0);
    int untouched = 1;
    for (int i = 112; i < 200; i++) untouched &= bytes[i] == 0x5a;
    holds("112 bytes are written", untouched && words[13] != 0x5a5a5a5a5a5a5a5aUL);
    int second = made(IPC_PRIVATE, 3 * PAGE + 1, 0600);
    memset(bytes, 0x5a, sizeof bytes);
    says_value("IPC_INFO returns", control(0, IPC_INFO, bytes));
    for (int i = 0; i < 10; i++) printf("word %d is %lu\n", i, words[i]);
    memset(bytes, 0x5a, sizeof bytes);
    says_value("SHM_INFO returns", control(0, SHM_INFO, bytes));
    printf("used %d", *(int *)bytes);
    for (int i = 1; i < 7; i++) printf(", word %d is %lu", i, words[i]);
    puts("");
    holds("padding", halves[1] == 0);
    p[0] = p[PAGE] = p[3 * PAGE] = 1;
    char *q = attached(second, NULL, SHM_RDONLY);
    struct shm_usage usage;
    control(0, SHM_INFO, &usage);
    printf("three pages written: total %lu resident %lu swapped %lu\n", usage.total, usage.resident, usage.swapped);
    shmdt(p), shmdt(q);
    control(12345, SHM_INFO, &usage);
    printf("detached: used %d total %lu resident %lu\n", usage.used_ids, usage.total, usage.resident);
    p = attached(id, NULL, 0);
    removed(id);
    control(0, SHM_INFO, &usage);
    printf("removed, attached: used %d total %lu resident %lu\n", usage.used_ids, usage.total, usage.resident);
    shmdt(p);
    control(0, SHM_INFO, &usage);
    printf("gone: used %d total %lu resident %lu\n", usage.used_ids, usage.total, usage.resident);
    removed(second);
    says_value("IPC_INFO with none", control(0, IPC_INFO, bytes));
    says_value("SHM_INFO with none", control(0, SHM_INFO, &usage));
    printf("none: used %d total %lu resident %lu\n", usage.used_ids, usage.total, usage.resident);
}

static void indices(void) {
    int ids[5];
    struct shmid_ds s;
    for (int i = 0; i < 5; i++) ids[i] = made(IPC_PRIVATE, 100 + i, 0600);
    int base = ids[0] & 32767;
    removed(ids[2]);
    for (int command = SHM_STAT; command <= SHM_STAT_ANY; command += SHM_STAT_ANY - SHM_STAT)
        for (int i = -2; i < 7; i++) {
            long result = control(base + i, command, &s);
            if (result == -1) printf("%d of index %d: %s\n", command, i, errno_name(errno));
            else printf("%d of index %d: %s, size %zu\n", command, i, result == ids[i] ? "its identifier" : "another", s.shm_segsz);
        }
    holds("SHM_STAT of an identifier with a sequence", control(ids[1] % 32768 + 5 * 32768, SHM_STAT, &s) == ids[1]);
    says_value("highest index", control(0, IPC_INFO, &(struct shm_limits){0}) - base);
    removed(ids[4]);
    says_value("highest index", control(0, IPC_INFO, &(struct shm_limits){0}) - base);
    removed(ids[0]), removed(ids[1]), removed(ids[3]);
    says("SHM_STAT with none", control(0, SHM_STAT, &s));
}

static void setting(void) {
    int id = made(0x999, 100, IPC_CREAT | 0600);
    struct shmid_ds s;
    for (int bit = 0; bit < 32; bit += 1) {
        s = stat_of(id);
        s.shm_perm.mode = 1u << bit;
        says(form("set mode %o", 1u << bit), shmctl(id, IPC_SET, &s));
        printf("gives %o\n", stat_of(id).shm_perm.mode);
    }
    s = stat_of(id);
    s.shm_segsz = 99999, s.shm_perm.__key = 5, s.shm_nattch = 77, s.shm_perm.cuid = 5, s.shm_perm.cgid = 6, s.shm_cpid = 1, s.shm_lpid = 1, s.shm_atime = 9;
    s.shm_perm.mode = 0640, s.shm_perm.uid = 1001, s.shm_perm.gid = 2001;
    says("set everything", shmctl(id, IPC_SET, &s));
    state("what it gives", id);
    got("its key still finds it", shmget(0x999, 100, 0));
    static const unsigned values[] = {0, 1, 65534, 65535, 65536, 0x7fffffff, 0xfffffffe, 0xffffffff};
    for (int i = 0; i < 8; i++) {
        s.shm_perm.uid = values[i], s.shm_perm.gid = 3;
        printf("set uid %u: %s, owner ", values[i], outcome(shmctl(id, IPC_SET, &s)));
        printf("%u:%u\n", (unsigned)stat_of(id).shm_perm.uid, (unsigned)stat_of(id).shm_perm.gid);
        s.shm_perm.uid = 4, s.shm_perm.gid = values[i];
        printf("set gid %u: %s, owner ", values[i], outcome(shmctl(id, IPC_SET, &s)));
        printf("%u:%u\n", (unsigned)stat_of(id).shm_perm.uid, (unsigned)stat_of(id).shm_perm.gid);
    }
    char *p = attached(id, NULL, 0);
    says("lock", shmctl(id, SHM_LOCK, NULL));
    removed(id);
    s.shm_perm.uid = s.shm_perm.gid = 0;
    says("set what is locked and being removed", shmctl(id, IPC_SET, &s));
    state("keeps its flags", id);
    says("unlock", shmctl(id, SHM_UNLOCK, NULL));
    state("then", id);
    shmdt(p);
    says("set what is gone", shmctl(id, IPC_SET, &s));
}

static void locking(void) {
    int id = made(IPC_PRIVATE, 5000, 0600);
    for (int i = 0; i < 2; i++) {
        says("lock", shmctl(id, SHM_LOCK, NULL));
        state("then", id);
    }
    char *p = attached(id, NULL, 0);
    p[1] = 1;
    shmdt(p);
    for (int i = 0; i < 2; i++) {
        says("unlock", shmctl(id, SHM_UNLOCK, NULL));
        state("then", id);
    }
    says("lock again", shmctl(id, SHM_LOCK, NULL));
    removed(id);
    says("unlock what is gone", shmctl(id, SHM_UNLOCK, NULL));
    id = made(IPC_PRIVATE, 2 * PAGE, 0600);
    need(shmctl(id, IPC_SET, &(struct shmid_ds){.shm_perm = {.uid = 1017, .gid = 2017, .mode = 0600}}) == 0, "IPC_SET");
    static const long limits[] = {0, 4096, 8191, 8192, 1 << 20};
    for (int i = 0; i < 5; i++)
        AS_CHILD {
            struct rlimit limit = {limits[i], limits[i]};
            says(form("limit of locked memory %ld", limits[i]), setrlimit(RLIMIT_MEMLOCK, &limit));
            become(1017, 2017, 0, NULL);
            says("owner locks", shmctl(id, SHM_LOCK, NULL));
            printf("mode %o\n", stat_of(id).shm_perm.mode);
            says("owner unlocks", shmctl(id, SHM_UNLOCK, NULL));
            printf("mode %o\n", stat_of(id).shm_perm.mode);
        }
    AS_CHILD {
        become(1018, 2018, 0, NULL);
        says("other locks", shmctl(id, SHM_LOCK, NULL));
        says("other unlocks", shmctl(id, SHM_UNLOCK, NULL));
    }
    removed(id);
}

/* The account of locked memory is the real user's, whoever the process is effectively. */
static void accounts(void) {
    int big = made(IPC_PRIVATE, 2 * MIB, 0666), ours = made(IPC_PRIVATE, PAGE, 0666);
    need(shmctl(ours, IPC_SET, &(struct shmid_ds){.shm_perm = {.uid = 1019, .mode = 0666}}) == 0, "IPC_SET");
    need(shmctl(big, IPC_SET, &(struct shmid_ds){.shm_perm = {.uid = 1019, .mode = 0666}}) == 0, "IPC_SET");
    for (int real = 0; real < 2; real++) IN_CHILD(form("really %s", real ? "1020" : "1019")) {
        need(setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){2 * MIB, 2 * MIB}) == 0, "setrlimit");
        need(setresuid(1020, 0, 0) == 0, "setresuid");
        says("root, really 1020, locks", shmctl(big, SHM_LOCK, NULL));
        need(setresuid(real ? 1020 : 1019, 1019, 0) == 0, "setresuid");
        says("effectively 1019: one page more", shmctl(ours, SHM_LOCK, NULL));
        says("and back", shmctl(ours, SHM_UNLOCK, NULL));
        says("the other", shmctl(big, SHM_UNLOCK, NULL));
        says("one page", shmctl(ours, SHM_LOCK, NULL));
        says("and back", shmctl(ours, SHM_UNLOCK, NULL));
    }
    removed(big), removed(ours);
}

static void removing(void) {
    const key_t key = 0x777;
    int id = made(key, 100, IPC_CREAT | 0600);
    char *p = attached(id, NULL, 0), *q = attached(id, NULL, SHM_RDONLY);
    says("remove while attached", shmctl(id, IPC_RMID, NULL));
    state("then", id);
    got("its key", shmget(key, 0, 0));
    says("remove again", shmctl(id, IPC_RMID, NULL));
    says("STAT by index", control(id & 32767, SHM_STAT, &(struct shmid_ds){0}) == id ? 0 : -1);
    says("set", shmctl(id, IPC_SET, &(struct shmid_ds){.shm_perm = {.mode = 0666}}));
    state("then", id);
    says("lock", shmctl(id, SHM_LOCK, NULL));
    state("then", id);
    says("detach", shmdt(p));
    state("then", id);
    says("detach", shmdt(q));
    state("then", id);
    says("remove what is gone", shmctl(id, IPC_RMID, NULL));
}

/* Which of the three times an act moves: its segment was made, attached and detached seconds ago. */
static void times(void) {
    static const char *const acts[] = {"nothing", "STAT", "SHM_STAT", "SET", "LOCK", "UNLOCK", "shmget", "shmat", "shmdt", "munmap", "fork", "exit of a child", "RMID", "failing SET", "mprotect"};
    enum { ACTS = 15 };
    int ids[ACTS];
    char *where[ACTS], *second[ACTS];
    struct shmid_ds before[ACTS];
    for (int i = 0; i < ACTS; i++) {
        ids[i] = made(0x1000 + i, 2 * PAGE, IPC_CREAT | 0600);
        where[i] = attached(ids[i], NULL, 0);
        second[i] = attached(ids[i], NULL, 0);
        shmdt(second[i]);
        if (i == 10 || i == 11) continue;
        madvise(where[i], 2 * PAGE, MADV_DONTFORK);
    }
    /* A child that begins now and ends later. */
    struct { _Atomic int end; } *flag = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int word = made(IPC_PRIVATE, PAGE, 0600);
    flag = attached(word, NULL, 0);
    madvise(where[10], 2 * PAGE, MADV_DONTFORK);
    pid_t child = forked();
    if (child == 0) {
        while (!atomic_load(&flag->end)) nap(2000);
        _exit(0);
    }
    for (int i = 0; i < ACTS; i++) before[i] = stat_of(ids[i]);
    next_second();
    next_second();
    struct shmid_ds s = stat_of(ids[3]);
    stat_of(ids[1]);
    control(ids[2] & 32767, SHM_STAT, &s);
    s = stat_of(ids[3]);
    shmctl(ids[3], IPC_SET, &s);
    shmctl(ids[4], SHM_LOCK, NULL);
    shmctl(ids[5], SHM_UNLOCK, NULL);
    shmget(0x1006, 1, IPC_CREAT | 0600);
    second[7] = attached(ids[7], NULL, SHM_RDONLY);
    shmdt(where[8]);
    munmap(where[9], 2 * PAGE);
    madvise(where[11], 2 * PAGE, MADV_DONTFORK);
    madvise(where[10], 2 * PAGE, MADV_DOFORK);
    pid_t forker = forked();
    if (forker == 0) {
        while (atomic_load(&flag->end) < 2) nap(2000);
        _exit(0);
    }
    atomic_store(&flag->end, 1);
    need(waitpid(child, NULL, 0) == child, "the child");
    shmctl(ids[12], IPC_RMID, NULL);
    AS_CHILD {
        become(1001, 2001, 0, NULL);
        shmctl(ids[13], IPC_SET, &s);
    }
    mprotect(where[14], PAGE, PROT_READ);
    for (int i = 0; i < ACTS; i++) {
        struct shmid_ds now = stat_of(ids[i]);
        printf("%s changes:%s%s%s%s, last by %s, attaches %ld\n", acts[i], now.shm_atime != before[i].shm_atime ? " atime" : "",
               now.shm_dtime != before[i].shm_dtime ? " dtime" : "", now.shm_ctime != before[i].shm_ctime ? " ctime" : "",
               now.shm_lpid != before[i].shm_lpid ? " lpid" : "", now.shm_lpid == child ? "first child" : now.shm_lpid == forker ? "second child" : who(now.shm_lpid), (long)now.shm_nattch);
    }
    atomic_store(&flag->end, 2);
    need(waitpid(forker, NULL, 0) == forker, "the child");
    for (int i = 0; i < ACTS; i++) shmdt(where[i]), i == 12 || shmctl(ids[i], IPC_RMID, NULL);
    shmdt(second[7]);
    shmdt(flag);
    removed(word);
}

int main(void) {
    matrix();
    structures();
    indices();
    setting();
    locking();
    accounts();
    removing();
    times();
    return 0;
}
