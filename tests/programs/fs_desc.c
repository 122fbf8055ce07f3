/* Descriptors: dup, fcntl, limits, close-on-exec, fork; pipes; poll and select. */
#include "fs.h"

static char bytes[1 << 17];

/* Which of the first descriptors are open. */
static void open_ones(const char *name) {
    printf("%s:", name);
    for (int fd = 0; fd < 100; fd++)
        if (fcntl(fd, F_GETFD) >= 0) printf(" %d", fd);
    puts("");
}
static void only_standard(void) {
    for (int fd = 3; fd < 200; fd++) close(fd);
}

static void numbers(void) {
    puts("-- numbers");
    only_standard();
    open_ones("at first");
    int fd = open("a", O_RDWR | O_CREAT, 0644);
    says_value("open", fd);
    says_value("dup", dup(fd));
    says_value("dup of 1", dup(1));
    says_value("dup2", dup2(fd, 20));
    says_value("dup2 to itself", dup2(fd, fd));
    says_value("dup2 of no descriptor to itself", dup2(77, 77));
    says_value("dup2 of no descriptor", dup2(77, 20));
    says_value("dup2 to -1", dup2(fd, -1));
    says_value("dup3", dup3(fd, 21, O_CLOEXEC));
    says_value("dup3 to itself", dup3(fd, fd, 0));
    says_value("dup3 with bad flags", dup3(fd, 22, O_APPEND));
    says_value("F_DUPFD", fcntl(fd, F_DUPFD, 10));
    says_value("F_DUPFD", fcntl(fd, F_DUPFD, 10));
    says_value("F_DUPFD_CLOEXEC", fcntl(fd, F_DUPFD_CLOEXEC, 10));
    says_value("F_DUPFD below 0", fcntl(fd, F_DUPFD, -1));
    open_ones("now");
    static const int all[] = {3, 4, 5, 10, 11, 12, 20, 21};
    for (int i = 0; i < 8; i++) printf(" %d", fcntl(all[i], F_GETFD));
    puts("");
    says_value("F_SETFD", fcntl(4, F_SETFD, FD_CLOEXEC));
    says_value("F_GETFD", fcntl(4, F_GETFD));
    says_value("of the other", fcntl(3, F_GETFD));
    says_value("F_SETFL", fcntl(4, F_SETFL, O_APPEND | O_NONBLOCK | O_CREAT | O_WRONLY));
    says_value("of the other", fcntl(3, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_CREAT));
    says_value("an unknown command", fcntl(3, 9999));
    says_value("fcntl of no descriptor", fcntl(77, F_GETFL));
    says_value("close", close(4));
    says_value("close", close(4));
    says_value("the lowest free one", open("a", O_RDONLY));
    says_value("and again", open("a", O_RDONLY));
    says("close of -1", close(-1));
    says("close of many", close(100000));
    /* Ranges. */
    says("close_range", syscall(SYS_close_range, 4, 11, 0));
    open_ones("now");
    says("close_range, at exec", syscall(SYS_close_range, 12, 12, 4));
    says("close_range, crooked", syscall(SYS_close_range, 13, 12, 0));
    says("close_range, bad flags", syscall(SYS_close_range, 12, 13, 64));
    says("close_range, all", syscall(SYS_close_range, 3, ~0U, 0));
    open_ones("now");
    /* Standard descriptors are ordinary ones. */
    int saved = dup(1);
    fflush(stdout);
    says_value("a file as standard output", dup2(open("out", O_RDWR | O_CREAT, 0644), 1));
    puts("this goes to the file");
    fflush(stdout);
    AS_CHILD puts("a child's, too");
    dup2(saved, 1);
    shows("out");
    close(saved);
    only_standard();
    AS_CHILD {
        close(0);
        int zero = open("out", O_RDONLY);
        says_value("the lowest is 0 then", zero);
        char text[10] = "";
        says_value("read", read(0, text, 4));
        printf("%s\n", text);
    }
    unlink("out"), unlink("a");
}

