/* eventfd, timerfd, signalfd, epoll. */
#include "conf.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/uio.h>

static void got_number(const char *name, int fd) {
    uint64_t value = 4711;
    long result = read(fd, &value, sizeof value);
    if (result < 0) printf("%s: %s\n", name, errno_name(errno));
    else printf("%s: %ld %llu\n", name, result, (unsigned long long)value);
}
static void put(const char *name, int fd, uint64_t value) {
    long result = write(fd, &value, sizeof value);
    if (result < 0) printf("%s: %s\n", name, errno_name(errno));
    else printf("%s: %ld\n", name, result);
}
static void polled(const char *name, int fd) {
    struct pollfd p = {fd, -1, 0};
    int result = poll(&p, 1, 0);
    printf("%s: %d %x\n", name, result, p.revents);
}
static void waits(const char *name, int fd) {
    struct pollfd p = {fd, POLLIN, 0};
    int result = poll(&p, 1, 2000);
    printf("%s: %d %x\n", name, result, p.revents);
}
static void general(const char *name, int fd) {
    struct stat s;
    char link[100], from[50];
    fstat(fd, &s);
    printf("--- %s: mode %o size %ld links %d flags %x cloexec %d\n", name, s.st_mode, (long)s.st_size, (int)s.st_nlink, fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    int length = readlink(from, link, sizeof link);
    printf("%.*s\n", length, link);
    says("opened", open(from, O_RDWR));
    says("lseek", lseek(fd, 5, SEEK_SET));
    says("lseek", lseek(fd, 0, 99));
    says("pread", pread(fd, link, 8, 0));
    says("pwrite", pwrite(fd, link, 8, 0));
    says("fsync", fsync(fd));
    says("ftruncate", ftruncate(fd, 0));
    says("mmap", (long)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0));
    says("seals", fcntl(fd, F_GET_SEALS));
    says("no room to read", read(fd, link, 7));
    says("a bad place to read", syscall(SYS_read, fd, 8, 128));
}

static void counters(void) {
    int fd = eventfd(5, EFD_NONBLOCK | EFD_CLOEXEC);
    general("eventfd", fd);
    /* A number that can't be told is gone. */
    got_number("it is gone", fd);
    got_number("nothing", fd);
    polled("nothing", fd);
    put("one", fd, 1), put("two", fd, 2);
    polled("three", fd);
    got_number("three", fd);
    put("zero", fd, 0);
    got_number("zero", fd);
    put("too much", fd, -1UL);
    put("all", fd, -2UL);
    polled("full", fd);
    put("one more", fd, 1);
    put("zero more", fd, 0);
    got_number("all", fd);
    says("too short", write(fd, "1234", 4));
    says("longer", write(fd, "\1\0\0\0\0\0\0\0", 9));
    says("a bad place", syscall(SYS_write, fd, 8, 8));
    char halves[8];
    struct iovec two[2] = {{halves, 4}, {halves + 4, 4}};
    put("some", fd, 0x100000002);
    printf("in two pieces: %ld\n", (long)readv(fd, two, 2));
    printf("%d %d\n", halves[0], halves[4]);
    close(fd);
    fd = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    got_number("a semaphore", fd), got_number("again", fd), got_number("empty", fd);
    close(fd);
    says("unknown", eventfd(0, 2));
    says("unknown", syscall(SYS_eventfd2, 0, 0x100000));
    fd = syscall(SYS_eventfd, 0x100000007);
    got_number("the old call", fd);
    /* Readers and writers wait for each other. */
    pid_t child = forked();
    if (child == 0) {
        for (int i = 0; i < 3; i++) got_number("a child", fd);
        fflush(stdout), _exit(0);
    }
    for (int i = 1; i < 4; i++) {
        put("for a child", fd, i);
        while (poll(&(struct pollfd){fd, POLLIN, 0}, 1, 0)) nap(500);
        nap(1000);
    }
    waited(child);
    put("nearly full", fd, -2UL);
    fflush(stdout);
    child = forked();
    if (child == 0) {
        put("waits for room", fd, 10);
        fflush(stdout);
        _exit(0);
    }
    nap(5000);
    got_number("made room", fd);
    waited(child);
    got_number("what waited", fd);
    close(fd);
}

