/* What a process can ask about itself and its system. Values that differ between systems are not printed. */
#include "common.h"
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

static void itself(void) {
    holds("the process id is positive", getpid() > 0);
    holds("the only thread has the same", syscall(SYS_gettid) == getpid());
    holds("the parent is another", getppid() != getpid());
    printf("uid %d %d gid %d %d\n", (int)getuid(), (int)geteuid(), (int)getgid(), (int)getegid());
    holds("set_tid_address says the thread's id", syscall(SYS_set_tid_address, NULL) == getpid());
}

static void places(void) {
    char path[4096], small[2];
    holds("there is a working directory", getcwd(path, sizeof path) != NULL && path[0] == '/');
    says("getcwd, no room", syscall(SYS_getcwd, small, 0UL) == -1 ? -1 : 0);
    long n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    holds("/proc/self/exe is absolute", path[0] == '/');
    holds("/proc/self/exe names this program", strstr(path, "process") != NULL);
    n = readlink("/proc/self/exe", small, 2);
    holds("readlink cuts what does not fit", n == 2 && small[0] == '/');
    says("readlink, size 0", readlink("/proc/self/exe", path, 0));
    says("readlink of a directory", readlink("/", path, sizeof path));
    says("readlink of nothing", readlink("/no/such/thing", path, sizeof path));
    says("readlink, bad name", syscall(SYS_readlink, 16L, path, sizeof path));
    says("readlink, bad buffer", syscall(SYS_readlink, "/proc/self/exe", 16L, 100UL));
}

static void limits(void) {
    struct rlimit limit;
    says("stack limit", getrlimit(RLIMIT_STACK, &limit));
    printf("the stack may have %lu MiB\n", (unsigned long)limit.rlim_cur / MIB);
    says("no such limit", syscall(SYS_prlimit64, 0, 99, NULL, &limit));
    says("limit to a bad address", syscall(SYS_prlimit64, 0, RLIMIT_STACK, NULL, 16L));
    says("limit of nobody", syscall(SYS_prlimit64, 0x3fffff, RLIMIT_STACK, NULL, &limit));
}

static void names(void) {
    struct utsname name;
    says("uname", uname(&name));
    printf("system %s machine %s\n", name.sysname, name.machine);
    holds("it has a name, a release and a version", name.nodename[0] && name.release[0] && name.version[0]);
    holds("the release is a recent Linux's", atoi(name.release) >= 4);
    says("uname to a bad address", syscall(SYS_uname, 16L));
}

static void randomness(void) {
    unsigned char a[256] = {0}, b[256] = {0};
    static unsigned char many[300000];
    says_value("random bytes", getrandom(a, sizeof a, 0));
    says_value("more", syscall(SYS_getrandom, b, sizeof b, GRND_NONBLOCK));
    holds("they differ", memcmp(a, b, sizeof a) != 0);
    int seen[256] = {0}, distinct = 0;
    says_value("many", getrandom(many, sizeof many, 0));
    for (size_t i = 0; i < sizeof many; i++) seen[many[i]]++;
    for (int i = 0; i < 256; i++) distinct += seen[i] > 800 && seen[i] < 1600;
    says_value("values that are neither rare nor frequent", distinct);
    says_value("none", getrandom(a, 0, 0));
    says("unknown flags", syscall(SYS_getrandom, a, sizeof a, 0x80));
    says("random bytes to a bad address", syscall(SYS_getrandom, 16L, 8UL, 0));
}

