/* How nice a process is, its personality, its capabilities, and what prctl says of it. */
#include "conf.h"
#include <poll.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/utsname.h>

static long get(int which, int who) { return syscall(SYS_getpriority, which, who); }
static long set(int which, int who, int nice) { return syscall(SYS_setpriority, which, who, nice); }
static void told(const char *name, long value) {
    if (value == -1) printf("%s: %s\n", name, errno_name(errno));
    else printf("%s: %ld\n", name, value);
}
static long control(int what, unsigned long a, unsigned long b, unsigned long c, unsigned long d) { return syscall(SYS_prctl, what, a, b, c, d); }
#define CONTROL(what, a) control(what, a, 0, 0, 0)

static void priorities(void) {
    puts("--- priorities");
    told("at first", get(PRIO_PROCESS, 0));
    says("nicer", set(PRIO_PROCESS, 0, 5));
    told("nicer", get(PRIO_PROCESS, getpid()));
    AS_CHILD told("a child", get(PRIO_PROCESS, 0));
    says("less nice", set(PRIO_PROCESS, 0, -100));
    told("least nice", get(PRIO_PROCESS, 0));
    says("nicest", set(PRIO_PROCESS, 0, 100));
    told("nicest", get(PRIO_PROCESS, 0));
    says("nobody", set(PRIO_PROCESS, 0x3fffff, 0));
    told("nobody", get(PRIO_PROCESS, 0x3fffff));
    told("negative", get(PRIO_PROCESS, -1));
    says("unknown", set(3, 0, 0));
    says("unknown", set(-1, 0, 0));
    told("unknown", get(3, 0));
    told("negative", get(-1, 0));
    int nicest = set(PRIO_PROCESS, 0, 0);
    says("back", nicest);
    IN_CHILD("a group") {
        setpgid(0, 0);
        set(PRIO_PROCESS, 0, 3);
        AS_CHILD set(PRIO_PGRP, 0, 7);
        told("all of it", get(PRIO_PGRP, getpgrp()));
        pid_t child = forked();
        if (child == 0) {
            set(PRIO_PROCESS, 0, 1);
            pause();
        }
        while (get(PRIO_PROCESS, child) != 19) nap(1000);
        told("the least nice", get(PRIO_PGRP, 0));
        told("a child", get(PRIO_PROCESS, child));
        kill(child, SIGKILL), waited(child);
        told("no group", get(PRIO_PGRP, 0x3fffff));
        says("no group", set(PRIO_PGRP, 0x3fffff, 0));
    }
    IN_CHILD("a user") {
        int pipes[2];
        need(pipe(pipes) == 0, "pipe");
        pid_t other = forked();
        if (other == 0) {
            char c;
            close(pipes[1]);
            read(pipes[0], &c, 1);
            _exit(0);
        }
        become(1007, 1007, 0, NULL);
        told("its own", get(PRIO_USER, 0));
        told("by name", get(PRIO_USER, 1007));
        told("nobody's", get(PRIO_USER, 4711));
        says("nicer", set(PRIO_USER, 0, 4));
        told("nicer", get(PRIO_USER, 1007));
        says("less nice", set(PRIO_PROCESS, 0, 3));
        says("the same", set(PRIO_PROCESS, 0, 4));
        says("another's", set(PRIO_PROCESS, other, 10));
        told("another's", get(PRIO_PROCESS, other));
        says("nobody's", set(PRIO_USER, 4711, 10));
        kill(other, SIGKILL);
    }
}

static long persona(unsigned long value) { return syscall(SYS_personality, value); }
static void personalities(void) {
    puts("--- personality");
    static const unsigned values[] = {0, 0x40000, 0x20000, 0x4000000, 0x6, 0x8, 0x400000, 0x12345678, 0xfffffffe};
    printf("%lx\n", persona(0xffffffff));
    for (int i = 0; i < 9; i++) {
        long before = persona(values[i]), now = persona(0xffffffff);
        printf("%lx %lx\n", before, now);
        AS_CHILD printf("a child: %lx\n", persona(0xffffffff));
    }
    persona(0x20000);
    struct utsname name;
    uname(&name);
    printf("an old release: %.4s\n", name.release);
    persona(0);
    uname(&name);
    printf("and now: %d\n", name.release[0] > '2');
    for (int sticky = 0; sticky < 2; sticky++) {
        persona(sticky ? 0x4000000 : 0);
        struct timeval time = {0, 2000};
        struct timespec spec = {0, 2000000};
        syscall(SYS_select, 0, NULL, NULL, NULL, &time);
        syscall(SYS_ppoll, NULL, 0, &spec, NULL, 8);
        printf("left: %ld %ld\n", (long)time.tv_usec, spec.tv_nsec);
    }
    persona(0);
}

