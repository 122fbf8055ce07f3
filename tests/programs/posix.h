/* What the programs about POSIX shared memory (posix_*.c) use beyond fs.h: names of their own in /dev/shm, which on the host
 * others use as well. The first argument makes them unique. */
#ifndef POSIX_H
#define POSIX_H
#include "fs.h"
#include <pthread.h>
#include <semaphore.h>

static const char *prefix = "tombolo";

/* As shm_open and sem_open take it. */
static inline const char *named(const char *name) { return form("/%s.%s", prefix, name); }
static inline const char *path_of(const char *name) { return form("/dev/shm/%s.%s", prefix, name); }

/* Names of ours in the directory, sorted, without what makes them unique. */
static inline void ours(const char *when) {
    char *names[100];
    int count = 0;
    size_t len = strlen(prefix);
    DIR *directory = opendir("/dev/shm");
    need(directory != NULL, "/dev/shm");
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL && count < 100) {
        const char *part = strstr(entry->d_name, prefix);
        if (part) names[count++] = strdup(form("%s/%d", part + len, entry->d_type));
    }
    closedir(directory);
    qsort(names, count, sizeof *names, by_name);
    printf("%s:", when);
    for (int i = 0; i < count; i++) printf(" %s", names[i]), free(names[i]);
    puts("");
}

static inline int opened(const char *name, int flags, int mode) {
    int fd = shm_open(named(name), flags, mode);
    need(fd >= 0, "shm_open");
    return fd;
}
static inline void sized(int fd, off_t size) { need(ftruncate(fd, size) == 0, "ftruncate"); }
static inline char *mapped(int fd, size_t len, int prot, int flags) {
    char *where = mmap(NULL, len, prot, flags, fd, 0);
    need(where != MAP_FAILED, "mmap");
    return where;
}
static inline long size_of(int fd) {
    struct stat s;
    need(fstat(fd, &s) == 0, "fstat");
    return s.st_size;
}
static inline void fd_facts(const char *name, int fd) {
    struct stat s;
    need(fstat(fd, &s) == 0, "fstat");
    facts_of(name, &s);
}
#endif
