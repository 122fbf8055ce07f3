/* Random System V shared memory: an operation's number and the seed give the operation and who executes it; all copies
 * compute the same sequence and take turns, so that the transcript (lines by operation number) is the same wherever the
 * copies run: processes of one Linux, of one guest, of several guests.
 *
 * Identifiers are told by order of appearance, addresses as page numbers of an arena or as "n" where the kernel chose,
 * process ids by name, times as set or not.   usage: differ SEED OPERATIONS FIRST_USER | differ gone STATUS
 *
 * Linux keeps one account of locked memory for each user of the machine: who runs this twice at once gives each run users of
 * its own, FIRST_USER and those after. They are told as 1001, 1002 and 1003. */
#include "conf.h"

enum { ARENA_PAGES = 128, BIG_PAGES = 513, CHOSEN = 12, CONTROL_KEY = 0xd1ff };
#define ARENA FREE_PLACE
#define BIG_ARENA (FREE_PLACE + (1UL << 30))

struct control {
    struct meeting meeting;
    _Atomic long turn;
    _Atomic uint32_t calls[32]; /* How often each has been told that it is its turn. */
    int pids[32];
    int children, identifiers, living;
    struct { int pid, operation; } child[1 << 16];
    struct { int id, alive; } identifier[];
};
static struct control *control;
static int control_id;
static uint64_t seed;
static uid_t first_user;
static long now;    /* The operation. */
static int salt;    /* Which of its children's operations. */
static char line[1 << 15];
static size_t filled;

static uint64_t mixed(uint64_t a, uint64_t b, uint64_t c) {
    uint64_t x = a * 0x9e3779b97f4a7c15u ^ (b + 0x7f4a7c15u) * 0xbf58476d1ce4e5b9u ^ (c + 1) * 0x94d049bb133111ebu;
    for (int i = 0; i < 3; i++) x ^= x >> 30, x *= 0xbf58476d1ce4e5b9u, x ^= x >> 27, x *= 0x94d049bb133111ebu, x ^= x >> 31;
    return x;
}
/* The operation's own number `which`, below `below`. */
static uint64_t draw(int which, uint64_t below) { return mixed(seed, now, salt * 64 + which) % below; }

/* Blocks of 16 operations are one actor's, every eighth block changes actors at each. */
static int actor_of(long operation) {
    uint64_t block = mixed(seed, operation / 16, 1000001);
    return (block % 8 ? block >> 8 : mixed(seed, operation, 1000002)) % copies();
}

static void flush(void) {
    for (size_t done = 0; done < filled;) {
        long wrote = write(1, line + done, filled - done);
        if (wrote <= 0) _exit(97);
        done += wrote;
    }
    filled = 0;
}
static void put(const char *format, ...) {
    if (filled > sizeof line - 1000) flush();
    va_list arguments;
    va_start(arguments, format);
    filled += vsnprintf(line + filled, 900, format, arguments);
    va_end(arguments);
}
static const char *result(long value) { return value == -1 ? errno_name(errno) : "ok"; }

static const char *name_of(int pid) {
    if (pid == 0) return "nobody";
    for (int i = 0; i < copies(); i++)
        if (control->pids[i] == pid) return form("%c", 'A' + i);
    for (int i = control->children - 1; i >= 0; i--)
        if (control->child[i].pid == pid) return form("child of %d", control->child[i].operation);
    return "stranger";
}
static const char *name_of_id(int id) {
    if (id == control_id) return "control";
    for (int i = control->identifiers - 1; i >= 0; i--)
        if (control->identifier[i].id == id) return form("#%d", i);
    return form("unknown %d", id);
}
static int told_user(uid_t user) { return user - first_user < 3 ? 1001 + user - first_user : user; }
static void appeared(int id) {
    for (int i = control->identifiers - 1; i >= 0; i--)
        if (control->identifier[i].id == id) return;
    control->identifier[control->identifiers].id = id;
    control->identifier[control->identifiers++].alive = 1;
    control->living++;
}

