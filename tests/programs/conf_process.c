/* What fork, vfork, execve, exit and signals do to attaches, and how processes are made, waited for and ended.
 * usage: conf_process [again WHAT ID ADDRESS]: what it is after an execve. */
#include "conf.h"

struct board {
    _Atomic int turn, seen, pid;
    long values[8];
};
static struct board *board;
static int id;
static char *self;

static void wait_for(_Atomic int *word, int value) {
    for (int naps = 0; atomic_load(word) != value; naps++) {
        need(naps < 20000, "another process's word");
        nap(500);
    }
}

static int again(char **argv) {
    if (strcmp(argv[2], "exit") == 0) return atoi(argv[3]);
    id = atoi(argv[3]);
    char *address = (char *)strtoul(argv[4], NULL, 0);
    printf("%s: what was attached is %s\n", argv[2], readable(address) ? "there" : "gone");
    says(form("%s: detach it", argv[2]), shmdt(address));
    printf("%s: attaches %ld\n", argv[2], nattch(id));
    struct shmid_ds s = stat_of(id);
    printf("%s: last by %s\n", argv[2], who(s.shm_lpid));
    char *p = attached(id, NULL, 0);
    printf("%s: its byte is %d, attaches %ld\n", argv[2], *p, nattch(id));
    printf("%s: environment %s, arguments %d\n", argv[2], getenv("CONF") ? getenv("CONF") : "none", argv[5] == NULL);
    printf("%s: uid %d groups %d\n", argv[2], (int)geteuid(), getgroups(0, NULL));
    fflush(stdout);
    *p = 2;
    return 7;
}

static void forks(void) {
    char *p = attached(id, NULL, 0), *ro = attached(id, FREE_PLACE, SHM_RDONLY);
    *p = 1;
    state("before a fork", id);
    AS_CHILD {
        state("in a child", id);
        printf("at the same addresses: %d %d, store to the read-only one: %s\n", *p, *ro, store(ro));
        *p = 3;
        says("a child detaches one", shmdt(p));
        state("then", id);
        says("a child makes the read-only one writable", mprotect(ro, PAGE, PROT_WRITE));
    }
    state("after the child's end", id);
    printf("what it wrote is seen: %d\n", *ro);
    /* lpid and atime belong to whoever forked, until the child ends. */
    pid_t child = forked();
    if (child == 0) {
        wait_for(&board->turn, 1);
        _exit(0);
    }
    state("while a child lives", id);
    atomic_store(&board->turn, 1);
    waited(child);
    state("after it", id);
    atomic_store(&board->turn, 0);
    /* Three generations. */
    AS_CHILD {
        AS_CHILD {
            AS_CHILD attaches("three generations down", id);
            attaches("two generations down", id);
        }
        attaches("one generation down", id);
    }
    attaches("none", id);
    /* Private memory is copied, shared memory is not. */
    static int own = 1;
    int *anonymous = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *anonymous = 1, *shared = 1;
    AS_CHILD { own = 2, *anonymous = 2, *shared = 2, *p = 9; }
    printf("after a child's stores: data %d, private %d, shared %d, segment %d\n", own, *anonymous, *shared, *p);
    own = 5;
    AS_CHILD printf("a later child sees %d\n", own);
    munmap(shared, PAGE), munmap(anonymous, PAGE);
    /* A split attach counts as often in the child. */
    mprotect(p, PAGE, PROT_READ);
    attaches("split", id);
    AS_CHILD attaches("split, in a child", id);
    attaches("split, after the child", id);
    mprotect(p, PAGE, PROT_READ | PROT_WRITE);
    /* Not inherited if so advised. */
    says("DONTFORK", madvise(ro, 2 * PAGE, MADV_DONTFORK));
    AS_CHILD {
        attaches("one of two is advised not to be inherited", id);
        printf("it is %s, the other %s\n", readable(ro) ? "there" : "not there", readable(p) ? "there" : "not there");
        says("detach it", shmdt(ro));
    }
    says("DOFORK", madvise(ro, 2 * PAGE, MADV_DOFORK));
    AS_CHILD attaches("advised back", id);
    says("DONTFORK of a page", madvise(p, PAGE, MADV_DONTFORK));
    attaches("is a split", id);
    AS_CHILD {
        attaches("in a child", id);
        printf("first page %s, second %s\n", readable(p) ? "there" : "not there", readable(p + PAGE) ? "there" : "not there");
        says("detach", shmdt(p));
    }
    says("DOFORK", madvise(p, PAGE, MADV_DOFORK));
    attaches("whole again", id);
    shmdt(p), shmdt(ro);
    attaches("at the end", id);
}

