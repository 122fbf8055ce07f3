/* A removed segment lives until its last detach, whoever does that. Copy 0 makes and removes it, the last copy holds on. */
#include "common.h"

struct control {
    struct meeting meeting;
    _Atomic int id;
};

int main(void) {
    struct control *control = attached(segment_of_all(0x11f1, sizeof *control), NULL, 0);
    int last = copies() - 1;
    struct shmid_ds state;
    if (rank() == 0) {
        int id = shmget(0x11f2, 3 * PAGE, IPC_CREAT | IPC_EXCL | 0600);
        need(id >= 0, "shmget");
        atomic_store(&control->id, id);
    }
    meet(&control->meeting);
    int id = atomic_load(&control->id);
    volatile char *p = attached(id, NULL, 0);
    meet(&control->meeting);
    if (rank() == 0) {
        for (size_t i = 0; i < 3 * PAGE; i++) p[i] = (char)(i % 251);
        says_value("attaches", nattch(id) - copies());
        says("remove", shmctl(id, IPC_RMID, NULL));
    }
    meet(&control->meeting);
    says("its key is free", shmget(0x11f2, 0, 0));
    says("it can be asked about", shmctl(id, IPC_STAT, &state));
    printf("mode %o\n", state.shm_perm.mode);
    meet(&control->meeting);
    if (rank() != last) says("detach", shmdt((void *)p));
    meet(&control->meeting);
    if (rank() == last) {
        int right = 1;
        for (size_t i = 0; i < 3 * PAGE; i++) right &= p[i] == (char)(i % 251);
        holds("the last one sees all of it", right);
        holds("it is the only one", nattch(id) == 1);
        says("detach the last", shmdt((void *)p));
    }
    meet(&control->meeting);
    says("it is gone", shmctl(id, IPC_STAT, &state));
    says("it can't be attached", shmat(id, NULL, 0) == (void *)-1 ? -1 : 0);
    meet(&control->meeting);
    if (rank() == 0) shmctl(shmget(0x11f1, 0, 0), IPC_RMID, NULL);
    return 0;
}
