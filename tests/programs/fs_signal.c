/* Signals and calls on files: what a caught signal does to a read, a write, a poll or a lock that waits; the masks of
 * ppoll and pselect6; the signals that writes send; what /proc says of processes that have stopped. */
#include "fs.h"
#include "sig.h"
#include <sys/file.h>

static char bytes[1 << 18];
static int ends[2], file;
static _Atomic int *handled, *over;
static void note(int number) { (void)number; atomic_fetch_add(handled, 1); }

/* Sends SIGUSR1 to the parent until told that it is enough; after five have been handled, `finish` ends the wait. */
static pid_t beside(void (*finish)(void)) {
    pid_t target = getpid(), child;
    atomic_store(over, 0), atomic_store(handled, 0);
    fflush(stdout);
    if ((child = fork()) == 0) {
        signal(SIGUSR1, SIG_DFL);
        while (!atomic_load(over)) {
            if (finish && atomic_load(handled) >= 5) finish();
            else kill(target, SIGUSR1);
            nap(2000);
        }
        _exit(7);
    }
    return child;
}
static void end_of(pid_t child) {
    atomic_store(over, 1);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR);
}

static void fill(void) { write(ends[1], bytes, 65536); }
static void drain(void) {
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    while (read(ends[0], bytes, sizeof bytes) > 0);
    fcntl(ends[0], F_SETFL, 0);
}
static long locked(short kind, int wait) {
    struct flock lock = {.l_type = kind, .l_whence = SEEK_SET};
    return fcntl(file, wait ? F_SETLKW : F_SETLK, &lock);
}
static long by_read(void) { return read(ends[0], bytes, 10); }
static long by_readv(void) { struct iovec into[] = {{bytes, 2}, {bytes + 10, 20}}; return readv(ends[0], into, 2); }
static long by_write(void) { return write(ends[1], bytes, 10); }
static long by_long_write(void) { return write(ends[1], bytes, 100000); }
static long by_writev(void) { struct iovec from[] = {{bytes, 30000}, {bytes, 30000}, {bytes, 30000}}; return writev(ends[1], from, 3); }
static long by_poll(void) { struct pollfd p = {ends[0], POLLIN, 0}; return syscall(SYS_poll, &p, 1, 1000000); }
static struct timespec time_left;
static struct timeval short_left;
static long by_ppoll(void) { struct pollfd p = {ends[0], POLLIN, 0}; time_left = (struct timespec){1000, 0}; return syscall(SYS_ppoll, &p, 1, &time_left, NULL, 8); }
static long by_select(void) { fd_set set; FD_ZERO(&set); FD_SET(ends[0], &set); short_left = (struct timeval){1000, 0}; return syscall(SYS_select, ends[0] + 1, &set, NULL, NULL, &short_left); }
static long by_pselect(void) { fd_set set; FD_ZERO(&set); FD_SET(ends[0], &set); time_left = (struct timespec){1000, 0}; return syscall(SYS_pselect6, ends[0] + 1, &set, NULL, NULL, &time_left, NULL); }
static long by_lock(void) { return locked(F_WRLCK, 1); }
static long by_flock(void) { return flock(file, LOCK_EX); }
/* Once: a slow reader would find it twice. */
static void give(void) {
    static int given;
    if (!given++) write(ends[1], "given", 5);
}
/* Those who hold locks let go of them when told so. */
static _Atomic int *let_go;
static void release(void) { atomic_store(let_go, 1); }

static const struct {
    const char *name;
    long (*call)(void);
    int full;
    void (*finish)(void);
} calls[] = {{"read", by_read, 0, give}, {"readv", by_readv, 0, give}, {"write", by_write, 1, drain}, {"a long write", by_long_write, 0, NULL}, {"a long write to a full pipe", by_long_write, 1, drain},
    {"writev", by_writev, 0, NULL}, {"poll", by_poll, 0, NULL}, {"ppoll", by_ppoll, 0, NULL}, {"select", by_select, 0, NULL}, {"pselect6", by_pselect, 0, NULL}, {"lock", by_lock, 0, release}, {"flock", by_flock, 0, release}};

