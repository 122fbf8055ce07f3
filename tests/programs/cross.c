/* Two or three copies take turns and look at what the others did: on Linux they are processes, in a group of guests they
 * may be in different guests, and each must write the same.   usage: cross [resumed] */
#include "conf.h"

struct control {
    struct meeting meeting;
    _Atomic int pids[8], children[8], go;
    int ids[8];
};
static struct control *control;
enum { A, B };
static int C;

/* The next turn is `party`'s: true in that one. Everybody else is waiting for it in the next. */
static int step(int party) {
    fflush(stdout);
    meet(&control->meeting);
    return rank() == party;
}
static const char *name_of(long pid) {
    if (pid == 0) return "nobody";
    for (int i = 0; i < copies(); i++) {
        if (pid == control->pids[i]) return form("%c", 'A' + i);
        if (pid == control->children[i]) return form("a child of %c", 'A' + i);
    }
    return "a stranger";
}
static void look(const char *name, int id) {
    struct shmid_ds s;
    if (shmctl(id, IPC_STAT, &s)) {
        printf("%s: %s\n", name, errno_name(errno));
        return;
    }
    printf("%s: key %x size %zu mode %o attaches %ld owner %d:%d creator %d:%d by %s last %s%s%s\n", name, (unsigned)s.shm_perm.__key, s.shm_segsz,
           s.shm_perm.mode, (long)s.shm_nattch, (int)s.shm_perm.uid, (int)s.shm_perm.gid, (int)s.shm_perm.cuid, (int)s.shm_perm.cgid,
           name_of(s.shm_cpid), name_of(s.shm_lpid), s.shm_atime ? " attached once" : "", s.shm_dtime ? " detached once" : "");
}
static void all_look(const char *name, int id) {
    for (int party = 0; party < copies(); party++)
        if (step(party)) look(name, id);
}
static void drop(char **p) {
    says("detach", shmdt(*p));
    *p = NULL;
}
static char *p, *q, *ro;

static void keys(void) {
    if (step(A)) got("A makes one", control->ids[0] = shmget(0x77, 5000, IPC_CREAT | IPC_EXCL | 0640));
    if (step(B)) {
        got("B makes the same, exclusively", shmget(0x77, 5000, IPC_CREAT | IPC_EXCL | 0640));
        holds("B finds it", shmget(0x77, 5000, 0) == control->ids[0]);
        holds("B finds it by creating", shmget(0x77, 1, IPC_CREAT | 0600) == control->ids[0]);
        got("B wants more than there is", shmget(0x77, 5001, 0));
        got("B makes a private one", control->ids[1] = shmget(IPC_PRIVATE, PAGE, 0600));
        printf("identifiers %d and %d\n", control->ids[0], control->ids[1]);
    }
    all_look("A's", control->ids[0]);
    all_look("B's private", control->ids[1]);
    if (step(C)) says("C removes B's private one", shmctl(control->ids[1], IPC_RMID, NULL));
    all_look("B's private, removed", control->ids[1]);
    if (step(A)) holds("A makes one, the index moves on", (control->ids[1] = shmget(IPC_PRIVATE, 1, 0600)) == control->ids[0] + 2);
    if (step(B)) says("B removes it", shmctl(control->ids[1], IPC_RMID, NULL));
    if (step(A)) says("A removes it, too", shmctl(control->ids[1], IPC_RMID, NULL));
}

