/* The rules of shmget, shmat, shmdt and shmctl(IPC_STAT, IPC_RMID), one line a case. It must be alone in its group (or IPC
 * namespace): the first identifiers are part of the transcript. */
#include "common.h"

static struct shmid_ds stat_of(int id) {
    struct shmid_ds state;
    need(shmctl(id, IPC_STAT, &state) == 0, "IPC_STAT");
    return state;
}
static int made(key_t key, size_t size, int flags) {
    int id = shmget(key, size, flags);
    need(id >= 0, "shmget");
    return id;
}
static void removed(int id) { need(shmctl(id, IPC_RMID, NULL) == 0, "IPC_RMID"); }
static void got(const char *name, int id) { says(name, id < 0 ? -1 : 0); }
static void at(const char *name, void *where) { says(name, (long)where); }

static void identifiers(void) {
    int ids[4];
    for (int i = 0; i < 4; i++) ids[i] = made(IPC_PRIVATE, 1, 0600);
    for (int i = 0; i < 4; i++) printf("identifier %d is %d\n", i, ids[i]);
    removed(ids[1]);
    int next = made(IPC_PRIVATE, 1, 0600);
    printf("an index is not used again at once: %d\n", next);
    removed(next);
    for (int i = 0; i < 4; i++)
        if (i != 1) removed(ids[i]);
    int last = next, ascending = 1, wrapped = 0;
    for (int i = 0; i < 200; i++) {
        int id = made(IPC_PRIVATE, 1, 0600);
        ascending &= id > last;
        if ((id & 32767) <= (last & 32767)) wrapped++;
        if (i % 50 == 0 || i == 199) printf("round %d: identifier %d\n", i, id);
        last = id;
        removed(id);
    }
    holds("identifiers ascend", ascending);
    printf("indices started over %d times\n", wrapped);
    says("the last one is gone", shmctl(last, IPC_STAT, &(struct shmid_ds){0}));
}

static void getting(void) {
    const key_t key = 0x1234;
    got("get, absent", shmget(key, 100, 0600));
    got("get, absent, IPC_EXCL alone", shmget(key, 100, IPC_EXCL | 0600));
    got("get, absent, size 0", shmget(key, 0, 0));
    got("create, size 0", shmget(key, 0, IPC_CREAT | 0600));
    got("create privately, size 0", shmget(IPC_PRIVATE, 0, 0600));
    got("create, size beyond SHMMAX", shmget(key, SIZE_MAX, IPC_CREAT | 0600));
    got("create, size just beyond SHMMAX", shmget(key, SIZE_MAX - (1 << 24) + 1, IPC_CREAT | 0600));
    got("create, size SHMMAX", shmget(key, SIZE_MAX - (1 << 24), IPC_CREAT | 0600));
    got("create, 1 PiB", shmget(key, 1UL << 50, IPC_CREAT | 0600));
    got("create, 1 TiB", shmget(key, 1UL << 40, IPC_CREAT | 0600));
    int id = shmget(key, 5000, IPC_CREAT | 0640);
    got("create", id);
    struct shmid_ds s = stat_of(id);
    printf("size %zu mode %o attaches %ld\n", s.shm_segsz, s.shm_perm.mode, (long)s.shm_nattch);
    holds("its key is what was asked", s.shm_perm.__key == key);
    holds("owner and creator are this user", s.shm_perm.uid == geteuid() && s.shm_perm.cuid == geteuid());
    holds("their groups are this group", s.shm_perm.gid == getegid() && s.shm_perm.cgid == getegid());
    holds("cpid is this process", s.shm_cpid == getpid());
    holds("lpid is 0", s.shm_lpid == 0);
    holds("never attached, never detached", s.shm_atime == 0 && s.shm_dtime == 0);
    holds("ctime is now", labs(s.shm_ctime - time(NULL)) <= 2);
    holds("seq is the identifier's", s.shm_perm.__seq == id >> 15);
    holds("get again gives the same", shmget(key, 5000, 0600) == id);
    holds("with IPC_CREAT too", shmget(key, 5000, IPC_CREAT | 0600) == id);
    holds("with IPC_EXCL alone too", shmget(key, 5000, IPC_EXCL | 0600) == id);
    holds("with a smaller size", shmget(key, 1, 0) == id);
    holds("with size 0", shmget(key, 0, 0) == id);
    got("size one byte larger, same page", shmget(key, 5001, 0));
    got("size larger with IPC_CREAT", shmget(key, 6000, IPC_CREAT | 0600));
    got("IPC_CREAT and IPC_EXCL", shmget(key, 5000, IPC_CREAT | IPC_EXCL | 0600));
    got("IPC_CREAT and IPC_EXCL beat the size", shmget(key, 50000, IPC_CREAT | IPC_EXCL | 0600));
    holds("mode bits not granted, but root", shmget(key, 0, 0777) == id);
    holds("unknown flags are ignored", shmget(key, 0, 0x40000000) == id);
    int other = made(key + 1, 5000, IPC_CREAT | 0);
    holds("another key, another segment", other != id);
    says_value("mode 0 is possible", stat_of(other).shm_perm.mode);
    got("negative keys are keys", shmget(-5, 10, IPC_CREAT | IPC_EXCL | 0600));
    removed(shmget(-5, 0, 0));
    int a = made(IPC_PRIVATE, 10, 0600), b = made(IPC_PRIVATE, 10, IPC_CREAT | IPC_EXCL | 0600);
    holds("private segments are new each time", a != b && a != id);
    holds("their key is 0", stat_of(a).shm_perm.__key == 0);
    removed(a);
    removed(b);
    removed(other);
    removed(id);
    got("get, removed", shmget(key, 0, 0));
}