static void limits(void) {
    puts("-- limits");
    struct rlimit limit;
    AS_CHILD {
        limit = (struct rlimit){50, 60};
        need(setrlimit(RLIMIT_NOFILE, &limit) == 0, "a limit");
        int last = -1, fd;
        while ((fd = dup(0)) >= 0) last = fd;
        printf("the last one is %d: %s\n", last, errno_name(errno));
        says("open", open("/dev/null", O_RDONLY));
        says("open of what is not", open("nothing", O_RDONLY));
        says("make", open("made", O_CREAT | O_WRONLY, 0644));
        facts("made");
        int ends[2];
        says("pipe", pipe(ends));
        close(49);
        says("pipe with room for one", pipe(ends));
        says_value("that is free again", dup(0));
        says("dup2 to the limit", dup2(0, 50));
        says("dup2 below", dup2(0, 49));
        says("F_DUPFD at the limit", fcntl(0, F_DUPFD, 50));
        says("F_DUPFD below", fcntl(0, F_DUPFD, 49));
        limit.rlim_cur = 10;
        need(setrlimit(RLIMIT_NOFILE, &limit) == 0, "a lower limit");
        says_value("what is open stays", fcntl(40, F_GETFD));
        says("open", open("/dev/null", O_RDONLY));
        close(5);
        says_value("below it", open("/dev/null", O_RDONLY));
        limit.rlim_cur = 60;
        need(setrlimit(RLIMIT_NOFILE, &limit) == 0, "the highest limit");
        says_value("the next", dup(0));
    }
    AS_CHILD {
        limit = (struct rlimit){900, 900};
        need(setrlimit(RLIMIT_NOFILE, &limit) == 0, "a limit");
        int last = -1, fd, wrong = 0;
        int file = open("m", O_RDWR | O_CREAT, 0644);
        while ((fd = dup(file)) >= 0) last = fd;
        printf("the last one is %d: %s\n", last, errno_name(errno));
        AS_CHILD {
            for (fd = 3; fd < 900; fd++) wrong += fcntl(fd, F_GETFD) != 0;
            says_value("a child lacks", wrong);
            write(899, "x", 1);
        }
        for (fd = 3; fd < 900; fd++) wrong += close(fd) != 0;
        says_value("not closed", wrong);
        facts("m");
        says_value("the first free one", dup(0));
    }
    unlink("m"), unlink("made");
}

/* Runs this program again, which tells what is open. */
static void exec(void) {
    puts("-- exec");
    only_standard();
    int a = open("a", O_RDWR | O_CREAT, 0644), b = open("a", O_RDWR | O_CLOEXEC), c = dup(b), d = fcntl(a, F_DUPFD_CLOEXEC, 80), e = fcntl(a, F_DUPFD, 90);
    printf("%d %d %d %d %d\n", a, b, c, d, e);
    open_ones("before");
    lseek(a, 5, SEEK_SET);
    AS_CHILD {
        char *const again[] = {"fs_desc", "open", NULL}, *const none[] = {NULL};
        execve("/proc/self/exe", again, none);
        perror("exec");
        _exit(1);
    }
    AS_CHILD {
        umask(0123);
        mkdir("sub", 0755), chdir("sub");
        char *const again[] = {"fs_desc", "where", NULL}, *const none[] = {NULL};
        execve("/proc/self/exe", again, none);
        _exit(1);
    }
    says("exec of a directory", execve(".", (char *const[]){"x", NULL}, (char *const[]){NULL}));
    says("exec of what may not be", execve("a", (char *const[]){"x", NULL}, (char *const[]){NULL}));
    says("exec of what is not", execve("nothing", (char *const[]){"x", NULL}, (char *const[]){NULL}));
    says("exec below a file", execve("a/x", (char *const[]){"x", NULL}, (char *const[]){NULL}));
    says("exec with a slash", execve("a/", (char *const[]){"x", NULL}, (char *const[]){NULL}));
    chmod("a", 0755);
    put("a", "\1\2\3\4 no program");
    says("exec of no program", execve("a", (char *const[]){"x", NULL}, (char *const[]){NULL}));
    only_standard();
    unlink("a"), rmdir("sub");
}

