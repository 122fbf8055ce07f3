/* What the calls read of their arguments and write to structures: how many bytes, at which offsets, for each command of
 * shmctl. And that threads and more attaches than SHMSEG make no difference. */
#include "conf.h"
#include <pthread.h>

static long control(long id, long command, void *buffer) { return syscall(SYS_shmctl, id, command, buffer); }

static const struct { const char *name; int command; size_t size; } commands[] = {
    {"STAT", IPC_STAT, 112}, {"SHM_STAT", SHM_STAT, 112}, {"SHM_STAT_ANY", SHM_STAT_ANY, 112}, {"IPC_INFO", IPC_INFO, 72},
    {"SHM_INFO", SHM_INFO, 48}, {"SET", IPC_SET, 112}, {"LOCK", SHM_LOCK, 0}, {"UNLOCK", SHM_UNLOCK, 0}, {"RMID", IPC_RMID, 0}};

/* At the end of what is mapped there is room for so many bytes: one too few, and enough. */
static void sizes(int id) {
    char *page = mmap(FREE_PLACE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (int c = 0; c < 8; c++)
        for (int less = -1; less < 2; less++) {
            struct shmid_ds s = stat_of(id);
            size_t size = commands[c].size;
            if (less == 1 && size == 0) continue;
            char *buffer = page + PAGE - size + less;
            memset(page, 0x5a, PAGE);
            if (commands[c].command == IPC_SET) memcpy(buffer, &s, size < PAGE - (buffer - page) ? size : PAGE - (buffer - page));
            long index = commands[c].command == SHM_STAT || commands[c].command == SHM_STAT_ANY ? id & 32767 : id;
            long result = control(index, commands[c].command, buffer);
            printf("%s, %d bytes too few: %s", commands[c].name, less, result == id ? "the identifier" : result == (id & 32767) ? "the index" : outcome(result));
            /* Structures begin and end with bytes that are not 0x5a. */
            printf(", byte before %s", buffer[-1] == 0x5a ? "kept" : "changed");
            if (less == -1) printf(", after %s", page[PAGE - 1] == 0x5a ? "kept" : "changed");
            puts("");
        }
    munmap(page, PAGE);
}

static void offsets(int id) {
    for (int c = 0; c < 5; c++) {
        union { unsigned char bytes[200]; unsigned halves[50]; unsigned long words[25]; } b;
        for (int fill = 0; fill < 2; fill++) {
            memset(&b, fill ? 0xa5 : 0x5a, sizeof b);
            long result = control(commands[c].command == SHM_STAT || commands[c].command == SHM_STAT_ANY ? id & 32767 : id, commands[c].command, &b);
            need(result >= 0, commands[c].name);
            int written = 0;
            for (int i = 0; i < 200; i++)
                if (b.bytes[i] != (fill ? 0xa5 : 0x5a)) written = i + 1;
            printf("%s writes up to byte %d of %zu\n", commands[c].name, (written + 7) / 8 * 8, commands[c].size);
        }
        if (commands[c].size == 112) {
            printf("key %x uid %u gid %u cuid %u cgid %u mode %o seq %u pad %u, pads %lx %lx\n", b.halves[0], b.halves[1], b.halves[2], b.halves[3], b.halves[4],
                   b.halves[5], b.halves[6] - (id >> 15), b.halves[7], b.words[4], b.words[5]);
            printf("size %lu atime %d dtime %d ctime %d by %s last %s attaches %lu, reserved %lx %lx\n", b.words[6], b.words[7] != 0, b.words[8] != 0, b.words[9] != 0,
                   who(b.halves[20]), who(b.halves[21]), b.words[11], b.words[12], b.words[13]);
        } else
            for (size_t i = 0; i < commands[c].size / 8; i++) printf("word %zu: %lx\n", i, b.words[i]);
    }
}

/* Bits that no command or identifier has; the upper halves of registers are nobody's. */
static void bits(int id) {
    struct shmid_ds s;
    const long high = 0x7654321000000000;
    for (int c = 0; c < 9; c++) {
        int command = commands[c].command;
        static const long added[] = {0x100, 0x200, 0x10000, 0x80000000, 0x40000000};
        for (int i = 0; i < 5; i++) says(form("%s + %lx", commands[c].name, added[i]), control(id, command + added[i], &s));
        if (command == IPC_RMID) continue;
        s = stat_of(id);
        long given = command == SHM_STAT || command == SHM_STAT_ANY ? id & 32767 : id;
        says(form("%s, upper halves", commands[c].name), control(given | high, command | high, &s));
        says(form("%s, negative in the lower half", commands[c].name), control(0xffffffff, command, &s));
    }
    int other = syscall(SYS_shmget, 0x5151 | high, 5000, (IPC_CREAT | 0600) | high);
    got("shmget, upper halves", other);
    holds("found by its key", shmget(0x5151, 0, 0) == other);
    char *p = (char *)syscall(SYS_shmat, other | high, FREE_PLACE + 5, (SHM_RND | SHM_RDONLY) | high);
    holds("shmat, upper halves", p == FREE_PLACE);
    printf("read-only: %s\n", store(p));
    says("shmdt", shmdt(p));
    says("shmat of -1 in the lower half", syscall(SYS_shmat, 0xffffffffUL, NULL, 0));
    says("RMID, upper halves", control(other | high, IPC_RMID | high, NULL));
    got("gone", shmget(0x5151, 0, 0));
}

/* SHMSEG is told, not enforced. */
static void beyond_shmseg(void) {
    enum { MANY = 4200 };
    struct shm_limits limits;
    int id = made(IPC_PRIVATE, PAGE, 0600), count = 0, detached = 0;
    static char *where[MANY];
    control(0, IPC_INFO, &limits);
    printf("SHMSEG is %lu\n", limits.seg);
    while (count < MANY && (where[count] = shmat(id, NULL, 0)) != (void *)-1) count++;
    printf("%d attaches\n", count);
    attaches("they", id);
    *where[0] = 1;
    holds("the last shows it", *where[count - 1] == 1);
    for (int i = 0; i < count; i++) detached += shmdt(where[i]) == 0;
    printf("%d detached\n", detached);
    attaches("none", id);
    removed(id);
}

static int segment;
static void *in_a_thread(void *unused) {
    (void)unused;
    state("a thread begins", segment);
    char *p = attached(segment, NULL, 0);
    state("it has attached", segment);
    int own = made(IPC_PRIVATE, 1, 0600);
    holds("what it makes is its process's", stat_of(own).shm_cpid == getpid());
    removed(own);
    return p;
}
static void threads(void) {
    segment = made(IPC_PRIVATE, PAGE, 0600);
    char *p = attached(segment, NULL, 0);
    void *q;
    pthread_t thread;
    need(pthread_create(&thread, NULL, in_a_thread, NULL) == 0 && pthread_join(thread, &q) == 0, "a thread");
    state("it has ended", segment);
    says("detach what it attached", shmdt(q));
    says("detach", shmdt(p));
    state("then", segment);
    removed(segment);
}

int main(void) {
    int id = made(0x4141, 12345, IPC_CREAT | 0604);
    char *p = attached(id, NULL, 0);
    p[0] = 1;
    sizes(id);
    offsets(id);
    bits(id);
    state("at last", id);
    says("shmdt", shmdt(p));
    removed(id);
    beyond_shmseg();
    threads();
    return 0;
}