static long set_time(int fd, int flags, long first, long period) {
    struct itimerspec spec = {{0, period}, {0, first}};
    return timerfd_settime(fd, flags, &spec, NULL);
}
static void left(const char *name, int fd) {
    struct itimerspec spec;
    says(name, timerfd_gettime(fd, &spec));
    printf("on %d, period %ld.%09ld\n", spec.it_value.tv_sec || spec.it_value.tv_nsec, (long)spec.it_interval.tv_sec, spec.it_interval.tv_nsec);
}
static void timers(void) {
    static const int clocks[] = {0, 1, 2, 3, 4, 7, 8, 9, 11, 12, -1};
    for (int i = 0; i < 11; i++) {
        int fd = timerfd_create(clocks[i], 0);
        says(form("clock %d", clocks[i]), fd < 0 ? -1 : 0);
        if (fd >= 0) close(fd);
    }
    says("flags", timerfd_create(1, 1));
    says("flags before the clock", timerfd_create(99, 1));
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    general("timerfd", fd);
    got_number("off", fd);
    polled("off", fd);
    left("off", fd);
    put("written", fd, 1);
    says("set", set_time(fd, 0, 1000000, 0));
    waits("expired", fd);
    left("expired", fd);
    got_number("once", fd);
    got_number("no more", fd);
    says("periodic", set_time(fd, 0, 1000000, 1000000));
    left("periodic", fd);
    nap(5500);
    uint64_t count = 0;
    printf("read: %ld, several: %d\n", (long)read(fd, &count, 8), count >= 5);
    waits("and again", fd);
    struct itimerspec old, off = {{0, 0}, {0, 0}};
    says("off", timerfd_settime(fd, 0, &off, &old));
    printf("it was: %d %ld\n", old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 1000000, old.it_interval.tv_nsec);
    got_number("off", fd);
    says("far away", timerfd_settime(fd, 0, &(struct itimerspec){{7, 8}, {1000, 0}}, NULL));
    left("far away", fd);
    got_number("far away", fd);
    says("off, with a period", timerfd_settime(fd, 0, &(struct itimerspec){{7, 8}, {0, 0}}, NULL));
    left("off", fd);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    says("at a time that is over", timerfd_settime(fd, TFD_TIMER_ABSTIME, &(struct itimerspec){{0, 0}, {1, 0}}, NULL));
    got_number("once", fd);
    now.tv_sec += 1000;
    says("at a time to come", timerfd_settime(fd, TFD_TIMER_ABSTIME, &(struct itimerspec){{0, 0}, now}, NULL));
    left("far away", fd);
    says("negative", timerfd_settime(fd, 0, &(struct itimerspec){{0, 0}, {-1, 0}}, NULL));
    says("too many nanoseconds", timerfd_settime(fd, 0, &(struct itimerspec){{0, 1000000000}, {1, 0}}, NULL));
    says("unknown flags", timerfd_settime(fd, 4, &off, NULL));
    says("cancelled when set", timerfd_settime(fd, TFD_TIMER_CANCEL_ON_SET | TFD_TIMER_ABSTIME, &off, NULL));
    says("nothing", timerfd_settime(fd, 0, NULL, NULL));
    says("nowhere", timerfd_settime(fd, 0, &off, (void *)8));
    says("nowhere", timerfd_gettime(fd, (void *)8));
    says("no descriptor", timerfd_settime(99, 0, &off, NULL));
    says("no descriptor", timerfd_gettime(99, &old));
    int other = eventfd(0, 0);
    says("not a timer", timerfd_settime(other, 0, &off, NULL));
    says("not a timer", timerfd_gettime(other, &old));
    close(other), close(fd);
    fd = timerfd_create(CLOCK_REALTIME, 0);
    set_time(fd, 0, 3000000, 0);
    AS_CHILD got_number("a child waits", fd);
    set_time(fd, 0, 3000000, 0);
    got_number("waits", fd);
    close(fd);
}

