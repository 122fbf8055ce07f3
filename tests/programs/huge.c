/* Segments larger than anything. */
#include "common.h"

int main(void) {
    for (int bits = 36; bits < 64; bits++) {
        char name[40];
        snprintf(name, sizeof name, "2^%d bytes", bits);
        int id = shmget(IPC_PRIVATE, 1UL << bits, IPC_CREAT | 0600);
        says(name, id < 0 ? -1 : 0);
        if (id >= 0) shmctl(id, IPC_RMID, NULL);
    }
    /* Without the accounting there is nothing to refuse it but the address space. */
    int id = shmget(IPC_PRIVATE, 1UL << 46, IPC_CREAT | SHM_NORESERVE | 0600);
    says("2^46 bytes without reserve", id < 0 ? -1 : 0);
    if (id >= 0) shmctl(id, IPC_RMID, NULL);
    int small = shmget(IPC_PRIVATE, PAGE, 0600);
    char *p = shmat(small, NULL, 0);
    p[0] = 1;
    says("an ordinary one", p == (void *)-1 ? -1 : 0);
    shmctl(small, IPC_RMID, NULL);
    return 0;
}
