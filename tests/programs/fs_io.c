/* Bytes: read, write and their kin, offsets, holes, sizes, times, devices, sendfile. */
#include "fs.h"

static char big[300000], other[300000];

static void fill(char *to, long length, unsigned seed) {
    for (long i = 0; i < length; i++) to[i] = (char)((seed = seed * 1103515245 + 12345) >> 16);
}

static void plain(void) {
    puts("-- plain");
    int fd = open("a", O_RDWR | O_CREAT, 0644);
    says_value("write", write(fd, "hello, world", 12));
    says_value("at", lseek(fd, 0, SEEK_CUR));
    says_value("read at the end", read(fd, other, 10));
    says_value("seek", lseek(fd, 7, SEEK_SET));
    says_value("read", read(fd, other, 100));
    printf("%.5s\n", other);
    says_value("pread", pread(fd, other, 5, 0));
    says_value("still at", lseek(fd, 0, SEEK_CUR));
    says_value("pread beyond", pread(fd, other, 5, 100));
    says("pread at -1", pread(fd, other, 5, -1));
    says("pwrite at -1", pwrite(fd, other, 5, -1));
    says_value("pwrite", pwrite(fd, "HELLO", 5, 0));
    shows("a");
    says_value("pwrite beyond", pwrite(fd, "!", 1, 20));
    says_value("size", lseek(fd, 0, SEEK_END));
    pread(fd, other, 21, 0);
    for (int i = 0; i < 21; i++) printf("%02x", (unsigned char)other[i]);
    puts("");
    says_value("seek from the end", lseek(fd, -3, SEEK_END));
    says("seek before the start", lseek(fd, -30, SEEK_CUR));
    says("seek from the end before the start", lseek(fd, -22, SEEK_END));
    says_value("seek far", lseek(fd, 1L << 40, SEEK_SET));
    says("seek too far", lseek(fd, 0x7fffffffffffffff, SEEK_CUR));
    says("seek in a bad way", lseek(fd, 0, 77));
    says_value("read far beyond", read(fd, other, 5));
    says("seek of no descriptor", lseek(99, 0, SEEK_SET));
    says("read of no descriptor", read(99, other, 1));
    says("write of no descriptor", write(99, other, 1));
    says("read of -1", read(-1, other, 1));
    lseek(fd, 0, SEEK_SET);
    says_value("read nothing", read(fd, other, 0));
    says("read to a bad address", read(fd, (char *)16, 10));
    says("write from a bad address", write(fd, (char *)16, 10));
    says_value("read nothing to a bad address", read(fd, (char *)16, 0));
    says_value("at", lseek(fd, 0, SEEK_CUR));
    close(fd);
    fd = open("a", O_RDONLY);
    says("write to what is read only", write(fd, "x", 1));
    says("pwrite", pwrite(fd, "x", 1, 0));
    says("ftruncate", ftruncate(fd, 1));
    close(fd);
    fd = open("a", O_WRONLY);
    says("read what is write only", read(fd, other, 1));
    says("pread", pread(fd, other, 1, 0));
    close(fd);
    fd = open("a", O_RDWR | O_APPEND);
    says_value("append", write(fd, "end", 3));
    says_value("at", lseek(fd, 0, SEEK_CUR));
    lseek(fd, 0, SEEK_SET);
    says_value("append again", write(fd, "END", 3));
    says_value("pwrite appends, too", pwrite(fd, "#", 1, 0));
    says_value("size", lseek(fd, 0, SEEK_END));
    says_value("no longer", fcntl(fd, F_SETFL, 0));
    says_value("pwrite", pwrite(fd, "#", 1, 0));
    says_value("size", lseek(fd, 0, SEEK_END));
    close(fd);
    unlink("a");
    /* Two open files, one content. */
    int one = open("b", O_RDWR | O_CREAT, 0644), two = open("b", O_RDWR), three = dup(one);
    write(one, "abcdef", 6);
    says_value("another's offset", lseek(two, 0, SEEK_CUR));
    says_value("the same's", lseek(three, 0, SEEK_CUR));
    says_value("read by another", read(two, other, 3));
    says_value("read by the same", read(three, other, 3));
    AS_CHILD lseek(one, 1, SEEK_SET);
    says_value("after a child has moved it", lseek(three, 0, SEEK_CUR));
    close(one), close(two), close(three);
    unlink("b");
}

