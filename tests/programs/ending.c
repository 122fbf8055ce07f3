/* The ways a process can end by itself. The first argument names one. */
#include "common.h"

static void late(void) { puts("atexit ran"); }

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "return";
    atexit(late);
    printf("ending by %s\n", how);
    if (strcmp(how, "return") == 0) return 7;
    if (strcmp(how, "exit") == 0) exit(300); /* Only the low eight bits count. */
    if (strcmp(how, "negative") == 0) exit(-1);
    fflush(stdout);
    if (strcmp(how, "_exit") == 0) _exit(9);
    if (strcmp(how, "exit-thread") == 0) syscall(SYS_exit, 11);
    if (strcmp(how, "abort") == 0) abort();
    if (strcmp(how, "term") == 0) raise(SIGTERM);
    if (strcmp(how, "kill") == 0) kill(getpid(), SIGKILL);
    if (strcmp(how, "tgkill") == 0) syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
    if (strcmp(how, "ignored") == 0) {
        signal(SIGTERM, SIG_IGN);
        says("SIGTERM, ignored", raise(SIGTERM));
        says("SIGCHLD, ignored unless caught", raise(SIGCHLD));
        says("SIGWINCH, ignored unless caught", raise(SIGWINCH));
        says("SIGURG, ignored unless caught", raise(SIGURG));
        says("signal 0", kill(getpid(), 0));
        says("signal 65", kill(getpid(), 65));
        says("no such process", kill(0x3fffff, 0));
        return 5;
    }
    puts("still here");
    return 98;
}