static void removals(void) {
    for (int how = 0; how < 5; how++) {
        static const char *const names[] = {"_exit", "a fault", "SIGKILL", "execve", "shmdt"};
        int doomed = made(0x4242, PAGE, IPC_CREAT | 0600);
        char *p = attached(doomed, NULL, 0);
        atomic_store(&board->turn, 0);
        pid_t child = forked();
        if (child == 0) {
            wait_for(&board->turn, 1);
            *p = 5;
            if (how == 1) *(volatile char *)16 = 1;
            if (how == 2) kill(getpid(), SIGKILL);
            if (how == 3) execl(self, self, "again", "exit", "0", NULL);
            if (how == 4) _exit(shmdt(p) != 0);
            _exit(0);
        }
        removed(doomed);
        shmdt(p);
        printf("%s: only a child holds it: attaches %ld\n", names[how], nattch(doomed));
        got("its key", shmget(0x4242, 0, 0));
        atomic_store(&board->turn, 1);
        printf("ends with %s\n", ended(waited(child)));
        says("then", shmctl(doomed, IPC_STAT, &(struct shmid_ds){0}));
    }
    for (int how = 0; how < 4; how++) {
        static const char *const names[] = {"_exit", "a fault", "SIGKILL", "SIGTERM"};
        char *p = attached(id, NULL, 0);
        AS_CHILD {
            char *q = attached(id, NULL, SHM_RDONLY);
            need(*q == *p, "the same");
        }
        pid_t child = forked();
        if (child == 0) {
            attached(id, NULL, 0), attached(id, NULL, SHM_RDONLY);
            if (how == 0) _exit(3);
            if (how == 1) *(volatile char *)16 = 1;
            kill(getpid(), how == 2 ? SIGKILL : SIGTERM);
        }
        printf("%s with three attaches: %s, ", names[how], ended(waited(child)));
        state("then", id);
        shmdt(p);
    }
    /* A zombie holds nothing. */
    char *p = attached(id, NULL, 0);
    pid_t child = forked();
    if (child == 0) _exit(0);
    for (int naps = 0; nattch(id) != 1 && naps < 10000; naps++) nap(500);
    attaches("a zombie", id);
    says("signal 0 to a zombie", kill(child, 0));
    says("SIGKILL to a zombie", kill(child, SIGKILL));
    printf("its status: %s\n", ended(waited(child)));
    says("signal 0 to what is reaped", kill(child, 0));
    shmdt(p);
}

static void vforks(void) {
    char *p = attached(id, NULL, 0);
    volatile long seen = -1;
    fflush(stdout);
    pid_t child = vfork();
    if (child == 0) {
        struct shmid_ds s;
        syscall(SYS_shmctl, id, IPC_STAT, &s);
        seen = s.shm_nattch;
        _exit(4);
    }
    printf("attaches in a vfork child: %ld, it ends with %s\n", seen, ended(waited(child)));
    attaches("after it", id);
    holds("lpid is still this process", stat_of(id).shm_lpid == getpid());
    child = vfork();
    if (child == 0) {
        execl(self, self, "again", "exit", "33", NULL);
        _exit(99);
    }
    printf("vfork and execve: %s\n", ended(waited(child)));
    attaches("after it", id);
    child = vfork();
    if (child == 0) {
        char *q = (char *)syscall(SYS_shmat, id, NULL, 0);
        seen = (long)q;
        _exit(0);
    }
    waited(child);
    attaches("attached in a vfork child", id);
    says("and detached here", shmdt((char *)seen));
    attaches("then", id);
    child = vfork();
    if (child == 0) {
        syscall(SYS_shmdt, p);
        _exit(0);
    }
    waited(child);
    attaches("detached in a vfork child", id);
    says("and again here", shmdt(p));
}

