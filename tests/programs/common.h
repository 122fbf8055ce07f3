/* What every test program uses: printing results by name, knowing which copy this is, and meeting the others.
 *
 * A program prints one line a fact, `name result`, with error names instead of numbers and relations instead of
 * values that differ from run to run, so that its transcript on Linux and in a guest can be compared byte by byte. */
#ifndef COMMON_H
#define COMMON_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define MIB (1UL << 20)

static inline const char *errno_name(int number) {
    static char unknown[32];
    switch (number) {
#define NAME(e) case e: return #e;
        NAME(EPERM) NAME(ENOENT) NAME(ESRCH) NAME(EINTR) NAME(EIO) NAME(E2BIG) NAME(EBADF) NAME(ECHILD) NAME(EAGAIN)
        NAME(ENOMEM) NAME(EACCES) NAME(EFAULT) NAME(EBUSY) NAME(EEXIST) NAME(ENOTDIR) NAME(EISDIR) NAME(EINVAL)
        NAME(EMFILE) NAME(ENOTTY) NAME(ENOSPC) NAME(ESPIPE) NAME(EPIPE) NAME(ERANGE) NAME(EDEADLK) NAME(ENAMETOOLONG)
        NAME(ENOSYS) NAME(EIDRM) NAME(EOVERFLOW) NAME(EOPNOTSUPP) NAME(ETIMEDOUT) NAME(EOWNERDEAD) NAME(ENOTRECOVERABLE)
#undef NAME
    }
    snprintf(unknown, sizeof unknown, "errno %d", number);
    return unknown;
}

/* `name ok` or `name EWHATEVER`, for calls that return -1 on error. */
static inline void says(const char *name, long result) {
    if (result == -1)
        printf("%s %s\n", name, errno_name(errno));
    else
        printf("%s ok\n", name);
}

/* `name 3` or `name EWHATEVER`, where the value itself is the fact. */
static inline void says_value(const char *name, long result) {
    if (result == -1)
        printf("%s %s\n", name, errno_name(errno));
    else
        printf("%s %ld\n", name, result);
}

/* `name yes` or `name no`. */
static inline void holds(const char *name, int condition) { printf("%s %s\n", name, condition ? "yes" : "no"); }

/* For what must work before the test proper can begin. Exit status 99 is never a result. */
static inline void need(int condition, const char *what) {
    if (!condition) {
        fflush(stdout);
        fprintf(stderr, "needed: %s (%s)\n", what, errno_name(errno));
        exit(99);
    }
}

static inline int number_from_environment(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}
static inline int guest(void) { return number_from_environment("TOMBOLO_GUEST", 0); }
static inline int guests(void) { return number_from_environment("TOMBOLO_GUESTS", 1); }
static inline int proc(void) { return number_from_environment("TOMBOLO_PROC", 0); }
static inline int procs(void) { return number_from_environment("TOMBOLO_PROCS", 1); }
/* This copy's number among all, and how many there are. */
static inline int rank(void) { return guest() * procs() + proc(); }
static inline int copies(void) { return guests() * procs(); }

static inline void nap(long microseconds) {
    struct timespec pause = {microseconds / 1000000, microseconds % 1000000 * 1000};
    nanosleep(&pause, NULL);
}

/* Where all copies wait for one another. Lies in shared memory; all zero is ready. */
struct meeting { _Atomic uint32_t arrived; };

static inline void meet(struct meeting *meeting) {
    uint32_t all = (uint32_t)copies();
    uint32_t mine = atomic_fetch_add(&meeting->arrived, 1);
    uint32_t target = (mine / all + 1) * all;
    for (int spins = 0; atomic_load(&meeting->arrived) < target; spins++) {
        if (spins < 100) sched_yield();
        else nap(200);
    }
}

/* A segment by key that some copy makes and all attach: it may not be there yet, or still be too young to know. */
static inline int segment_of_all(key_t key, size_t size) {
    int id = shmget(key, size, IPC_CREAT | 0600);
    need(id >= 0, "shmget of the common segment");
    return id;
}

static inline void *attached(int id, const void *at, int flags) {
    void *where = shmat(id, at, flags);
    need(where != (void *)-1, "shmat");
    return where;
}

static inline long nattch(int id) {
    struct shmid_ds state;
    need(shmctl(id, IPC_STAT, &state) == 0, "IPC_STAT");
    return (long)state.shm_nattch;
}
#endif
