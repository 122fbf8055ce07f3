/* Guest 0 (root) makes segments, guest 1 (another user) tries what it may do with them and with its own. */
#include "common.h"

static const int modes[] = {0600, 0644, 0666, 0606, 0060, 0777, 0};
enum { COUNT = sizeof modes / sizeof *modes };

int main(void) {
    int meeting_id = shmget(0x9e0, PAGE, IPC_CREAT | 0666);
    need(meeting_id >= 0, "shmget");
    struct meeting *meeting = attached(meeting_id, NULL, 0);
    if (guest() == 0) {
        int ids[COUNT], mine = 0;
        for (int i = 0; i < COUNT; i++) ids[i] = shmget(0x9e1 + i, PAGE, IPC_CREAT | IPC_EXCL | modes[i]);
        meet(meeting);
        meet(meeting);
        /* Root may do all of it, with the other's segment, too. */
        mine = shmget(0x9f0, 0, 0);
        says("root attaches another's segment of mode 0", (long)shmat(mine, NULL, 0));
        says("root removes it", shmctl(mine, IPC_RMID, NULL));
        for (int i = 0; i < COUNT; i++) says("root removes its own", shmctl(ids[i], IPC_RMID, NULL));
        meet(meeting);
        return shmctl(meeting_id, IPC_RMID, NULL);
    }
    meet(meeting);
    printf("uid %d gid %d\n", (int)getuid(), (int)getgid());
    for (int i = 0; i < COUNT; i++) {
        struct shmid_ds state;
        int id = shmget(0x9e1 + i, 0, 0);
        printf("mode %04o\n", modes[i]);
        says("find it", id < 0 ? -1 : 0);
        says("find it for reading", shmget(0x9e1 + i, 0, 0400) < 0 ? -1 : 0);
        says("find it for writing", shmget(0x9e1 + i, 0, 0200) < 0 ? -1 : 0);
        says("find it, too large, for writing", shmget(0x9e1 + i, 2 * PAGE, 0200) < 0 ? -1 : 0);
        says("attach it", (long)shmat(id, NULL, 0));
        says("attach it for reading", (long)shmat(id, NULL, SHM_RDONLY));
        says("attach it for executing", (long)shmat(id, NULL, SHM_RDONLY | SHM_EXEC));
        says("its state", shmctl(id, IPC_STAT, &state));
        says("remove it", shmctl(id, IPC_RMID, NULL));
    }
    int own = shmget(0x9f0, PAGE, IPC_CREAT | IPC_EXCL | 0);
    says("own segment of mode 0", own < 0 ? -1 : 0);
    says("attach it", (long)shmat(own, NULL, 0));
    says("its state", shmctl(own, IPC_STAT, &(struct shmid_ds){0}));
    int other = shmget(IPC_PRIVATE, PAGE, 0600);
    struct shmid_ds state;
    says("own segment", shmctl(other, IPC_STAT, &state));
    holds("is the user's", state.shm_perm.uid == getuid() && state.shm_perm.cgid == getgid());
    says("attach it", (long)shmat(other, NULL, 0));
    says("remove it", shmctl(other, IPC_RMID, NULL));
    meet(meeting);
    meet(meeting);
    return 0;
}