static void execs(void) {
    static const char *const ways[] = {"by its name", "by /proc/self/exe"};
    for (int way = 0; way < 2; way++) {
        char *p = attached(id, FREE_PLACE, 0);
        *p = 1;
        char *ro = attached(id, NULL, SHM_RDONLY);
        pid_t child = forked();
        if (child == 0) {
            char number[20], address[30];
            snprintf(number, sizeof number, "%d", id);
            snprintf(address, sizeof address, "%p", p);
            char *argv[] = {self, "again", (char *)ways[way], number, address, NULL}, *envp[] = {"CONF=yes", NULL};
            if (way) become(1001, 2001, 1, (gid_t[]){2002});
            execve(way ? "/proc/self/exe" : self, argv, envp);
            printf("execve %s\n", errno_name(errno));
            fflush(stdout);
            _exit(98);
        }
        printf("%s: %s\n", ways[way], ended(waited(child)));
        printf("it wrote %d\n", *p);
        state("after it", id);
        shmdt(p), shmdt(ro);
        /* Now the child's are the last. */
        p = attached(id, NULL, 0);
        atomic_store(&board->turn, 0);
        child = forked();
        if (child == 0) {
            wait_for(&board->turn, 1);
            execl(way ? "/proc/self/exe" : self, self, "again", "exit", "5", NULL);
            _exit(98);
        }
        shmdt(p);
        attaches("only the child", id);
        atomic_store(&board->turn, 1);
        printf("it executes and ends: %s\n", ended(waited(child)));
        state("then", id);
    }
    char *argv[] = {self, NULL};
    says("execve of nothing", execve("/nowhere/at/all", argv, NULL));
    says("execve of an empty name", execve("", argv, NULL));
    says("execve, bad address of the name", syscall(SYS_execve, 16L, argv, NULL));
    says("execve, bad address of arguments", syscall(SYS_execve, self, 16L, NULL));
    char *bad[] = {self, (char *)16, NULL};
    says("execve, bad address of an argument", syscall(SYS_execve, self, bad, NULL));
    char *p = attached(id, NULL, 0);
    long before = nattch(id);
    execve("/nowhere/at/all", argv, NULL);
    printf("a failing execve keeps attaches: %ld\n", nattch(id) - before);
    shmdt(p);
}