/* Attaches the kernel placed: whole, until they are detached or unmapped whole. */
static struct { char *at; size_t pages; } chosen[CHOSEN];
static int chosen_count;
/* Where others were attached in the arenas of late. */
static char *placed[8];

static int some_id(void) {
    int count = control->identifiers;
    switch (draw(60, 40)) {
    case 0: return -1;
    case 1: return 0x7fffffff;
    case 2: return (int)0x80000000;
    case 3: return 30000 + draw(61, 1000);
    case 4: case 5: return count ? control->identifier[draw(61, count)].id + 32768 * (1 + draw(62, 3)) : 5;
    case 6: case 7: case 8: return count ? control->identifier[draw(61, count)].id : 5;
    default:
        /* One that is alive, the younger the likelier. */
        for (int i = 0, skip = draw(61, 1 + control->living / (1 + draw(62, 4))), at = count - 1; i < count && at >= 0; i++, at--)
            if (control->identifier[at].alive && skip-- == 0) return control->identifier[at].id;
        return count ? control->identifier[count - 1].id : 7;
    }
}
/* Somewhere in the arenas: a page, and how it is told. */
static char *some_page(int which) {
    if (draw(which, 10) == 0) return BIG_ARENA + draw(which + 1, 2) * (4 * MIB + 5 * PAGE) + (draw(which + 2, 3) ? draw(which + 3, BIG_PAGES) * PAGE : 0);
    return ARENA + draw(which + 1, ARENA_PAGES) * PAGE;
}
static const char *told(const char *address) {
    if (address >= ARENA && address < ARENA + 16 * MIB) return form("a%ld.%ld", (address - ARENA) / PAGE, (address - ARENA) % PAGE);
    if (address >= BIG_ARENA && address < BIG_ARENA + 16 * MIB) return form("b%ld.%ld", (address - BIG_ARENA) / PAGE, (address - BIG_ARENA) % PAGE);
    return form("%#lx", (unsigned long)address);
}
/* A page that is likely to be attached: of a chosen one, or in the arena. */
static char *likely(int which, size_t *room) {
    if (chosen_count && draw(which, 3) == 0) {
        int i = draw(which + 1, chosen_count);
        size_t page = draw(which + 2, chosen[i].pages);
        *room = chosen[i].pages - page;
        put(" n%d+%zu", i, page);
        return chosen[i].at + page * PAGE;
    }
    char *page = some_page(which + 3);
    *room = 8;
    put(" %s", told(page));
    return page;
}

static void get(void) {
    static const size_t sizes[] = {1, 4095, 4096, 4096, 4097, 5000, 5001, 8192, 12288, 12288, 20000, 65536, 0, 2 * MIB + 1, 2 * MIB + 1, SIZE_MAX, 1UL << 40};
    static const int modes[] = {0600, 0666, 0644, 0640, 0660, 0, 0400, 0200, 0060, 0006, 0777, 0700};
    static const int flags[] = {IPC_CREAT, IPC_CREAT, IPC_CREAT, IPC_CREAT, IPC_CREAT | IPC_EXCL, IPC_CREAT | IPC_EXCL, 0, IPC_EXCL, IPC_CREAT | 0x40000000};
    key_t key = draw(1, 4) == 0 ? IPC_PRIVATE : (key_t)(1 + draw(2, 14));
    size_t size = sizes[draw(3, draw(4, 4) ? 12 : 17)];
    int flag = flags[draw(5, 9)] | modes[draw(6, draw(7, 2) ? 4 : 12)];
    if (key == IPC_PRIVATE && control->living > 48) key = 3, flag &= ~IPC_CREAT;
    long id = syscall(SYS_shmget, key, size, flag);
    if (id >= 0) appeared(id);
    put("shmget %d %zd %o: %s", key, size, flag, id < 0 ? errno_name(errno) : name_of_id(id));
}

