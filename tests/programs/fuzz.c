/* System calls with random numbers and arguments, in children: the kernel must live, and so must everyone else.
 * The first process of the last guest makes them; all others count in a shared segment and say whether their bytes stay
 * theirs. Guests only: it refuses to run where there is a whole Linux.   usage: fuzz SEED SECONDS */
#include "conf.h"
#include <sys/file.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <ucontext.h>

struct control {
    struct meeting meeting;
    _Atomic int over;
    _Atomic long counts[64];
};
static uint64_t seed;
static int cloned;
static int own_ids[64];

static uint64_t random_bits(void) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1du;
}
static char *text_page;
static unsigned long argument(void) {
    static const unsigned long edges[] = {0, 1, 2, 3, 4, 7, 8, 16, 64, 255, 256, 1000, 4095, 4096, 4097, 8192, 65535, 65536, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
        0x7fffffffe000, 0x7fffffffefff, 0x7ffffffff000, 0x800000000000, 0xffff800000000000, 0xffffffff80000000, 0xfffffffffffff000, 0x8000000000000000, 0x7fffffffffffffff, ~0UL, ~1UL, ~0xfffUL};
    uint64_t kind = random_bits();
    switch (kind % 12) {
    case 0: case 1: case 2: return edges[kind / 16 % (sizeof edges / sizeof *edges)];
    case 3: return random_bits();
    case 4: return random_bits() & 0xfff;
    case 5: return 1UL << (kind / 16 % 64);
    case 6: return (unsigned long)text_page + (kind / 16 % 64) * 64;
    case 7: return (unsigned long)text_page + PAGE - (kind / 16 % 32); /* Across the end of what is mapped. */
    case 8: return (unsigned long)FREE_PLACE + (kind / 16 % 64) * PAGE;
    case 9: return (unsigned long)&kind & ~(kind / 16 % 2 ? 0 : PAGE - 1);
    case 10: return own_ids[kind / 16 % 8];
    default: return kind / 16 % 10;
    }
}
/* Calls that would be no fault of the kernel's: ending others, holding others up, flooding the output. */
static int excused(long number, unsigned long *a) {
    switch (number) {
    case SYS_kill: case SYS_tkill: a[0] = 0x3fffff; return 0;
    case SYS_tgkill: a[0] = a[1] = 0x3fffff; return 0;
    case SYS_rt_sigqueueinfo: a[0] = 0x3fffff; return 0;
    case SYS_rt_tgsigqueueinfo: a[0] = a[1] = 0x3fffff; return 0;
    case SYS_reboot: case SYS_setpgid: case SYS_setsid: case SYS_pidfd_send_signal: return 1;
    case SYS_write: case SYS_writev: case SYS_pwrite64: case SYS_pwritev: case SYS_pwritev2: case SYS_sendfile:
        if ((unsigned)a[0] - 1 < 2) a[0] = 77;
        return 0;
    case SYS_dup: case SYS_dup2: case SYS_dup3: return (unsigned)a[0] - 1 < 2;
    /* What the others have as theirs, too. */
    case SYS_fcntl: case SYS_ioctl: return (unsigned)a[0] < 3;
    case SYS_fork: case SYS_vfork: case SYS_clone: case SYS_clone3: return cloned++ > 0;
    case SYS_shmctl: case SYS_shmat:
        /* Not what belongs to the others. */
        for (int i = 8; i < 16; i++)
            if ((int)a[0] == own_ids[i] || ((int)a[0] & 32767) == own_ids[i]) a[0] = own_ids[0];
        return 0;
    }
    return 0;
}