static void statuses(void) {
    static const int codes[] = {0, 1, 42, 127, 128, 255, 256, 257, -1};
    for (int i = 0; i < 9; i++) {
        if (forked() == 0) _exit(codes[i]);
        printf("_exit(%d): %s\n", codes[i], ended(waited(the_child)));
    }
    static const struct { const char *name; int signal; } signals[] = {
        {"HUP", SIGHUP}, {"INT", SIGINT}, {"QUIT", SIGQUIT}, {"ILL", SIGILL}, {"TRAP", SIGTRAP}, {"ABRT", SIGABRT}, {"BUS", SIGBUS}, {"FPE", SIGFPE},
        {"KILL", SIGKILL}, {"USR1", SIGUSR1}, {"SEGV", SIGSEGV}, {"USR2", SIGUSR2}, {"PIPE", SIGPIPE}, {"ALRM", SIGALRM}, {"TERM", SIGTERM},
        {"CHLD", SIGCHLD}, {"CONT", SIGCONT}, {"URG", SIGURG}, {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ}, {"VTALRM", SIGVTALRM}, {"PROF", SIGPROF},
        {"WINCH", SIGWINCH}, {"IO", SIGIO}, {"SYS", SIGSYS}, {"64", 64}};
    for (int i = 0; i < 26; i++) {
        if (forked() == 0) {
            kill(getpid(), signals[i].signal);
            _exit(0);
        }
        printf("to itself SIG%s: %s\n", signals[i].name, ended(waited(the_child)));
        atomic_store(&board->turn, 0);
        atomic_store(&board->seen, 0);
        pid_t child = forked();
        if (child == 0) {
            atomic_store(&board->seen, 1);
            wait_for(&board->turn, 1);
            _exit(0);
        }
        wait_for(&board->seen, 1);
        long sent = kill(child, signals[i].signal);
        atomic_store(&board->turn, 1);
        printf("to a child SIG%s: %s, ", signals[i].name, outcome(sent));
        printf("%s\n", ended(waited(child)));
    }
    if (forked() == 0) abort();
    printf("abort: %s\n", ended(waited(the_child)));
    if (forked() == 0) __asm__ volatile("ud2");
    printf("ud2: %s\n", ended(waited(the_child)));
    if (forked() == 0) __asm__ volatile("xor %%edx, %%edx; mov $1, %%eax; xor %%ecx, %%ecx; div %%ecx" ::: "eax", "ecx", "edx");
    printf("division by zero: %s\n", ended(waited(the_child)));
    /* A spinning child that makes no calls. */
    pid_t child = forked();
    if (child == 0)
        for (;;) __asm__ volatile("pause");
    nap(20000);
    says("SIGKILL to a spinning child", kill(child, SIGKILL));
    printf("it ends with %s\n", ended(waited(child)));
    child = forked();
    if (child == 0) {
        struct timespec day = {86400, 0};
        nanosleep(&day, NULL);
        _exit(0);
    }
    nap(20000);
    says("SIGTERM to a sleeping child", kill(child, SIGTERM));
    printf("it ends with %s\n", ended(waited(child)));
    child = forked();
    if (child == 0) {
        pid_t own = fork();
        if (own == 0) { wait_for(&board->turn, 77); _exit(0); }
        waitpid(own, NULL, 0);
        _exit(0);
    }
    nap(20000);
    says("SIGKILL to a waiting child", kill(child, SIGKILL));
    printf("it ends with %s\n", ended(waited(child)));
    atomic_store(&board->turn, 77);
}

static void sending(void) {
    says("signal 0 to itself", kill(getpid(), 0));
    says("signal 0 to the parent", kill(getppid(), 0));
    says("signal 65 to itself", kill(getpid(), 65));
    says("signal -1 to itself", kill(getpid(), -1));
    says("signal 0 to nobody", kill(0x3fffff, 0));
    says("signal 65 to nobody", kill(0x3fffff, 65));
    says("signal 0 to a group that is not", kill(-0x3fffff, 0));
    pid_t child = forked();
    if (child == 0) {
        become(1001, 2001, 0, NULL);
        says("another user signals its parent", kill(getppid(), 0));
        says("another user kills its parent", kill(getppid(), SIGKILL));
        says("another user signals itself", kill(getpid(), 0));
        pid_t sibling = forked();
        if (sibling == 0) { nap(30000000); _exit(0); }
        says("another user kills its own child", kill(sibling, SIGKILL));
        printf("it ends with %s\n", ended(waited(sibling)));
        fflush(stdout);
        _exit(0);
    }
    printf("another user: %s\n", ended(waited(child)));
    child = forked();
    if (child == 0) { nap(30000000); _exit(0); }
    says("SIGKILL and SIGTERM", kill(child, SIGKILL) | kill(child, SIGTERM));
    printf("the first counts: %s\n", ended(waited(child)));
}

