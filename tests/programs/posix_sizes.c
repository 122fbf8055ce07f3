/* Copies change the size of a file in common at random, look at what is there, and map and unmap it; any may die at any
 * moment. Whoever touches what another has cut off gets SIGBUS, and goes on. */
#include "posix.h"
#include <setjmp.h>

static sigjmp_buf back;
static void bus(int signal) { siglongjmp(back, 1); }

int main(int argc, char **argv) {
    prefix = argv[1];
    signal(SIGBUS, bus);
    unsigned state = (unsigned)rank() * 77 + 5;
    int fd = opened("sizes", O_RDWR | O_CREAT, 0600);
    char *p = mapped(fd, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    volatile int touched = 0, missed = 0;
    for (volatile int i = 0; i < 300; i++) {
        state = state * 1103515245 + 12345;
        unsigned pick = state >> 16, page = pick / 8 % 64;
        switch (pick % 8) {
        case 0: case 1: need(ftruncate(fd, page * PAGE + pick % 3) == 0, "ftruncate"); break;
        case 2: munmap(p, 64 * PAGE), p = mapped(fd, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED); break;
        case 3: need(pwrite(fd, "x", 1, page * PAGE) == 1, "pwrite"); break;
        default:
            if (sigsetjmp(back, 1)) missed++;
            else p[page * PAGE + pick % PAGE] = 1, touched++;
        }
    }
    need(touched > 0 && missed > 0, "both happen");
    puts("done");
    return 0;
}