static void large(void) {
    puts("-- large");
    fill(big, sizeof big, 7);
    int fd = open("a", O_RDWR | O_CREAT, 0644);
    says_value("write", write(fd, big, sizeof big));
    lseek(fd, 0, SEEK_SET);
    says_value("read", read(fd, other, sizeof other));
    holds("the same", memcmp(big, other, sizeof big) == 0);
    static const long at[] = {0, 1, 4095, 4096, 4097, 10000, 65535, 131072 - 3, 299999}, lengths[] = {1, 2, 4095, 4096, 4097, 8192, 70000};
    for (int i = 0; i < 9; i++)
        for (int j = 0; j < 7; j++) {
            long length = lengths[j], count, left = sizeof big - at[i];
            memset(other, 0, length);
            count = pread(fd, other, length, at[i]);
            if (count != (length < left ? length : left) || memcmp(other, big + at[i], count)) printf("wrong: %ld at %ld: %ld\n", length, at[i], count);
            fill(other, length, i * 31 + j);
            long room = at[i] + length > (long)sizeof big ? (long)sizeof big - at[i] : length;
            count = pwrite(fd, other, room, at[i]);
            if (count != room) printf("wrong: pwrite %ld at %ld: %ld\n", room, at[i], count);
            memcpy(big + at[i], other, room);
        }
    lseek(fd, 0, SEEK_SET);
    says_value("read", read(fd, other, sizeof other));
    holds("the same after writes in the middle", memcmp(big, other, sizeof big) == 0);
    /* Holes and sizes. */
    says("truncate", ftruncate(fd, 5000));
    says("and grow", ftruncate(fd, 20000));
    memset(other, 1, sizeof other);
    says_value("read", pread(fd, other, 20000, 0));
    int wrong = memcmp(other, big, 5000) != 0;
    for (int i = 5000; i < 20000; i++) wrong += other[i] != 0;
    says_value("wrong bytes", wrong);
    says("to nothing", ftruncate(fd, 0));
    says("to much", ftruncate(fd, 1L << 40));
    struct stat s;
    fstat(fd, &s);
    printf("size %lld, blocks %s\n", (long long)s.st_size, s.st_blocks < 100 ? "few" : "many");
    says_value("read in the hole", pread(fd, other, 10000, 1L << 39));
    wrong = 0;
    for (int i = 0; i < 10000; i++) wrong += other[i] != 0;
    says_value("wrong bytes", wrong);
    says_value("write in the hole", pwrite(fd, "x", 1, (1L << 39) + 5000));
    pread(fd, other, 10000, 1L << 39);
    wrong = 0;
    for (int i = 0; i < 10000; i++) wrong += other[i] != (i == 5000 ? 'x' : 0);
    says_value("wrong bytes", wrong);
    says("ftruncate to -1", ftruncate(fd, -1));
    says("cut in the hole", ftruncate(fd, (1L << 39) + 5000));
    says("grow", ftruncate(fd, (1L << 39) + 10000));
    pread(fd, other, 10000, 1L << 39);
    wrong = 0;
    for (int i = 0; i < 10000; i++) wrong += other[i] != 0;
    says_value("wrong bytes", wrong);
    close(fd);
    says("truncate by name", truncate("a", 3));
    facts("a");
    says("truncate what is not", truncate("nothing", 3));
    says("truncate a directory", truncate(".", 3));
    says("truncate to -1", truncate("a", -1));
    says("ftruncate of a directory", (fd = open(".", O_RDONLY), ftruncate(fd, 0)));
    close(fd);
    unlink("a");
    /* In pieces that fit nothing, against a copy. */
    fd = open("c", O_RDWR | O_CREAT, 0644);
    memset(big, 0, sizeof big);
    unsigned seed = 1;
    long size = 0;
    for (int i = 0; i < 300; i++) {
        seed = seed * 1103515245 + 12345;
        long offset = (seed >> 8) % 200000, length = (seed >> 4) % 9000;
        if (i % 37 == 36) {
            ftruncate(fd, offset);
            if (offset < size) memset(big + offset, 0, size - offset);
            size = offset;
            continue;
        }
        fill(big + offset, length, seed);
        if (pwrite(fd, big + offset, length, offset) != length) printf("wrong: pwrite number %d\n", i);
        if (length && offset + length > size) size = offset + length;
    }
    fstat(fd, &s);
    holds("the size is right", s.st_size == size);
    memset(other, 0, sizeof other);
    holds("all of it is read", pread(fd, other, sizeof other, 0) == size);
    holds("the same", memcmp(big, other, sizeof big) == 0);
    close(fd);
    unlink("c");
}

