/* Process 0 writes more than anybody reads; process 1 has things to do meanwhile. Both tell by stderr. */
#include "fs.h"

static char text[1 << 20];

int main(void) {
    if (proc() == 0) {
        for (int i = 0; i < 1 << 20; i++) text[i] = 'a' + i / 1000 % 26;
        /* One write, which waits in its middle. */
        long written = write(1, text, 1 << 20);
        dprintf(2, "written %ld\n", written);
        struct pollfd p = {1, POLLOUT, 0};
        dprintf(2, "poll %d\n", poll(&p, 1, -1));
        return 0;
    }
    /* While that one waits this one makes system calls, sleeps and waits for others. */
    int ends[2];
    pipe(ends);
    for (int i = 0; i < 200; i++) {
        if (fork() == 0) {
            write(ends[1], "x", 1);
            _exit(0);
        }
        char byte;
        if (read(ends[0], &byte, 1) != 1) return 1;
        wait(NULL);
        nap(1000);
    }
    dprintf(2, "worked on\n");
    return 0;
}
