/* Rights: every class of user tries everything at every mode. Users are forked children; what each may do depends on its
 * effective ids, its groups, the segment's owner and its creator. */
#include "conf.h"
#include <grp.h>

static const struct user { const char *name; uid_t uid; gid_t gid; int count; gid_t groups[3]; } users[] = {
    {"root", 0, 0, 0, {0}},
    {"owner", 1001, 2001, 0, {0}},
    {"owner of other group", 1001, 2009, 1, {2009}},
    {"creator", 1002, 2002, 0, {0}},
    {"owner's group", 1003, 2001, 0, {0}},
    {"owner's group, supplementary", 1004, 2004, 3, {2008, 2001, 2007}},
    {"creator's group", 1005, 2002, 0, {0}},
    {"creator's group, supplementary", 1006, 2006, 1, {2002}},
    {"other", 1007, 2007, 2, {2008, 2009}},
};
enum { USERS = sizeof users / sizeof *users };

static const int modes[] = {0, 0400, 0200, 0100, 0040, 0020, 0010, 0004, 0002, 0001, 0777, 0666, 0600, 0640, 0644, 0660, 0060,
                            0006, 0070, 0007, 0707, 0077, 0770, 0444, 0222, 0111, 0555, 0333, 0604, 0046};
enum { MODES = sizeof modes / sizeof *modes };

static void be(const struct user *user) { become(user->uid, user->gid, user->count, user->groups); }

/* A segment made by 1002:2002, now of 1001:2001. */
static int prepared(key_t key, int mode) {
    int word = made(0x7171, PAGE, IPC_CREAT | 0666);
    int *id = attached(word, NULL, 0);
    AS_CHILD {
        become(1002, 2002, 0, NULL);
        *id = made(key, 5000, IPC_CREAT | 0600);
    }
    int result = *id;
    shmdt(id);
    struct shmid_ds s = {.shm_perm = {.uid = 1001, .gid = 2001, .mode = mode}};
    need(shmctl(result, IPC_SET, &s) == 0, "IPC_SET");
    return result;
}

static const char *attach(int id, int flags) {
    char *p = shmat(id, NULL, flags);
    const char *how = outcome((long)p);
    if (p != (void *)-1) need(shmdt(p) == 0, "shmdt");
    return how;
}

static void matrix(void) {
    int ids[MODES];
    for (int m = 0; m < MODES; m++) ids[m] = prepared(0x100 + m, modes[m]);
    for (int u = 0; u < USERS; u++)
        AS_CHILD {
            be(&users[u]);
            for (int m = 0; m < MODES; m++) {
                static const int asked[] = {0, 0400, 0200, 0100, 0600, 0040, 0004, 0002, 0777};
                key_t key = 0x100 + m;
                struct shmid_ds s;
                printf("mode %03o, %s: get", modes[m], users[u].name);
                for (int a = 0; a < 9; a++) printf(" %o %s", asked[a], outcome(shmget(key, 0, asked[a])));
                printf(", attach %s, read-only %s,", attach(ids[m], 0), attach(ids[m], SHM_RDONLY));
                printf(" executable %s, both %s,", attach(ids[m], SHM_EXEC), attach(ids[m], SHM_EXEC | SHM_RDONLY));
                printf(" STAT %s,", outcome(shmctl(ids[m], IPC_STAT, &s)));
                printf(" by index %s,", outcome(shmctl(ids[m] & 32767, SHM_STAT, &s)));
                printf(" any %s\n", outcome(shmctl(ids[m] & 32767, SHM_STAT_ANY, &s)));
            }
        }
    for (int m = 0; m < MODES; m++) removed(ids[m]);
}