static void vectors(void) {
    puts("-- vectors");
    int fd = open("v", O_RDWR | O_CREAT, 0644);
    struct iovec out[] = {{"one", 3}, {"", 0}, {"two", 3}, {"three", 5}};
    says_value("writev", writev(fd, out, 4));
    shows("v");
    char a[4] = "", b[5] = "", c[20] = "";
    struct iovec in[] = {{a, 3}, {b, 4}, {NULL, 0}, {c, 19}};
    says_value("preadv", preadv(fd, in, 4, 0));
    printf("%s %s %s\n", a, b, c);
    says_value("pwritev", pwritev(fd, out + 2, 2, 1));
    shows("v");
    lseek(fd, 0, SEEK_SET);
    memset(c, 0, sizeof c);
    says_value("readv", readv(fd, in, 4));
    printf("%s %s %s\n", a, b, c);
    says_value("readv at the end", readv(fd, in, 4));
    says_value("no vectors", readv(fd, in, 0));
    says("too many", readv(fd, in, 1025));
    says("minus one", readv(fd, in, -1));
    says("a bad array", writev(fd, (struct iovec *)16, 1));
    struct iovec bad[] = {{"ok", 2}, {(void *)16, 5}};
    lseek(fd, 0, SEEK_SET);
    says_value("a bad second one", writev(fd, bad, 2));
    says("a bad first one", writev(fd, bad + 1, 1));
    struct iovec negative[] = {{"ok", 2}, {"x", (size_t)-1}};
    says("a length below 0", writev(fd, negative, 2));
    says("preadv at -1", preadv(fd, in, 1, -1));
    says("writev of no descriptor", writev(99, out, 4));
    says("readv of no descriptor", readv(99, in, 4));
    struct iovec many[100];
    char bytes[100];
    for (int i = 0; i < 100; i++) bytes[i] = '0' + i % 10, many[i] = (struct iovec){bytes + i, 1};
    says_value("100 vectors", pwritev(fd, many, 100, 0));
    memset(bytes, 0, 100);
    says_value("back", preadv(fd, many, 100, 0));
    printf("%.100s\n", bytes);
    close(fd);
    unlink("v");
}

/* What is asked for is looked at as a whole before a byte is moved. */
static void addresses(void) {
    puts("-- addresses");
    char *const kernel = (char *)0xffff800000000000, *const end = (char *)0x7ffffffff000;
    int ends[2], fd = open("whole", O_RDWR | O_CREAT, 0644);
    need(pipe(ends) == 0, "a pipe");
    says_value("some bytes", write(fd, "abc", 3) + write(ends[1], "abc", 3));
    static const size_t lengths[] = {-1L, 1L << 47, 1L << 46, 0x7fffffffffffffff};
    for (int i = 0; i < 4; i++) {
        long length = (long)lengths[i];
        char *from = i == 2 ? end - (1L << 45) : big;
        says(form("write %lx", length), syscall(SYS_write, fd, from, length));
        says(form("pwrite %lx", length), syscall(SYS_pwrite64, fd, from, length, 0L));
        says(form("read %lx", length), syscall(SYS_read, fd, from, length));
        says(form("pread %lx", length), syscall(SYS_pread64, fd, from, length, 0L));
        says(form("write %lx to a pipe", length), syscall(SYS_write, ends[1], from, length));
        says(form("read %lx from a pipe", length), syscall(SYS_read, ends[0], from, length));
    }
    says("write to stdout", syscall(SYS_write, 1, big, -1L));
    says("getrandom", syscall(SYS_getrandom, kernel, 0L, 0L));
    int zero = open("/dev/zero", O_RDWR), maps = open("/proc/self/maps", O_RDONLY), here = open(".", O_RDONLY);
    says("read of /dev/zero", syscall(SYS_read, zero, big, -1L));
    says("write to /dev/zero", syscall(SYS_write, zero, big, -1L));
    says("read of /proc/self/maps", syscall(SYS_read, maps, big, -1L));
    says("read of a directory", syscall(SYS_read, here, big, -1L));
    for (long length = 0; length < 2; length++) {
        says(form("write %ld from the kernel's", length), syscall(SYS_write, fd, kernel, length));
        says(form("read %ld to the kernel's", length), syscall(SYS_read, fd, kernel, length));
        says(form("write %ld from the end", length), syscall(SYS_write, fd, end, length));
        struct iovec two[3] = {{big, 3}, {kernel, (size_t)length}, {big, -1L}};
        says("writev", writev(fd, two, 2)), says("readv", readv(fd, two, 2));
        says("writev, a length below 0 after it", writev(fd, two, 3));
        says("writev of one", writev(fd, two + 1, 1)), says("readv of one", readv(fd, two + 1, 1));
        says("preadv", preadv(fd, two, 2, 0)), says("pwritev", pwritev(ends[1], two, 2, 0));
    }
    struct iovec far[20];
    for (int i = 0; i < 20; i++) far[i] = (struct iovec){big, 1};
    far[15].iov_base = kernel;
    says("writev, the 16th is the kernel's", writev(fd, far, 20));
    far[19].iov_len = -1L;
    says("writev, the 20th is longer than can be", writev(fd, far, 20));
    far[0] = (struct iovec){big, 0x7fffffffffffffff};
    says("writev of one that is cut", writev(fd, far, 1) > 3);
    says("writev of two", writev(fd, far, 2));
    close(fd), close(ends[0]), close(ends[1]), close(zero), close(maps), close(here);
    unlink("whole");
}