static void attach(void) {
    static const int all[] = {0, 0, 0, 0, SHM_RDONLY, SHM_RDONLY, SHM_RND, SHM_RND | SHM_RDONLY, SHM_EXEC, SHM_EXEC | SHM_RDONLY, 0x100000};
    int id = some_id(), flags = all[draw(1, 11)];
    if (draw(2, 3) == 0 && chosen_count < CHOSEN) {
        if (draw(3, 30) == 0) flags |= SHM_REMAP;
        char *at = (char *)syscall(SYS_shmat, id, NULL, flags);
        put("shmat %s NULL %o: %s", name_of_id(id), flags, result((long)at));
        if (at == (char *)-1) return;
        struct shmid_ds s;
        uid_t euid = geteuid();
        need(seteuid(0) == 0, "root");
        need(shmctl(id, IPC_STAT, &s) == 0, "IPC_STAT");
        need(seteuid(euid) == 0, "not root");
        chosen[chosen_count].at = at, chosen[chosen_count].pages = (s.shm_segsz + PAGE - 1) / PAGE;
        put(" n%d", chosen_count++);
        return;
    }
    char *at = some_page(10);
    if (draw(20, 8) == 0) at += 1 + draw(21, PAGE - 1);
    if (draw(22, 4) == 0) flags |= SHM_REMAP;
    switch (draw(23, 60)) {
    case 0: at = (char *)KERNEL_ADDRESS; break;
    case 1: at = (char *)0x7ffffffff000; break;
    case 2: at = (char *)0x800000000000; break;
    }
    char *there = (char *)syscall(SYS_shmat, id, at, flags);
    put("shmat %s %s %o: ", name_of_id(id), told(at), flags);
    if (there == (char *)-1) put("%s", errno_name(errno));
    else if (there == at) put("there"), placed[now % 8] = at;
    else put("%s", told(there));
}

static void detach(void) {
    if (chosen_count && draw(1, 3)) {
        int i = draw(2, chosen_count);
        if (draw(3, 12) == 0 && chosen[i].pages > 1) {
            put("shmdt n%d + %s: %s", i, "PAGE", result(shmdt(chosen[i].at + PAGE)));
            return;
        }
        int whole = draw(4, 5) == 0;
        put("%s n%d: %s", whole ? "munmap" : "shmdt", i, result(whole ? munmap(chosen[i].at, chosen[i].pages * PAGE) : shmdt(chosen[i].at)));
        chosen[i] = chosen[--chosen_count];
        return;
    }
    char *at = some_page(10);
    switch (draw(5, 40)) {
    case 0: at = NULL; break;
    case 1: at += 1; break;
    case 2: at = (char *)KERNEL_ADDRESS; break;
    }
    /* Most pages of the arena are no attach's beginning. */
    if (draw(8, 30) && draw(6, 3)) at = placed[draw(7, 8)];
    put("shmdt %s: %s", told(at), result(shmdt(at)));
}