static const short favourites[] = {SYS_read, SYS_write, SYS_open, SYS_close, SYS_lseek, SYS_mmap, SYS_mprotect, SYS_munmap, SYS_brk, SYS_rt_sigaction, SYS_rt_sigprocmask,
    SYS_pread64, SYS_readv, SYS_writev, SYS_sched_yield, SYS_mremap, SYS_madvise, SYS_shmget, SYS_shmat, SYS_shmctl, SYS_shmdt, SYS_nanosleep, SYS_clone, SYS_fork, SYS_execve, SYS_wait4, SYS_kill,
    SYS_readlink, SYS_gettimeofday, SYS_getrlimit, SYS_setrlimit, SYS_setuid, SYS_setgroups, SYS_getgroups, SYS_setresuid, SYS_setresgid, SYS_getpgid, SYS_sigaltstack, SYS_arch_prctl,
    SYS_futex, SYS_set_tid_address, SYS_clock_gettime, SYS_clock_nanosleep, SYS_waitid, SYS_openat, SYS_newfstatat, SYS_set_robust_list, SYS_get_robust_list, SYS_prlimit64, SYS_getrandom, SYS_poll, SYS_stat,
    SYS_rt_sigreturn, SYS_rt_sigpending, SYS_rt_sigtimedwait, SYS_rt_sigsuspend, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_alarm, SYS_setitimer, SYS_getitimer, SYS_timer_create, SYS_timer_settime,
    SYS_creat, SYS_lstat, SYS_fstat, SYS_statx, SYS_preadv, SYS_pwritev, SYS_pwrite64, SYS_preadv2, SYS_pwritev2, SYS_access, SYS_faccessat, SYS_pipe, SYS_pipe2, SYS_dup, SYS_dup2, SYS_dup3,
    SYS_fcntl, SYS_flock, SYS_ftruncate, SYS_truncate, SYS_fallocate, SYS_getdents64, SYS_getcwd, SYS_chdir, SYS_fchdir, SYS_rename, SYS_renameat2, SYS_mkdir, SYS_rmdir, SYS_link, SYS_unlink, SYS_unlinkat, SYS_symlink,
    SYS_chmod, SYS_fchmod, SYS_chown, SYS_fchown, SYS_utimensat, SYS_umask, SYS_mknod, SYS_statfs, SYS_fstatfs, SYS_fsync, SYS_msync, SYS_mmap, SYS_mmap, SYS_openat, SYS_open, SYS_open, SYS_sendfile, SYS_select, SYS_pselect6,
    SYS_ppoll, SYS_ioctl, SYS_close_range, SYS_timer_gettime, SYS_timer_getoverrun, SYS_timer_delete, SYS_sigaltstack, SYS_rt_sigaction, SYS_rt_sigprocmask,
    SYS_mlock, SYS_mlock2, SYS_munlock, SYS_mlockall, SYS_munlockall, SYS_mincore, SYS_remap_file_pages, SYS_remap_file_pages, SYS_getpriority, SYS_setpriority, SYS_personality, SYS_capget, SYS_capset, SYS_prctl, SYS_prctl,
    SYS_utime, SYS_utimes, SYS_futimesat, SYS_fadvise64, SYS_readahead, SYS_sync_file_range, SYS_syncfs, SYS_copy_file_range, SYS_memfd_create, SYS_eventfd, SYS_eventfd2, SYS_signalfd4, SYS_timerfd_create, SYS_timerfd_settime,
    SYS_timerfd_gettime, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_ctl, SYS_epoll_wait, SYS_epoll_pwait};

/* The end of a process whose registers may be anything. */
void landing(void);
__asm__(".text; landing: mov $60, %eax; xor %edi, %edi; syscall; ud2");
static unsigned long signal_set(void) { return random_bits() & random_bits(); }

/* Goes back through a frame that no signal has made: some of it sensible, so that it comes far, the rest whatever. */
static void hostile_frame(void) {
    unsigned char *room = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) return;
    if (random_bits() % 8 == 0) mprotect(room + 2 * PAGE, PAGE, random_bits() % 8);
    ucontext_t *u = (void *)(room + PAGE + random_bits() % (PAGE / 8) * 8);
    unsigned char *fpu = room + random_bits() % 64 * 64;
    unsigned long *words = (unsigned long *)u;
    if (random_bits() % 2)
        for (unsigned i = 0; i < 55; i++) words[i] = random_bits() % 2 ? argument() : random_bits();
    else
        for (unsigned i = 0; i < 18; i++) u->uc_mcontext.gregs[i] = argument();
    unsigned short *segments = (unsigned short *)&u->uc_mcontext.gregs[REG_CSGSFS];
    if (random_bits() % 8) segments[0] = 0x33, segments[3] = 0x2b;
    if (random_bits() % 4) u->uc_mcontext.gregs[REG_RIP] = (greg_t)landing;
    if (random_bits() % 4) u->uc_flags = random_bits() % 8;
    if (random_bits() % 2) *(unsigned long *)&u->uc_sigmask = signal_set();
    u->uc_mcontext.fpregs = (void *)(random_bits() % 8 ? (unsigned long)fpu : argument());
    for (unsigned i = 0; i < 64; i++) ((unsigned long *)fpu)[i] = random_bits();
    if (random_bits() % 4) ((unsigned *)fpu)[6] &= random_bits() % 2 ? 0xffff : 0xff003fff;
    __asm__ volatile("mov %0, %%rsp; mov $15, %%eax; syscall; ud2" ::"r"(u) : "rax", "memory");
}