static void ownership(void) {
    static const int some[] = {0, 0777};
    for (int m = 0; m < 2; m++)
        for (int u = 0; u < USERS; u++) {
            int id = prepared(0x200, some[m]);
            AS_CHILD {
                be(&users[u]);
                struct shmid_ds s = {.shm_perm = {.uid = 1001, .gid = 2001, .mode = some[m]}};
                const char *name = form("mode %o, %s", some[m], users[u].name);
                says(form("%s: LOCK", name), shmctl(id, SHM_LOCK, NULL));
                says(form("%s: UNLOCK", name), shmctl(id, SHM_UNLOCK, NULL));
                says(form("%s: SET the same", name), shmctl(id, IPC_SET, &s));
                says(form("%s: SET from a bad address", name), syscall(SYS_shmctl, id, IPC_SET, 16L));
                s.shm_perm.uid = -1;
                says(form("%s: SET uid -1", name), shmctl(id, IPC_SET, &s));
                s.shm_perm.uid = 1007, s.shm_perm.gid = 2007;
                says(form("%s: give it away", name), shmctl(id, IPC_SET, &s));
                s.shm_perm.mode = 0666;
                says(form("%s: open it then", name), shmctl(id, IPC_SET, &s));
            }
            state("left", id);
            AS_CHILD {
                be(&users[u]);
                says(form("mode %o, %s: RMID", some[m], users[u].name), shmctl(id, IPC_RMID, NULL));
            }
            if (shmctl(id, IPC_STAT, &(struct shmid_ds){0}) == 0) removed(id);
        }
    for (int u = 0; u < USERS; u++) {
        int id = prepared(0x201, 0666);
        char *p = attached(id, NULL, 0);
        AS_CHILD {
            be(&users[u]);
            says(form("%s: RMID while attached", users[u].name), shmctl(id, IPC_RMID, NULL));
            says(form("%s: RMID again", users[u].name), shmctl(id, IPC_RMID, NULL));
            says(form("%s: attach then", users[u].name), shmat(id, NULL, 0) == (void *)-1 ? -1 : 0);
        }
        state("then", id);
        removed(id);
        shmdt(p);
    }
}

/* Only effective ids count; and what was attached stays attached. */
static void changes(void) {
    int id = prepared(0x300, 0600);
    AS_CHILD {
        need(setresuid(1007, 1001, 0) == 0, "setresuid");
        printf("effective owner, real other: %s\n", attach(id, 0));
        need(setresuid(1001, 1007, 0) == 0, "setresuid");
        printf("effective other, real owner: %s\n", attach(id, 0));
        need(setresuid(0, 1007, 0) == 0, "setresuid");
        printf("effective other, real root: %s\n", attach(id, 0));
        need(setresuid(1007, 0, 1007) == 0, "setresuid");
        printf("effective root, real other: %s\n", attach(id, 0));
        need(setresuid(1001, 1001, 0) == 0, "setresuid");
        char *p = shmat(id, NULL, 0);
        need(p != (void *)-1, "shmat");
        need(seteuid(0) == 0 && setresuid(1007, 1007, 1007) == 0, "setresuid");
        p[0] = 77;
        printf("attached, then another user: its byte is %d, attaching %s, STAT ", p[0], attach(id, 0));
        printf("%s, ", outcome(shmctl(id, IPC_STAT, &(struct shmid_ds){0})));
        printf("RMID %s, shmdt ", outcome(shmctl(id, IPC_RMID, NULL)));
        printf("%s\n", outcome(shmdt(p)));
    }
    char *p = attached(id, NULL, 0);
    AS_CHILD {
        become(1001, 2001, 0, NULL);
        struct shmid_ds s = {.shm_perm = {.uid = 1001, .gid = 2001, .mode = 0400}};
        char *q = attached(id, NULL, 0);
        says("owner takes its own right to write", shmctl(id, IPC_SET, &s));
        q[0] = 5;
        printf("what is attached stays writable: %d\n", p[0]);
        says("attach", shmat(id, NULL, 0) == (void *)-1 ? -1 : 0);
        says("attach read-only", shmat(id, NULL, SHM_RDONLY) == (void *)-1 ? -1 : 0);
        says("mprotect the old one and back", mprotect(q, PAGE, PROT_READ) | mprotect(q, PAGE, PROT_READ | PROT_WRITE));
        s.shm_perm.uid = 1007;
        says("give it away", shmctl(id, IPC_SET, &s));
        says("take it back", shmctl(id, IPC_SET, &s));
    }
    AS_CHILD {
        become(1002, 2002, 0, NULL);
        struct shmid_ds s = {.shm_perm = {.uid = 1002, .gid = 2002, .mode = 0600}};
        printf("creator, not owner: attach %s, set ", attach(id, 0));
        printf("%s, ", outcome(shmctl(id, IPC_SET, &s)));
        printf("attach %s\n", attach(id, 0));
    }
    shmdt(p);
    state("at the end", id);
    removed(id);
    AS_CHILD {
        become(1001, 2001, 0, NULL);
        int own = made(0x301, 100, IPC_CREAT | 0);
        printf("owner of mode 0: attach %s, read-only %s, get 0 %s, ", attach(own, 0), attach(own, SHM_RDONLY), outcome(shmget(0x301, 1, 0)));
        printf("get 0400 %s, STAT ", outcome(shmget(0x301, 1, 0400)));
        printf("%s, RMID ", outcome(shmctl(own, IPC_STAT, &(struct shmid_ds){0})));
        printf("%s\n", outcome(shmctl(own, IPC_RMID, NULL)));
    }
}