static void control_one(void) {
    static const int commands[] = {IPC_STAT, IPC_STAT, IPC_STAT, IPC_STAT, IPC_STAT, IPC_RMID, IPC_RMID, IPC_RMID, IPC_SET, IPC_SET, IPC_SET, SHM_LOCK,
                                   SHM_UNLOCK, SHM_STAT, SHM_STAT_ANY, IPC_INFO, SHM_INFO, 4, -1, IPC_STAT | 0x100};
    const unsigned first = first_user, users[] = {0, first, first + 1, first, first + 1, 65536, 0xffffffff};
    static const unsigned groups[] = {0, 2001, 2002, 2001, 2002, 7, 0xffffffff};
    union { struct shmid_ds state; struct shm_limits limits; struct shm_usage usage; } buffer;
    int command = commands[draw(1, 20)], id = some_id();
    if (control->living > 60 && draw(20, 2)) command = IPC_RMID;
    void *pointer = &buffer;
    memset(&buffer, 0, sizeof buffer);
    if (command == SHM_STAT || command == SHM_STAT_ANY) id = draw(2, 6) ? id & 32767 : id;
    if (id == control_id && command != SHM_STAT && command != SHM_STAT_ANY) id = 12345;
    if (draw(3, 25) == 0 && command != SHM_INFO) pointer = draw(4, 2) ? NULL : (void *)KERNEL_ADDRESS;
    buffer.state.shm_perm.uid = users[draw(5, draw(6, 8) ? 5 : 7)];
    buffer.state.shm_perm.gid = groups[draw(7, draw(6, 8) ? 5 : 7)];
    buffer.state.shm_perm.mode = draw(8, 2) ? 0666 : draw(9, 512) | draw(10, 2) << 9 | draw(11, 2) << 12;
    put("shmctl %s %d%s ", name_of_id(id), command, pointer == &buffer ? "" : pointer ? " kernel" : " NULL");
    if (command == IPC_SET) put("%d:%d %o", told_user(buffer.state.shm_perm.uid), (int)buffer.state.shm_perm.gid, (unsigned)buffer.state.shm_perm.mode);
    long value = syscall(SYS_shmctl, id, command, pointer);
    put(": %s", result(value));
    if (value == -1) return;
    struct shmid_ds *s = &buffer.state;
    switch (command) {
    case SHM_STAT: case SHM_STAT_ANY: put(" %s", name_of_id(value)); /* And: */
    case IPC_STAT:
        put(" key %d size %zu mode %o attaches %ld owner %d:%d creator %d:%d by %s last %s%s%s%s", s->shm_perm.__key, s->shm_segsz, (unsigned)s->shm_perm.mode,
            (long)s->shm_nattch, told_user(s->shm_perm.uid), (int)s->shm_perm.gid, told_user(s->shm_perm.cuid), (int)s->shm_perm.cgid, name_of(s->shm_cpid),
            name_of(s->shm_lpid), s->shm_atime ? " atime" : "", s->shm_dtime ? " dtime" : "", s->shm_ctime ? " ctime" : "");
        break;
    case IPC_INFO: put(" highest %ld mni %lu max %lu", value, buffer.limits.mni, buffer.limits.max); break;
    case SHM_INFO: put(" highest %ld used %d total %lu resident %lu", value, buffer.usage.used_ids, buffer.usage.total, buffer.usage.resident); break;
    case IPC_RMID:
        for (int i = control->identifiers - 1; i >= 0; i--)
            if (control->identifier[i].id == id && control->identifier[i].alive) control->identifier[i].alive = 0, control->living--;
    }
}

/* /proc/sysvipc/shm, what is the same in every run. */
static void list(void) {
    static char text[1 << 16];
    int file = open("/proc/sysvipc/shm", O_RDONLY);
    size_t length = 0;
    for (long got; (got = read(file, text + length, sizeof text - 1 - length)) > 0;) length += got;
    need(file >= 0 && close(file) == 0, "/proc/sysvipc/shm");
    text[length] = 0;
    put("list");
    for (char *row = strchr(text, '\n'); row && row[1]; row = strchr(row + 1, '\n')) {
        int key, id, creator, last;
        unsigned mode, uid, gid, cuid, cgid;
        unsigned long size, count, atime, dtime, ctime, resident, swapped;
        int fields = sscanf(row, "%d %d %o %lu %d %d %lu %u %u %u %u %lu %lu %lu %lu %lu", &key, &id, &mode, &size, &creator, &last, &count, &uid, &gid, &cuid, &cgid,
                            &atime, &dtime, &ctime, &resident, &swapped);
        need(fields == 16, "a row of /proc/sysvipc/shm");
        put("\n%ld   %s key %d mode %o size %lu attaches %lu by %s last %s%s%s owner %d:%u creator %d:%u resident %lu", now, name_of_id(id), key, mode, size, count,
            name_of(creator), name_of(last), atime ? " atime" : "", dtime ? " dtime" : "", told_user(uid), gid, told_user(cuid), cgid, resident);
    }
}

