/* Every system call that takes a pointer, with every kind of bad pointer. One line a call: the error for each kind. */
#include "common.h"
#include <poll.h>
#include <sys/uio.h>
#include <sys/resource.h>

static char *edge, *none, *constant, *gone, *segment_end, *read_only_segment;

static const struct {
    const char *name;
    int read_is_bad;
} kinds[] = {
    {"first page", 1}, {"not canonical", 1}, {"kernel", 1}, {"direct map", 1}, {"top", 1},
    {"no access", 1}, {"unmapped", 1}, {"over an edge", 1}, {"over a segment's end", 1}, {"read-only", 0},
    {"read-only segment", 0},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* `size`: of the structure, so that its last byte is the bad one at an edge. */
static long bad(int kind, size_t size) {
    switch (kind) {
    case 0: return 16;
    case 1: return (long)0x8000000000000000UL;
    case 2: return (long)0xffffffff80200000UL;
    case 3: return (long)0xffff800000200000UL;
    case 4: return 0x7ffffffff000L - (long)size + 1;
    case 5: return (long)none;
    case 6: return (long)gone;
    case 7: return (long)(edge + PAGE - size + 1);
    case 8: return (long)(segment_end - size + 1);
    case 9: return (long)constant;
    default: return (long)read_only_segment;
    }
}

enum direction { READS, WRITES };

static void try(const char *name, long number, long *arguments, int which, size_t size, enum direction direction) {
    printf("%s:", name);
    for (int kind = 0; kind < KINDS; kind++) {
        if (direction == READS && !kinds[kind].read_is_bad) continue;
        arguments[which] = bad(kind, size);
        if (number == SYS_getdents64) lseek(arguments[0], 0, SEEK_SET);
        long r = syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
        printf(" %s", r == -1 ? errno_name(errno) : "ok");
    }
    puts("");
}
#define CALL(number, which, size, direction, ...) \
    try(#number + 4, number, (long[6]){__VA_ARGS__}, which, size, direction)

int main(void) {
    edge = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    none = edge + PAGE;
    mprotect(none, PAGE, PROT_NONE);
    /* Where nothing else will be put later. */
    gone = mmap((void *)0x300000000000, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memset(gone, 0, 3 * PAGE);
    munmap(gone, 3 * PAGE);
    gone += PAGE;
    constant = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(constant, 0, PAGE);
    mprotect(constant, PAGE, PROT_READ);
    int id = shmget(IPC_PRIVATE, PAGE, 0600);
    need(id >= 0, "shmget");
    segment_end = (char *)attached(id, (char *)0x280000000000, 0) + PAGE;
    read_only_segment = attached(id, (char *)0x290000000000, SHM_RDONLY);
    shmctl(id, IPC_RMID, NULL);

    struct timespec none_at_all = {0, 0};
    long word = 0;
    CALL(SYS_write, 1, 1, READS, 1, 0, 1);
    CALL(SYS_writev, 1, 16, READS, 1, 0, 1);
    CALL(SYS_fstat, 1, 144, WRITES, 1);
    CALL(SYS_newfstatat, 1, 1, READS, AT_FDCWD, 0, (long)edge, 0);
    CALL(SYS_newfstatat, 2, 144, WRITES, AT_FDCWD, (long)"/", 0, 0);
    CALL(SYS_poll, 0, 8, WRITES, 0, 1, 0);
    CALL(SYS_rt_sigaction, 1, 32, READS, SIGUSR1, 0, 0, 8);
    CALL(SYS_rt_sigaction, 2, 32, WRITES, SIGUSR1, 0, 0, 8);
    CALL(SYS_rt_sigprocmask, 1, 8, READS, SIG_BLOCK, 0, 0, 8);
    CALL(SYS_rt_sigprocmask, 2, 8, WRITES, SIG_BLOCK, 0, 0, 8);
    CALL(SYS_sigaltstack, 0, 24, READS, 0, 0);
    CALL(SYS_sigaltstack, 1, 24, WRITES, 0, 0);
    CALL(SYS_nanosleep, 0, 16, READS, 0, 0);
    CALL(SYS_clock_nanosleep, 2, 16, READS, CLOCK_MONOTONIC, 0, 0, 0);
    CALL(SYS_clock_gettime, 1, 16, WRITES, CLOCK_MONOTONIC, 0);
    CALL(SYS_clock_getres, 1, 16, WRITES, CLOCK_MONOTONIC, 0);
    CALL(SYS_gettimeofday, 0, 16, WRITES, 0, 0);
    CALL(SYS_time, 0, 8, WRITES, 0);
    CALL(SYS_uname, 0, 390, WRITES, 0);
    CALL(SYS_getcwd, 0, 1, WRITES, 0, 4096);
    CALL(SYS_readlink, 0, 1, READS, 0, (long)edge, 10);
    CALL(SYS_readlink, 1, 2, WRITES, (long)"/proc/self/exe", 0, 2);
    CALL(SYS_getrandom, 0, 1, WRITES, 0, 1, 0);
    CALL(SYS_prlimit64, 3, 16, WRITES, 0, RLIMIT_STACK, 0, 0);
    CALL(SYS_sched_getaffinity, 2, 8, WRITES, 0, 8, 0);
    CALL(SYS_sched_setaffinity, 2, 8, READS, 0, 8, 0);
    CALL(SYS_getcpu, 0, 4, WRITES, 0, 0, 0);
    CALL(SYS_getcpu, 1, 4, WRITES, 0, 0, 0);
    CALL(SYS_futex, 3, 16, READS, (long)&word, 0, 0, 0);
    int keyed = shmget(0xbad, 1, IPC_CREAT | 0600);
    CALL(SYS_shmctl, 2, 112, WRITES, keyed, IPC_STAT, 0);
    CALL(SYS_arch_prctl, 1, 8, WRITES, 0x1003, 0);
    shmctl(keyed, IPC_RMID, NULL);

    char name[] = "/tmp/badXXXXXX";
    int file = mkstemp(name), directory = open("/", O_RDONLY), zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY), ends[2];
    need(file >= 3 && directory >= 3 && zero >= 3 && null >= 3 && pipe(ends) == 0, "files");
    need(write(file, "0123456789", 10) == 10 && write(ends[1], "piped", 5) == 5, "bytes in them");
    CALL(SYS_read, 1, 5, WRITES, zero, 0, 5);
    CALL(SYS_pread64, 1, 5, WRITES, file, 0, 5, 0);
    CALL(SYS_read, 1, 3, WRITES, ends[0], 0, 3);
    CALL(SYS_pwrite64, 1, 5, READS, file, 0, 5, 0);
    CALL(SYS_write, 1, 5, READS, ends[1], 0, 5);
    CALL(SYS_readv, 1, 16, READS, zero, 0, 1);
    CALL(SYS_preadv, 1, 16, READS, file, 0, 1, 0);
    CALL(SYS_pwritev, 1, 16, READS, file, 0, 1, 0);
    CALL(SYS_sendfile, 2, 8, WRITES, null, file, 0, 5);
    CALL(SYS_open, 0, 1, READS, 0, O_RDONLY);
    CALL(SYS_openat, 1, 1, READS, AT_FDCWD, 0, O_CREAT | O_RDWR, 0600);
    CALL(SYS_stat, 0, 1, READS, 0, (long)edge);
    CALL(SYS_stat, 1, 144, WRITES, (long)name, 0);
    CALL(SYS_statx, 1, 1, READS, AT_FDCWD, 0, 0, 0xfff, (long)edge);
    CALL(SYS_statx, 4, 256, WRITES, AT_FDCWD, (long)name, 0, 0xfff, 0);
    CALL(SYS_statfs, 1, 120, WRITES, (long)name, 0);
    CALL(SYS_fstatfs, 1, 120, WRITES, file, 0);
    CALL(SYS_access, 0, 1, READS, 0, R_OK);
    CALL(SYS_chdir, 0, 1, READS, 0);
    CALL(SYS_mkdir, 0, 1, READS, 0, 0700);
    CALL(SYS_rmdir, 0, 1, READS, 0);
    CALL(SYS_unlink, 0, 1, READS, 0);
    CALL(SYS_rename, 0, 1, READS, 0, (long)name);
    CALL(SYS_rename, 1, 1, READS, (long)name, 0);
    CALL(SYS_link, 1, 1, READS, (long)name, 0);
    CALL(SYS_symlink, 0, 1, READS, 0, (long)"/tmp/never");
    CALL(SYS_symlink, 1, 1, READS, (long)name, 0);
    CALL(SYS_chmod, 0, 1, READS, 0, 0600);
    CALL(SYS_chown, 0, 1, READS, 0, 0, 0);
    CALL(SYS_truncate, 0, 1, READS, 0, 0);
    CALL(SYS_utimensat, 2, 32, READS, AT_FDCWD, (long)name, 0, 0);
    CALL(SYS_readlinkat, 2, 2, WRITES, AT_FDCWD, (long)"/proc/self/exe", 0, 2);
    CALL(SYS_getdents64, 1, 100, WRITES, directory, 0, 100);
    CALL(SYS_pipe2, 0, 8, WRITES, 0, 0);
    CALL(SYS_fcntl, 2, 32, WRITES, file, F_GETLK, 0);
    CALL(SYS_fcntl, 2, 32, READS, file, F_SETLK, 0);
    CALL(SYS_ioctl, 2, 4, WRITES, ends[0], 0x541b, 0);
    CALL(SYS_select, 1, 8, WRITES, 1, 0, 0, 0, (long)&none_at_all);
    CALL(SYS_select, 4, 16, READS, 0, 0, 0, 0, 0);
    CALL(SYS_pselect6, 4, 16, READS, 0, 0, 0, 0, 0, 0);
    CALL(SYS_pselect6, 5, 16, READS, 0, 0, 0, 0, (long)&none_at_all, 0);
    CALL(SYS_ppoll, 0, 8, WRITES, 0, 1, (long)&none_at_all, 0, 8);
    CALL(SYS_ppoll, 3, 8, READS, 0, 0, (long)&none_at_all, 0, 8);
    CALL(SYS_execve, 0, 1, READS, 0, 0, 0);
    CALL(SYS_execve, 1, 8, READS, (long)"/proc/self/exe", 0, 0);
    unlink(name);
    says("and it still works", nanosleep(&none_at_all, NULL));
    return 0;
}
