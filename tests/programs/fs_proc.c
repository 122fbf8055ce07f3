/* /proc: mappings, processes, descriptors, and what it says of the system. */
#include "fs.h"
#include <ctype.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>

int main(void);
static char text[1 << 16];

static long whole(const char *path) {
    int fd = open(path, O_RDONLY);
    long length = 0, got;
    if (fd < 0) return -1;
    while ((got = read(fd, text + length, 1000)) > 0) length += got;
    close(fd);
    text[length] = 0;
    return length;
}
/* A line of the last text that starts so; without what follows it. */
static const char *line_with(const char *start) {
    static char lines[8][500];
    static int next;
    char *line = lines[next++ % 8];
    for (char *at = text; *at; at = strchr(at, '\n') + 1) {
        if (!strncmp(at, start, strlen(start))) {
            snprintf(line, sizeof lines[0], "%.*s", (int)strcspn(at, "\n"), at);
            return line;
        }
        if (!strchr(at, '\n')) break;
    }
    return "(none)";
}

/* The lines of maps within a range, with offsets from its start. `file`: whose inode number is expected. */
static void maps_of(const char *name, char *from, long length, const char *file) {
    printf("%s\n", name);
    need(whole("/proc/self/maps") > 0, "maps");
    struct stat s = {0};
    if (file) fstatat(AT_FDCWD, file, &s, 0);
    for (char *at = text; *at; at = strchr(at, '\n') + 1) {
        unsigned long start, end, offset, inode;
        unsigned major, minor;
        char rights[8] = "", path[300] = "", line[500];
        int used = 0;
        snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
        sscanf(line, "%lx-%lx %7s %lx %x:%x %lu%n %299[^\n]", &start, &end, rights, &offset, &major, &minor, &inode, &used, path);
        if (start >= (unsigned long)from + length || end <= (unsigned long)from) continue;
        char *shown = strncmp(path, home, strlen(home)) ? path : path + strlen(home);
        printf("  %lx-%lx %s %lx inode %s %s", start - (unsigned long)from, end - (unsigned long)from, rights, offset, inode == 0 ? "0" : file && inode == s.st_ino ? "the file's" : form("%lu", inode), shown);
        printf(" name at %d\n", path[0] ? (int)(strstr(line, path) - line) : -1);
    }
}