static int signals_of(int fd, const sigset_t *set, int flags) { return signalfd(fd, set, flags); }
static void told_signal(const char *name, int fd) {
    struct signalfd_siginfo s[3];
    memset(s, 0x55, sizeof s);
    long result = read(fd, s, sizeof s);
    if (result < 0) { printf("%s: %s\n", name, errno_name(errno)); return; }
    printf("%s: %ld\n", name, result / (long)sizeof *s);
    for (long i = 0; i < result / (long)sizeof *s; i++) {
        int from = s[i].ssi_pid == (unsigned)getpid() ? 1 : s[i].ssi_pid == (unsigned)the_child ? 2 : s[i].ssi_pid ? 3 : 0;
        printf("signal %u errno %d code %d from %d uid %u fd %d tid %u band %u overrun %u trap %u status %d int %d ptr %llx addr %llx\n", s[i].ssi_signo, s[i].ssi_errno, s[i].ssi_code, from, s[i].ssi_uid, s[i].ssi_fd, s[i].ssi_tid, s[i].ssi_band, s[i].ssi_overrun, s[i].ssi_trapno, s[i].ssi_status, s[i].ssi_int, (unsigned long long)s[i].ssi_ptr, (unsigned long long)s[i].ssi_addr);
    }
}
static void signals(void) {
    sigset_t set, old, other;
    sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGUSR2), sigaddset(&set, SIGCHLD), sigaddset(&set, SIGRTMIN), sigaddset(&set, SIGKILL), sigaddset(&set, SIGALRM);
    sigprocmask(SIG_BLOCK, &set, &old);
    int fd = signals_of(-1, &set, SFD_NONBLOCK);
    general("signalfd", fd);
    told_signal("none", fd);
    polled("none", fd);
    raise(SIGUSR1), kill(getpid(), SIGUSR2);
    polled("two", fd);
    told_signal("two", fd);
    told_signal("none", fd);
    union sigval value = {.sival_ptr = (void *)0x123456789abc};
    for (int i = 0; i < 4; i++) sigqueue(getpid(), SIGRTMIN, value);
    told_signal("three of four", fd);
    told_signal("the last", fd);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value = value};
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 1000000}}, NULL);
    waits("a timer", fd);
    told_signal("a timer", fd);
    timer_delete(timer);
    if (forked() == 0) _exit(3);
    waits("a child", fd);
    told_signal("a child", fd);
    waited(the_child);
    sigemptyset(&other), sigaddset(&other, SIGUSR2);
    raise(SIGUSR1);
    printf("another set: %d\n", signals_of(fd, &other, 0) == fd);
    polled("not meant", fd);
    raise(SIGUSR2);
    told_signal("meant", fd);
    signals_of(fd, &set, 0);
    told_signal("meant again", fd);
    says("of no descriptor", signals_of(99, &set, 0));
    says("of another kind", signals_of(1, &set, 0));
    says("unknown flags", signals_of(-1, &set, 1));
    says("size", syscall(SYS_signalfd4, -1, &set, 16, 0));
    says("size", syscall(SYS_signalfd, -1, &set, 4));
    says("nowhere", syscall(SYS_signalfd4, -1, 8, 8, 0));
    close(fd);
    fd = signals_of(-1, &set, SFD_CLOEXEC);
    pid_t me = getpid();
    if (forked() == 0) {
        nap(3000);
        kill(me, SIGUSR1);
        _exit(0);
    }
    struct signalfd_siginfo s;
    long result = read(fd, &s, sizeof s);
    printf("waits: %ld, signal %u\n", result, s.ssi_signo);
    waited(the_child);
    close(fd);
    signal(SIGCHLD, SIG_IGN), signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static long wait_for(int e, void *list, int most, int timeout) { return syscall(SYS_epoll_wait, e, list, most, timeout); }