struct header { unsigned version; int pid; };
struct word { unsigned effective, permitted, inheritable; };
static long capget_(void *header, void *data) { return syscall(SYS_capget, header, data); }
static long capset_(void *header, void *data) { return syscall(SYS_capset, header, data); }
enum { V1 = 0x19980330, V2 = 0x20071026, V3 = 0x20080522 };
static void capabilities(const char *name) {
    struct header h = {V3, 0};
    struct word w[2];
    need(capget_(&h, w) == 0, "capget");
    printf("%s: effective %d, permitted %d, the same %d, inheritable %d\n", name, w[0].effective != 0, w[0].permitted != 0, !memcmp(&w[0].effective, &w[0].permitted, 4), w[0].inheritable | w[1].inheritable);
}
static void capability(void) {
    puts("--- capabilities");
    struct header h = {V3, 0};
    struct word w[3];
    capabilities("root");
    memset(w, 0x55, sizeof w);
    says("three", capget_(&h, w));
    printf("two words: %d\n", w[2].effective == 0x55555555 && w[1].effective != 0x55555555);
    says("the same", capset_(&h, w));
    h.version = V2;
    says("two", capget_(&h, w));
    says("the same", capset_(&h, w));
    h.version = V1;
    memset(w, 0x55, sizeof w);
    says("one", capget_(&h, w));
    printf("one word: %d\n", w[1].effective == 0x55555555 && w[0].effective != 0x55555555);
    h.version = 7;
    says("unknown", capget_(&h, w));
    printf("told: %x\n", h.version);
    h.version = 7;
    says("unknown, nowhere", capget_(&h, NULL));
    printf("told: %x\n", h.version);
    says("known, nowhere", capget_(&h, NULL));
    h.version = 7;
    says("unknown, to set", capset_(&h, NULL));
    printf("told: %x\n", h.version);
    says("no header", capget_(NULL, w));
    says("no header, nowhere", capget_(NULL, NULL));
    says("nothing to set", capset_(&h, NULL));
    h.pid = -1;
    says("a negative process", capget_(&h, w));
    says("to set", capset_(&h, w));
    h.pid = 0x3fffff;
    says("nobody", capget_(&h, w));
    h.pid = getppid();
    says("another's to set", capset_(&h, w));
    h.pid = getpid();
    says("by number", capget_(&h, w));
    says("to set", capset_(&h, w));
    IN_CHILD("for a while") {
        need(setresuid(-1, 1007, 0) == 0, "setresuid");
        capabilities("for a while");
        h.pid = 0;
        need(capget_(&h, w) == 0, "capget");
        w[0].inheritable = 1;
        w[0].permitted = w[0].effective = -1, w[1].permitted = w[1].effective = -1;
        IN_CHILD("again") {
            need(setresuid(-1, 0, -1) == 0, "setresuid");
            capabilities("again");
        }
    }
    IN_CHILD("another user") {
        become(1007, 1007, 0, NULL);
        capabilities("another user");
        h.pid = 0, h.version = V3;
        need(capget_(&h, w) == 0, "capget");
        says("none", capset_(&h, w));
        w[0].permitted = 1;
        says("one more", capset_(&h, w));
        w[0].permitted = 0, w[0].effective = 1;
        says("one more in effect", capset_(&h, w));
        w[0].effective = 0, w[0].inheritable = 1;
        says("one more inherited", capset_(&h, w));
        h.pid = getppid();
        says("the parent's", capget_(&h, w));
        printf("are some: %d\n", w[0].effective != 0);
    }
}

