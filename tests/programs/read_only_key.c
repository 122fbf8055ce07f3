/* Guest 1 may only read the segment with key 0x6b1; guest 0 writes it. */
#include "common.h"

int main(void) {
    struct meeting *meeting = attached(segment_of_all(0x6b0, PAGE), NULL, 0);
    int id = segment_of_all(0x6b1, 3 * PAGE);
    if (guest() == 0) {
        char *p = attached(id, NULL, 0);
        p[2 * PAGE] = 42;
        meet(meeting);
        meet(meeting);
        return shmctl(id, IPC_RMID, NULL) || shmctl(shmget(0x6b0, 0, 0), IPC_RMID, NULL);
    }
    meet(meeting);
    says("attach for writing", (long)shmat(id, NULL, 0));
    char *p = shmat(id, NULL, SHM_RDONLY);
    says("attach for reading", (long)p);
    holds("it sees what was written", p[2 * PAGE] == 42);
    says("another key, for writing", (long)shmat(shmget(0x6b0, 0, 0), NULL, 0));
    meet(meeting);
    return 0;
}