static long control(int e, int op, int fd, unsigned events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    return epoll_ctl(e, op, fd, &event);
}
static int by_data(const void *a, const void *b) {
    const struct epoll_event *x = a, *y = b;
    return x->data.u64 < y->data.u64 ? -1 : x->data.u64 > y->data.u64;
}
static void events_of(const char *name, int e, int most, int timeout) {
    struct epoll_event list[8];
    int count = epoll_wait(e, list, most, timeout);
    if (count < 0) { printf("%s: %s\n", name, errno_name(errno)); return; }
    qsort(list, count, sizeof *list, by_data);
    printf("%s: %d", name, count);
    for (int i = 0; i < count; i++) printf(" %llx:%x", (unsigned long long)list[i].data.u64, list[i].events);
    puts("");
}
static void watching(void) {
    int e = epoll_create1(EPOLL_CLOEXEC), pipes[2], counter = eventfd(0, EFD_NONBLOCK), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    general("epoll", e);
    put("written", e, 1);
    says("create", epoll_create1(1));
    says("create", epoll_create(0));
    says("create", epoll_create(-1));
    need(pipe2(pipes, O_NONBLOCK) == 0, "pipe");
    events_of("nothing", e, 8, 0);
    says("a pipe", control(e, EPOLL_CTL_ADD, pipes[0], EPOLLIN, 1));
    says("again", control(e, EPOLL_CTL_ADD, pipes[0], EPOLLIN, 1));
    int copy = dup(pipes[0]);
    says("a copy", control(e, EPOLL_CTL_ADD, copy, EPOLLIN | EPOLLRDNORM, 0x123456789abc));
    says("its writer", control(e, EPOLL_CTL_ADD, pipes[1], EPOLLOUT, 3));
    says("a counter", control(e, EPOLL_CTL_ADD, counter, EPOLLIN | EPOLLET, 4));
    says("a timer", control(e, EPOLL_CTL_ADD, timer, EPOLLIN, 5));
    events_of("the writer", e, 8, 0);
    polled("it itself", e);
    says("not the writer", control(e, EPOLL_CTL_MOD, pipes[1], 0, 3));
    events_of("nothing", e, 8, 0);
    polled("nothing", e);
    write(pipes[1], "x", 1);
    events_of("the readers", e, 8, -1);
    events_of("still", e, 8, -1);
    printf("one of them: %d\n", epoll_wait(e, (struct epoll_event[2]){{0}}, 1, -1));
    char c;
    read(pipes[0], &c, 1);
    events_of("read", e, 8, 0);
    put("counted", counter, 1);
    events_of("the counter", e, 8, 0);
    events_of("not again", e, 8, 0);
    put("counted", counter, 1);
    events_of("once more", e, 8, 0);
    events_of("not again", e, 8, 0);
    says("changed", control(e, EPOLL_CTL_MOD, counter, EPOLLIN | EPOLLET, 6));
    events_of("told anew", e, 8, 0);
    got_number("read", counter);
    events_of("nothing", e, 8, 0);
    says("once only", control(e, EPOLL_CTL_MOD, counter, EPOLLIN | EPOLLONESHOT, 7));
    put("counted", counter, 1);
    events_of("once", e, 8, 0);
    put("counted", counter, 1);
    events_of("no more", e, 8, 0);
    says("armed again", control(e, EPOLL_CTL_MOD, counter, EPOLLIN | EPOLLONESHOT, 8));
    events_of("again", e, 8, 0);
    set_time(timer, 0, 2000000, 0);
    events_of("the timer", e, 8, 2000);
    got_number("read", timer);
    events_of("a time-out", e, 8, 3);
    pid_t child = forked();
    if (child == 0) {
        nap(3000);
        write(pipes[1], "y", 1);
        _exit(0);
    }
    events_of("from a child", e, 8, 2000);
    waited(child);
    read(pipes[0], &c, 1);
    says("gone", control(e, EPOLL_CTL_DEL, copy, 0, 0));
    says("gone", epoll_ctl(e, EPOLL_CTL_DEL, copy, NULL));
    says("changed", control(e, EPOLL_CTL_MOD, copy, 0, 0));
    close(pipes[1]);
    events_of("hung up", e, 8, 0);
    close(pipes[0]);
    events_of("its copy is still open", e, 8, 0);
    close(copy);
    events_of("gone with the last copy", e, 8, 0);
    /* Edges of a pipe. */
    need(pipe2(pipes, O_NONBLOCK) == 0, "pipe");
    says("edges", control(e, EPOLL_CTL_ADD, pipes[0], EPOLLIN | EPOLLET, 9));
    says("edges", control(e, EPOLL_CTL_ADD, pipes[1], EPOLLOUT | EPOLLET, 10));
    events_of("room", e, 8, 0);
    events_of("no news", e, 8, 0);
    write(pipes[1], "ab", 2);
    events_of("something came", e, 8, 0);
    events_of("no news", e, 8, 0);
    read(pipes[0], &c, 1);
    events_of("a part was read", e, 8, 0);
    write(pipes[1], "c", 1);
    events_of("more came", e, 8, 0);
    static char much[65536];
    while (write(pipes[1], much, sizeof much) > 0);
    events_of("full", e, 8, 0);
    while (read(pipes[0], much, sizeof much) > 0);
    events_of("emptied", e, 8, 0);
    close(pipes[1]);
    events_of("hung up", e, 8, 0);
    close(pipes[0]);
    /* Sets in sets. */
    int inner = epoll_create1(0), innermost = epoll_create1(0);
    says("a set", control(e, EPOLL_CTL_ADD, inner, EPOLLIN, 11));
    says("in a set", control(inner, EPOLL_CTL_ADD, innermost, EPOLLIN, 12));
    says("a circle", control(innermost, EPOLL_CTL_ADD, e, EPOLLIN, 13));
    says("itself", control(e, EPOLL_CTL_ADD, e, EPOLLIN, 13));
    events_of("nothing", e, 8, 0);
    says("a counter", control(innermost, EPOLL_CTL_ADD, counter, EPOLLIN, 14));
    put("counted", counter, 1);
    events_of("by two sets", e, 8, 0);
    got_number("read", counter);
    events_of("nothing", e, 8, 0);
    /* What is wrong. */
    int file = open("/proc/self/exe", O_RDONLY), null = open("/dev/null", O_RDWR), random = open("/dev/urandom", O_RDONLY);
    says("a file", control(e, EPOLL_CTL_ADD, file, EPOLLIN, 0));
    says("a device", control(e, EPOLL_CTL_ADD, null, EPOLLIN, 0));
    says("nothing", control(e, EPOLL_CTL_ADD, 99, EPOLLIN, 0));
    says("no set", control(99, EPOLL_CTL_ADD, counter, EPOLLIN, 0));
    says("no set, no event", epoll_ctl(99, EPOLL_CTL_ADD, counter, NULL));
    says("not a set", control(counter, EPOLL_CTL_ADD, timer, EPOLLIN, 0));
    says("not a set, a file", control(counter, EPOLL_CTL_ADD, file, EPOLLIN, 0));
    says("no event", epoll_ctl(e, EPOLL_CTL_ADD, counter, NULL));
    says("unknown", control(e, 4, timer, EPOLLIN, 0));
    says("unknown", control(e, 4, innermost, EPOLLIN, 0));
    says("exclusive", control(e, EPOLL_CTL_MOD, timer, EPOLLIN | 1u << 28, 0));
    says("exclusive", control(e, EPOLL_CTL_ADD, innermost, EPOLLIN | 1u << 28, 0));
    says("exclusive", control(e, EPOLL_CTL_ADD, counter, EPOLLIN | EPOLLONESHOT | 1u << 28, 0));
    struct epoll_event list[8];
    says("none", wait_for(e, list, 0, 0));
    says("negative", wait_for(e, list, -1, 0));
    says("many", wait_for(e, list, 0x7fffffff, 0));
    says("in the kernel", wait_for(e, (void *)KERNEL_ADDRESS, 1, 0));
    says("no set", wait_for(99, list, 0, 0));
    says("not a set", wait_for(counter, list, 1, 0));
    says("not a set", wait_for(counter, (void *)KERNEL_ADDRESS, 1, 0));
    set_time(timer, 0, 1, 0);
    nap(1000);
    says("nowhere", wait_for(e, (void *)8, 1, 0));
    events_of("still there", e, 8, 0);
    sigset_t set;
    sigemptyset(&set);
    says("a mask", epoll_pwait(e, list, 8, 0, &set));
    says("a size", syscall(SYS_epoll_pwait, e, list, 8, 0, &set, 4));
    says("a mask nowhere", syscall(SYS_epoll_pwait, e, list, 8, 0, 8, 8));
    struct timespec time = {0, 1000000}, wrong = {0, 1000000000};
    says("a time", syscall(441, e, list, 8, &time, NULL, 8));
    says("a wrong time", syscall(441, e, list, 8, &wrong, NULL, 8));
    says("no time", syscall(441, e, list, 8, NULL, NULL, 8));
    got_number("read", timer);
    close(file), close(null), close(random), close(inner), close(innermost), close(counter), close(timer), close(e);
}