/* Offsets end where numbers of 63 bits do. */
static void last_offsets(void) {
    puts("-- the last offsets");
    const off_t last = 0x7fffffffffffffff;
    int from = open("from", O_RDWR | O_CREAT, 0644), null = open("/dev/null", O_RDWR);
    need(write(from, "abcdef", 6) == 6, "some bytes");
    for (int i = 0; i < 3; i++) {
        const char *name = (const char *[]){"here", "/dev/shm/fs-last", "/dev/zero"}[i];
        int fd = open(name, O_RDWR | O_CREAT, 0644);
        for (long length = 0; length < 2; length++) {
            struct iovec one = {big, (size_t)length};
            says_value(form("%s pread %ld", name, length), pread(fd, big, (size_t)length, last));
            says_value(form("%s pwrite %ld", name, length), pwrite(fd, big, (size_t)length, last));
            says_value("preadv", preadv(fd, &one, 1, last)), says_value("pwritev", pwritev(fd, &one, 1, last));
        }
        says_value("pread across the end", pread(fd, big, 2, last - 1));
        if (i == 1) says_value("pread at the one before", pread(fd, big, 1, last - 1));
        if (i != 1) continue;
        says("seek", lseek(fd, last, SEEK_SET) == last ? 0 : -1);
        says_value("read", read(fd, big, 1)), says_value("write", write(fd, big, 1));
        off_t at = last;
        says_value("sendfile", sendfile(null, fd, NULL, 1)), says_value("sendfile at", sendfile(null, fd, &at, 1));
        says_value("sendfile of nothing", sendfile(null, fd, &at, 0)), at = 0;
        says_value("sendfile to it", sendfile(fd, from, &at, 1)), at = 0;
        says_value("sendfile of too much", sendfile(null, from, &at, last)), at = 1;
        says_value("sendfile of too much", sendfile(null, from, &at, last)), at = 0;
        says_value("sendfile of -1", sendfile(null, from, &at, -1L));
        fcntl(fd, F_SETFL, O_APPEND);
        says_value("write to the end", write(fd, big, 1));
        close(fd), unlink(name);
    }
    close(from), close(null), unlink("from");
}

