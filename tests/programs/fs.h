/* What the programs about files (fs_*.c) use beyond conf.h: a directory of their own that they work in and remove. */
#ifndef FS_H
#define FS_H
#include "conf.h"
#include <dirent.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/uio.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif
#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif
#ifndef AT_EACCESS
#define AT_EACCESS 0x200
#endif

static inline int rename2(const char *from, const char *to, unsigned flags) { return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags); }

/* The directory: /tmp/fsXXXXXX. */
static char home[32];

static inline void enter_home(void) {
    umask(022);
    strcpy(home, "/tmp/fsXXXXXX");
    need(mkdtemp(home) != NULL, "a directory of its own");
    need(chmod(home, 0755) == 0 && chdir(home) == 0, "to enter it");
}
/* Removes what is in `path`, and it. */
static inline void remove_tree(const char *path) {
    DIR *directory = opendir(path);
    if (directory) {
        struct dirent *entry;
        while ((entry = readdir(directory)) != NULL) {
            char below[5000];
            if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
            snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
            struct stat s;
            if (lstat(below, &s) == 0 && S_ISDIR(s.st_mode)) remove_tree(below);
            else unlink(below);
        }
        closedir(directory);
    }
    rmdir(path);
}
static inline void leave_home(void) {
    need(chdir("/") == 0, "to leave");
    remove_tree(home);
    struct stat s;
    holds("the directory is gone", lstat(home, &s) == -1 && errno == ENOENT);
}

/* A file with this text. */
static inline void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    need(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
    close(fd);
}
/* What a file has, or why it can't be read. */
static inline const char *text_of(const char *path) {
    static char texts[4][5000];
    static int next;
    char *text = texts[next++ % 4];
    int fd = open(path, O_RDONLY);
    if (fd < 0) return errno_name(errno);
    ssize_t got = read(fd, text, sizeof texts[0] - 1);
    close(fd);
    if (got < 0) return errno_name(errno);
    text[got] = 0;
    return text;
}
static inline void shows(const char *path) { printf("%s: \"%s\"\n", path, text_of(path)); }

/* What stat says, as far as it is the same everywhere. */
static inline void facts_of(const char *name, const struct stat *s) {
    printf("%s: type %o mode %04o links %ld owner %d:%d", name, s->st_mode & S_IFMT, s->st_mode & 07777, (long)s->st_nlink, (int)s->st_uid, (int)s->st_gid);
    /* The size of a directory is the file system's own. */
    if (!S_ISDIR(s->st_mode)) printf(" size %lld", (long long)s->st_size);
    puts("");
}
static inline void facts(const char *path) {
    struct stat s;
    if (lstat(path, &s)) printf("%s: %s\n", path, errno_name(errno));
    else facts_of(path, &s);
}
static inline ino_t inode_of(const char *path) {
    struct stat s;
    return lstat(path, &s) ? 0 : s.st_ino;
}
static inline int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
/* The names in a directory, sorted, with their types. */
static inline void lists(const char *path) {
    char *names[300];
    int count = 0;
    DIR *directory = opendir(path);
    printf("%s has", path);
    if (!directory) {
        printf(" %s\n", errno_name(errno));
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL && count < 300) names[count++] = strdup(form("%s/%d", entry->d_name, entry->d_type));
    closedir(directory);
    qsort(names, count, sizeof *names, by_name);
    for (int i = 0; i < count; i++) printf(" %s", names[i]), free(names[i]);
    puts("");
}
/* Opens, says what came of it, and closes. */
static inline void tries(const char *path, int flags, int mode) {
    int fd = open(path, flags, mode);
    says(form("open %s %o", path, flags), fd < 0 ? -1 : 0);
    if (fd >= 0) close(fd);
}
#endif