static void ids(const char *name, long result) {
    uid_t r, e, s;
    gid_t rg, eg, sg;
    const char *how = outcome(result);
    need(getresuid(&r, &e, &s) == 0 && getresgid(&rg, &eg, &sg) == 0, "getresuid");
    printf("%s %s: uid %d %d %d gid %d %d %d\n", name, how, (int)r, (int)e, (int)s, (int)rg, (int)eg, (int)sg);
}

static void identity(void) {
    gid_t list[40] = {0};
    ids("at first", 0);
    AS_CHILD {
        ids("setuid(1001)", setuid(1001));
        ids("setuid(0)", setuid(0));
        ids("setuid(1002)", setuid(1002));
        ids("seteuid(0)", seteuid(0));
        ids("setgid(2001)", setgid(2001));
        ids("setgid(0)", setgid(0));
        says("setgroups of none", setgroups(0, NULL));
    }
    AS_CHILD {
        ids("seteuid(1001)", seteuid(1001));
        ids("setuid(1002)", setuid(1002));
        ids("setegid(2001)", setegid(2001));
        says("setgroups", setgroups(1, list));
        ids("seteuid(0)", seteuid(0));
        ids("setegid(2001)", setegid(2001));
        ids("setuid(1002)", setuid(1002));
        ids("seteuid(0)", seteuid(0));
    }
    AS_CHILD {
        ids("setreuid(1001, 1002)", setreuid(1001, 1002));
        ids("setreuid(1002, 1001)", setreuid(1002, 1001));
        ids("setreuid(-1, 1003)", setreuid(-1, 1003));
        ids("setreuid(1003, -1)", setreuid(1003, -1));
        ids("setresuid(1001, 1001, 1001)", setresuid(1001, 1001, 1001));
        ids("setresuid(1002, -1, -1)", setresuid(1002, -1, -1));
    }
    AS_CHILD {
        ids("setregid(2001, 2002)", setregid(2001, 2002));
        ids("setresgid(1, 2, 3)", setresgid(1, 2, 3));
        ids("setreuid(-1, 1001)", setreuid(-1, 1001));
        ids("setregid(3, 1)", setregid(3, 1));
        ids("setregid(4, -1)", setregid(4, -1));
        ids("setresgid(1, 3, 2)", setresgid(1, 3, 2));
        ids("setgid(2)", setgid(2));
        ids("setgid(9)", setgid(9));
    }
    AS_CHILD {
        ids("setresuid(1, 2, 3)", setresuid(1, 2, 3));
        ids("setresuid(3, 1, 2)", setresuid(3, 1, 2));
        ids("setresuid(4, -1, -1)", setresuid(4, -1, -1));
        ids("setuid(3)", setuid(3));
        ids("setuid(2)", setuid(2));
        ids("seteuid(3)", seteuid(3));
        ids("seteuid(1)", seteuid(1));
    }
    ids("setuid(-1)", syscall(SYS_setuid, -1));
    ids("setgid(-1)", syscall(SYS_setgid, -1));
    ids("setresuid(-1, -1, -1)", setresuid(-1, -1, -1));
    AS_CHILD {
        says_value("setfsuid", syscall(SYS_setfsuid, 1001));
        says_value("setfsuid(-1)", syscall(SYS_setfsuid, -1));
        says_value("setfsgid", syscall(SYS_setfsgid, 2001));
        says_value("setfsgid(-1)", syscall(SYS_setfsgid, -1));
    }
    AS_CHILD {
        says("setgroups of 32", setgroups(32, list));
        says_value("their number", getgroups(0, NULL));
        says_value("into too little room", getgroups(31, list));
        says_value("into enough", getgroups(40, list));
        says_value("into a negative number", getgroups(-1, list));
        says("setgroups of too many", syscall(SYS_setgroups, 65537, list));
        says("setgroups from a bad address", syscall(SYS_setgroups, 2, 16L));
        gid_t five[] = {5, 3, 9, 3, 1};
        says("setgroups of five", setgroups(5, five));
        says_value("read", getgroups(40, list));
        printf("sorted %d %d %d %d %d\n", list[0], list[1], list[2], list[3], list[4]);
        AS_CHILD printf("a child inherits %d\n", getgroups(0, NULL));
        says("setgroups of none", setgroups(0, NULL));
        says_value("read", getgroups(40, list));
    }
}

int main(void) {
    need(setgroups(0, NULL) == 0, "setgroups");
    int word = made(0x7171, PAGE, IPC_CREAT | 0666);
    matrix();
    ownership();
    changes();
    identity();
    removed(word);
    return 0;
}