static void attaching(void) {
    int id = control->ids[0];
    for (int party = 0; party < copies(); party++) {
        if (step(party)) {
            p = attached(id, NULL, 0);
            p[party] = 'A' + party;
        }
        all_look(form("%c attached", 'A' + party), id);
    }
    for (int party = 0; party < copies(); party++)
        if (step(party)) printf("all see %.*s\n", copies(), p);
    if (step(B)) ro = attached(id, FREE_PLACE, SHM_RDONLY);
    if (step(A)) p[4999] = 'x', p[2 * PAGE - 1] = 'y';
    if (step(B)) {
        printf("read-only: %c%c, store %s\n", ro[4999], ro[2 * PAGE - 1], store(ro));
        says("make it writable", mprotect(ro, PAGE, PROT_READ | PROT_WRITE));
        says("a system call writes into it", syscall(SYS_shmctl, id, IPC_STAT, ro));
        control->children[B] = the_child;
    }
    all_look("after B's child's fault", id);
    if (step(A)) says("A splits its attach", mprotect(p, PAGE, PROT_READ));
    all_look("split", id);
    if (step(A)) says("and joins it", mprotect(p, PAGE, PROT_READ | PROT_WRITE));
    if (step(C)) says("C unmaps a page", munmap(p + PAGE, PAGE));
    if (step(A)) p[PAGE] = 'z';
    if (step(C)) {
        printf("C's second page: %s, first %c\n", load(p + PAGE), p[0]);
        control->children[C] = the_child;
    }
    all_look("C without a page", id);
    if (step(C)) says("C unmaps the rest", munmap(p, PAGE));
    all_look("C without any", id);
    if (step(C)) {
        says("C detaches", shmdt(p));
        p = attached(id, NULL, 0);
        printf("C sees %c%c again\n", p[0], p[PAGE]);
        q = attached(id, p, SHM_REMAP);
        holds("and again", q == p);
    }
    all_look("C attached over itself", id);
}

static void forking(void) {
    int id = control->ids[0];
    if (step(A)) {
        control->go = 0;
        pid_t child = forked();
        if (child == 0) {
            while (control->go < 1) nap(300);
            p[100] = 'c';
            need(shmdt(p) == 0, "shmdt");
            control->go = 2;
            while (control->go < 3) nap(300);
            p = attached(id, NULL, 0);
            control->go = 4;
            for (;;) nap(1000);
        }
        control->children[A] = child;
    }
    all_look("A forked", id);
    if (step(B)) {
        control->go = 1;
        while (control->go < 2) nap(300);
        printf("A's child wrote %c and detached\n", p[100]);
    }
    all_look("A's child detached", id);
    if (step(C)) {
        control->go = 3;
        while (control->go < 4) nap(300);
    }
    all_look("A's child attached again", id);
    if (step(A)) {
        says("A kills its child", kill(control->children[A], SIGKILL));
        printf("%s\n", ended(waited(control->children[A])));
    }
    all_look("A's child is killed", id);
}

static void removing(void) {
    int id = control->ids[0];
    if (step(B)) says("B removes it", shmctl(id, IPC_RMID, NULL));
    all_look("removed", id);
    if (step(A)) {
        got("A looks for its key", shmget(0x77, 0, 0));
        got("A makes another with its key", control->ids[2] = shmget(0x77, 100, IPC_CREAT | IPC_EXCL | 0600));
        holds("which is another", control->ids[2] != id);
        q = attached(id, NULL, 0);
        printf("the old one can still be attached: %c\n", q[1]);
    }
    all_look("old", id);
    all_look("new", control->ids[2]);
    if (step(A)) drop(&p), drop(&q);
    all_look("A left", id);
    if (step(B)) drop(&ro), drop(&p);
    all_look("B left", id);
    if (copies() > 2 && step(C)) drop(&p);
    all_look("all left", id);
    all_look("new", control->ids[2]);
}