static void interrupted(int flags) {
    printf("-- interrupted, flags %x\n", flags);
    act(SIGUSR1, note, flags);
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        drain();
        if (calls[i].full) fill();
        int locks = calls[i].call == by_lock || calls[i].call == by_flock;
        pid_t holder = 0;
        if (locks) {
            atomic_store(let_go, 0);
            int ready[2];
            pipe(ready);
            if ((holder = forked()) == 0) {
                file = open("f", O_RDWR);
                locked(F_WRLCK, 0), flock(file, LOCK_EX);
                write(ready[1], "x", 1);
                while (!atomic_load(let_go)) nap(1000);
                _exit(0);
            }
            char byte;
            while (read(ready[0], &byte, 1) < 0);
            close(ready[0]), close(ready[1]);
        }
        pid_t sender = beside(flags & SA_RESTART ? calls[i].finish : NULL);
        long result = calls[i].call();
        int error = errno;
        end_of(sender);
        /* How much of a long write was made depends on when the reader came. */
        int whole = flags & SA_RESTART && calls[i].finish == drain;
        printf("%s: %s\n", calls[i].name, result < 0 ? errno_name(error) : whole ? "goes on" : form("%ld", result));
        holds("handled", atomic_load(handled) > 0);
        if (calls[i].call == by_ppoll || calls[i].call == by_pselect) holds("time is left", time_left.tv_sec >= 900 && time_left.tv_sec < 1000);
        if (calls[i].call == by_select) holds("time is left", short_left.tv_sec >= 900 && short_left.tv_sec < 1000);
        if (holder) {
            release();
            while (waitpid(holder, NULL, 0) < 0 && errno == EINTR);
            locked(F_UNLCK, 0), flock(file, LOCK_UN);
        }
    }
    drain();
}

static long ppoll_with(long timeout_ms, int mask_of) {
    struct pollfd p = {ends[0], POLLIN, 0};
    struct timespec time = {timeout_ms / 1000, timeout_ms % 1000 * 1000000};
    sigset_t set;
    sigemptyset(&set);
    if (mask_of) sigaddset(&set, mask_of);
    return syscall(SYS_ppoll, &p, 1, &time, &set, 8);
}
static long pselect_with(long timeout_ms, int mask_of) {
    fd_set in;
    FD_ZERO(&in); FD_SET(ends[0], &in);
    struct timespec time = {timeout_ms / 1000, timeout_ms % 1000 * 1000000};
    sigset_t set;
    sigemptyset(&set);
    if (mask_of) sigaddset(&set, mask_of);
    struct { const sigset_t *set; size_t size; } packed = {&set, 8};
    return syscall(SYS_pselect6, ends[0] + 1, &in, NULL, NULL, &time, &packed);
}

static void masks(const char *name, long (*call)(long, int)) {
    printf("-- masks of %s\n", name);
    act(SIGUSR1, count, 0);
    block(SIGUSR1);
    forget_caught();
#define TELL(what, result) do { long r_ = (result); int e_ = errno; printf("%s: %s, %d caught, %s, %s\n", what, r_ < 0 ? errno_name(e_) : form("%ld", r_), caught[SIGUSR1], is_blocked(SIGUSR1) ? "blocked" : "not blocked", is_pending(SIGUSR1) ? "pending" : "none pending"); } while (0)
    TELL("nothing pending", call(10, 0));
    send_self(SIGUSR1);
    TELL("pending", call(1000000, 0));
    send_self(SIGUSR1);
    TELL("pending, and no time", call(0, 0));
    send_self(SIGUSR1);
    write(ends[1], "x", 1);
    TELL("pending, and something to read", call(1000000, 0));
    drain();
    TELL("still pending", call(1000000, 0));
    send_self(SIGUSR1);
    TELL("pending, and blocked in it", call(20, SIGUSR1));
    unblock(SIGUSR1);
    printf("unblocked: %d caught\n", caught[SIGUSR1]);
    /* Blocked only while it waits. */
    pid_t target = getpid(), child = forked();
    if (child == 0) nap(20000), kill(target, SIGUSR1), _exit(0);
    TELL("sent while it is blocked there", call(200, SIGUSR1));
    waited(child);
    /* The signal comes while it waits. */
    block(SIGUSR1);
    if ((child = forked()) == 0) nap(20000), kill(target, SIGUSR1), _exit(0);
    TELL("sent while it is let through", call(1000000, 0));
    waited(child);
    unblock(SIGUSR1);
    act(SIGUSR1, SIG_DFL, 0);
}

static void refused(void) {
    puts("-- refused");
    struct pollfd p = {ends[0], POLLIN, 0};
    struct timespec none = {0, 0}, wrong = {0, -1};
    sigset_t set;
    sigemptyset(&set);
    says("ppoll, a mask of 4 bytes", syscall(SYS_ppoll, &p, 1, &none, &set, 4));
    says("ppoll, no mask, any size", syscall(SYS_ppoll, &p, 1, &none, NULL, 4));
    says("ppoll, a mask nowhere", syscall(SYS_ppoll, &p, 1, &none, (void *)16, 8));
    says("ppoll, a wrong time and a mask nowhere", syscall(SYS_ppoll, &p, 1, &wrong, (void *)16, 8));
    struct { const void *set; size_t size; } packed = {&set, 4}, nowhere = {(void *)16, 8}, nothing = {NULL, 77};
    says("pselect6, a mask of 4 bytes", syscall(SYS_pselect6, 0, NULL, NULL, NULL, &none, &packed));
    says("pselect6, a mask nowhere", syscall(SYS_pselect6, 0, NULL, NULL, NULL, &none, &nowhere));
    says("pselect6, no mask", syscall(SYS_pselect6, 0, NULL, NULL, NULL, &none, &nothing));
    says("pselect6, nowhere at all", syscall(SYS_pselect6, 0, NULL, NULL, NULL, &none, (void *)16));
    says("pselect6, a wrong time and a mask of 4 bytes", syscall(SYS_pselect6, 0, NULL, NULL, NULL, &wrong, &packed));
}