static void mappings(void) {
    puts("-- maps");
    char *base = FREE_PLACE;
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    ftruncate(fd, 10 * PAGE);
    mmap(base, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 2 * PAGE);
    mmap(base + 6 * PAGE, 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0);
    mmap(base + 12 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
    mmap(base + 18 * PAGE, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
    maps_of("file and anonymous", base, 30 * PAGE, "f");
    mprotect(base + PAGE, PAGE, PROT_READ);
    munmap(base + 13 * PAGE, PAGE);
    mprotect(base + 7 * PAGE, PAGE, PROT_READ | PROT_EXEC);
    maps_of("parts changed", base, 30 * PAGE, "f");
    mprotect(base + PAGE, PAGE, PROT_READ | PROT_WRITE);
    mprotect(base + 7 * PAGE, PAGE, PROT_READ);
    maps_of("and back", base, 30 * PAGE, "f");
    mmap(base + 10 * PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 4 * PAGE);
    mmap(base + 16 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
    maps_of("with more beside them", base, 30 * PAGE, "f");
    rename("f", "g");
    maps_of("renamed", base, 4 * PAGE, "g");
    link("g", "h");
    struct stat s;
    fstat(fd, &s);
    unlink("g");
    unlink("h");
    close(fd);
    need(whole("/proc/self/maps") > 0, "maps");
    printf("removed: %s\n", strstr(text, "(deleted)") ? "(deleted)" : "not said");
    munmap(base, 30 * PAGE);
    /* Attaches. */
    int id = made(0x12ab, 5 * PAGE - 100, IPC_CREAT | 0600), private = made(IPC_PRIVATE, PAGE, 0600), negative = made(-5, PAGE, IPC_CREAT | 0600);
    attached(id, base, 0);
    attached(id, base + 8 * PAGE, SHM_RDONLY);
    attached(private, base + 16 * PAGE, SHM_EXEC);
    attached(negative, base + 20 * PAGE, 0);
    printf("%s", form("ids %d %d %d\n", id, private, negative));
    maps_of("attaches", base, 30 * PAGE, NULL);
    mprotect(base + PAGE, 2 * PAGE, PROT_READ);
    munmap(base + 9 * PAGE, PAGE);
    maps_of("parts changed", base, 30 * PAGE, NULL);
    removed(id);
    maps_of("removed", base, 30 * PAGE, NULL);
    AS_CHILD maps_of("in a child", base, 12 * PAGE, NULL);
    munmap(base, 30 * PAGE);
    removed(private), removed(negative);
    /* The program's own. */
    char *heap = (char *)syscall(SYS_brk, 0);
    need((char *)syscall(SYS_brk, heap + 3 * PAGE) == heap + 3 * PAGE, "a heap");
    whole("/proc/self/maps");
    int heaps = 0, stacks = 0, programs = 0, code = 0, vdso = 0;
    char exe[300] = "";
    readlink("/proc/self/exe", exe, 299);
    for (char *at = text; *at; at = strchr(at, '\n') + 1) {
        char line[500];
        snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
        unsigned long start, end;
        char rights[8];
        sscanf(line, "%lx-%lx %7s", &start, &end, rights);
        if (strstr(line, "[heap]")) heaps++, printf("heap %s %s\n", rights, (unsigned long)heap >= start && (unsigned long)heap + 3 * PAGE <= end ? "holds it" : "elsewhere");
        if (strstr(line, "[stack]")) stacks++, printf("stack %s %s\n", rights, (unsigned long)&line >= start && (unsigned long)&line < end ? "holds this" : "elsewhere");
        if (strstr(line, "[vdso]")) vdso++;
        if (strstr(line, exe)) {
            programs++;
            if ((unsigned long)main >= start && (unsigned long)main < end) code++, printf("code %s\n", rights);
        }
    }
    printf("%d heap, %d stack, %d with main, the program %s, vdso %s\n", heaps, stacks, code, programs >= 2 ? "several times" : "missing", vdso ? "yes" : "no");
    says("maps of another that is not", open("/proc/999999/maps", O_RDONLY));
    says("write to maps", open("/proc/self/maps", O_WRONLY) < 0 ? -1 : 0);
}

static const char *field(int number) {
    static char fields[4][40];
    static int next;
    char *at = strrchr(text, ')') + 2;
    for (int i = 3; i < number; i++) at = strchr(at, ' ') + 1;
    return snprintf(fields[next % 4], 40, "%.*s", (int)strcspn(at, " \n"), at), fields[next++ % 4];
}

static void processes(void) {
    puts("-- processes");
    /* Linux counts resident pages by the dozen: a program with few may have none. */
    static char much[1 << 21];
    memset(much, 1, sizeof much);
    need(whole("/proc/self/stat") > 0, "stat");
    printf("pid %s, name %.*s, state %s\n", atoi(text) == getpid() ? "mine" : "another", (int)(strrchr(text, ')') - strchr(text, '(') + 1), strchr(text, '('), field(3));
    int fields = 2;
    for (char *at = strrchr(text, ')'); *at; at++) fields += *at == ' ';
    printf("%d fields, ends in a new line %s\n", fields, strchr(text, '\n') == text + strlen(text) - 1 ? "yes" : "no");
    printf("parent %d group %d session %d terminal %s threads %s\n", atoi(field(4)) == getppid(), atoi(field(5)) == getpgrp(), atoi(field(6)) == getsid(0), "0", field(20));
    holds("has memory", atol(field(23)) > 0 && atol(field(24)) > 0);
    holds("arguments lie in order", strtoul(field(48), NULL, 10) <= strtoul(field(49), NULL, 10) && strtoul(field(49), NULL, 10) <= strtoul(field(51), NULL, 10));
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGRTMIN + 3);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGUSR2, SIG_IGN);
    signal(SIGTERM, (void (*)(int))(void *)main);
    AS_CHILD {
        gid_t groups[] = {70, 50, 60};
        need(setgroups(3, groups) == 0 && setresgid(1, 2, 3) == 0 && setresuid(1001, 1002, 1003) == 0, "ids");
        umask(0137);
        need(whole("/proc/self/status") > 0, "status");
        printf("%s|%s|%s|%s|%s|%s\n", line_with("Umask"), line_with("Uid"), line_with("Gid"), line_with("Groups"), line_with("Threads"), line_with("TracerPid"));
        printf("%s|%s|%s\n", line_with("SigPnd"), line_with("SigBlk"), line_with("SigCgt"));
        /* Whoever started this may ignore signals that the C libraries keep for themselves. */
        printf("ignored %llx\n", strtoull(line_with("SigIgn") + 7, NULL, 16) & 0x7fffffff);
        printf("%s|%s\n", line_with("CapEff"), line_with("CapPrm"));
    }
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    signal(SIGUSR2, SIG_DFL), signal(SIGTERM, SIG_DFL);
    whole("/proc/self/status");
    printf("%s\n", line_with("State"));
    holds("ids", atoi(line_with("Pid:") + 5) == getpid() && atoi(line_with("Tgid:") + 6) == getpid() && atoi(line_with("PPid:") + 6) == getppid());
    holds("sizes", strstr(line_with("VmSize:"), " kB") != NULL && atoi(line_with("VmRSS:") + 7) > 0);
    long length = whole("/proc/self/cmdline");
    printf("cmdline of %d strings, the last is %s\n", (int)(strlen(text) + 1 < (unsigned long)length ? 2 : 1), length ? "whole" : "missing");
    holds("the program's name is in it", strstr(text, "fs_proc") != NULL);
    length = whole("/proc/self/environ");
    int variables = 0;
    for (long i = 0; i < length; i++) variables += text[i] == 0;
    printf("%d variables\n", variables);
    /* A child, seen from outside. */
    int ends[2], back[2];
    pipe(ends), pipe(back);
    pid_t child = forked();
    if (child == 0) {
        close(ends[1]);
        char byte;
        write(back[1], "x", 1);
        read(ends[0], &byte, 1);
        _exit(3);
    }
    close(ends[0]);
    char byte;
    read(back[0], &byte, 1);
    for (int i = 0; i < 100 && (whole(form("/proc/%d/stat", child)), strcmp(field(3), "S")); i++) nap(10000);
    printf("a child that waits: %s, parent %d\n", field(3), atoi(field(4)) == getpid());
    holds("its memory", whole(form("/proc/%d/maps", child)) > 100);
    holds("its arguments", whole(form("/proc/%d/cmdline", child)) > 5);
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    whole(form("/proc/%d/stat", child));
    long began = atol(field(22)), at = now.tv_sec * 100 + now.tv_nsec / 10000000;
    whole("/proc/self/stat");
    holds("began after this one, and not long ago", began >= atol(field(22)) && began <= at && began > at - 6000);
    struct stat s;
    AS_CHILD {
        become(1001, 1001, 0, NULL);
        says("another user: stat", open(form("/proc/%d/stat", child), O_RDONLY) < 0 ? -1 : 0);
        says("status", open(form("/proc/%d/status", child), O_RDONLY) < 0 ? -1 : 0);
        says("environ", open(form("/proc/%d/environ", child), O_RDONLY));
        says("maps", open(form("/proc/%d/maps", child), O_RDONLY) < 0 ? -1 : 0);
        says("exe", readlink(form("/proc/%d/exe", child), text, 100) < 0 ? -1 : 0);
        says("list descriptors", open(form("/proc/%d/fd", child), O_RDONLY) < 0 ? -1 : 0);
        stat(form("/proc/%d", child), &s);
        printf("owner %d:%d mode %o\n", (int)s.st_uid, (int)s.st_gid, s.st_mode & 07777);
        stat("/proc/self", &s);
        printf("mine %d:%d\n", (int)s.st_uid, (int)s.st_gid);
    }
    write(ends[1], "x", 1);
    for (int i = 0; i < 100 && (whole(form("/proc/%d/stat", child)), strcmp(field(3), "Z")); i++) nap(10000);
    printf("one that has ended: %s\n", field(3));
    whole(form("/proc/%d/status", child));
    printf("%s, memory %s\n", line_with("State"), line_with("VmSize"));
    says_value("its arguments", whole(form("/proc/%d/cmdline", child)));
    says("its program", readlink(form("/proc/%d/exe", child), text, 100) < 0 ? -1 : 0);
    int fd = open(form("/proc/%d/stat", child), O_RDONLY);
    waited(child);
    says("once waited for", open(form("/proc/%d/stat", child), O_RDONLY));
    says("what was open", read(fd, text, 10));
    says("stat", stat(form("/proc/%d", child), &s));
    close(fd), close(ends[1]), close(back[0]), close(back[1]);
}

static void descriptors(void) {
    puts("-- descriptors");
    for (int fd = 3; fd < 100; fd++) close(fd);
    int file = open("f", O_RDWR | O_CREAT, 0644), ends[2], dir = open(".", O_RDONLY);
    write(file, "content", 7);
    pipe(ends);
    dup2(file, 20);
    char link[300];
    ssize_t n = readlink("/proc/self/fd/20", link, 299);
    link[n < 0 ? 0 : n] = 0;
    printf("a file: %s\n", strcmp(link, form("%s/f", home)) ? link : "its path");
    n = readlink(form("/proc/self/fd/%d", dir), link, 299), link[n < 0 ? 0 : n] = 0;
    printf("a directory: %s\n", strcmp(link, home) ? link : "its path");
    struct stat s, t;
    fstat(ends[0], &s), fstat(ends[1], &t);
    holds("both ends have one number", s.st_ino == t.st_ino);
    n = readlink(form("/proc/self/fd/%d", ends[1]), link, 299), link[n < 0 ? 0 : n] = 0;
    holds("a pipe", !strcmp(link, form("pipe:[%lu]", (unsigned long)s.st_ino)));
    stat(form("/proc/self/fd/%d", ends[0]), &t);
    holds("stat follows", t.st_ino == s.st_ino && S_ISFIFO(t.st_mode));
    lstat("/proc/self/fd/20", &t);
    printf("the link itself: type %o mode %o\n", t.st_mode & S_IFMT, t.st_mode & 07777);
    for (int i = 0; i < 2; i++) lstat(form("/proc/self/fd/%d", ends[i]), &t), printf("of a pipe's end: mode %o\n", t.st_mode & 07777);
    int path = open("f", O_PATH);
    lstat(form("/proc/self/fd/%d", path), &t), printf("of O_PATH: mode %o\n", t.st_mode & 07777);
    close(path);
    /* Opened again: another open file. */
    int again = open("/proc/self/fd/20", O_RDONLY);
    char bytes[10] = "";
    says_value("opened again, read", read(again, bytes, 9));
    printf("%s\n", bytes);
    says_value("the first one's offset", lseek(file, 0, SEEK_CUR));
    int reader = open(form("/proc/self/fd/%d", ends[1]), O_RDONLY);
    write(ends[1], "p", 1);
    says_value("a pipe's other end", read(reader, bytes, 9));
    says("by /dev/fd", open("/dev/fd/20", O_RDONLY) < 0 ? -1 : 0);
    close(again), close(reader);
    unlink("f");
    n = readlink("/proc/self/fd/20", link, 299), link[n < 0 ? 0 : n] = 0;
    printf("removed: %s\n", strcmp(link, form("%s/f (deleted)", home)) ? link : "its path, and that it is gone");
    says("what is removed can be opened", open("/proc/self/fd/20", O_RDONLY) < 0 ? -1 : 0);
    says("no descriptor", open("/proc/self/fd/77", O_RDONLY));
    says("no number", open("/proc/self/fd/x", O_RDONLY));
    says("readlink of no descriptor", readlink("/proc/self/fd/77", link, 100));
    for (int fd = 21; fd < 100; fd++) close(fd);
    /* What is there. */
    DIR *d = opendir("/proc/self/fd");
    struct dirent *entry;
    int count = 0, known = 0;
    while ((entry = readdir(d)) != NULL) {
        count++;
        if (!strcmp(entry->d_name, "20") || !strcmp(entry->d_name, "0")) known++, printf("type %d\n", entry->d_type);
    }
    closedir(d);
    printf("known %d of %s\n", known, count >= 8 ? "many" : "few");
    says("/proc/self", readlink("/proc/self", link, 100) < 0 ? -1 : 0);
    n = readlink("/proc/self", link, 100), link[n] = 0;
    holds("is me", atoi(link) == getpid());
    n = readlink("/proc/self/cwd", link, 299), link[n] = 0;
    holds("where I am", !strcmp(link, home));
    n = readlink("/proc/self/root", link, 299), link[n] = 0;
    printf("root %s\n", link);
    n = readlink("/proc/self/exe", link, 299), link[n] = 0;
    holds("what I run", strstr(link, "fs_proc") && link[0] == '/');
    says("through cwd", open("/proc/self/cwd/.", O_RDONLY) < 0 ? -1 : 0);
    says("through root", open("/proc/self/root/tmp", O_RDONLY) < 0 ? -1 : 0);
    AS_CHILD {
        says("chdir into /proc", chdir("/proc/self"));
        says("and open from there", open("stat", O_RDONLY) < 0 ? -1 : 0);
        says("up", chdir("../sys/kernel"));
        char path[100];
        says("getcwd", getcwd(path, 100) ? 0 : -1);
        printf("%s\n", path);
    }
    close(file), close(20), close(ends[0]), close(ends[1]), close(dir);
}

static int is_number(const char *at) {
    if (!isdigit(*at)) return 0;
    while (isdigit(*at)) at++;
    return !strcmp(at, "\n");
}

static void the_system(void) {
    puts("-- the system");
    need(whole("/proc/meminfo") > 0, "meminfo");
    unsigned long total, free_now;
    holds("MemTotal", sscanf(line_with("MemTotal:"), "MemTotal: %lu kB", &total) == 1 && total > 10000);
    holds("MemFree", sscanf(line_with("MemFree:"), "MemFree: %lu kB", &free_now) == 1 && free_now > 1000 && free_now <= total);
    printf("in column %d\n", (int)strlen(line_with("MemTotal:")));
    holds("the huge ones", strstr(line_with("Hugepagesize:"), " kB") && strstr(text, "HugePages_Free:"));
    holds("SwapTotal, Shmem", strcmp(line_with("SwapTotal:"), "(none)") && strcmp(line_with("Shmem:"), "(none)"));
    whole("/proc/cpuinfo");
    long count = 0;
    for (char *at = text; (at = strstr(at, "processor\t:")) != NULL; at++) count++;
    holds("as many processors as there are", count == sysconf(_SC_NPROCESSORS_CONF) || count == sysconf(_SC_NPROCESSORS_ONLN));
    double up, idle;
    whole("/proc/uptime");
    holds("uptime", sscanf(text, "%lf %lf", &up, &idle) == 2 && up > 0);
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    holds("as the clock says", up <= now.tv_sec + 1 && up > now.tv_sec - 10);
    whole("/proc/stat");
    long user, nice, system, idles;
    holds("cpu", sscanf(line_with("cpu "), "cpu %ld %ld %ld %ld", &user, &nice, &system, &idles) == 4);
    holds("cpu0", !strncmp(line_with("cpu0 "), "cpu0 ", 5));
    long born = atol(line_with("btime ") + 6);
    holds("btime", born > 1600000000 && born <= time(NULL));
    holds("processes", atol(line_with("processes ") + 10) > 0);
    whole("/proc/loadavg");
    holds("loadavg", sscanf(text, "%lf %lf", &up, &idle) == 2);
    whole("/proc/version");
    holds("version", !strncmp(text, "Linux version ", 14));
    /* System V's. */
    for (int i = 0; i < 2; i++) {
        whole(i ? "/proc/sysvipc/msg" : "/proc/sysvipc/sem");
        printf("%s", text);
    }
    static const char *const numbers[] = {"kernel/shmmax", "kernel/shmall", "kernel/shmmni", "kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/pid_max", "kernel/threads-max", "kernel/ngroups_max", "kernel/cap_last_cap", "kernel/randomize_va_space", "kernel/overflowuid", "vm/max_map_count", "vm/mmap_min_addr", "vm/overcommit_memory", "vm/nr_hugepages", "fs/file-max", "fs/nr_open", "fs/pipe-max-size"};
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        long length = whole(form("/proc/sys/%s", numbers[i]));
        holds(numbers[i], length > 0 && is_number(text));
    }
    struct utsname names;
    uname(&names);
    struct { const char *name, *value; } same[] = {{"ostype", names.sysname}, {"osrelease", names.release}, {"hostname", names.nodename}, {"version", names.version}};
    for (int i = 0; i < 4; i++) holds(same[i].name, whole(form("/proc/sys/kernel/%s", same[i].name)) > 0 && !strcmp(text, form("%s\n", same[i].value)));
    long a, b, c, d;
    whole("/proc/sys/kernel/sem");
    holds("sem", sscanf(text, "%ld %ld %ld %ld", &a, &b, &c, &d) == 4);
    whole("/proc/self/limits");
    printf("%s\n", line_with("Limit"));
    struct rlimit limit = {100, 200};
    setrlimit(RLIMIT_NOFILE, &limit);
    whole("/proc/self/limits");
    printf("%s\n", line_with("Max open files"));
    holds("mounts", whole("/proc/mounts") > 0 && strstr(text, "proc /proc proc"));
    /* What can't be done. */
    struct stat s;
    says("open what is not", open("/proc/nothing", O_RDONLY));
    says("make", open("/proc/nothing", O_RDWR | O_CREAT, 0644));
    says("make below a process", open("/proc/self/nothing", O_RDWR | O_CREAT, 0644));
    says("mkdir", mkdir("/proc/nothing", 0755));
    says("mkdir over", mkdir("/proc/self", 0755));
    says("unlink", unlink("/proc/uptime"));
    says("rename", rename("/proc/uptime", "x"));
    says("rename into it", (put("x", ""), rename("x", "/proc/x")));
    says("link from it", link("/proc/uptime", "y"));
    says("symlink in it", symlink("x", "/proc/y"));
    says("chmod", chmod("/proc/uptime", 0600));
    says("below a file", open("/proc/uptime/x", O_RDONLY));
    says("truncate", truncate("/proc/uptime", 0));
    says("as a directory", open("/proc/uptime", O_RDONLY | O_DIRECTORY));
    says("a directory to write", open("/proc/sys", O_RDWR));
    says("numbers with zeros", stat(form("/proc/0%d", getpid()), &s));
    says("0", stat("/proc/0", &s));
    says("read of a directory", read(open("/proc", O_RDONLY), text, 10));
    stat("/proc", &s);
    printf("type %o mode %o owner %d\n", s.st_mode & S_IFMT, s.st_mode & 07777, (int)s.st_uid);
    stat("/proc/sys/kernel", &s);
    printf("type %o mode %o\n", s.st_mode & S_IFMT, s.st_mode & 07777);
    stat("/proc/self/maps", &s);
    printf("type %o mode %o size %ld\n", s.st_mode & S_IFMT, s.st_mode & 07777, (long)s.st_size);
    struct statfs f;
    says("statfs", statfs("/proc", &f));
    printf("%lx\n", (unsigned long)f.f_type);
    /* In small pieces. */
    whole("/proc/meminfo");
    static char pieces[1 << 14];
    int fd = open("/proc/self/cmdline", O_RDONLY), n = 0;
    while (read(fd, pieces + n, 1) == 1) n++;
    close(fd);
    holds("byte by byte", n == whole("/proc/self/cmdline") && !memcmp(text, pieces, n));
    fd = open("/proc/self/status", O_RDONLY);
    lseek(fd, 6, SEEK_SET);
    read(fd, pieces, 7);
    printf("%.7s\n", pieces);
    says_value("seek", lseek(fd, 0, SEEK_SET));
    says_value("pread", pread(fd, pieces, 5, 0));
    printf("%.5s\n", pieces);
    close(fd);
    unlink("x");
}