static void signals(void) {
    struct sigaction action = {.sa_handler = SIG_IGN, .sa_flags = SA_RESTART}, old;
    says("sigaction", sigaction(SIGUSR1, &action, &old));
    holds("the default was there", old.sa_handler == SIG_DFL);
    says("sigaction, ask", sigaction(SIGUSR1, NULL, &old));
    holds("what was set is there", old.sa_handler == SIG_IGN && (old.sa_flags & SA_RESTART));
    says("sigaction of SIGKILL", sigaction(SIGKILL, &action, NULL));
    says("sigaction of signal 0", syscall(SYS_rt_sigaction, 0, NULL, NULL, 8UL));
    says("sigaction of signal 65", syscall(SYS_rt_sigaction, 65, NULL, NULL, 8UL));
    says("sigaction with a wrong size", syscall(SYS_rt_sigaction, SIGUSR2, NULL, NULL, 16UL));
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGKILL);
    says("block", sigprocmask(SIG_BLOCK, &set, NULL));
    says("ask", sigprocmask(SIG_BLOCK, NULL, &before));
    holds("it is blocked", sigismember(&before, SIGUSR2));
    holds("SIGKILL can't be", !sigismember(&before, SIGKILL));
    says("a blocked signal waits", raise(SIGUSR2));
    signal(SIGUSR2, SIG_IGN);
    says("unblock", sigprocmask(SIG_UNBLOCK, &set, &before));
    says("no such way", syscall(SYS_rt_sigprocmask, 9, &set, NULL, 8UL));
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536}, was;
    says("sigaltstack", sigaltstack(&stack, &was));
    holds("there was none", was.ss_flags == SS_DISABLE);
    says("sigaltstack, ask", sigaltstack(NULL, &was));
    holds("it is there", was.ss_sp == stack.ss_sp && was.ss_size == 65536 && was.ss_flags == 0);
    says("sigaltstack too small", sigaltstack(&(stack_t){.ss_sp = stack.ss_sp, .ss_size = 100}, NULL));
}

static void unknown(void) {
    static const long numbers[] = {340, 400, 423, 600, 999, 65535, 0x7fffffff, -1, 0x40000000 | 999};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        printf("system call %ld ", numbers[i]);
        says("is", syscall(numbers[i], 1, 2, 3, 4, 5, 6));
    }
    says("arch_prctl of nothing", syscall(SYS_arch_prctl, 0x9999, 0L));
    says("FS base beyond the user's", syscall(SYS_arch_prctl, 0x1002, 0xffff800000000000UL));
    says("FS base not canonical", syscall(SYS_arch_prctl, 0x1002, 0x8000000000000000UL));
    unsigned long fs = 0, self;
    says("ask for the FS base", syscall(SYS_arch_prctl, 0x1003, &fs));
    __asm__("mov %%fs:0, %0" : "=r"(self));
    holds("it is the thread's", fs == self);
    says("set the GS base", syscall(SYS_arch_prctl, 0x1001, &self));
    unsigned long by_gs;
    __asm__ volatile("mov %%gs:0, %0" : "=r"(by_gs));
    sched_yield();
    holds("GS leads there", by_gs == self);
    nap(2000);
    __asm__ volatile("mov %%gs:0, %0" : "=r"(by_gs));
    holds("GS leads there after a sleep", by_gs == self);
}

static void system_wide(void) {
    struct sysinfo info;
    struct timespec boot;
    memset(&info, 0x55, sizeof info);
    says("sysinfo", sysinfo(&info));
    need(clock_gettime(CLOCK_BOOTTIME, &boot) == 0, "the time since boot");
    holds("it is up as long as its clock says", labs(info.uptime - boot.tv_sec) <= 2);
    holds("there is memory", info.totalram * info.mem_unit > 4 * MIB);
    holds("some of it is free", info.freeram > 0 && info.freeram < info.totalram);
    holds("someone runs", info.procs > 0);
    printf("high memory %lu %lu, unit %u\n", info.totalhigh, info.freehigh, info.mem_unit);
    holds("sysconf knows the memory", sysconf(_SC_PHYS_PAGES) == (long)(info.totalram / PAGE * info.mem_unit));
    holds("and what is free", sysconf(_SC_AVPHYS_PAGES) > 0);
    says("sysinfo, bad address", syscall(SYS_sysinfo, 16L));
}

int main(void) {
    itself();
    system_wide();
    places();
    limits();
    names();
    randomness();
    signals();
    unknown();
    return 0;
}