static void pipes(void) {
    puts("-- pipes");
    int ends[2];
    only_standard();
    says("pipe", pipe(ends));
    printf("%d %d\n", ends[0], ends[1]);
    struct stat s;
    fstat(ends[0], &s);
    printf("type %o mode %o size %ld owner %d:%d\n", s.st_mode & S_IFMT, s.st_mode & 07777, (long)s.st_size, (int)s.st_uid, (int)s.st_gid);
    printf("flags %o %o\n", fcntl(ends[0], F_GETFL), fcntl(ends[1], F_GETFL));
    says_value("write", write(ends[1], "hello", 5));
    int count;
    ioctl(ends[0], FIONREAD, &count);
    printf("%d there\n", count);
    says_value("read some", read(ends[0], bytes, 3));
    says_value("read the rest", read(ends[0], bytes + 3, 100));
    printf("%.5s\n", bytes);
    says("read from the wrong end", read(ends[1], bytes, 1));
    says("write to the wrong end", write(ends[0], bytes, 1));
    says("seek", lseek(ends[0], 0, SEEK_CUR));
    says("pread", pread(ends[0], bytes, 1, 0));
    says("pwrite", pwrite(ends[1], bytes, 1, 0));
    says("ftruncate", ftruncate(ends[1], 0));
    says("fsync", fsync(ends[1]));
    says("fchdir", fchdir(ends[0]));
    says_value("write nothing", write(ends[1], "", 0));
    says_value("its size", fcntl(ends[0], F_GETPIPE_SZ));
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    says("read when empty", read(ends[0], bytes, 1));
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    /* How much fits, with writes of each size. */
    static const int sizes[] = {64, 100, 1000, 3000, 4000, 4095, 4096, 4097, 5000, 8192, 10000, 65535, 65536, 65537, 100000};
    for (int i = 0; i < 15; i++) {
        long total = 0, got, writes = 0;
        while ((got = write(ends[1], bytes, sizes[i])) > 0) total += got, writes++;
        printf("writes of %d: %ld, %ld bytes, then %s;", sizes[i], writes, total, errno_name(errno));
        long back = 0;
        while ((got = read(ends[0], bytes, 7777)) > 0) back += got;
        printf(" %ld back, then %s\n", back, errno_name(errno));
    }
    /* After a few bytes have been read. */
    for (int i = 0; i < 15; i++) {
        long total = 0, got;
        write(ends[1], bytes, 3000);
        read(ends[0], bytes, 1000);
        while ((got = write(ends[1], bytes, sizes[i])) > 0) total += got;
        printf("%ld,", total);
        while (read(ends[0], bytes, sizeof bytes) > 0);
    }
    puts("");
    struct iovec parts[] = {{"abc", 3}, {"", 0}, {"defg", 4}}, into[] = {{bytes, 2}, {bytes + 10, 2}, {bytes + 20, 10}};
    says_value("writev", writev(ends[1], parts, 3));
    says_value("readv", readv(ends[0], into, 3));
    printf("%.2s %.2s %.3s\n", bytes, bytes + 10, bytes + 20);
    says("read to a bad address", (write(ends[1], "x", 1), read(ends[0], (char *)16, 1)));
    says_value("the byte is still there", read(ends[0], bytes, 10));
    says("write from a bad address", write(ends[1], (char *)16, 1));
    says("write from a bad address, long", write(ends[1], (char *)16, 10000));
    says("nothing came", read(ends[0], bytes, 10));
    close(ends[1]);
    says_value("the end", read(ends[0], bytes, 1));
    close(ends[0]);
    pipe(ends);
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN);
    says("nobody reads", write(ends[1], "x", 1));
    says_value("writing nothing to nobody", write(ends[1], "x", 0));
    signal(SIGPIPE, SIG_DFL);
    IN_CHILD("by SIGPIPE") write(ends[1], "x", 1);
    close(ends[1]);
    says("pipe2", pipe2(ends, O_CLOEXEC | O_NONBLOCK));
    printf("%d %o\n", fcntl(ends[0], F_GETFD), fcntl(ends[1], F_GETFL));
    close(ends[0]), close(ends[1]);
    says("pipe2 with bad flags", pipe2(ends, O_APPEND));
    says("pipe at a bad address", pipe((int *)16));
    open_ones("left");
    /* Between processes: much, in both directions. */
    int there[2], back[2];
    pipe(there), pipe(back);
    pid_t echo = forked();
    if (echo == 0) {
        close(there[1]), close(back[0]);
        long got;
        while ((got = read(there[0], bytes, 10000)) > 0)
            if (write(back[1], bytes, got) != got) _exit(1);
        _exit(0);
    }
    close(there[0]), close(back[1]);
    pid_t writer = forked();
    if (writer == 0) {
        close(back[0]);
        for (int i = 0; i < 20; i++) {
            memset(bytes, 'a' + i, sizeof bytes);
            if (write(there[1], bytes, sizeof bytes) != sizeof bytes) _exit(1);
        }
        _exit(0);
    }
    close(there[1]);
    long total = 0, wrong = 0, got;
    while ((got = read(back[0], bytes, 5000)) > 0)
        for (long i = 0; i < got; i++, total++) wrong += bytes[i] != 'a' + total / (long)sizeof bytes;
    printf("%ld bytes came back, %ld wrong; %s, ", total, wrong, ended(waited(writer)));
    puts(ended(waited(echo)));
    close(back[0]);
    /* Writers that are in one piece. */
    pipe(ends);
    pid_t writers[4];
    for (int w = 0; w < 4; w++)
        if ((writers[w] = forked()) == 0) {
            char piece[512];
            memset(piece, 'A' + w, sizeof piece);
            for (int i = 0; i < 200; i++) write(ends[1], piece, sizeof piece);
            _exit(0);
        }
    close(ends[1]);
    wrong = total = 0;
    long have = 0;
    while ((got = read(ends[0], bytes + have, 512 - have)) > 0) {
        have += got;
        if (have < 512) continue;
        for (int i = 1; i < 512; i++) wrong += bytes[i] != bytes[0];
        total++, have = 0;
    }
    printf("%ld pieces, %ld torn bytes, %ld left\n", total, wrong, have);
    for (int w = 0; w < 4; w++) waited(writers[w]);
    close(ends[0]);
    /* A reader ends while a writer waits. */
    pipe(ends);
    pid_t reader = forked();
    if (reader == 0) {
        close(ends[1]);
        nap(50000);
        read(ends[0], bytes, 10);
        nap(20000);
        _exit(0);
    }
    close(ends[0]);
    IN_CHILD("a writer whose reader ends") {
        fflush(stdout);
        long done = write(ends[1], bytes, 100000);
        _exit(done > 0 ? 7 : 8);
    }
    signal(SIGPIPE, SIG_IGN);
    waited(reader);
    says("and another", write(ends[1], bytes, 1));
    signal(SIGPIPE, SIG_DFL);
    close(ends[1]);
    /* A descriptor closed while another waits. */
    pipe(ends);
    if (forked() == 0) {
        close(ends[0]);
        nap(30000);
        _exit(0);
    }
    close(ends[1]);
    says_value("read until the writer has ended", read(ends[0], bytes, 10));
    waited(the_child);
    close(ends[0]);
}

