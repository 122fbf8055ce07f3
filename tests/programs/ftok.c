/* Keys from names. With an argument it prints the keys themselves, which only copies on one system share. */
#include "common.h"

int main(int argc, char **argv) {
    (void)argv;
    const char *names[] = {"/", ".", "/tmp"};
    for (int i = 0; i < 3; i++) {
        key_t a = ftok(names[i], 'a'), b = ftok(names[i], 'b');
        says(names[i], a);
        holds("the project is in the key", a != b && (uint32_t)a >> 24 == 'a');
        holds("the same again", a == ftok(names[i], 'a'));
        if (argc > 1) printf("%s %08x %08x\n", names[i], (unsigned)a, (unsigned)b);
    }
    holds("/ and /tmp differ", ftok("/", 1) != ftok("/tmp", 1));
    says("no such file", ftok("/no/such/file", 1));
    return 0;
}
