/* Process 0 touches memory until it is ended; the others wait for that and see that the memory is free again. */
#include "common.h"

int main(void) {
    _Atomic uint32_t *started = attached(segment_of_all(0x409, PAGE), NULL, 0);
    if (proc() == 0) {
        while (atomic_load(started) != (uint32_t)procs() - 1) nap(100);
        for (;;) {
            char *more = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            need(more != MAP_FAILED, "room for a mapping");
            memset(more, 1, MIB);
        }
    }
    atomic_fetch_add(started, 1);
    while (nattch(shmget(0x409, 0, 0)) == procs()) nap(1000);
    puts("the other one is gone");
    char *mine = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(mine, 2, 4 * MIB);
    puts("4 MiB are to be had again");
    /* Hold on until all have seen it. */
    atomic_fetch_add(started, 1);
    while (atomic_load(started) < 2 * (uint32_t)(procs() - 1)) nap(100);
    return 0;
}