static void waits(void) {
    int status = 12345;
    says("wait without children", waitpid(-1, &status, 0));
    says("wait without children, not blocking", waitpid(-1, &status, WNOHANG));
    says("wait for itself", waitpid(getpid(), &status, 0));
    says("wait for the parent", waitpid(getppid(), &status, 0));
    says("wait with bad options", syscall(SYS_wait4, -1, &status, 0x40000, NULL));
    atomic_store(&board->turn, 0);
    pid_t one = forked();
    if (one == 0) { wait_for(&board->turn, 1); _exit(11); }
    pid_t two = forked();
    if (two == 0) { wait_for(&board->turn, 2); _exit(22); }
    says_value("nobody has ended", waitpid(-1, &status, WNOHANG));
    says_value("nor the first", waitpid(one, &status, WNOHANG));
    atomic_store(&board->turn, 2);
    holds("the second is waited for", waitpid(two, &status, 0) == two);
    printf("%s\n", ended(status));
    says("the second again", waitpid(two, &status, WNOHANG));
    says_value("the first lives", waitpid(one, &status, WNOHANG));
    atomic_store(&board->turn, 1);
    holds("any child is the first", waitpid(-1, &status, 0) == one);
    printf("%s\n", ended(status));
    says("no child is left", waitpid(-1, &status, 0));
    says("to a bad address", (one = forked()) == 0 ? (_exit(5), 0) : syscall(SYS_wait4, one, 16L, 0, NULL));
    says("it is gone then", waitpid(one, &status, 0));
    if ((one = forked()) == 0) _exit(6);
    holds("without a status", syscall(SYS_wait4, one, NULL, 0, NULL) == one);
    if ((one = forked()) == 0) _exit(6);
    struct rusage usage;
    memset(&usage, 0x5a, sizeof usage);
    holds("with its use of resources", wait4(one, &status, 0, &usage) == one);
    holds("which is little", usage.ru_utime.tv_sec == 0 && usage.ru_stime.tv_sec == 0);
    /* Many zombies at once. */
    long sum = 0;
    for (int i = 0; i < 50; i++)
        if (forked() == 0) _exit(i);
    int count = 0;
    while (waitpid(-1, &status, 0) > 0) count++, sum += WEXITSTATUS(status);
    printf("%d zombies, sum of statuses %ld\n", count, sum);

    siginfo_t info;
    if ((one = forked()) == 0) _exit(77);
    memset(&info, 0x5a, sizeof info);
    says_value("waitid, leaving it", waitid(P_PID, one, &info, WEXITED | WNOWAIT));
    printf("signal %d code %d status %d, %s\n", info.si_signo, info.si_code, info.si_status, who(info.si_pid));
    holds("its uid", info.si_uid == getuid());
    memset(&info, 0x5a, sizeof info);
    says_value("waitid, any", waitid(P_ALL, 0, &info, WEXITED));
    printf("signal %d code %d status %d, %s\n", info.si_signo, info.si_code, info.si_status, who(info.si_pid));
    says("waitid, none left", waitid(P_ALL, 0, &info, WEXITED));
    atomic_store(&board->turn, 0);
    if ((one = forked()) == 0) { wait_for(&board->turn, 1); _exit(0); }
    memset(&info, 0x5a, sizeof info);
    says_value("waitid, not blocking", waitid(P_ALL, 0, &info, WEXITED | WNOHANG));
    printf("signal %d pid %d\n", info.si_signo, info.si_pid);
    says("waitid without options", waitid(P_ALL, 0, &info, 0));
    says("waitid of a bad kind", waitid(9, 0, &info, WEXITED));
    says("waitid of pid 0", waitid(P_PID, 0, &info, WEXITED | WNOHANG));
    says("waitid of itself", waitid(P_PID, getpid(), &info, WEXITED));
    kill(one, SIGKILL);
    memset(&info, 0x5a, sizeof info);
    says_value("waitid of a killed one", waitid(P_PID, one, &info, WEXITED));
    printf("signal %d code %d status %d\n", info.si_signo, info.si_code, info.si_status);
    if ((one = forked()) == 0) _exit(3);
    says_value("waitid without a structure", waitid(P_PID, one, NULL, WEXITED));
}