static void rights(void) {
    int id = control->ids[2];
    struct shmid_ds s = {.shm_perm = {.uid = 1001, .gid = 2001, .mode = 0640}};
    if (step(A)) says("A gives it away", shmctl(id, IPC_SET, &s));
    all_look("given away", id);
    if (step(B)) {
        need(syscall(SYS_setgroups, 0, NULL) == 0 && setegid(2001) == 0 && seteuid(1003) == 0, "another user");
        tried("B, of its group, attaches", shmat(id, NULL, 0));
        tried("B attaches read-only", shmat(id, NULL, SHM_RDONLY));
        says("B sets", shmctl(id, IPC_SET, &s));
        says("B removes", shmctl(id, IPC_RMID, NULL));
        need(seteuid(0) == 0 && seteuid(1001) == 0, "the owner");
        tried("B, its owner, attaches", shmat(id, NULL, 0));
        s.shm_perm.mode = 0600, s.shm_perm.uid = 1003;
        says("B gives it on", shmctl(id, IPC_SET, &s));
        tried("B attaches", shmat(id, NULL, 0));
        got("B makes one of its own", control->ids[3] = shmget(0x78, 1, IPC_CREAT | 0604));
        need(seteuid(0) == 0 && setegid(0) == 0, "root");
    }
    all_look("given on", id);
    all_look("B's own", control->ids[3]);
    if (step(A)) {
        need(setegid(2005) == 0 && seteuid(1005) == 0, "another user");
        tried("A, another, attaches B's", shmat(control->ids[3], NULL, 0));
        tried("A attaches B's read-only", shmat(control->ids[3], NULL, SHM_RDONLY));
        says("A removes B's", shmctl(control->ids[3], IPC_RMID, NULL));
        need(seteuid(0) == 0 && setegid(0) == 0, "root");
        says("A locks B's", shmctl(control->ids[3], SHM_LOCK, NULL));
    }
    all_look("B's, locked", control->ids[3]);
    if (step(C)) says("C unlocks B's", shmctl(control->ids[3], SHM_UNLOCK, NULL)), says("C removes B's", shmctl(control->ids[3], IPC_RMID, NULL));
    all_look("B's, removed", control->ids[3]);
    for (int party = 0; party < copies(); party++)
        if (step(party)) {
            struct shm_usage usage;
            struct shm_limits limits;
            says_value("SHM_INFO", syscall(SYS_shmctl, 0, SHM_INFO, &usage));
            printf("used %d total %lu\n", usage.used_ids, usage.total);
            says_value("IPC_INFO", syscall(SYS_shmctl, 0, IPC_INFO, &limits));
            printf("mni %lu\n", limits.mni);
            for (int index = 0; index < 8; index++) says_value(form("SHM_STAT of index %d", index), syscall(SYS_shmctl, index, SHM_STAT, &s));
        }
}

static void executing(char *self) {
    int id = control->ids[2];
    if (step(B)) p = attached(id, NULL, 0), ro = attached(id, NULL, SHM_RDONLY);
    all_look("B attached twice", id);
    if (step(B)) {
        fflush(stdout);
        execl(self, self, "resumed", NULL);
        need(0, "execl");
    }
}
static void executed(void) {
    int id = control->ids[2];
    all_look("B is another program", id);
    if (step(B)) {
        p = attached(id, NULL, 0);
        p[0] = 'b';
    }
    if (step(A)) p = attached(id, NULL, SHM_RDONLY), printf("A sees %c\n", p[0]);
    all_look("B attached again", id);
}

static void limits(void) {
    if (step(A)) {
        int fd = open("/proc/sys/kernel/shmmni", O_WRONLY);
        need(fd >= 0, "shmmni");
        says_value("A allows two", write(fd, "2\n", 2));
        close(fd);
    }
    if (step(B)) {
        char text[16] = "";
        int fd = open("/proc/sys/kernel/shmmni", O_RDONLY);
        says_value("B reads", read(fd, text, 15));
        printf("that it is %s", text);
        close(fd);
        got("B makes one too many", shmget(IPC_PRIVATE, 1, 0600));
    }
    if (step(C)) {
        int fd = open("/proc/sys/kernel/shmmni", O_WRONLY);
        says_value("C allows all", write(fd, "4096\n", 5));
        close(fd);
    }
    if (step(B)) {
        int id = shmget(IPC_PRIVATE, 1, 0600);
        got("B makes one", id);
        removed(id);
    }
    for (int party = 0; party < copies(); party++)
        if (step(party)) {
            static char text[4096];
            int fd = open("/proc/sysvipc/shm", O_RDONLY), lines = 0;
            long length = 0, more;
            while ((more = read(fd, text + length, sizeof text - 1 - length)) > 0) length += more;
            for (long i = 0; i < length; i++) lines += text[i] == '\n';
            struct shmid_ds s = stat_of(control->ids[2]);
            printf("/proc/sysvipc/shm has %d lines, the right one %s\n", lines,
                   strstr(text, form("%10d %10d  %4o %21lu %5u %5u  %5lu %5u", 0x77, control->ids[2], s.shm_perm.mode, s.shm_segsz, s.shm_cpid, s.shm_lpid, (long)s.shm_nattch, s.shm_perm.uid)) ? "yes" : "no");
            close(fd);
        }
}