static void sent(void) {
    puts("-- sent by writes");
    act_info(SIGPIPE, count_info, 0), act_info(SIGXFSZ, count_info, 0);
    int broken[2];
    pipe(broken);
    close(broken[0]);
    forget_caught();
    says("write to nobody", write(broken[1], "x", 1));
    printf("%d SIGPIPE, code %d, %s, uid %d\n", caught[SIGPIPE], last_info.si_code, last_info.si_pid == getpid() ? "from me" : "from another", (int)last_info.si_uid);
    block(SIGPIPE);
    forget_caught();
    says("blocked", write(broken[1], "x", 1));
    printf("%d caught, pending %d\n", caught[SIGPIPE], is_pending(SIGPIPE));
    unblock(SIGPIPE);
    printf("%d caught\n", caught[SIGPIPE]);
    struct iovec from[] = {{"ab", 2}, {"cd", 2}};
    says("writev to nobody", writev(broken[1], from, 2));
    printf("%d caught\n", caught[SIGPIPE]);
    close(broken[1]);
    struct rlimit limit = {5000, 1 << 20}, all;
    getrlimit(RLIMIT_FSIZE, &all);
    setrlimit(RLIMIT_FSIZE, &limit);
    forget_caught();
    int fd = open("g", O_RDWR | O_CREAT, 0644);
    says_value("write up to the limit", write(fd, bytes, 6000));
    says("and beyond", write(fd, bytes, 1));
    printf("%d SIGXFSZ, code %d\n", caught[SIGXFSZ], last_info.si_code);
    says("ftruncate beyond", ftruncate(fd, 6000));
    printf("%d SIGXFSZ\n", caught[SIGXFSZ]);
    says("pwrite beyond", pwrite(fd, bytes, 1, 7000));
    printf("%d SIGXFSZ\n", caught[SIGXFSZ]);
    setrlimit(RLIMIT_FSIZE, &all);
    close(fd), unlink("g");
    act(SIGPIPE, SIG_DFL, 0), act(SIGXFSZ, SIG_DFL, 0);
}

static const char *line_of(const char *path, const char *start) {
    static char text[5000];
    int fd = open(path, O_RDONLY);
    long got = read(fd, text, sizeof text - 1);
    close(fd);
    text[got < 0 ? 0 : got] = 0;
    char *line = strstr(text, start);
    return line ? (line[strcspn(line, "\n")] = 0, line) : "none";
}

static void stopped(void) {
    puts("-- stopped");
    pid_t child = forked();
    if (child == 0) {
        char byte;
        block(SIGUSR2);
        raise(SIGUSR2);
        kill(getpid(), SIGUSR2);
        raise(SIGSTOP);
        _exit(read(ends[0], &byte, 1) == 1 ? byte : 1);
    }
    int status;
    waitpid(child, &status, WUNTRACED);
    printf("stopped %d\n", WIFSTOPPED(status));
    printf("%s\n", line_of(form("/proc/%d/status", child), "State:"));
    printf("%s, ", line_of(form("/proc/%d/status", child), "SigPnd:"));
    printf("%s, ", line_of(form("/proc/%d/status", child), "ShdPnd:"));
    printf("%s\n", line_of(form("/proc/%d/status", child), "SigBlk:"));
    kill(child, SIGCONT);
    for (int i = 0; i < 200 && strncmp(line_of(form("/proc/%d/status", child), "State:"), "State:\tS", 8); i++) nap(5000);
    printf("%s\n", line_of(form("/proc/%d/status", child), "State:"));
    /* A read that waits goes on when its process does. */
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    printf("%s\n", line_of(form("/proc/%d/status", child), "State:"));
    kill(child, SIGCONT);
    write(ends[1], "A", 1);
    printf("%s\n", ended(waited(child)));
}

int main(void) {
    enter_home();
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    handled = (void *)page, over = (void *)(page + 64), let_go = (void *)(page + 128);
    pipe(ends);
    file = open("f", O_RDWR | O_CREAT, 0644);
    interrupted(0);
    interrupted(SA_RESTART);
    masks("ppoll", ppoll_with);
    masks("pselect6", pselect_with);
    refused();
    sent();
    stopped();
    leave_home();
    return 0;
}