static void groups(void) {
    holds("it is in a group", getpgid(0) > 0 && getpgid(0) == getpgrp());
    says("group of nobody", getpgid(0x3fffff));
    says("session of nobody", getsid(0x3fffff));
    AS_CHILD {
        pid_t old = getpgrp();
        holds("a child is in its parent's group", old == getpgid(getppid()));
        says("leads its own", setpgid(0, 0));
        holds("has its pid", getpgrp() == getpid() && getpgid(0) == getpid());
        pid_t one = forked();
        if (one == 0) { nap(30000000); _exit(0); }
        pid_t two = forked();
        if (two == 0) { nap(30000000); _exit(0); }
        says("moves a child to its own group", setpgid(two, two));
        holds("it is there", getpgid(two) == two);
        says("to a group that is not", setpgid(one, 0x3fffff));
        says("to a negative group", setpgid(one, -1));
        says("a parent's group from a child", setpgid(getppid(), 0));
        says("of nobody", setpgid(0x3fffff, 0));
        int status;
        says_value("wait for its group, not blocking", waitpid(0, &status, WNOHANG));
        says("SIGTERM to the second group", kill(-two, SIGTERM));
        holds("wait for the second group", waitpid(-two, &status, 0) == two);
        printf("%s\n", ended(status));
        says("wait for it again", waitpid(-two, &status, 0));
        says("signal it again", kill(-two, 0));
        says("signal 0 to its own group", kill(0, 0));
        kill(one, SIGKILL);
        holds("wait for its own group", waitpid(0, &status, 0) == one);
        says("begin a session as leader of a group", setsid());
    }
    AS_CHILD {
        holds("begin a session", setsid() == getpid());
        holds("its group and session", getpgrp() == getpid() && getsid(0) == getpid());
        says("begin another", setsid());
        says("leave its group as leader of a session", setpgid(0, 0));
    }
    /* One call ends a whole group, and with it all attaches. */
    char *p = attached(id, NULL, 0);
    pid_t leader = forked();
    if (leader == 0) {
        setpgid(0, 0);
        for (int i = 0; i < 3; i++)
            if (fork() == 0) nap(30000000), _exit(0);
        nap(30000000);
        _exit(0);
    }
    for (int naps = 0; nattch(id) != 5 && naps < 20000; naps++) nap(500);
    attaches("a group of four", id);
    says("SIGKILL to the group", kill(-leader, SIGKILL));
    printf("its leader: %s\n", ended(waited(leader)));
    for (int naps = 0; nattch(id) != 1 && naps < 20000; naps++) nap(500);
    attaches("then", id);
    shmdt(p);
}

static void orphans(void) {
    char *p = attached(id, NULL, 0);
    atomic_store(&board->turn, 0);
    atomic_store(&board->pid, 0);
    pid_t child = forked();
    if (child == 0) {
        pid_t own = getpid();
        if (fork() == 0) {
            while (getppid() == own) nap(500);
            board->values[0] = getppid() != own && getppid() > 0;
            atomic_store(&board->pid, getpid());
            wait_for(&board->turn, 1);
            _exit(0);
        }
        _exit(8);
    }
    printf("a parent ends first: %s\n", ended(waited(child)));
    while (atomic_load(&board->pid) == 0) nap(500);
    printf("the orphan has another parent: %ld\n", board->values[0]);
    attaches("it holds its attach", id);
    says("it is not this process's child", waitpid(atomic_load(&board->pid), NULL, 0));
    atomic_store(&board->turn, 1);
    for (int naps = 0; nattch(id) != 1 && naps < 20000; naps++) nap(500);
    attaches("it has ended", id);
    struct shmid_ds s = stat_of(id);
    holds("last by the orphan", s.shm_lpid == atomic_load(&board->pid));
    for (int naps = 0; kill(atomic_load(&board->pid), 0) == 0 && naps < 10000; naps++) nap(500);
    says("and was reaped", kill(atomic_load(&board->pid), 0));
    shmdt(p);
}

