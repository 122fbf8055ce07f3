/* Who am I: prints its arguments and what it was told in the environment; its exit status is argc. */
#include "common.h"

extern char **environ;

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) printf("argument %d [%s]\n", i, argv[i]);
    holds("argv ends with NULL", argv[argc] == NULL);
    holds("argv[0] is this program", argc > 0 && strstr(argv[0], "hello") != NULL);
    for (char **e = environ; *e; e++)
        if (strncmp(*e, "TEST_", 5) == 0) printf("environment %s\n", *e);
    printf("hello from process %d of %d in guest %d of %d\n", proc(), procs(), guest(), guests());
    return argc;
}