static void write_setting(const char *name, const char *value) {
    int fd = open(form("/proc/sys/kernel/%s", name), O_WRONLY);
    need(fd >= 0, name);
    says_value(form("%s < %s", name, value), write(fd, value, strlen(value)));
    close(fd);
}

/* shm_next_id and shm_rmid_forced are everybody's. */
static void settings(void) {
    if (step(A)) write_setting("shm_next_id", "3277300");
    if (step(B)) {
        int id = shmget(IPC_PRIVATE, 1, 0600);
        printf("B gets identifier %d\n", id);
        removed(id);
    }
    if (step(C)) {
        int id = shmget(IPC_PRIVATE, 1, 0600);
        holds("C gets another", id >= 0 && id != 3277300);
        removed(id);
        for (int i = 4; i < 7; i++) control->ids[i] = made(IPC_PRIVATE, PAGE, 0600);
        AS_CHILD control->ids[7] = made(IPC_PRIVATE, PAGE, 0600);
        control->children[C] = the_child;
    }
    step(-1); /* Identifiers are looked up before a turn begins. */
    all_look("C's child's", control->ids[7]);
    if (step(B)) q = attached(control->ids[5], NULL, 0);
    if (step(A)) {
        shmdt(attached(control->ids[6], NULL, 0));
        write_setting("shm_rmid_forced", "1");
    }
    for (int i = 4; i < 8; i++) all_look(form("forced: %d", i), control->ids[i]);
    if (step(A)) ro = attached(control->ids[4], NULL, SHM_RDONLY);
    if (step(B)) drop(&q);
    if (step(A)) drop(&ro);
    for (int i = 4; i < 8; i++) all_look(form("detached: %d", i), control->ids[i]);
    if (step(C)) {
        AS_CHILD control->ids[7] = made(IPC_PRIVATE, PAGE, 0600);
        control->ids[4] = made(IPC_PRIVATE, PAGE, 0600);
    }
    step(-1);
    for (int i = 4; i < 8; i++) all_look(form("C's: %d", i), control->ids[i]);
    if (step(B)) at("B attaches in the kernel", shmat(control->ids[4], (void *)KERNEL_ADDRESS, 0));
    for (int i = 4; i < 8; i++) all_look(form("then: %d", i), control->ids[i]);
    if (step(B)) write_setting("shm_rmid_forced", "0");
    if (step(C)) says("C removes the last", shmctl(control->ids[6], IPC_RMID, NULL));
}

/* Parties end one by one; A sees what becomes of what they held. */
static void ending(void) {
    int id = control->ids[2];
    if (step(A)) says("A removes it", shmctl(id, IPC_RMID, NULL)), drop(&p);
    all_look("held by B", id);
    if (step(A)) return;
    if (rank() != A) {
        fflush(stdout);
        exit(0);
    }
}

int main(int argc, char **argv) {
    C = copies() - 1;
    need(copies() > 1, "two copies or more");
    int word = segment_of_all(0xc055, sizeof *control);
    control = attached(word, NULL, 0);
    if (argc > 1) printf("resumed, by another pid: %d\n", control->pids[rank()] != getpid());
    else {
        control->pids[rank()] = getpid();
        step(-1);
        keys();
        attaching();
        forking();
        removing();
        rights();
        executing(argv[0]);
    }
    executed();
    limits();
    settings();
    ending();
    /* A alone is left. */
    for (int naps = 0; shmctl(control->ids[2], IPC_STAT, &(struct shmid_ds){0}) == 0 && naps < 10000; naps++) nap(1000);
    look("B has ended", control->ids[2]);
    for (int naps = 0; nattch(word) != 1 && naps < 10000; naps++) nap(1000);
    attaches("the common one", word);
    holds("last by another", stat_of(word).shm_lpid != getpid());
    removed(word);
    return 0;
}