/* The text of an open file in pieces of `size`, from where it is read. */
static char *pieces_of(int fd, long size) {
    static char whole[1 << 16];
    long length = 0, got;
    while ((got = read(fd, whole + length, size)) > 0) length += got;
    whole[length] = 0;
    return whole;
}
/* The same with what the text tells of changed before each piece. */
static void kept_texts(void) {
    puts("-- in pieces");
    char name[20];
    prctl(PR_SET_NAME, "first");
    for (long size = 13; size < 500; size *= 6) {
        int fd = open("/proc/self/status", O_RDONLY), at = 0;
        static char told[1 << 14];
        prctl(PR_SET_NAME, "first");
        while (read(fd, told + at, size) > 0) {
            at = strlen(told);
            prctl(PR_SET_NAME, snprintf(name, 16, "much-longer-%d", at) ? name : "");
        }
        long length = strlen(told);
        printf("pieces of %ld: %s, one text %s\n", size, strncmp(told, "Name:\tfirst\nUmask:", 18) ? "another name" : "the first name", strstr(told, "\nVmSize:") && told[length - 1] == '\n' && strstr(told, "Threads:\t1\n") ? "yes" : "no");
        says_value("at the end", read(fd, told, size));
        holds("from the start: anew", lseek(fd, 0, SEEK_SET) == 0 && strstr(pieces_of(fd, 1000), name));
        close(fd);
        memset(told, 0, sizeof told);
    }
    /* The text is made by the first read, not by open. */
    prctl(PR_SET_NAME, "one");
    int fd = open("/proc/self/comm", O_RDONLY), second = dup(fd), other = open("/proc/self/comm", O_RDONLY);
    char bytes[20] = "";
    prctl(PR_SET_NAME, "two");
    says_value("read 2", read(fd, bytes, 2));
    printf("%s\n", bytes);
    prctl(PR_SET_NAME, "three");
    memset(bytes, 0, sizeof bytes), says_value("by a dup", read(second, bytes, 19));
    printf("%s", bytes);
    memset(bytes, 0, sizeof bytes), says_value("by another open", read(other, bytes, 19));
    printf("%s", bytes);
    /* Where it was not read to: made anew. */
    prctl(PR_SET_NAME, "abcdefgh");
    memset(bytes, 0, sizeof bytes), says_value("pread at 3", pread(fd, bytes, 3, 3));
    printf("%s\n", bytes);
    prctl(PR_SET_NAME, "ABCDEFGH");
    memset(bytes, 0, sizeof bytes), says_value("pread on at 6", pread(fd, bytes, 1, 6));
    printf("%s\n", bytes);
    memset(bytes, 0, sizeof bytes), says_value("read where it is", read(fd, bytes, 3));
    printf("%s\n", bytes);
    says_value("seek", lseek(fd, 2, SEEK_SET));
    memset(bytes, 0, sizeof bytes), says_value("read there", read(fd, bytes, 19));
    printf("%s", bytes);
    says_value("beyond the end", pread(fd, bytes, 9, 1000));
    says_value("seek beyond it", lseek(fd, 500, SEEK_SET));
    says_value("read there", read(fd, bytes, 9));
    prctl(PR_SET_NAME, "child");
    lseek(fd, 0, SEEK_SET);
    AS_CHILD {
        says_value("a child reads 2", read(fd, bytes, 2));
        close(fd);
    }
    prctl(PR_SET_NAME, "later");
    memset(bytes, 0, sizeof bytes), says_value("on", read(fd, bytes, 19));
    printf("%s", bytes);
    says("to nowhere", (lseek(fd, 0, SEEK_SET), read(fd, (char *)16, 4)));
    memset(bytes, 0, sizeof bytes), says_value("again", read(fd, bytes, 19));
    printf("%s", bytes);
    close(fd), close(second), close(other);
    /* Whose process ends between. */
    int ends[2];
    pipe(ends);
    pid_t child = forked();
    if (child == 0) {
        close(ends[1]);
        _exit(read(ends[0], bytes, 1) != 0);
    }
    fd = open(form("/proc/%d/stat", child), O_RDONLY);
    says_value("3 of one that lives", read(fd, bytes, 3));
    close(ends[1]), close(ends[0]);
    waited(child);
    holds("the rest of it", strlen(pieces_of(fd, 50)) > 100);
    says("anew", pread(fd, bytes, 3, 0));
    close(fd);
    /* Records: each is whole, and those to come are as they are when their turn comes. */
    char *base = FREE_PLACE;
    for (int i = 0; i < 120; i++) mmap(base + 2 * i * PAGE, PAGE, i % 2 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
    fd = open("/proc/self/maps", O_RDONLY);
    static char maps[1 << 16];
    long at = read(fd, maps, 100);
    munmap(base + 120 * PAGE, 120 * PAGE);
    for (long got; (got = read(fd, maps + at, 333)) > 0; at += got) maps[at + got] = 0;
    int lines = 0, bad = 0, low = 0, high = 0;
    unsigned long last = 0;
    for (char *line = maps; *line; line = strchr(line, '\n') + 1, lines++) {
        unsigned long start, end;
        if (sscanf(line, "%lx-%lx ", &start, &end) != 2 || start < last || !strchr(line, '\n')) {
            bad++;
            break;
        }
        last = end;
        low += start >= (unsigned long)base && start < (unsigned long)base + 120 * PAGE;
        high += start >= (unsigned long)base + 180 * PAGE && start < (unsigned long)base + 240 * PAGE;
    }
    printf("%d bad lines, %d low ones, %d that had gone\n", bad, low, high);
    close(fd);
    munmap(base, 240 * PAGE);
    /* As many files as one likes, half read, and left so. */
    int files[30];
    for (int i = 0; i < 30; i++) read(files[i] = open("/proc/meminfo", O_RDONLY), bytes, 10);
    for (int i = 0; i < 30; i++) close(files[i]);
    prctl(PR_SET_NAME, "fs_proc");
}

static int told_tid, go_on[2];
static void *thread_that_waits(void *unused) {
    (void)unused;
    char byte;
    prctl(PR_SET_NAME, "second");
    told_tid = (int)syscall(SYS_gettid);
    char link[64] = "";
    readlink("/proc/thread-self", link, 63);
    holds("thread-self in a thread", !strcmp(link, form("%d/task/%d", getpid(), told_tid)));
    whole("/proc/thread-self/comm");
    printf("its name %s", text);
    write(go_on[1], "x", 1);
    while (read(go_on[0], &byte, 1) == 1 && byte != 'e') {
        prctl(PR_GET_NAME, text);
        write(go_on[1], "x", 1);
        nap(1000);
    }
    return NULL;
}

static void threads(void) {
    puts("-- threads");
    char link[100] = "", name[20] = "", byte;
    struct stat s;
    readlink("/proc/thread-self", link, 99);
    holds("thread-self", !strcmp(link, form("%d/task/%d", getpid(), getpid())));
    int there[2], back[2];
    pipe(there), pipe(back);
    go_on[0] = there[0], go_on[1] = back[1];
    pthread_t thread;
    need(pthread_create(&thread, NULL, thread_that_waits, NULL) == 0, "a thread");
    read(back[0], &byte, 1);
    stat("/proc/self/task", &s);
    printf("task: type %o mode %o links %d\n", s.st_mode & S_IFMT, s.st_mode & 07777, (int)s.st_nlink);
    DIR *d = opendir("/proc/self/task");
    int count = 0, mine = 0, its = 0;
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        count++;
        mine += atoi(entry->d_name) == getpid();
        its += atoi(entry->d_name) == told_tid && entry->d_type == DT_DIR;
    }
    closedir(d);
    printf("%d threads, the first %d, the second %d\n", count, mine, its);
    for (int i = 0; i < 100 && (whole(form("/proc/self/task/%d/stat", told_tid)), strcmp(field(3), "S")); i++) nap(10000);
    printf("its stat: id %d, %.*s, state %s, parent %d, group %d, threads %s\n", atoi(text) == told_tid, (int)(strrchr(text, ')') - strchr(text, '(') + 1), strchr(text, '('), field(3), atoi(field(4)) == getppid(), atoi(field(5)) == getpgrp(), field(20));
    whole(form("/proc/self/task/%d/status", told_tid));
    printf("its status: %s, %s, ids %d %d\n", line_with("Name"), line_with("Threads"), atoi(line_with("Tgid:") + 5) == getpid(), atoi(line_with("Pid:") + 4) == told_tid);
    whole("/proc/self/stat");
    printf("the process is called %.*s\n", (int)(strrchr(text, ')') - strchr(text, '(') + 1), strchr(text, '('));
    static const char *const there_too[] = {"maps", "smaps", "cmdline", "environ", "limits", "mounts", "mountinfo", "statm", "auxv", "fd/0", "fdinfo/0", "exe", "cwd", "root", "oom_score_adj"};
    for (unsigned i = 0; i < sizeof there_too / sizeof *there_too; i++) says(there_too[i], stat(form("/proc/self/task/%d/%s", told_tid, there_too[i]), &s));
    says("task below it", stat(form("/proc/self/task/%d/task", told_tid), &s));
    says("no thread", stat("/proc/self/task/999999", &s));
    says("0", stat("/proc/self/task/0", &s));
    says("of another process", stat(form("/proc/self/task/%d", getppid()), &s));
    says("up from it", (chdir(form("/proc/self/task/%d", told_tid)), stat("../../stat", &s)));
    chdir(home);
    /* Names. */
    stat("/proc/self/comm", &s);
    printf("comm: mode %o\n", s.st_mode & 07777);
    says("pthread_getname_np", -pthread_getname_np(thread, name, sizeof name));
    printf("%s\n", name);
    says("pthread_setname_np", -pthread_setname_np(thread, "by another"));
    write(there[1], "n", 1), read(back[0], &byte, 1);
    printf("it finds itself called %s\n", text);
    int fd = open(form("/proc/self/task/%d/comm", told_tid), O_RDWR);
    static const char *const names[] = {"short", "exactly 15 long", "more than fifteen characters", "with\nline", "back\\slash", "ends\n", ""};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        says_value("write", write(fd, names[i], strlen(names[i])));
        whole(form("/proc/self/task/%d/comm", told_tid)), printf("comm: %s", text);
        if (i < 3 || i > 4) continue;
        whole(form("/proc/self/task/%d/status", told_tid)), printf("%s\n", line_with("Name"));
        whole(form("/proc/self/task/%d/stat", told_tid)), printf("stat: %.*s\n", (int)(strrchr(text, ')') - strchr(text, '(') + 1), strchr(text, '('));
    }
    says_value("where that leaves it", lseek(fd, 0, SEEK_CUR));
    says_value("pwrite", pwrite(fd, "offset", 6, 0));
    says_value("write", write(fd, "within", 6));
    memset(text, 0, 20), says_value("read", read(fd, text, 20)), printf("%s", text);
    says_value("at its end, write", write(fd, "at the end", 10));
    says_value("read", read(fd, text, 20));
    says("from nowhere", write(fd, (char *)16, 4));
    AS_CHILD says("by another process", write(fd, "x", 1));
    close(fd);
    says_value("write to /proc/self/comm", (fd = open("/proc/self/comm", O_WRONLY), write(fd, "renamed", 7)));
    close(fd);
    prctl(PR_GET_NAME, name), printf("I am %s\n", name);
    fd = open(form("/proc/self/task/%d/stat", told_tid), O_RDONLY);
    int dir = open(form("/proc/self/task/%d", told_tid), O_RDONLY);
    write(there[1], "e", 1);
    pthread_join(thread, NULL);
    for (int i = 0; i < 100 && stat(form("/proc/self/task/%d", told_tid), &s) == 0; i++) nap(1000);
    says("once it has ended", stat(form("/proc/self/task/%d", told_tid), &s));
    says("read what was open", read(fd, text, 10));
    says("a name in what was open", openat(dir, "comm", O_RDONLY));
    close(fd), close(dir), close(there[0]), close(there[1]), close(back[0]), close(back[1]);
    prctl(PR_SET_NAME, "fs_proc");
}

