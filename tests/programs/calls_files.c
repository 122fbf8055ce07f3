/* Times of files in seconds and microseconds, advice, copies from file to file, files without a name and their seals. */
#include "conf.h"
#include <sys/stat.h>
#include <sys/time.h>
#include <utime.h>

static void times_of(const char *name, const char *path) {
    struct stat s;
    need(stat(path, &s) == 0, path);
    time_t now = time(NULL);
    int recent = s.st_mtime >= now - 5 && s.st_mtime <= now + 1;
    if (recent) printf("%s: now\n", name);
    else printf("%s: %ld.%09ld %ld.%09ld\n", name, (long)s.st_atime, s.st_atim.tv_nsec, (long)s.st_mtime, s.st_mtim.tv_nsec);
}
static const char *path = "/tmp/calls_files.d/a";
static long utime_(const char *p, void *t) { return syscall(SYS_utime, p, t); }
static long utimes_(const char *p, void *t) { return syscall(SYS_utimes, p, t); }
static long futimesat_(int d, const char *p, void *t) { return syscall(SYS_futimesat, d, p, t); }

static void times(void) {
    puts("--- times");
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    need(fd >= 0, "a file");
    long two[2] = {1000000000, 1100000000}, four[4] = {1000000001, 999999, 1100000001, 1};
    says("utime", utime_(path, two));
    times_of("then", path);
    says("utime, now", utime_(path, NULL));
    times_of("then", path);
    says("utimes", utimes_(path, four));
    times_of("then", path);
    says("utimes, now", utimes_(path, NULL));
    times_of("then", path);
    says("futimesat", futimesat_(AT_FDCWD, path, four));
    times_of("then", path);
    says("futimesat, now", futimesat_(fd, NULL, NULL));
    times_of("then", path);
    says("futimesat, of a descriptor", futimesat_(fd, NULL, four));
    times_of("then", path);
    says("no path", utime_(NULL, two));
    says("no path", utimes_(NULL, four));
    says("no path", futimesat_(AT_FDCWD, NULL, four));
    says("no path", utimensat(AT_FDCWD, "", NULL, 0));
    says("no path", syscall(SYS_utimensat, AT_FDCWD, NULL, NULL, 0));
    says("no file", utime_("/tmp/calls_files.d/none", two));
    says("a bad place", utime_(path, (void *)8));
    says("a bad place", utimes_(path, (void *)8));
    says("no file and a bad place", utimes_("/tmp/calls_files.d/none", (void *)8));
    says("too many microseconds", utimes_(path, (long[]){1, 1000000, 1, 0}));
    says("too many microseconds", futimesat_(AT_FDCWD, path, (long[]){1, 0, 1, -1}));
    says("a bad descriptor", futimesat_(99, NULL, four));
    says("a bad descriptor", futimesat_(99, "x", four));
    says("an absolute path", futimesat_(99, path, four));
    IN_CHILD("another user") {
        become(1007, 1007, 0, NULL);
        says("utime", utime_(path, two));
        says("utime, now", utime_(path, NULL));
    }
    chmod(path, 0666);
    IN_CHILD("another user who may write") {
        become(1007, 1007, 0, NULL);
        says("utime", utime_(path, two));
        says("utime, now", utime_(path, NULL));
    }
    close(fd);
}

