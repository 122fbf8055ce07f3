/* What the conformance programs (conf_*.c, cross.c) use beyond common.h: one line a case, with process ids, times and
 * addresses told as relations. They want to be alone in their group (or IPC namespace). */
#ifndef CONF_H
#define CONF_H
#include "common.h"
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#ifndef SHM_STAT_ANY
#define SHM_STAT_ANY 15
#endif
#ifndef SHM_EXEC
#define SHM_EXEC 0100000
#endif
#ifndef SHM_NORESERVE
#define SHM_NORESERVE 010000
#endif
#ifndef SHM_HUGETLB
#define SHM_HUGETLB 04000
#endif

/* Free in every program, far from where a kernel puts anything by itself. */
#define FREE_PLACE ((char *)0x100000000000)
#define KERNEL_ADDRESS 0xffff800000000000UL

/* The kernel's own layouts: a C library's may be padded differently. */
struct shm_limits { unsigned long max, min, mni, seg, all, unused[4]; };
struct shm_usage { int used_ids; unsigned long total, resident, swapped, attempts, successes; };

/* A name made of parts; valid until 15 more were made. */
static inline const char *form(const char *format, ...) {
    static char texts[16][300];
    static int next;
    char *text = texts[next++ % 16];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof texts[0], format, arguments);
    va_end(arguments);
    return text;
}

/* `ok` or the error's name, for a call that has just returned `result`. */
static inline const char *outcome(long result) { return result == -1 ? errno_name(errno) : "ok"; }

static inline struct shmid_ds stat_of(int id) {
    struct shmid_ds state;
    need(shmctl(id, IPC_STAT, &state) == 0, "IPC_STAT");
    return state;
}
static inline int made(key_t key, size_t size, int flags) {
    int id = shmget(key, size, flags);
    need(id >= 0, "shmget");
    return id;
}
static inline void removed(int id) { need(shmctl(id, IPC_RMID, NULL) == 0, "IPC_RMID"); }
static inline void got(const char *name, int id) { says(name, id < 0 ? -1 : 0); }
static inline void at(const char *name, const void *where) { says(name, (long)where); }
/* As `at`, and detaches what was attached. */
static inline void tried(const char *name, void *where) {
    at(name, where);
    if (where != (void *)-1) need(shmdt(where) == 0, "shmdt");
}

/* The last child. */
static pid_t the_child;

static inline const char *who(long pid) {
    if (pid == 0) return "nobody";
    if (pid == getpid()) return "self";
    if (pid == getppid()) return "parent";
    if (pid == the_child) return "child";
    return "other";
}

/* Everything IPC_STAT says that is the same in every run. */
static inline void state(const char *name, int id) {
    struct shmid_ds s;
    if (shmctl(id, IPC_STAT, &s)) {
        printf("%s: state %s\n", name, errno_name(errno));
        return;
    }
    printf("%s: key %x size %zu mode %o attaches %ld owner %d:%d creator %d:%d by %s last %s%s%s\n", name,
           (unsigned)s.shm_perm.__key, s.shm_segsz, s.shm_perm.mode, (long)s.shm_nattch, (int)s.shm_perm.uid,
           (int)s.shm_perm.gid, (int)s.shm_perm.cuid, (int)s.shm_perm.cgid, who(s.shm_cpid), who(s.shm_lpid),
           s.shm_atime ? " attached once" : "", s.shm_dtime ? " detached once" : "");
}
static inline void attaches(const char *name, int id) { printf("%s: attaches %ld\n", name, nattch(id)); }

/* Forks; nothing that was printed is printed twice. */
static inline pid_t forked(void) {
    fflush(stdout);
    pid_t child = fork();
    need(child >= 0, "fork");
    if (child) the_child = child;
    return child;
}
/* How the last child ended. */
static inline const char *ended(int status) {
    if (WIFEXITED(status)) return form("exit %d", WEXITSTATUS(status));
    if (WIFSIGNALED(status)) return form("signal %d", WTERMSIG(status));
    return form("status %x", status);
}
static inline int waited(pid_t child) {
    int status = -1;
    need(waitpid(child, &status, 0) == child, "waitpid");
    return status;
}
/* A block that a child runs: IN_CHILD(name) { ... } prints `name: exit 0` or how else it ended. */
#define IN_CHILD(name)                                                                                        \
    for (int once = (forked() == 0) ? 1 : (printf("%s: %s\n", (name), ended(waited(the_child))), 0); once;    \
         fflush(stdout), _exit(0))
/* As IN_CHILD, silent if the child ends well. */
#define AS_CHILD                                                                                              \
    for (int once = (forked() == 0) ? 1 : (need(waited(the_child) == 0, "a child that ends well"), 0); once;  \
         fflush(stdout), _exit(0))

/* Becomes another user for good. */
static inline void become(uid_t uid, gid_t gid, int count, const gid_t *groups) {
    need(syscall(SYS_setgroups, count, groups) == 0, "setgroups");
    need(setresgid(gid, gid, gid) == 0 && setresuid(uid, uid, uid) == 0, "another user");
}

/* How a child ends that loads from or stores to `address`. */
static inline const char *load(const volatile char *address) {
    if (forked() == 0) _exit(*address * 0);
    return ended(waited(the_child));
}
static inline const char *store(volatile char *address) {
    if (forked() == 0) { *address = *address; _exit(0); }
    return ended(waited(the_child));
}
/* Whether the kernel can read a structure there: IPC_SET copies before it looks at the identifier. */
static inline int readable(const void *address) {
    return syscall(SYS_shmctl, 0x7fffffff, IPC_SET, address) == -1 && errno == EINVAL;
}

/* Sleeps until the clock shows another second, and a little longer. */
static inline void next_second(void) {
    time_t start = time(NULL);
    while (time(NULL) == start) nap(5000);
    nap(20000);
}
#endif