static void protect(void) {
    static const int rights[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC, PROT_WRITE, 7, 64};
    put("mprotect");
    size_t room;
    char *at = likely(1, &room);
    size_t pages = 1 + draw(10, room > 6 ? 6 : room);
    if (pages > room) pages = room;
    int prot = rights[draw(11, draw(12, 4) ? 5 : 8)];
    put(" %zu %d: %s", pages, prot, result(mprotect(at, pages * PAGE, prot)));
}
static void unmap(void) {
    char *at = some_page(1);
    size_t pages = 1 + draw(10, 4);
    put("munmap %s %zu: %s", told(at), pages, result(munmap(at, pages * PAGE)));
}
static void map_over(void) {
    char *at = some_page(1);
    size_t pages = 1 + draw(10, 3);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (draw(11, 3) ? MAP_FIXED : 0x100000 /* MAP_FIXED_NOREPLACE */);
    char *there = mmap(at, pages * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    put("mmap %s %zu %x: %s", told(at), pages, flags, result((long)there));
}
static void remap(void) {
    char *at = some_page(1), *to = some_page(11);
    size_t old = draw(20, 3) ? 1 : 1 + draw(21, 6), new = draw(22, 2) ? old : 1 + draw(23, 8);
    int fixed = draw(24, 2);
    if (fixed) new = old;
    char *there = (char *)syscall(SYS_mremap, at, old * PAGE, new * PAGE, fixed ? MREMAP_MAYMOVE | MREMAP_FIXED : 0, to);
    put("mremap %s %zu %zu %s: %s", told(at), old, new, fixed ? told(to) : "in place", there == (char *)-1 ? errno_name(errno) : told(there));
}
static void advise(void) {
    static const int all[] = {MADV_DONTNEED, MADV_DONTNEED, MADV_DONTFORK, MADV_DONTFORK, MADV_DOFORK, MADV_WILLNEED, MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL,
                              MADV_REMOVE, MADV_DONTDUMP, MADV_DODUMP, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_WIPEONFORK, 8 /* FREE */, 22 /* POPULATE_READ */, 23, 999};
    put("madvise");
    size_t room;
    char *at = likely(1, &room);
    size_t pages = 1 + draw(10, room > 4 ? 4 : room);
    if (pages > room) pages = room;
    int advice = all[draw(11, sizeof all / sizeof *all)];
    put(" %zu %d: %s", pages, advice, result(madvise(at, pages * PAGE, advice)));
}
static void look(void) {
    put("read");
    size_t room;
    volatile char *at = likely(1, &room);
    for (int i = 0; i < 3; i++) {
        size_t offset = draw(10 + i, 2) ? draw(13 + i, 4) * 8 : 3900 + draw(16 + i, 80);
        if (readable((char *)at + offset)) put(" %02x", (unsigned char)at[offset]);
        else put(" none");
    }
}
static void change(void) {
    put("write");
    size_t room;
    volatile char *at = likely(1, &room);
    size_t offset = draw(10, 2) ? draw(11, 4) * 8 : 3900 + draw(12, 80);
    long wrote = syscall(SYS_shmctl, 0, IPC_INFO, at + offset);
    put(" %zu: %s", offset, wrote < 0 ? errno_name(errno) : "ok");
    if (wrote >= 0) at[offset] = 1 + draw(13, 255);
}
static void be_another(void) {
    const struct { uid_t uid; gid_t gid; int count; gid_t groups[2]; } who[] = {
        {0, 0, 0, {0}}, {0, 0, 0, {0}}, {first_user, 2001, 0, {0}}, {first_user + 1, 2002, 0, {0}}, {first_user + 1, 2002, 1, {2001}}, {first_user + 2, 2003, 2, {2001, 2002}},
        {first_user, 2002, 0, {0}}};
    int i = draw(1, 7);
    need(seteuid(0) == 0 && syscall(SYS_setgroups, who[i].count, who[i].groups) == 0, "setgroups");
    need(setegid(who[i].gid) == 0 && seteuid(who[i].uid) == 0, "another user");
    put("now user %d:%d with %d groups", told_user(geteuid()), (int)getegid(), getgroups(0, NULL));
}
static char *self;
static void operate(int in_child);

static void fork_some(void) {
    put("fork");
    flush();
    pid_t child = fork();
    need(child >= 0, "fork");
    int count = 1 + draw(40, 3), how = draw(41, 6);
    if (child == 0) {
        int slot = control->children++;
        control->child[slot].pid = getpid();
        control->child[slot].operation = now;
        for (salt = 1; salt <= count; salt++) {
            put("\n%ld   in a child, ", now);
            operate(1);
        }
        salt = 0;
        put("\n%ld   it ends", now);
        flush();
        if (how == 0) kill(getpid(), SIGKILL);
        if (how == 1) *(volatile char *)16 = 1;
        if (how == 2) execl(self, self, "gone", "9", NULL);
        _exit(draw(42, 100));
    }
    int status = 0;
    need(waitpid(child, &status, 0) == child, "waitpid");
    put(" with %s", ended(status));
}

static void operate(int in_child) {
    unsigned kind = draw(0, 1000);
    if (kind < 170) get();
    else if (kind < 400) attach();
    else if (kind < 510) detach();
    else if (kind < 715) control_one();
    else if (kind < 720) list();
    else if (kind < 770) protect();
    else if (kind < 800) unmap();
    else if (kind < 815) map_over();
    else if (kind < 845) remap();
    else if (kind < 865) advise();
    else if (kind < 910) look();
    else if (kind < 975) change();
    else if (kind < 990 || in_child) be_another();
    else fork_some();
}

static long operations;
/* Whose turn is the operation, or the end that follows the last one. */
static int turn_of(long number) { return number < operations ? actor_of(number) : number - operations; }

/* Waits until it is `number`'s turn. Who had the turn before wakes the next one; a look now and then is for luck. */
static void await(long number) {
    _Atomic uint32_t *calls = &control->calls[rank()];
    const struct timespec timeout = {1, 0};
    for (;;) {
        uint32_t heard = atomic_load(calls);
        if (atomic_load(&control->turn) == number) return;
        syscall(SYS_futex, calls, 0 /* FUTEX_WAIT */, heard, &timeout);
    }
}
static void pass_on(long number) {
    int next = turn_of(number);
    atomic_store(&control->turn, number);
    if (next == rank() || next >= copies()) return;
    atomic_fetch_add(&control->calls[next], 1);
    syscall(SYS_futex, &control->calls[next], 1 /* FUTEX_WAKE */, 1);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "gone") == 0) return atoi(argv[2]);
    need(argc == 4, "a seed, a number of operations, a user");
    seed = strtoull(argv[1], NULL, 0);
    operations = atol(argv[2]);
    first_user = atoi(argv[3]);
    self = argv[0];
    need(syscall(SYS_setgroups, 0, NULL) == 0, "setgroups");
    size_t size = sizeof *control + (4 * operations + 100) * sizeof control->identifier[0];
    /* The first copy's, so that its creator is always the same. */
    while ((control_id = shmget(CONTROL_KEY, size, rank() == 0 ? IPC_CREAT | 0600 : 0600)) < 0) nap(200);
    control = attached(control_id, NULL, 0);
    control->pids[rank()] = getpid();
    meet(&control->meeting);
    /* Whose attach was the last is the same in every run, too. */
    if (rank() == 0) need(shmdt(attached(control_id, NULL, 0)) == 0, "shmdt");
    meet(&control->meeting);
    for (now = 0; now < operations; now++) {
        if (actor_of(now) != rank()) continue;
        await(now);
        put("%ld ", now);
        operate(0);
        put("\n");
        pass_on(now + 1);
    }
    await(operations + rank());
    need(seteuid(0) == 0 && setegid(0) == 0, "root");
    while (chosen_count) need(shmdt(chosen[--chosen_count].at) == 0, "shmdt of what is whole");
    munmap(ARENA, 16 * MIB); /* Segments at its end reach beyond. */
    munmap(BIG_ARENA, 16 * MIB);
    pass_on(operations + rank() + 1);
    meet(&control->meeting);
    if (rank() == 0) {
        for (int i = 0; i < control->identifiers; i++) {
            struct shmid_ds s;
            if (shmctl(control->identifier[i].id, IPC_STAT, &s) == 0) put("end #%d attaches %ld mode %o\n", i, (long)s.shm_nattch, (unsigned)s.shm_perm.mode);
            shmctl(control->identifier[i].id, IPC_RMID, NULL);
        }
        removed(control_id);
    }
    flush();
    return 0;
}