static void advice(void) {
    puts("--- advice");
    int pipes[2], fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644), out = open(path, O_WRONLY), place = open(path, O_PATH), directory = open("/tmp", O_RDONLY), null = open("/dev/null", O_RDWR);
    need(pipe(pipes) == 0 && fd >= 0 && out >= 0 && place >= 0 && directory >= 0, "files");
    const int fds[] = {fd, out, place, directory, null, pipes[0], pipes[1], 99, -1};
    static const char *const names[] = {"a file", "a file for writing", "a place", "a directory", "a device", "a pipe", "a pipe for writing", "none", "-1"};
    for (int i = 0; i < 9; i++) {
        int f = fds[i];
        says(form("fadvise of %s", names[i]), syscall(SYS_fadvise64, f, 0, 0, 3));
        says("readahead", syscall(SYS_readahead, f, 0, 10));
        says("sync_file_range", syscall(SYS_sync_file_range, f, 0, 0, 7));
        says("syncfs", syscall(SYS_syncfs, f));
    }
    for (int i = -1; i < 8; i++) says(form("advice %d", i), syscall(SYS_fadvise64, fd, 0, 0, i));
    says("a negative offset", syscall(SYS_fadvise64, fd, -1L, 0, 0));
    says("a negative length", syscall(SYS_fadvise64, fd, 0, -1L, 0));
    says("unknown of a pipe", syscall(SYS_fadvise64, pipes[0], 0, -1L, 99));
    says("readahead, a negative offset", syscall(SYS_readahead, fd, -1L, 10));
    says("sync, unknown", syscall(SYS_sync_file_range, fd, 0, 0, 8));
    says("sync, a negative offset", syscall(SYS_sync_file_range, fd, -1L, 0, 0));
    says("sync, a negative length", syscall(SYS_sync_file_range, fd, 0, -1L, 0));
    says("sync, an end too far", syscall(SYS_sync_file_range, fd, 0x7fffffffffffffff, 1L, 0));
    says("sync, unknown of a pipe", syscall(SYS_sync_file_range, pipes[0], 0, 0, 8));
    for (int i = 0; i < 7; i++) close(fds[i]);
}

static long copy(int from, void *from_at, int to, void *to_at, size_t length, unsigned flags) {
    long result = syscall(SYS_copy_file_range, from, from_at, to, to_at, length, flags);
    return result;
}
static void copied(const char *name, long result) {
    if (result < 0) printf("%s: %s\n", name, errno_name(errno));
    else printf("%s: %ld\n", name, result);
}
static void bytes(const char *name, int fd) {
    char text[100];
    int length = pread(fd, text, 99, 0);
    printf("%s: %d ", name, length);
    for (int i = 0; i < length; i++) putchar(text[i] ? text[i] : '.');
    printf(" at %ld\n", (long)lseek(fd, 0, SEEK_CUR));
}
static void copying(void) {
    puts("--- copies");
    const char *other = "/tmp/calls_files.d/b";
    int a = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644), b = open(other, O_RDWR | O_CREAT | O_TRUNC, 0644), r = open(other, O_RDONLY), w = open(path, O_WRONLY), append = open(other, O_RDWR | O_APPEND), directory = open("/tmp", O_RDONLY), place = open(path, O_PATH), null = open("/dev/null", O_RDWR);
    need(write(a, "abcdefghij", 10) == 10, "write");
    long in = 2, out = 4;
    copied("at the end", copy(a, NULL, b, NULL, 10, 0));
    lseek(a, 0, SEEK_SET);
    copied("three", copy(a, NULL, b, NULL, 3, 0));
    bytes("from", a), bytes("to", b);
    copied("with places", copy(a, &in, b, &out, 4, 0));
    printf("%ld %ld\n", in, out);
    bytes("from", a), bytes("to", b);
    copied("more than there is", copy(a, &in, b, NULL, 100, 0));
    printf("%ld\n", in);
    bytes("to", b);
    in = 0, out = 20;
    copied("beyond the end", copy(a, &in, b, &out, 2, 0));
    bytes("to", b);
    in = 0, out = 5;
    copied("within one file", copy(a, &in, a, &out, 5, 0));
    bytes("then", a);
    in = 0, out = 3;
    copied("over itself", copy(a, &in, a, &out, 5, 0));
    in = 100;
    copied("from beyond the end", copy(a, &in, b, NULL, 5, 0));
    copied("nothing", copy(a, NULL, b, NULL, 0, 0));
    in = 0, out = 0;
    copied("flags", copy(a, &in, b, &out, 1, 1));
    copied("a bad place", copy(a, (void *)8, b, &out, 1, 1));
    copied("a bad place", copy(a, &in, b, (void *)8, 1, 1));
    copied("bad descriptors", copy(99, (void *)8, b, &out, 1, 1));
    copied("bad descriptors", copy(a, (void *)8, 99, &out, 1, 1));
    copied("a place", copy(place, NULL, b, NULL, 1, 0));
    copied("from what is open for writing", copy(w, NULL, b, NULL, 1, 0));
    copied("to what is open for reading", copy(a, NULL, r, NULL, 1, 0));
    copied("to the end", copy(a, &in, append, NULL, 1, 0));
    copied("a directory", copy(directory, NULL, b, NULL, 1, 0));
    copied("to a directory", copy(a, NULL, directory, NULL, 1, 0));
    copied("a device", copy(null, NULL, b, NULL, 1, 0));
    copied("to a device", copy(a, NULL, null, NULL, 1, 0));
    in = -1;
    copied("a negative place", copy(a, &in, b, &out, 1, 0));
    copied("a negative place and more", copy(a, &in, b, &out, 2, 0));
    in = 0, out = -1;
    copied("to a negative place", copy(a, &in, b, &out, 1, 0));
    in = 1;
    copied("overflow", copy(a, &in, b, NULL, -1UL, 0));
    static char large[50000];
    memset(large, 'x', sizeof large);
    pwrite(a, large, sizeof large, 0);
    in = 1, out = 3;
    copied("much", copy(a, &in, b, &out, 40000, 0));
    struct stat s;
    fstat(b, &s);
    printf("size %ld\n", (long)s.st_size);
    long wrong = 0;
    pread(b, large, sizeof large, 0);
    for (int i = 3; i < 40003; i++) wrong += large[i] != 'x';
    printf("wrong %ld\n", wrong);
    signal(SIGXFSZ, SIG_IGN);
    AS_CHILD {
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){40010, 40010});
        in = 0, out = 40000;
        copied("up to a limit", copy(a, &in, b, &out, 100, 0));
        copied("beyond", copy(a, &in, b, &out, 100, 0));
    }
    close(a), close(b), close(r), close(w), close(append), close(directory), close(place), close(null);
    unlink(other);
}