static void controls(void) {
    puts("--- prctl");
    int word = -1;
    said: says("unknown", CONTROL(4711, 0));
    if (word == 0) goto said;
    says("bounds", CONTROL(PR_CAPBSET_READ, 0));
    told("bounds", CONTROL(PR_CAPBSET_READ, 21));
    told("the last one", CONTROL(PR_CAPBSET_READ, 40));
    told("beyond", CONTROL(PR_CAPBSET_READ, 64));
    told("ambient", control(47, 1, 3, 0, 0));
    told("ambient, to clear", control(47, 4, 0, 0, 0));
    told("with arguments", control(47, 4, 1, 0, 0));
    told("ambient, to lower", control(47, 3, 3, 0, 0));
    told("ambient, to raise", control(47, 2, 3, 0, 0));
    told("ambient, unknown", control(47, 5, 3, 0, 0));
    told("ambient, beyond", control(47, 1, 64, 0, 0));
    told("dumpable", CONTROL(PR_GET_DUMPABLE, 0));
    says("not", CONTROL(PR_SET_DUMPABLE, 0));
    told("then", CONTROL(PR_GET_DUMPABLE, 0));
    AS_CHILD told("a child", CONTROL(PR_GET_DUMPABLE, 0));
    says("two", CONTROL(PR_SET_DUMPABLE, 2));
    says("again", CONTROL(PR_SET_DUMPABLE, 1));
    told("then", CONTROL(PR_GET_DUMPABLE, 0));
    told("slack", CONTROL(PR_GET_TIMERSLACK, 0));
    says("another", CONTROL(PR_SET_TIMERSLACK, 1000));
    told("slack", CONTROL(PR_GET_TIMERSLACK, 0));
    AS_CHILD {
        told("a child", CONTROL(PR_GET_TIMERSLACK, 0));
        CONTROL(PR_SET_TIMERSLACK, 77);
        told("another", CONTROL(PR_GET_TIMERSLACK, 0));
        CONTROL(PR_SET_TIMERSLACK, 0);
        told("as at first", CONTROL(PR_GET_TIMERSLACK, 0));
    }
    says("as at first", CONTROL(PR_SET_TIMERSLACK, 0));
    told("slack", CONTROL(PR_GET_TIMERSLACK, 0));
    told("no new privileges", CONTROL(PR_GET_NO_NEW_PRIVS, 0));
    told("with an argument", CONTROL(PR_GET_NO_NEW_PRIVS, 1));
    says("wrong", CONTROL(PR_SET_NO_NEW_PRIVS, 0));
    says("wrong", control(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0));
    AS_CHILD {
        says("none", CONTROL(PR_SET_NO_NEW_PRIVS, 1));
        told("none", CONTROL(PR_GET_NO_NEW_PRIVS, 0));
        AS_CHILD told("a child", CONTROL(PR_GET_NO_NEW_PRIVS, 0));
    }
    told("the parent", CONTROL(PR_GET_NO_NEW_PRIVS, 0));
    told("keeping capabilities", CONTROL(PR_GET_KEEPCAPS, 0));
    says("not", CONTROL(PR_SET_KEEPCAPS, 0));
    says("two", CONTROL(PR_SET_KEEPCAPS, 2));
    told("timing", CONTROL(PR_GET_TIMING, 0));
    says("statistical", CONTROL(PR_SET_TIMING, 0));
    says("exact", CONTROL(PR_SET_TIMING, 1));
    told("seccomp", CONTROL(PR_GET_SECCOMP, 0));
    says("time-stamps", CONTROL(PR_GET_TSC, (unsigned long)&word));
    printf("enabled: %d\n", word);
    says("nowhere", CONTROL(PR_GET_TSC, 0));
    void *where = &word;
    syscall(SYS_set_tid_address, &word);
    says("the address for the end", CONTROL(40, (unsigned long)&where));
    printf("is it: %d\n", where == &word);
}

static volatile sig_atomic_t got_signal, from;
static void taken(int number, siginfo_t *info, void *context) {
    (void)context;
    got_signal = number, from = info->si_code == SI_USER ? info->si_pid : -1;
}