/* What is in a file, each number in it told as #. */
static void shape_of(const char *path) {
    long length = whole(path);
    printf("%s:", path);
    if (length < 0) {
        printf(" %s\n", errno_name(errno));
        return;
    }
    for (char *at = text; *at;) {
        if (isdigit(*at) && !isalpha(at[-(at > text)])) {
            putchar('#');
            while (isdigit(*at)) at++;
        } else putchar(*at++);
    }
}

static void more_files(void) {
    puts("-- more files");
    struct stat s;
    /* fdinfo */
    int file = open("f", O_RDWR | O_CREAT | O_CLOEXEC, 0644), ends[2], directory = open("/proc/self/fdinfo", O_RDONLY | O_DIRECTORY);
    write(file, "content", 7);
    pipe(ends);
    fstat(file, &s);
    whole(form("/proc/self/fdinfo/%d", file));
    printf("%s|%s\n", line_with("pos:"), line_with("flags:"));
    holds("its inode", strtoul(line_with("ino:") + 4, NULL, 10) == s.st_ino);
    unsigned long mount = strtoul(line_with("mnt_id:") + 7, NULL, 10);
    whole("/proc/self/mountinfo");
    holds("its mount is one of those in mountinfo", strcmp(line_with(form("%lu ", mount)), "(none)"));
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    whole(form("/proc/self/fdinfo/%d", ends[1]));
    printf("%s|%s\n", line_with("pos:"), line_with("flags:"));
    says("what is closed", open("/proc/self/fdinfo/99", O_RDONLY));
    stat("/proc/self/fdinfo", &s), printf("mode %o\n", s.st_mode & 07777);
    fstatat(directory, form("%d", file), &s, 0), printf("type %o mode %o\n", s.st_mode & S_IFMT, s.st_mode & 07777);
    pid_t child = forked();
    if (child == 0) pause();
    AS_CHILD {
        become(1001, 1001, 0, NULL);
        says("another user: fdinfo", open(form("/proc/%d/fdinfo", child), O_RDONLY));
        says("one of them", open(form("/proc/%d/fdinfo/%d", child, file), O_RDONLY));
        says("auxv", open(form("/proc/%d/auxv", child), O_RDONLY));
        says("smaps", open(form("/proc/%d/smaps", child), O_RDONLY) < 0 ? -1 : 0);
        says("task", open(form("/proc/%d/task", child), O_RDONLY) < 0 ? -1 : 0);
        says("comm", open(form("/proc/%d/comm", child), O_RDWR));
        says("oom_score_adj", open(form("/proc/%d/oom_score_adj", child), O_RDWR));
    }
    kill(child, SIGKILL), waited(child);
    close(file), close(ends[0]), close(ends[1]), close(directory);
    unlink("f");
    /* auxv */
    static unsigned long auxv[200];
    int fd = open("/proc/self/auxv", O_RDONLY);
    long length = read(fd, auxv, sizeof auxv), same = 1;
    for (int i = 0; i < length / 16 && auxv[2 * i]; i++) if (auxv[2 * i] == AT_PHDR || auxv[2 * i] == AT_ENTRY || auxv[2 * i] == AT_RANDOM || auxv[2 * i] == AT_EXECFN || auxv[2 * i] == AT_PAGESZ) same &= getauxval(auxv[2 * i]) == auxv[2 * i + 1];
    holds("auxv is what getauxval says", length > 100 && length % 16 == 0 && same && auxv[length / 8 - 2] == 0);
    says_value("8 bytes at 8", pread(fd, auxv, 8, 8));
    close(fd);
    /* oom_score_adj */
    static const char *const values[] = {"100", "1000\n", "1001", "-1001", "x", "", " 7 \n", "12abc", "0x10", "010", "0", "+5", "--5", "0x", "-0"};
    fd = open("/proc/self/oom_score_adj", O_RDWR);
    for (unsigned i = 0; i < sizeof values / sizeof *values; i++) {
        says_value(form("oom_score_adj %u", i), write(fd, values[i], strlen(values[i])));
        whole("/proc/self/oom_score_adj"), printf("%s", text);
    }
    says_value("where that leaves it", lseek(fd, 0, SEEK_CUR));
    says_value("pwrite", pwrite(fd, "50", 2, 1));
    AS_CHILD {
        whole("/proc/self/oom_score_adj"), printf("a child has %s", text);
        become(1001, 1001, 0, NULL);
        says_value("another user: more", pwrite(fd, "70", 2, 0));
    }
    pwrite(fd, "0", 1, 0);
    close(fd);
    /* smaps */
    char *place = FREE_PLACE;
    mmap(place, 10 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
    madvise(place, 10 * PAGE, 15);
    for (int i = 0; i < 10; i++) place[i * PAGE] = 1;
    need(whole("/proc/self/smaps") > 0, "smaps");
    char *area = strstr(text, form("%08lx-", (unsigned long)place));
    need(area != NULL, "the area in smaps");
    memmove(text, area, strlen(area) + 1);
    printf("%s|%s|%s|%s\n", line_with("Size:"), line_with("KernelPageSize:"), line_with("Rss:"), line_with("Swap:"));
    printf("%.23s\n", line_with("VmFlags:"));
    munmap(place, 10 * PAGE);
    /* Texts with the same shape. */
    static const char *const shapes[] = {"/proc/self/statm", "/proc/loadavg", "/proc/uptime", "/proc/swaps", "/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max", "/proc/sys/fs/file-nr", "/proc/sys/fs/nr_open"};
    for (unsigned i = 0; i < sizeof shapes / sizeof *shapes; i++) shape_of(shapes[i]);
    char first[64], second[64];
    whole("/proc/sys/kernel/random/uuid"), snprintf(first, 64, "%.63s", text);
    whole("/proc/sys/kernel/random/uuid");
    holds("uuids", strlen(text) == 37 && strcmp(first, text) && text[14] == '4' && strchr("89ab", text[19]) && text[8] == '-' && text[23] == '-');
    whole("/proc/sys/kernel/random/boot_id"), snprintf(second, 64, "%.63s", text);
    whole("/proc/sys/kernel/random/boot_id");
    holds("boot_id", strlen(text) == 37 && !strcmp(second, text));
    holds("vmstat", whole("/proc/vmstat") > 0 && strstr(text, "nr_free_pages "));
    holds("core_pattern", whole("/proc/sys/kernel/core_pattern") > 0);
    holds("filesystems", whole("/proc/filesystems") > 0 && strstr(text, "nodev\tproc\n") && strstr(text, "nodev\ttmpfs\n") && strstr(text, "nodev\tsysfs\n"));
    static const char *const mounted[] = {" / ", " /proc proc ", " /sys sysfs ", " /dev/shm tmpfs "};
    whole("/proc/self/mounts");
    for (int i = 0; i < 4; i++) holds(form("mounts has%s", mounted[i]), strstr(text, mounted[i]) != NULL);
    whole("/proc/self/mountinfo");
    for (int i = 0; i < 4; i++) {
        static const char *const paths[] = {"/", "/proc", "/sys", "/dev/shm"};
        struct stat device;
        stat(paths[i], &device);
        holds(form("mountinfo has the device of %s", paths[i]), strstr(text, form(" %d:%d / %s ", major(device.st_dev), minor(device.st_dev), paths[i])) != NULL);
    }
    /* /sys */
    static const char *const sets[] = {"online", "possible", "present"};
    for (int i = 0; i < 3; i++) {
        int from = -1, to = -1;
        holds(sets[i], whole(form("/sys/devices/system/cpu/%s", sets[i])) > 0 && sscanf(text, "%d-%d", &from, &to) >= 1 && from == 0 && (i == 1 || (to < 0 ? 0 : to) + 1 == sysconf(_SC_NPROCESSORS_ONLN)));
    }
    holds("large pages", whole("/sys/kernel/mm/transparent_hugepage/enabled") > 0 && strchr(text, '[') && strstr(text, "madvise"));
    stat("/sys", &s), printf("/sys: type %o mode %o\n", s.st_mode & S_IFMT, s.st_mode & 07777);
    stat("/sys/devices/system/cpu/online", &s), printf("a file in it: type %o mode %o size %ld\n", s.st_mode & S_IFMT, s.st_mode & 07777, (long)s.st_size);
    says("write to it", open("/sys/devices/system/cpu/online", O_WRONLY));
    says("make in it", open("/sys/devices/nothing", O_RDWR | O_CREAT, 0644));
    says("mkdir in it", mkdir("/sys/nothing", 0755));
    says("unlink", unlink("/sys/devices/system/cpu/online"));
    says("rename to it", (put("x", ""), rename("x", "/sys/x")));
    unlink("x");
    struct statfs f;
    says("statfs", statfs("/sys/devices", &f)), printf("%lx\n", (unsigned long)f.f_type);
    AS_CHILD {
        char path[100];
        says("chdir", chdir("/sys/devices/system")), printf("%s\n", getcwd(path, 100));
        says("up and down", stat("../../kernel/mm", &s));
    }
    stat("/var/tmp", &s), printf("/var/tmp: type %o mode %o\n", s.st_mode & S_IFMT, s.st_mode & 07777);
    says("a file there", (fd = open("/var/tmp", O_TMPFILE | O_RDWR, 0600)) < 0 ? -1 : 0), close(fd);
}

int main(void) {
    enter_home();
    mappings();
    processes();
    descriptors();
    the_system();
    kept_texts();
    threads();
    more_files();
    leave_home();
    return 0;
}