static int memfd(const char *name, unsigned flags) { return syscall(SYS_memfd_create, name, flags); }
static void seals_of(const char *name, int fd) {
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0) printf("%s: %s\n", name, errno_name(errno));
    else printf("%s: seals %x\n", name, seals);
}
static void tried_all(int fd) {
    char *q;
    copied("write", pwrite(fd, "x", 1, 0));
    copied("write beyond", pwrite(fd, "x", 1, 3 * PAGE));
    copied("write over the end", pwrite(fd, "xxxx", 4, 2 * PAGE - 2));
    says("shorter", ftruncate(fd, PAGE));
    says("longer", ftruncate(fd, 4 * PAGE));
    says("as long", ftruncate(fd, 2 * PAGE));
    says("allocate", fallocate(fd, 0, 0, PAGE));
    says("allocate more", fallocate(fd, 0, 0, 8 * PAGE));
    q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    says("map for writing", q == MAP_FAILED ? -1 : 0);
    if (q != MAP_FAILED) munmap(q, PAGE);
    q = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    says("map for reading", q == MAP_FAILED ? -1 : 0);
    if (q != MAP_FAILED) {
        says("to write after all", mprotect(q, PAGE, PROT_READ | PROT_WRITE));
        munmap(q, PAGE);
    }
    q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    says("map private", q == MAP_FAILED ? -1 : 0);
    if (q != MAP_FAILED) munmap(q, PAGE);
    says("executable", fchmod(fd, 0777));
    says("not", fchmod(fd, 0600));
}
static void sealing(void) {
    puts("--- files without a name");
    static const unsigned flags[] = {0, 1, 2, 3, 8, 0x10, 0x18, 0x12, 0xa, 0x20, 0x80000000};
    for (int i = 0; i < 11; i++) {
        int fd = memfd("a name", flags[i]);
        printf("flags %x: %s\n", flags[i], fd < 0 ? errno_name(errno) : "ok");
        if (fd < 0) continue;
        struct stat s;
        fstat(fd, &s);
        printf("mode %o size %ld links %d owner %d:%d cloexec %d flags %x\n", s.st_mode, (long)s.st_size, (int)s.st_nlink, (int)s.st_uid, (int)s.st_gid, fcntl(fd, F_GETFD), fcntl(fd, F_GETFL));
        seals_of("at first", fd);
        says("sealed", fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
        seals_of("then", fd);
        close(fd);
    }
    char name[300];
    memset(name, 'n', sizeof name);
    name[249] = 0;
    int fd = memfd(name, 0);
    says("a long name", fd < 0 ? -1 : 0);
    close(fd);
    name[249] = 'n', name[250] = 0;
    says("a longer name", memfd(name, 0));
    says("no name", memfd(NULL, 0));
    says("no name, unknown flags", memfd(NULL, 0x100));
    fd = memfd("", 0);
    says("an empty name", fd < 0 ? -1 : 0);
    close(fd);
    static const int kinds[] = {F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE, 0x10, 0x20, F_SEAL_SEAL | F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE};
    for (int i = 0; i < 8; i++) {
        fd = memfd("sealed", MFD_ALLOW_SEALING);
        need(fd >= 0 && ftruncate(fd, 2 * PAGE) == 0, "memfd");
        if (i == 5) fchmod(fd, 0600);
        says(form("seal %x", kinds[i]), fcntl(fd, F_ADD_SEALS, kinds[i]));
        seals_of("then", fd);
        tried_all(fd);
        says("one more", fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
        says("unknown", fcntl(fd, F_ADD_SEALS, 0x40));
        says("none", fcntl(fd, F_ADD_SEALS, 0));
        seals_of("at the end", fd);
        close(fd);
    }
    fd = memfd("mapped", MFD_ALLOW_SEALING);
    need(ftruncate(fd, 2 * PAGE) == 0, "ftruncate");
    char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    says("mapped for writing, then sealed", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    says("against what comes", fcntl(fd, F_ADD_SEALS, 0x10));
    p[0] = 'x';
    char c = 0;
    pread(fd, &c, 1, 0);
    printf("still written by the mapping: %c\n", c);
    munmap(p, PAGE);
    says("and now", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    close(fd);
    fd = memfd("mapped", MFD_ALLOW_SEALING);
    need(ftruncate(fd, 2 * PAGE) == 0, "ftruncate");
    p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    says("mapped for reading, then sealed", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    munmap(p, PAGE);
    p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    says("mapped private, then sealed", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    munmap(p, PAGE), close(fd);
    fd = memfd("executable", MFD_ALLOW_SEALING);
    says("sealed as executable", fcntl(fd, F_ADD_SEALS, 0x20));
    seals_of("then", fd);
    close(fd);
    /* Shared with a child, written through by sendfile and copy_file_range. */
    int a = memfd("a", 0), b = memfd("b", MFD_ALLOW_SEALING);
    need(write(a, "0123456789", 10) == 10 && ftruncate(b, 4) == 0, "memfd");
    long in = 0, out = 0;
    copied("copied", copy(a, &in, b, &out, 10, 0));
    fcntl(b, F_ADD_SEALS, F_SEAL_GROW);
    in = 0, out = 5;
    copied("copied, no longer", copy(a, &in, b, &out, 3, 0));
    fcntl(b, F_ADD_SEALS, F_SEAL_WRITE);
    in = 0, out = 0;
    copied("copied, sealed", copy(a, &in, b, &out, 3, 0));
    AS_CHILD bytes("a child", b);
    close(a), close(b);
    fd = open("/dev/shm/calls_files", O_RDWR | O_CREAT, 0600);
    seals_of("a file of a tmpfs", fd);
    says("sealed", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    close(fd);
    fd = open("/dev/shm/calls_files", O_RDONLY);
    says("sealed, for reading", fcntl(fd, F_ADD_SEALS, 0x100));
    close(fd), unlink("/dev/shm/calls_files");
    int pipes[2];
    need(pipe(pipes) == 0, "pipe");
    seals_of("a pipe", pipes[0]);
    says("sealed", fcntl(pipes[1], F_ADD_SEALS, 0));
    says("sealed", fcntl(pipes[0], F_ADD_SEALS, 0));
    seals_of("/dev/null", open("/dev/null", O_RDWR));
}

int main(void) {
    mkdir("/tmp/calls_files.d", 0777), chmod("/tmp/calls_files.d", 0777);
    times(), advice(), copying(), sealing();
    unlink(path), rmdir("/tmp/calls_files.d");
    return 0;
}