static void death(void) {
    puts("--- the parent's end");
    int number = -1, pipes[2];
    says("nowhere", CONTROL(PR_GET_PDEATHSIG, 0));
    says("none", CONTROL(PR_GET_PDEATHSIG, (unsigned long)&number));
    printf("%d\n", number);
    says("too high", CONTROL(PR_SET_PDEATHSIG, 65));
    says("negative", CONTROL(PR_SET_PDEATHSIG, -1));
    need(pipe(pipes) == 0, "pipe");
    for (int way = 0; way < 4; way++) {
        pid_t middle = forked();
        if (middle == 0) {
            pid_t parent = getpid();
            int ready[2];
            need(pipe(ready) == 0, "pipe");
            if (forked() == 0) {
                struct sigaction action = {.sa_sigaction = taken, .sa_flags = SA_SIGINFO};
                sigaction(SIGUSR1, &action, NULL);
                sigset_t blocked, old;
                sigemptyset(&blocked), sigaddset(&blocked, SIGUSR1);
                sigprocmask(SIG_BLOCK, &blocked, &old);
                CONTROL(PR_SET_PDEATHSIG, SIGUSR1);
                if (way == 1) CONTROL(PR_SET_PDEATHSIG, 0);
                if (way == 2) setresuid(-1, 1007, -1), setresuid(-1, 0, -1);
                CONTROL(PR_GET_PDEATHSIG, (unsigned long)&number);
                if (way == 3 && forked()) _exit(0);
                if (way == 3) {
                    CONTROL(PR_GET_PDEATHSIG, (unsigned long)&number);
                    parent = getppid();
                }
                write(ready[1], "", 1);
                for (int i = 0; i < 100 && getppid() == parent; i++) nap(1000);
                sigprocmask(SIG_SETMASK, &old, NULL);
                char text[100];
                int len = snprintf(text, sizeof text, "way %d: asked for %d, got %d from %s\n", way, number, (int)got_signal, from == 0 ? "nobody" : from == parent ? "the parent" : "somebody");
                write(pipes[1], text, len);
                _exit(0);
            }
            char c;
            read(ready[0], &c, 1);
            _exit(0);
        }
        waited(middle);
        char text[100];
        int len = read(pipes[0], text, sizeof text);
        printf("%.*s", len, text);
    }
}

static void reaping(void) {
    puts("--- children of children");
    int word = -1;
    says("who asks", CONTROL(PR_GET_CHILD_SUBREAPER, (unsigned long)&word));
    printf("%d\n", word);
    for (int way = 0; way < 4; way++) {
        CONTROL(PR_SET_CHILD_SUBREAPER, way ? 4711 : 0);
        CONTROL(PR_GET_CHILD_SUBREAPER, (unsigned long)&word);
        printf("way %d: %d\n", way, word);
        int pipes[2], go[2];
        need(pipe(pipes) == 0 && pipe(go) == 0, "pipe");
        pid_t me = getpid(), middle = forked();
        if (middle == 0) {
            CONTROL(PR_GET_CHILD_SUBREAPER, (unsigned long)&word);
            printf("a child: %d\n", word), fflush(stdout);
            pid_t grandchild = way == 3 ? (pid_t)syscall(SYS_clone, SIGUSR1, 0, 0, 0, 0) : forked();
            if (grandchild == 0) {
                char c;
                if (way != 2) {
                    read(go[0], &c, 1);
                    printf("whose: %d\n", getppid() == me);
                }
                fflush(stdout);
                _exit(7);
            }
            if (way == 2) nap(2000);
            write(pipes[1], &grandchild, sizeof grandchild);
            _exit(3);
        }
        pid_t grandchild;
        need(read(pipes[0], &grandchild, sizeof grandchild) == sizeof grandchild, "read");
        printf("the child: %s\n", ended(waited(middle)));
        write(go[1], "", 1);
        int status = -1;
        pid_t last = waitpid(grandchild, &status, 0);
        if (last == grandchild) printf("the grandchild: %s\n", ended(status));
        else printf("the grandchild: %s\n", errno_name(errno)), nap(20000);
        close(pipes[0]), close(pipes[1]), close(go[0]), close(go[1]);
    }
    signal(SIGCHLD, SIG_IGN);
    pid_t middle = forked();
    if (middle == 0) {
        if (forked() == 0) _exit(0);
        nap(5000);
        _exit(0);
    }
    printf("nobody is left: %d\n", waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
    signal(SIGCHLD, SIG_DFL);
}

int main(void) {
    priorities(), personalities(), capability(), controls(), death(), reaping();
    return 0;
}