/* Handlers that may be anywhere, on stacks that may be anywhere, for signals that come at once, by a timer or by faults. */
static void nothing(int number) { (void)number; }
static void hostile_handlers(void) {
    for (int i = 0; i < 12; i++) {
        static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGUSR1, SIGALRM, 40, 41};
        int number = numbers[random_bits() % 9];
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_handler = random_bits() % 4 ? nothing : random_bits() % 2 ? (void (*)(int))landing : (void (*)(int))argument();
        action.sa_flags = random_bits() & (SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESETHAND | SA_RESTART);
        *(unsigned long *)&action.sa_mask = signal_set();
        sigaction(number, &action, NULL);
        stack_t stack = {.ss_sp = (void *)argument(), .ss_size = random_bits() % 2 ? PAGE * 2 : argument(), .ss_flags = random_bits() % 2 ? 1u << 31 : random_bits() % 4};
        sigaltstack(&stack, NULL);
        struct itimerval timer = {{0, random_bits() % 3000}, {0, random_bits() % 3000}};
        switch (random_bits() % 8) {
        case 0: setitimer(ITIMER_REAL, &timer, NULL); break;
        case 1: *(volatile char *)argument() = 1; break;
        case 2: __asm__ volatile("ud2"); break;
        case 3: nap(random_bits() % 3000); break;
        case 4: syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number); break;
        case 5: sigprocmask(SIG_SETMASK, (sigset_t *)(random_bits() % 2 ? argument() : (unsigned long)&action.sa_mask), NULL); break;
        default: kill(getpid(), number); break;
        }
    }
}

static void storm(void) {
    int calls = 20 + random_bits() % 200;
    if (random_bits() % 4 == 0) hostile_handlers();
    if (random_bits() % 4 == 0) hostile_frame();
    if (random_bits() % 2) become(1001 + random_bits() % 3, 2001, 0, NULL);
    for (int i = 0; i < calls; i++) {
        unsigned long a[6];
        for (int j = 0; j < 6; j++) a[j] = argument();
        long number = random_bits() % 4 ? favourites[random_bits() % (sizeof favourites / sizeof *favourites)] : random_bits() % 470;
        if (random_bits() % 200 == 0) number = (long)argument();
        if (number == SYS_shmget && random_bits() % 4) a[1] %= 1 << 20, a[0] = 0x4000 + a[0] % 16, a[2] |= IPC_CREAT;
        if ((number == SYS_nanosleep || number == SYS_clock_nanosleep || number == SYS_futex || number == SYS_pause || number == SYS_rt_sigsuspend || number == SYS_rt_sigtimedwait || number == SYS_poll || number == SYS_ppoll || number == SYS_select || number == SYS_pselect6 || number == SYS_flock || number == SYS_epoll_wait || number == SYS_epoll_pwait) && random_bits() % 8) continue;
        /* Often what makes sense. */
        if (number == SYS_open && random_bits() % 4) a[0] = (unsigned long)text_page + 320 + random_bits() % 12 * 64, a[1] |= random_bits() % 2 ? O_CREAT | O_RDWR : 0;
        if (number == SYS_remap_file_pages && random_bits() % 2) a[1] %= 1 << 16, a[2] = 0, a[3] %= 64;
        if (number == SYS_prctl && random_bits() % 2) a[0] %= 48, a[1] %= 64;
        if (number == SYS_epoll_ctl && random_bits() % 2) a[0] = 3 + a[0] % 8, a[1] = 1 + a[1] % 3, a[2] = random_bits() % 12;
        if (number == SYS_fcntl && random_bits() % 8 == 0) a[0] = 3 + a[0] % 8, a[1] = 1033, a[2] %= 64;
        if ((number == SYS_eventfd2 || number == SYS_memfd_create || number == SYS_timerfd_create || number == SYS_epoll_create1) && random_bits() % 2) a[0] = number == SYS_memfd_create ? (unsigned long)text_page : number == SYS_epoll_create1 ? 0 : a[0] % 2, a[1] %= 4;
        if ((number == SYS_ftruncate || number == SYS_lseek) && random_bits() % 2) a[1] %= 1 << 20;
        if (number == SYS_mmap && random_bits() % 2) a[1] %= 1 << 16, a[3] = (a[3] & 0x13) | 1 << random_bits() % 2, a[4] = 3 + random_bits() % 4, a[5] = a[5] % 8 * PAGE;
        if (excused(number, a)) continue;
        long result = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (number == SYS_shmget && result >= 0) own_ids[random_bits() % 8] = result;
    }
    _exit(0);
}

