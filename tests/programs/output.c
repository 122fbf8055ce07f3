/* Bytes to stdout and stderr: every value, long pieces, gathered pieces. What the calls returned goes to stderr. */
#include "common.h"
#include <limits.h>
#include <sys/uio.h>

static unsigned char large[MIB + 3];

int main(void) {
    unsigned char all[256];
    for (int i = 0; i < 256; i++) all[i] = (unsigned char)i;
    long every = write(1, all, sizeof all);

    for (size_t i = 0; i < sizeof large; i++) large[i] = (unsigned char)(i * 31 + (i >> 9));
    size_t done = 0;
    while (done < sizeof large) {
        long n = write(1, large + done, sizeof large - done);
        need(n > 0, "write of a large piece");
        done += (size_t)n;
    }

    struct iovec parts[5] = {{"one", 3}, {NULL, 0}, {"\n\0two", 5}, {all + 128, 128}, {"end\n", 4}};
    long gathered = writev(1, parts, 5);
    long none = writev(1, parts, 0);
    long nothing = write(1, NULL, 0);

    fprintf(stderr, "every value %ld\nlarge %zu\ngathered %ld\nno parts %ld\nnothing %ld\n", every, done, gathered, none,
            nothing);
    long r = write(7, "x", 1);
    fprintf(stderr, "no such descriptor %s\n", r == -1 ? errno_name(errno) : "?");
    r = write(-1, "x", 1);
    fprintf(stderr, "negative descriptor %s\n", r == -1 ? errno_name(errno) : "?");
    r = write(1, (void *)0x10, 5);
    fprintf(stderr, "bad address %s\n", r == -1 ? errno_name(errno) : "?");
    r = write(1, (void *)0xffffffff80200000UL, 5);
    fprintf(stderr, "kernel address %s\n", r == -1 ? errno_name(errno) : "?");
    struct iovec bad[2] = {{"x", 1}, {NULL, SIZE_MAX}};
    r = syscall(SYS_writev, 1, bad, 2);
    fprintf(stderr, "absurd length %s\n", r == -1 ? errno_name(errno) : "?");
    r = syscall(SYS_writev, 1, parts, 1025);
    fprintf(stderr, "too many parts %s\n", r == -1 ? errno_name(errno) : "?");
    r = syscall(SYS_writev, 1, parts, -1);
    fprintf(stderr, "negative number of parts %s\n", r == -1 ? errno_name(errno) : "?");
    r = syscall(SYS_writev, 1, (void *)0x10, 1);
    fprintf(stderr, "parts at a bad address %s\n", r == -1 ? errno_name(errno) : "?");
    return 0;
}
