/* /proc/sys/kernel/shm_next_id: the next segment's identifier, once. */
#include "conf.h"

static const char NEXT[] = "/proc/sys/kernel/shm_next_id";

static void tell(const char *name, int id) {
    if (id < 0) got(name, id);
    else printf("%s: identifier %d, index %d, sequence %d, in its state %d\n", name, id, id & 32767, id >> 15, stat_of(id).shm_perm.__seq);
}

static void show(const char *name) {
    char text[100];
    int fd = open(NEXT, O_RDONLY);
    long got = read(fd, text, sizeof text);
    printf("%s: %.*s", name, (int)got, text);
    if (got <= 0) puts(outcome(got));
    close(fd);
}

/* Asks for `value` next. */
static long asked(const char *value) {
    int fd = open(NEXT, O_WRONLY);
    need(fd >= 0, NEXT);
    long written = write(fd, value, strlen(value));
    close(fd);
    return written;
}
static void ask(const char *value) { says_value(form("ask for %s", value), asked(value)); }

static void file(void) {
    struct stat s;
    char text[100];
    says("stat", stat(NEXT, &s));
    printf("mode %o size %ld owner %d:%d links %d\n", s.st_mode, (long)s.st_size, (int)s.st_uid, (int)s.st_gid, (int)s.st_nlink);
    show("at first");
    static const char *const values[] = {"5", "7\n", "0", "-1", "-2", "-0", "2147483647", "2147483648", "0x10", "010", " 12 \n", "1 2", "x", "", "\n", "3x", "99999999999999999999", "4294967295", "18446744073709551615"};
    for (int i = 0; i < (int)(sizeof values / sizeof *values); i++) {
        ask(values[i]);
        show("then");
    }
    int fd = open(NEXT, O_RDWR);
    says("for both", fd);
    says_value("read 1", read(fd, text, 1));
    says_value("read on", read(fd, text, 9));
    says_value("pwrite at 1", pwrite(fd, "9", 1, 1));
    says_value("pwrite at 0", pwrite(fd, "9", 1, 0));
    show("then");
    close(fd);
    AS_CHILD {
        become(1007, 2007, 0, NULL);
        says("another user opens it for reading", open(NEXT, O_RDONLY));
        says("another user opens it for writing", open(NEXT, O_WRONLY));
        show("another user reads it");
    }
    AS_CHILD {
        become(1007, 0, 0, NULL);
        says("a user of root's group opens it for writing", open(NEXT, O_WRONLY));
    }
}

static void identifiers(void) {
    int a = made(IPC_PRIVATE, 1, 0600);
    tell("with what was asked last", a);
    show("then");
    int b = made(IPC_PRIVATE, 1, 0600);
    tell("the one after", b);
    ask("1000");
    int c = made(IPC_PRIVATE, 1, 0600);
    tell("asked for", c);
    /* One that is taken: the next free index with the sequence asked for. */
    ask(form("%d", (7 << 15) + 1000));
    int d = made(IPC_PRIVATE, 1, 0600);
    tell("taken", d);
    ask(form("%d", c));
    int e = made(IPC_PRIVATE, 1, 0600);
    tell("the very same", e);
    int f = made(IPC_PRIVATE, 1, 0600);
    tell("not asked for", f);
    struct shm_limits limits;
    says_value("the highest index", syscall(SYS_shmctl, 0, IPC_INFO, &limits));
    struct shmid_ds s;
    says_value("at index 1001", syscall(SYS_shmctl, 1001, SHM_STAT, &s));
    says_value("at index 999", syscall(SYS_shmctl, 999, SHM_STAT, &s));
    char *p = attached(d, NULL, 0);
    *p = 1;
    holds("it works", *(char *)attached(d, NULL, SHM_RDONLY) == 1);
    attaches("twice", d);
    removed(d);
    AS_CHILD attached(d, NULL, 0);
    shmdt(p);
    removed(a), removed(b), removed(c), removed(e), removed(f);
    /* What fails uses it up only if it got as far as an identifier. */
    ask("500");
    got("size 0", shmget(IPC_PRIVATE, 0, 0600));
    got("no such key", shmget(0x777, 1, 0600));
    show("still");
    int g = made(0x777, 1, IPC_CREAT | 0600);
    tell("with a key", g);
    ask("600");
    holds("one that is", shmget(0x777, 1, IPC_CREAT | 0600) == g);
    show("still");
    int mni = open("/proc/sys/kernel/shmmni", O_WRONLY);
    need(write(mni, "1", 1) == 1, "shmmni");
    got("too many", shmget(IPC_PRIVATE, 1, 0600));
    show("still");
    need(pwrite(mni, "4096", 4, 0) == 4, "shmmni");
    ask("2147483647");
    int h = made(IPC_PRIVATE, 1, 0600);
    tell("the last there can be", h);
    says_value("the highest index", syscall(SYS_shmctl, 0, IPC_INFO, &limits));
    ask("32767");
    got("the last index is taken", shmget(IPC_PRIVATE, 1, 0600));
    show("then");
    removed(h);
    got("used up, whatever has become of it", h = shmget(IPC_PRIVATE, 1, 0600));
    tell("it is", h);
    removed(h), removed(g);
    /* The cycle goes on where it was. */
    for (int i = 0; i < 70; i++) {
        if (i == 30) ask("40");
        if (i == 50) ask(form("%d", 3 << 15));
        int id = made(IPC_PRIVATE, 1, 0600);
        if (i < 3 || i > 28) tell(form("in the cycle %d", i), id);
        removed(id);
    }
    /* Indices beyond the cycle don't widen it. */
    int ids[100];
    for (int i = 0; i < 100; i++) {
        need(asked(form("%d", 20000 + i * 3)) == 5, "to ask");
        ids[i] = made(IPC_PRIVATE, 1, 0600);
    }
    tell("the last of a hundred", ids[99]);
    for (int i = 0; i < 160; i++) {
        int id = made(IPC_PRIVATE, 1, 0600);
        if (i % 10 == 0 || i > 140) tell(form("beside a hundred %d", i), id);
        removed(id);
    }
    for (int i = 0; i < 100; i++) removed(ids[i]);
    for (int i = 0; i < 3; i++) {
        int id = made(IPC_PRIVATE, 1, 0600);
        tell("at last", id);
        removed(id);
    }
}

int main(void) {
    file();
    identifiers();
    return 0;
}