static void polled(const char *name, int fd, short events, int timeout) {
    struct pollfd p = {fd, events, 0x7777};
    int n = poll(&p, 1, timeout);
    printf("%s: %d %x\n", name, n, (unsigned short)p.revents);
}

static void waits(void) {
    puts("-- poll");
    int ends[2], file = open("p", O_RDWR | O_CREAT, 0644), directory = open(".", O_RDONLY);
    pipe(ends);
    polled("an empty pipe", ends[0], POLLIN | POLLRDNORM | POLLPRI, 0);
    polled("its other end", ends[1], POLLOUT | POLLWRNORM | POLLIN, 0);
    polled("nothing asked", ends[1], 0, 0);
    polled("the wrong way", ends[0], POLLOUT, 0);
    write(ends[1], "x", 1);
    polled("with a byte", ends[0], POLLIN | POLLRDNORM | POLLPRI, 0);
    polled("with a byte, waiting", ends[0], POLLIN, -1);
    polled("a file", file, POLLIN | POLLOUT | POLLPRI | POLLRDNORM | POLLWRNORM, 0);
    polled("a directory", directory, POLLIN | POLLOUT, 0);
    polled("no descriptor", 99, POLLIN, 0);
    polled("-1", -1, POLLIN, 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    while (write(ends[1], bytes, 4096) > 0);
    polled("a full one", ends[1], POLLOUT, 0);
    while (read(ends[0], bytes, 65536) == 65536);
    close(ends[1]);
    polled("without writers", ends[0], POLLIN | POLLOUT, 0);
    polled("without writers, nothing asked", ends[0], 0, -1);
    close(ends[0]);
    pipe(ends);
    close(ends[0]);
    polled("without readers", ends[1], POLLOUT, 0);
    polled("without readers, nothing asked", ends[1], 0, 0);
    close(ends[1]);
    pipe(ends);
    /* Several at once. */
    struct pollfd all[] = {{ends[0], POLLIN, 0}, {file, POLLIN, 0}, {-5, POLLIN, 0}, {ends[1], POLLOUT, 0}, {77, POLLIN, 0}};
    says_value("five", poll(all, 5, 1000));
    for (int i = 0; i < 5; i++) printf(" %x", all[i].revents);
    puts("");
    says_value("none, no time", poll(NULL, 0, 0));
    says_value("none, some time", poll(NULL, 0, 20));
    says_value("one, some time", poll(all, 1, 20));
    says("at a bad address", poll((struct pollfd *)16, 1, 0));
    says("too many", poll(all, 1000000, 0));
    /* Woken by another. */
    if (forked() == 0) {
        nap(40000);
        write(ends[1], "y", 1);
        _exit(0);
    }
    polled("until a child writes", ends[0], POLLIN, -1);
    waited(the_child);
    read(ends[0], bytes, 1);
    if (forked() == 0) {
        close(ends[0]);
        nap(40000);
        _exit(0);
    }
    close(ends[1]);
    polled("until the last writer ends", ends[0], POLLIN, -1);
    waited(the_child);
    close(ends[0]);
    struct timespec time = {0, 20000000};
    says_value("ppoll", syscall(SYS_ppoll, all, 0, &time, NULL, 8));
    time.tv_nsec = 1000000000;
    says("ppoll with a bad time", syscall(SYS_ppoll, all, 0, &time, NULL, 8));
    puts("-- select");
    pipe(ends);
    fd_set in, out, ex;
    struct timeval brief = {0, 0};
#define SETS() do { FD_ZERO(&in); FD_ZERO(&out); FD_ZERO(&ex); FD_SET(ends[0], &in); FD_SET(file, &in); FD_SET(ends[1], &out); FD_SET(ends[0], &ex); FD_SET(ends[0], &out); } while (0)
    SETS();
    says_value("select", select(60, &in, &out, &ex, &brief));
    printf("%d %d %d %d %d\n", FD_ISSET(ends[0], &in), FD_ISSET(file, &in), FD_ISSET(ends[1], &out), FD_ISSET(ends[0], &ex), FD_ISSET(ends[0], &out));
    write(ends[1], "z", 1);
    SETS();
    says_value("with a byte", select(60, &in, &out, NULL, NULL));
    printf("%d %d %d\n", FD_ISSET(ends[0], &in), FD_ISSET(file, &in), FD_ISSET(ends[1], &out));
    SETS();
    says_value("fewer looked at", select(ends[0], &in, NULL, NULL, &brief));
    printf("%d\n", FD_ISSET(ends[0], &in));
    FD_SET(55, &in);
    says("no descriptor", select(60, &in, NULL, NULL, &brief));
    says("below 0", select(-1, NULL, NULL, NULL, &brief));
    says("at a bad address", syscall(SYS_select, 10, 16, NULL, NULL, &brief));
    read(ends[0], bytes, 1);
    brief = (struct timeval){0, 30000};
    FD_ZERO(&in);
    FD_SET(ends[0], &in);
    says_value("some time", select(60, &in, NULL, NULL, &brief));
    printf("%d\n", FD_ISSET(ends[0], &in));
    brief = (struct timeval){0, -1};
    says("a bad time", select(60, &in, NULL, NULL, &brief));
    if (forked() == 0) {
        nap(40000);
        write(ends[1], "y", 1);
        _exit(0);
    }
    FD_ZERO(&in);
    FD_SET(ends[0], &in);
    says_value("until a child writes", select(60, &in, NULL, NULL, NULL));
    waited(the_child);
    time = (struct timespec){5, 0};
    says_value("pselect", pselect(60, &in, NULL, NULL, &time, NULL));
    close(ends[0]), close(ends[1]), close(file), close(directory);
    unlink("p");
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "open")) {
        open_ones("after exec");
        printf("offset %ld\n", (long)lseek(3, 0, SEEK_CUR));
        return 0;
    }
    if (argc == 2 && !strcmp(argv[1], "where")) {
        char path[300];
        need(getcwd(path, sizeof path) != NULL, "getcwd");
        printf("umask %o, in %s\n", umask(0), strrchr(path, '/'));
        return 0;
    }
    enter_home();
    numbers();
    limits();
    exec();
    pipes();
    waits();
    leave_home();
    return 0;
}
