/* One copy sleeps until the other wakes it, `milliseconds` after it went to sleep.   usage: futex_idle milliseconds */
#include "futex.h"

int main(int argc, char **argv) {
    int id = segment_of_all(0x1d1e, sizeof(word));
    word *at = attached(id, NULL, 0);
    if (rank() == 0) {
        until(at, 1);
        return puts("woken") < 0;
    }
    until_waiters(at, 1);
    nap(argc > 1 ? atoi(argv[1]) * 1000L : 0);
    tell(at, 1);
    return shmctl(id, IPC_RMID, NULL);
}