static void sending(void) {
    puts("-- sendfile");
    fill(big, sizeof big, 3);
    int from = open("from", O_RDWR | O_CREAT, 0644), to = open("to", O_RDWR | O_CREAT, 0644);
    write(from, big, sizeof big);
    lseek(from, 0, SEEK_SET);
    says_value("all", sendfile(to, from, NULL, 1 << 20));
    says_value("at", lseek(from, 0, SEEK_CUR));
    pread(to, other, sizeof other, 0);
    holds("the same", memcmp(big, other, sizeof big) == 0);
    off_t offset = 1000;
    ftruncate(to, 0), lseek(to, 0, SEEK_SET);
    says_value("a part", sendfile(to, from, &offset, 5000));
    says_value("offset", offset);
    says_value("at", lseek(from, 0, SEEK_CUR));
    pread(to, other, 5000, 0);
    holds("the same", memcmp(big + 1000, other, 5000) == 0);
    offset = 1 << 20;
    says_value("beyond the end", sendfile(to, from, &offset, 10));
    offset = -1;
    says("before the start", sendfile(to, from, &offset, 10));
    says("to no descriptor", sendfile(99, from, NULL, 10));
    says("from no descriptor", sendfile(to, 99, NULL, 10));
    close(to);
    to = open("to", O_RDONLY);
    says("to what is read only", sendfile(to, from, NULL, 10));
    close(to);
    int ends[2];
    pipe(ends);
    lseek(from, 0, SEEK_SET);
    says_value("to a pipe", sendfile(ends[1], from, NULL, 10000));
    says_value("read", read(ends[0], other, 20000));
    holds("the same", memcmp(big, other, 10000) == 0);
    says("from a pipe", sendfile(ends[1], ends[0], NULL, 10));
    ftruncate(from, 150000), lseek(from, 0, SEEK_SET);
    says_value("more than a pipe holds", sendfile(ends[1], from, NULL, 150000));
    says_value("at", lseek(from, 0, SEEK_CUR));
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    says("to a full one", sendfile(ends[1], from, NULL, 10));
    fcntl(ends[1], F_SETFL, 0);
    AS_CHILD for (long total = 0, got; total < 65536 && (got = read(ends[0], other, 7000)) > 0; total += got);
    says_value("and when it has been read", sendfile(ends[1], from, NULL, 40000));
    close(ends[0]), close(ends[1]), close(from);
    unlink("from"), unlink("to");
}