static void clones(void) {
    char *p = attached(id, NULL, 0);
    fflush(stdout);
    pid_t child = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
    if (child == 0) _exit(nattch(id));
    printf("clone as fork: attaches %d\n", WEXITSTATUS(waited(child)));
    _Atomic int tid = 0;
    child = syscall(SYS_clone, 0x1200000 | SIGCHLD, NULL, NULL, &tid, 0); /* CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID */
    if (child == 0) _exit(tid == getpid());
    printf("clone as glibc's fork: tid set in the child %d, here ", WEXITSTATUS(waited(child)));
    printf("%d\n", tid);
    child = syscall(SYS_clone, 0x100000 | SIGCHLD, NULL, &tid, NULL, 0); /* CLONE_PARENT_SETTID */
    if (child == 0) _exit(0);
    holds("clone tells the parent", tid == child);
    waited(child);
    says("clone, SIGHAND without VM", syscall(SYS_clone, 0x800 | SIGCHLD, NULL, NULL, NULL, 0));
    says("clone, THREAD without SIGHAND", syscall(SYS_clone, 0x10000 | 0x100, NULL, NULL, NULL, 0));
    shmdt(p);
    attaches("after clones", id);
}

static void limits(void) {
    struct rlimit limit;
    AS_CHILD {
        need(getrlimit(RLIMIT_MEMLOCK, &limit) == 0, "getrlimit");
        limit.rlim_cur = 5000, limit.rlim_max = 6000;
        says("setrlimit", setrlimit(RLIMIT_MEMLOCK, &limit));
        limit.rlim_cur = limit.rlim_max = 0;
        says("getrlimit", getrlimit(RLIMIT_MEMLOCK, &limit));
        printf("%lu %lu\n", (unsigned long)limit.rlim_cur, (unsigned long)limit.rlim_max);
        limit.rlim_cur = 7000;
        says("soft above hard", setrlimit(RLIMIT_MEMLOCK, &limit));
        AS_CHILD {
            getrlimit(RLIMIT_MEMLOCK, &limit);
            printf("a child inherits %lu %lu\n", (unsigned long)limit.rlim_cur, (unsigned long)limit.rlim_max);
            become(1001, 2001, 0, NULL);
            limit.rlim_max = 9000;
            says("another user raises the hard one", setrlimit(RLIMIT_MEMLOCK, &limit));
            limit.rlim_cur = limit.rlim_max = 8000;
            says("another user raises the soft one", setrlimit(RLIMIT_MEMLOCK, &limit));
            limit.rlim_cur = limit.rlim_max = 100;
            says("another user lowers both", setrlimit(RLIMIT_MEMLOCK, &limit));
        }
        getrlimit(RLIMIT_MEMLOCK, &limit);
        printf("its own are what they were: %lu %lu\n", (unsigned long)limit.rlim_cur, (unsigned long)limit.rlim_max);
        says("of a bad resource", syscall(SYS_setrlimit, 99, &limit));
        says("to a bad address", syscall(SYS_getrlimit, RLIMIT_MEMLOCK, 16L));
    }
}

int main(int argc, char **argv) {
    self = argv[0];
    if (argc > 1 && strcmp(argv[1], "again") == 0) return again(argv);
    need(syscall(SYS_setgroups, 0, NULL) == 0, "setgroups");
    int word = made(IPC_PRIVATE, PAGE, 0666);
    board = attached(word, NULL, 0);
    id = made(IPC_PRIVATE, 5000, 0666);
    forks();
    removals();
    vforks();
    execs();
    statuses();
    sending();
    waits();
    groups();
    orphans();
    clones();
    limits();
    says("remove", shmctl(id, IPC_RMID, NULL));
    removed(word);
    return 0;
}
