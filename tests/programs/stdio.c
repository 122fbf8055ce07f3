/* What the three standard descriptors are. Stays quiet about sizes and times. */
#include "common.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

static const char *kind(mode_t mode) {
    return S_ISFIFO(mode) ? "pipe" : S_ISREG(mode) ? "file" : S_ISCHR(mode) ? "character device" : S_ISSOCK(mode) ? "socket" : "other";
}

int main(int argc, char **argv) {
    (void)argv;
    struct stat s, t;
    struct winsize size;
    for (int fd = 0; fd <= 2; fd++) {
        int r = fstat(fd, &s), q = syscall(SYS_newfstatat, fd, "", &t, AT_EMPTY_PATH);
        printf("%d is a %s\n", fd, r ? errno_name(errno) : kind(s.st_mode));
        holds("newfstatat agrees", q == 0 && s.st_mode == t.st_mode && s.st_ino == t.st_ino && s.st_dev == t.st_dev);
        holds("its block size is sensible", s.st_blksize >= 512 && s.st_blksize <= 1 << 21);
        printf("%d is %sa terminal\n", fd, isatty(fd) ? "" : "not ");
        says("window size", ioctl(fd, TIOCGWINSZ, &size));
    }
    says("fstat of a closed one", fstat(9, &s));
    says("terminal of a closed one", ioctl(9, TIOCGWINSZ, &size));
    const char *directories[] = {"/", ".", "/tmp"};
    for (int i = 0; i < 3; i++) {
        says(directories[i], stat(directories[i], &s));
        holds("is a directory", S_ISDIR(s.st_mode));
        holds("has links", s.st_nlink >= 1);
    }
    says("no such file", stat("/no/such/file", &s));
    says("empty name", stat("", &s));
    says("empty name, descriptor closed", syscall(SYS_newfstatat, 9, "", &s, AT_EMPTY_PATH));
    struct pollfd out[2] = {{1, POLLOUT, 0}, {9, POLLIN, 0}};
    int ready = poll(out, 2, 0);
    printf("poll %d: %x %x\n", ready, out[0].revents, out[1].revents);
    struct pollfd never = {-1, POLLIN, 0};
    printf("poll of none %d, of a negative one %d\n", poll(NULL, 0, 5), poll(&never, 1, 5));
    if (argc > 1) {
        struct pollfd in = {0, POLLIN, 0};
        char byte;
        ready = poll(&in, 1, 1000);
        printf("stdin: poll %d, read %ld\n", ready, (long)read(0, &byte, 1));
    }
    return 0;
}