static void devices(void) {
    puts("-- devices");
    static const char *const names[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"};
    for (int i = 0; i < 5; i++) {
        int fd = open(names[i], O_RDWR);
        says(names[i], fd < 0 ? -1 : 0);
        struct stat s;
        fstat(fd, &s);
        printf("type %o mode %o number %u:%u size %ld\n", s.st_mode & S_IFMT, s.st_mode & 07777, (unsigned)(s.st_rdev >> 8 & 0xff), (unsigned)(s.st_rdev & 0xff), (long)s.st_size);
        memset(big, 1, 10000);
        says_value("read", read(fd, big, 10000));
        int zeros = 0;
        for (int j = 0; j < 10000; j++) zeros += big[j] == 0;
        printf("%s zeros\n", zeros == 10000 ? "all" : zeros > 9000 ? "many" : zeros ? "some" : "no");
        if (i < 3) says_value("write", write(fd, big, 10000));
        says_value("pread", pread(fd, big, 10, 5));
        says_value("seek", lseek(fd, 100, SEEK_SET));
        says_value("write nothing", write(fd, big, 0));
        says("ftruncate", ftruncate(fd, 0));
        says("read to a bad address", read(fd, (char *)16, 10));
        struct pollfd p = {fd, POLLIN | POLLOUT, 0};
        if (i < 3) says_value("poll", poll(&p, 1, 0)), printf("%x\n", p.revents);
        close(fd);
        tries(names[i], O_RDONLY | O_TRUNC, 0);
        tries(names[i], O_RDONLY | O_DIRECTORY, 0);
    }
    tries("/dev/tty", O_RDWR, 0);
    tries("/dev/nothing", O_RDWR, 0);
    tries("/dev/null/x", O_RDWR, 0);
    int fd = open("/dev/zero", O_RDONLY);
    says("write what is read only", write(fd, "x", 1));
    close(fd);
    struct iovec two[] = {{big, 10}, {big + 100, 10}};
    fd = open("/dev/zero", O_RDWR);
    says_value("readv of zeros", readv(fd, two, 2));
    says_value("writev to zeros", writev(fd, two, 2));
    close(fd);
    says("chmod as nobody", 0);
    AS_CHILD {
        become(65534, 65534, 0, NULL);
        tries("/dev/null", O_RDWR, 0);
        tries("/dev/urandom", O_RDONLY, 0);
        says("chmod", chmod("/dev/null", 0600));
    }
}

static void times(void) {
    puts("-- times");
    struct stat s, t;
    struct timespec before, after;
    put("a", "x");
    stat("a", &s);
    clock_gettime(CLOCK_REALTIME, &after);
    holds("made just now", s.st_mtim.tv_sec <= after.tv_sec && s.st_mtim.tv_sec >= after.tv_sec - 5);
    nap(20000);
    put("a", "yy");
    stat("a", &t);
    holds("written: modified", t.st_mtim.tv_nsec != s.st_mtim.tv_nsec || t.st_mtim.tv_sec != s.st_mtim.tv_sec);
    holds("written: changed", t.st_ctim.tv_nsec != s.st_ctim.tv_nsec || t.st_ctim.tv_sec != s.st_ctim.tv_sec);
    nap(20000);
    chmod("a", 0600);
    stat("a", &s);
    holds("chmod: not modified", t.st_mtim.tv_nsec == s.st_mtim.tv_nsec);
    holds("chmod: changed", t.st_ctim.tv_nsec != s.st_ctim.tv_nsec);
    struct timespec when[2] = {{1000, 123456789}, {2000, 987654321}};
    says("utimensat", utimensat(AT_FDCWD, "a", when, 0));
    stat("a", &s);
    printf("%ld.%09ld %ld.%09ld\n", (long)s.st_atim.tv_sec, s.st_atim.tv_nsec, (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    when[0].tv_nsec = UTIME_OMIT, when[1].tv_nsec = UTIME_NOW;
    says("one only", utimensat(AT_FDCWD, "a", when, 0));
    stat("a", &s);
    clock_gettime(CLOCK_REALTIME, &after);
    printf("%ld.%09ld\n", (long)s.st_atim.tv_sec, s.st_atim.tv_nsec);
    holds("the other is now", s.st_mtim.tv_sec >= after.tv_sec - 5);
    when[0] = (struct timespec){1, 1000000000};
    says("too many nanoseconds", utimensat(AT_FDCWD, "a", when, 0));
    when[0] = (struct timespec){1, -1};
    says("below 0", utimensat(AT_FDCWD, "a", when, 0));
    says("what is not", utimensat(AT_FDCWD, "nothing", NULL, 0));
    says("bad flags", utimensat(AT_FDCWD, "a", NULL, 77));
    says("at a bad address", syscall(SYS_utimensat, AT_FDCWD, "a", 16, 0));
    int fd = open("a", O_RDWR);
    when[0] = (struct timespec){5, 0}, when[1] = (struct timespec){6, 0};
    says("futimens", futimens(fd, when));
    fstat(fd, &s);
    printf("%ld %ld\n", (long)s.st_atim.tv_sec, (long)s.st_mtim.tv_sec);
    close(fd);
    symlink("a", "l");
    says("of the link itself", utimensat(AT_FDCWD, "l", when, AT_SYMLINK_NOFOLLOW));
    lstat("l", &s);
    printf("%ld %ld\n", (long)s.st_atim.tv_sec, (long)s.st_mtim.tv_sec);
    AS_CHILD {
        become(1000, 1000, 0, NULL);
        says("as another", utimensat(AT_FDCWD, "a", when, 0));
        says("as another, now", utimensat(AT_FDCWD, "a", NULL, 0));
    }
    chmod("a", 0666);
    AS_CHILD {
        become(1000, 1000, 0, NULL);
        says("as another who may write", utimensat(AT_FDCWD, "a", when, 0));
        says("as another who may write, now", utimensat(AT_FDCWD, "a", NULL, 0));
    }
    /* Directories. */
    mkdir("d", 0755);
    stat("d", &s);
    nap(20000);
    put("d/f", "");
    stat("d", &t);
    holds("a new name modifies a directory", s.st_mtim.tv_nsec != t.st_mtim.tv_nsec);
    nap(20000);
    put("d/f", "more");
    stat("d", &s);
    holds("writing to a file in it does not", s.st_mtim.tv_nsec == t.st_mtim.tv_nsec);
    nap(20000);
    unlink("d/f");
    stat("d", &t);
    holds("removing a name does", s.st_mtim.tv_nsec != t.st_mtim.tv_nsec);
    unlink("a"), unlink("l"), rmdir("d");
    (void)before;
}

/* What statx tells for each mask, and what it leaves empty. */
static void told(const char *name, int directory, const char *path) {
    static const unsigned masks[] = {0, 1, 0x40, 0x80, 0x7ff, 0x800, 0xfff, 0x5fff};
    printf("%s:", name);
    for (int i = 0; i < 8; i++) {
        /* struct statx, in words of 32 bits: the mask comes first, the times from byte 64 on, the mount at 144. */
        unsigned s[64] = {0};
        need(syscall(SYS_statx, directory, path, AT_EMPTY_PATH, masks[i], s) == 0, path);
        printf(" %x%s%s%s%s", s[0], s[20] ? "b" : "", s[24] ? "c" : "", s[28] ? "m" : "", s[36] || !*path ? "" : " (no mount)");
    }
    puts("");
}
static void masks(void) {
    puts("-- statx");
    put("f", "text");
    need(symlink("f", "l") == 0, "a link");
    int shared = open("/dev/shm/fs-statx", O_RDWR | O_CREAT, 0644), memory = (int)syscall(SYS_memfd_create, "m", 0), ends[2];
    need(pipe(ends) == 0, "a pipe");
    told("file", AT_FDCWD, "f"), told("directory", AT_FDCWD, "."), told("link", AT_FDCWD, "l");
    told("/dev/shm", AT_FDCWD, "/dev/shm"), told("in /dev/shm", shared, ""), told("memfd", memory, "");
    told("/dev/null", AT_FDCWD, "/dev/null"), told("pipe", ends[0], "");
    told("/proc", AT_FDCWD, "/proc"), told("/proc/self/maps", AT_FDCWD, "/proc/self/maps"), told("/sys", AT_FDCWD, "/sys");
    close(shared), close(memory), close(ends[0]), close(ends[1]);
    unlink("/dev/shm/fs-statx"), unlink("f"), unlink("l");
}

static void the_rest(void) {
    puts("-- the rest");
    put("a", "text");
    int fd = open("a", O_RDWR);
    says("fsync", fsync(fd));
    says("fdatasync", fdatasync(fd));
    says("fsync of no descriptor", fsync(99));
    int ends[2];
    pipe(ends);
    says("fsync of a pipe", fsync(ends[0]));
    int count = -1;
    says("FIONREAD", ioctl(fd, FIONREAD, &count));
    printf("%d\n", count);
    says("TCGETS", ioctl(fd, 0x5401, big));
    says("an unknown ioctl", ioctl(fd, 0x12345, big));
    says("ioctl of no descriptor", ioctl(99, FIONREAD, &count));
    holds("no terminal", isatty(fd) == 0 && errno == ENOTTY);
    struct statfs f;
    says("statfs", statfs("a", &f));
    holds("something free", f.f_bavail > 0 && f.f_blocks >= f.f_bfree && f.f_namelen == 255 && f.f_bsize == 4096);
    says("fstatfs", fstatfs(fd, &f));
    says("statfs of what is not", statfs("nothing", &f));
    says("fstatfs of no descriptor", fstatfs(99, &f));
    says("fallocate", posix_fallocate(fd, 0, 10000) ? -1 : 0);
    facts("a");
    close(fd), close(ends[0]), close(ends[1]);
    /* The limit of a file's size. */
    AS_CHILD {
        /* The output may be a file, too: the limit is one it does not reach. */
        signal(SIGXFSZ, SIG_IGN);
        struct rlimit limit = {200000, 200000};
        need(setrlimit(RLIMIT_FSIZE, &limit) == 0, "a limit");
        fd = open("limited", O_RDWR | O_CREAT, 0644);
        says_value("up to the limit", write(fd, big, 300000));
        says("beyond it", write(fd, big, 1));
        says_value("size", lseek(fd, 0, SEEK_END));
        says("pwrite beyond", pwrite(fd, big, 10, 300000));
        says_value("pwrite across", pwrite(fd, big, 10, 199995));
    }
    IN_CHILD("beyond the limit") {
        struct rlimit limit = {10, 10};
        need(setrlimit(RLIMIT_FSIZE, &limit) == 0, "a limit");
        fd = open("limited2", O_RDWR | O_CREAT, 0644);
        /* Nothing is told here: the output may be a file. */
        if (write(fd, big, 20) != 10) _exit(1);
        write(fd, big, 20);
        _exit(2);
    }
    unlink("a"), unlink("limited"), unlink("limited2");
}

int main(void) {
    enter_home();
    plain();
    large();
    vectors();
    addresses();
    last_offsets();
    sending();
    devices();
    times();
    masks();
    the_rest();
    leave_home();
    return 0;
}