int main(int argc, char **argv) {
    struct utsname system;
    if (uname(&system) || !strstr(system.release, "-tombolo")) {
        puts("this is no guest: random system calls are not for a whole Linux");
        return 98;
    }
    need(argc == 3, "a seed and a number of seconds");
    seed = strtoull(argv[1], NULL, 0) * 0x9e3779b97f4a7c15u | 1;
    int word = segment_of_all(0xf022, sizeof(struct control)), bytes = segment_of_all(0xf023, 64 * PAGE);
    struct control *control = attached(word, NULL, 0);
    unsigned char *mine = attached(bytes, NULL, 0);
    mine += rank() * PAGE;
    meet(&control->meeting);
    if (rank() != copies() - 1) {
        long wrong = 0;
        for (long count = 1; !atomic_load(&control->over); count++) {
            memset(mine, count, PAGE);
            char *q = attached(bytes, NULL, SHM_RDONLY);
            for (size_t i = 0; i < PAGE; i++) wrong += (unsigned char)q[rank() * PAGE + i] != (unsigned char)count;
            if (shmdt(q)) wrong++;
            atomic_store(&control->counts[rank()], count);
            nap(500);
        }
        holds("it counted", atomic_load(&control->counts[rank()]) > 10);
        says_value("wrong bytes", wrong);
        meet(&control->meeting);
        return 0;
    }
    /* Neither it nor its children may touch the others' memory by accident: random addresses never hit it. */
    own_ids[8] = word, own_ids[9] = bytes;
    for (int i = 10; i < 16; i++) own_ids[i] = -7;
    munmap(mine - rank() * PAGE, 64 * PAGE);
    text_page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(text_page + PAGE, PAGE);
    strcpy(text_page, "/proc/sysvipc/shm"), strcpy(text_page + 64, "/proc/self/exe"), strcpy(text_page + 128, "/proc/sys/kernel/shmmni");
    /* Files of their own, places, and things in /proc. */
    static const char *const paths[] = {"/tmp/a", "/tmp/b", "/tmp/d/c", "/tmp/d", "/dev/zero", "/proc/self/maps", "/proc/self/fd", "/tmp/link", "/dev/shm/a", "/dev/shm/b", "/dev/shm/a", "/dev/shm/b"};
    for (int i = 0; i < 12; i++) strcpy(text_page + 320 + i * 64, paths[i]);
    mkdir("/tmp/d", 0777), symlink("/tmp/b", "/tmp/link");
    *(void **)(text_page + 192) = text_page, *(long *)(text_page + 256) = 1000;
    long children = 0, killed = 0, signals[65] = {0}, exits = 0, hung = 0;
    time_t end = time(NULL) + atoi(argv[2]);
    fflush(stdout);
    madvise(control, sizeof *control, MADV_DONTFORK);
    /* One at a time, each with what it has started in a group of its own. */
    while (time(NULL) < end) {
        uint64_t next = random_bits();
        pid_t child = fork();
        if (child < 0) { nap(1000); continue; }
        if (child == 0) {
            setpgid(0, 0);
            seed = next | 1;
            storm();
        }
        children++;
        int status = 0, looks = 0;
        while (waitpid(child, &status, WNOHANG) == 0) {
            if (looks++ == 100) killed++, setpgid(child, child), kill(-child, SIGKILL), kill(child, SIGKILL);
            if (looks > 20000) { hung++; break; }
            nap(1000);
        }
        kill(-child, SIGKILL);
        if (WIFSIGNALED(status)) signals[WTERMSIG(status)]++;
        else exits++;
        while (waitpid(-1, &status, WNOHANG) > 0);
    }
    printf("%ld children, %ld by exit, %ld killed for taking long, by signal:", children, exits, killed);
    for (int i = 1; i < 65; i++)
        if (signals[i]) printf(" %d:%ld", i, signals[i]);
    puts("");
    holds("no child could not be killed", hung == 0);
    /* What children made stays behind. */
    int fd = open("/proc/sys/kernel/shmmni", O_WRONLY);
    if (fd >= 0) write(fd, "4096\n", 5), close(fd);
    for (int i = 0; i < 12; i++) unlink(paths[i]);
    fd = open("/tmp/at the end", O_RDWR | O_CREAT, 0600);
    char text[6] = "";
    holds("files work", fd >= 0 && write(fd, "works", 5) == 5 && pread(fd, text, 5, 0) == 5 && !strcmp(text, "works") && close(fd) == 0 && unlink("/tmp/at the end") == 0);
    struct shm_usage usage;
    struct shmid_ds s;
    int highest = syscall(SYS_shmctl, 0, SHM_INFO, &usage), left = 0;
    for (int index = 0; index <= highest; index++) {
        int id = syscall(SYS_shmctl, index, SHM_STAT_ANY, &s);
        if (id >= 0 && id != word && id != bytes) left++, shmctl(id, IPC_RMID, NULL);
    }
    for (int i = 0; i < 3; i++) AS_CHILD need(nattch(bytes) >= 0, "a child that works");
    puts("it goes on");
    atomic_store(&control->over, 1);
    meet(&control->meeting);
    for (int naps = 0; nattch(bytes) != 0 && naps < 10000; naps++) nap(1000);
    says_value("attaches at the end", nattch(bytes));
    removed(bytes), removed(word);
    return 0;
}