static void attaching(void) {
    int id = made(IPC_PRIVATE, 5000, 0600);
    char *free_place = mmap(NULL, 64 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(free_place, 64 * PAGE);
    at("attach, negative identifier", shmat(-1, NULL, 0));
    at("attach, unknown identifier", shmat(id + 1, NULL, 0));
    at("attach, other sequence number", shmat(id + 32768, NULL, 0));
    at("attach, unaligned, beats the identifier", shmat(-1, free_place + 1, 0));
    at("attach, unaligned", shmat(id, free_place + 1, 0));
    at("attach, NULL and SHM_REMAP", shmat(id, NULL, SHM_REMAP));
    at("attach, rounded to 0 and SHM_REMAP", shmat(id, (void *)100, SHM_RND | SHM_REMAP));
    at("attach, kernel address", shmat(id, (void *)0xffff800000000000UL, 0));
    at("attach, beyond the last page", shmat(id, (void *)0x7ffffffff000UL, 0));
    at("attach, not canonical", shmat(id, (void *)0x800000000000UL, 0));
    at("attach, over the stack", shmat(id, (void *)((uintptr_t)&id & ~(PAGE - 1)), 0));
    at("attach, unknown identifier at a bad place", shmat(id + 1, (void *)((uintptr_t)&id & ~(PAGE - 1)), 0));
    holds("nothing was attached", nattch(id) == 0);

    char *p = attached(id, NULL, 0);
    holds("the kernel's choice is page-aligned", (uintptr_t)p % PAGE == 0);
    int zero = 1;
    for (size_t i = 0; i < 2 * PAGE; i++) zero &= p[i] == 0;
    holds("zero to the last page's end", zero);
    struct shmid_ds s = stat_of(id);
    says_value("attaches", (long)s.shm_nattch);
    holds("lpid is this process", s.shm_lpid == getpid());
    holds("atime is now", labs(s.shm_atime - time(NULL)) <= 2);
    holds("dtime is still 0", s.shm_dtime == 0);
    char *q = attached(id, free_place, 0);
    holds("a given address is taken", q == free_place);
    char *r = attached(id, free_place + 3 * PAGE + 123, SHM_RND);
    holds("SHM_RND rounds down", r == free_place + 3 * PAGE);
    says_value("attaches", nattch(id));
    p[0] = 1;
    q[4999] = 2;
    r[2 * PAGE - 1] = 3;
    holds("all see the first byte", q[0] == 1 && r[0] == 1);
    holds("all see the last byte", p[4999] == 2 && r[4999] == 2);
    holds("all see the byte after the end", p[2 * PAGE - 1] == 3 && q[2 * PAGE - 1] == 3);
    at("attach over an attach", shmat(id, free_place + PAGE, 0));
    at("attach in front of an attach", shmat(id, free_place + 2 * PAGE, 0));
    holds("attach between two, exactly", shmdt(r) == 0 && shmat(id, free_place + 2 * PAGE, 0) == free_place + 2 * PAGE);
    char *ro = attached(id, NULL, SHM_RDONLY);
    holds("read-only sees the same", ro[0] == 1 && ro[4999] == 2);
    q[1] = 9;
    holds("and what is written later", ro[1] == 9);
    says("mprotect a read-only attach writable", mprotect(ro, PAGE, PROT_READ | PROT_WRITE));
    says("mprotect it read-only", mprotect(ro, PAGE, PROT_READ));
    says("a system call writes into it", syscall(SYS_clock_gettime, CLOCK_REALTIME, ro));
    says("a system call writes into a writable one", syscall(SYS_clock_gettime, CLOCK_REALTIME, q + 64));
    says("a system call reads from it", syscall(SYS_nanosleep, ro + 4096, NULL));
    says("make a writable one read-only", mprotect(p, 2 * PAGE, PROT_READ));
    says("a system call writes into it", syscall(SYS_clock_gettime, CLOCK_REALTIME, p));
    says("make it writable again", mprotect(p, 2 * PAGE, PROT_READ | PROT_WRITE));
    p[2] = 4;
    holds("and it is", q[2] == 4);
    says_value("attaches", nattch(id));
    says("detach", shmdt(p));
    says("detach", shmdt(q));
    says("detach", shmdt(free_place + 2 * PAGE));
    says("detach", shmdt(ro));
    s = stat_of(id);
    says_value("attaches", (long)s.shm_nattch);
    holds("dtime is now", labs(s.shm_dtime - time(NULL)) <= 2);
    p = attached(id, NULL, 0);
    holds("contents stay without attaches", p[0] == 1 && p[4999] == 2);
    shmdt(p);
    removed(id);
}

static void detaching(void) {
    int id = made(IPC_PRIVATE, 4 * PAGE, 0600);
    char *p = attached(id, NULL, 0);
    says("detach NULL", shmdt(NULL));
    says("detach unaligned", shmdt(p + 1));
    says("detach in the middle", shmdt(p + PAGE));
    char *ordinary = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    says("detach an ordinary mapping", shmdt(ordinary));
    says("detach a kernel address", shmdt((void *)0xffff800000000000UL));
    says("detach", shmdt(p));
    says("detach again", shmdt(p));

    p = attached(id, NULL, 0);
    says("munmap all of it", munmap(p, 4 * PAGE));
    says_value("attaches", nattch(id));
    says("then detach", shmdt(p));

    p = attached(id, NULL, 0);
    says("munmap its first page", munmap(p, PAGE));
    says_value("attaches", nattch(id));
    p[PAGE] = 7;
    says("then detach", shmdt(p));
    says_value("attaches", nattch(id));
    says("the rest is gone, too", syscall(SYS_rt_sigprocmask, SIG_BLOCK, p + 3 * PAGE, NULL, 8UL));

    p = attached(id, NULL, 0);
    munmap(p + 2 * PAGE, 2 * PAGE);
    says_value("attaches without its end", nattch(id));
    says("detach what is left", shmdt(p));
    says_value("attaches", nattch(id));

    p = attached(id, NULL, 0);
    munmap(p + PAGE, PAGE);
    says_value("attaches with a hole", nattch(id));
    says("detach both sides", shmdt(p));
    says_value("attaches", nattch(id));

    p = attached(id, NULL, 0);
    mprotect(p + PAGE, PAGE, PROT_READ);
    says_value("attaches, split by mprotect", nattch(id));
    mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE);
    says_value("attaches, whole again", nattch(id));
    mprotect(p + 3 * PAGE, PAGE, PROT_NONE);
    says_value("attaches, split once", nattch(id));
    says("detach", shmdt(p));
    says_value("attaches", nattch(id));

    p = attached(id, NULL, 0);
    p[PAGE] = 5;
    char *over = mmap(p + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    holds("a mapping over its second page is empty", over == p + PAGE && over[0] == 0);
    over[0] = 77;
    says("detach around it", shmdt(p));
    says_value("attaches", nattch(id));
    holds("the other mapping stays", over[0] == 77);
    munmap(over, PAGE);

    p = attached(id, NULL, 0);
    says_value("its second page is what it was", p[PAGE]);
    char *room = mmap(NULL, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *moved = mremap(p, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room);
    holds("mremap moves an attach", moved == room && moved[PAGE] == 5);
    says_value("attaches", nattch(id));
    says("detach where it was", shmdt(p));
    says("detach where it is", shmdt(moved));
    says_value("attaches", nattch(id));
    says("madvise(DONTNEED) of an attach", madvise(p = attached(id, NULL, 0), 4 * PAGE, MADV_DONTNEED));
    says_value("keeps contents", p[PAGE]);
    shmdt(p);
    removed(id);
}

static void removing(void) {
    const key_t key = 0x777;
    int id = made(key, 100, IPC_CREAT | 0600);
    char *p = attached(id, NULL, 0), *q = attached(id, NULL, SHM_RDONLY);
    long ctime_before = stat_of(id).shm_ctime;
    says("remove while attached", shmctl(id, IPC_RMID, NULL));
    struct shmid_ds s = stat_of(id);
    printf("mode %o attaches %ld\n", s.shm_perm.mode, (long)s.shm_nattch);
    holds("its key is 0 now", s.shm_perm.__key == 0);
    holds("ctime did not change", s.shm_ctime == ctime_before);
    got("its key finds nothing", shmget(key, 0, 0));
    int other = made(key, 200, IPC_CREAT | IPC_EXCL | 0600);
    holds("its key can be used again", other != id);
    p[99] = 'x';
    holds("its memory lives", q[99] == 'x');
    char *r = attached(id, NULL, 0);
    holds("it can still be attached", r[99] == 'x');
    says("remove again", shmctl(id, IPC_RMID, NULL));
    says("detach", shmdt(p));
    says("detach", shmdt(q));
    holds("it lives until the last detach", r[99] == 'x' && stat_of(id).shm_nattch == 1);
    says("detach the last", shmdt(r));
    says("state of it", shmctl(id, IPC_STAT, &s));
    at("attach it", shmat(id, NULL, 0));
    says("remove it", shmctl(id, IPC_RMID, NULL));
    removed(other);
    says("remove, not attached: state of it", shmctl(other, IPC_STAT, &s));
    id = made(IPC_PRIVATE, PAGE, 0600);
    p = attached(id, NULL, 0);
    removed(id);
    munmap(p, PAGE);
    says("munmap as last detach: state of it", shmctl(id, IPC_STAT, &s));
}

static void controlling(void) {
    int id = made(IPC_PRIVATE, 100, 0600);
    struct shmid_ds s;
    says("unknown command", shmctl(id, 9999, &s));
    says("unknown command, unknown identifier", shmctl(-1, 9999, &s));
    says("negative command", shmctl(id, -1, &s));
    says("with IPC_64", syscall(SYS_shmctl, id, IPC_STAT | 0x100, &s));
    says("state, negative identifier", shmctl(-1, IPC_STAT, &s));
    says("state, unknown identifier", shmctl(id + 1, IPC_STAT, &s));
    says("state to a bad address", syscall(SYS_shmctl, id, IPC_STAT, 16L));
    says("state to nowhere", syscall(SYS_shmctl, id, IPC_STAT, NULL));
    says("state of nothing to a bad address", syscall(SYS_shmctl, id + 1, IPC_STAT, 16L));
    says("remove, negative identifier", shmctl(-1, IPC_RMID, NULL));
    says("remove, unknown identifier", shmctl(id + 1, IPC_RMID, NULL));
    says("remove ignores its buffer", syscall(SYS_shmctl, id, IPC_RMID, 16L));
    memset(&s, 0x5a, sizeof s);
    id = made(IPC_PRIVATE, 12345, 0604);
    shmctl(id, IPC_STAT, &s);
    const unsigned long *words = (const unsigned long *)&s;
    holds("reserved words are zero", words[4] == 0 && words[5] == 0 && words[12] == 0 && words[13] == 0);
    says_value("size of the structure", sizeof s);
    printf("size %zu mode %o\n", s.shm_segsz, s.shm_perm.mode);
    removed(id);
}

int main(void) {
    identifiers();
    getting();
    attaching();
    detaching();
    removing();
    controlling();
    return 0;
}
