/* Executes other files, which begin anew: with what execve keeps, and without attaches.
 * usage: exec_file FILE (this program, built otherwise) TEXT (a file that is no program) */
#include "conf.h"

/* What the other file finds. */
static int other(char **argv) {
    int id = atoi(argv[2]);
    char name[300];
    long length = readlink("/proc/self/exe", name, sizeof name);
    printf("%s runs as %.*s, environment %s, uid %d\n", argv[0], (int)length, name, getenv("X") ? getenv("X") : "none", (int)geteuid());
    attaches("in another program", id);
    char *p = attached(id, NULL, 0);
    printf("its byte is %d\n", *p);
    (*p)++;
    fflush(stdout);
    if (argv[3]) execve(argv[3], (char *[]){"back", "other", argv[2], NULL}, (char *[]){"X=back", NULL});
    return 40 + *p;
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "other") == 0) return other(argv);
    need(argc == 3, "a program and a text");
    int id = made(IPC_PRIVATE, PAGE, 0666);
    char *p = attached(id, NULL, 0), *number = (char *)form("%d", id), *environment[] = {"X=once", NULL};
    attached(id, NULL, SHM_RDONLY);
    *p = 1;
    IN_CHILD("another file") execve(argv[1], (char *[]){"one", "other", number, NULL}, environment);
    IN_CHILD("and back") execve(argv[1], (char *[]){"two", "other", number, argv[0], NULL}, environment);
    pid_t child = vfork();
    if (child == 0) {
        execve(argv[1], (char *[]){"three", "other", number, NULL}, environment);
        _exit(99);
    }
    printf("after vfork: %s\n", ended(waited(child)));
    attaches("then", id);
    IN_CHILD("what is no program") {
        says("execve", execve(argv[2], (char *[]){"text", NULL}, environment));
        attaches("a failing one keeps them", id);
    }
    says_value("bytes", *p);
    removed(id);
    return 0;
}