static volatile sig_atomic_t handled;
static void handler(int number) { handled = number; }
static void interrupted(void) {
    puts("--- signals that interrupt");
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    int e = epoll_create1(0);
    sigset_t none, one;
    sigemptyset(&none), sigemptyset(&one), sigaddset(&one, SIGUSR1);
    sigprocmask(SIG_BLOCK, &one, NULL);
    raise(SIGUSR1);
    struct epoll_event list[1];
    says("pending, at once", epoll_pwait(e, list, 1, 0, &none));
    printf("handled %d\n", handled), handled = 0;
    raise(SIGUSR1);
    says("pending", epoll_pwait(e, list, 1, 1000, &none));
    printf("handled %d\n", handled), handled = 0;
    raise(SIGUSR1);
    says("blocked", epoll_pwait(e, list, 1, 2, &one));
    printf("handled %d\n", handled);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
    printf("handled %d\n", handled), handled = 0;
    pid_t me = getpid();
    if (forked() == 0) {
        nap(20000);
        kill(me, SIGUSR1);
        nap(20000);
        _exit(0);
    }
    says("while it waits", epoll_wait(e, list, 1, 2000));
    printf("handled %d\n", handled), handled = 0;
    waited(the_child);
    int fd = eventfd(0, 0);
    if (forked() == 0) {
        nap(20000);
        kill(me, SIGUSR1);
        nap(20000);
        put("counted", fd, 3), fflush(stdout);
        _exit(0);
    }
    fflush(stdout);
    got_number("goes on", fd);
    printf("handled %d\n", handled);
    waited(the_child);
    close(fd), close(e);
}

int main(void) {
    counters(), timers(), signals(), watching(), interrupted();
    return 0;
}
