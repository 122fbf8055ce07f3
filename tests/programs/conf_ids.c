/* Identifiers: which index is next, when the sequence moves on, what a wrong one is taken for. */
#include "conf.h"

static int all[4096];

static void tell(const char *name, int id) { printf("%s: identifier %d, index %d, sequence %d\n", name, id, id & 32767, id >> 15); }

int main(void) {
    int first = made(IPC_PRIVATE, 1, 0600);
    tell("the first", first);
    char *p = attached(first, NULL, 0);
    holds("identifier 0 can be attached", p[0] == 0);
    shmdt(p);
    removed(first);
    for (int i = 0; i < 70; i++) {
        int id = made(IPC_PRIVATE, 1, 0600);
        tell(form("made and removed %d", i), id);
        says_value("sequence in the state", stat_of(id).shm_perm.__seq);
        removed(id);
    }
    /* Long-lived ones are stepped over. */
    for (int i = 0; i < 10; i++) all[i] = made(IPC_PRIVATE, 1, 0600);
    for (int i = 0; i < 10; i++) tell("long-lived", all[i]);
    removed(all[3]), removed(all[7]);
    for (int i = 0; i < 130; i++) {
        int id = made(IPC_PRIVATE, 1, 0600);
        if (i % 7 == 0 || (id & 32767) < 12 || (id & 32767) > 60) tell(form("beside long-lived ones %d", i), id);
        removed(id);
    }
    for (int i = 0; i < 10; i++)
        if (i != 3 && i != 7) removed(all[i]);
    /* With many in use the range grows to one and a half times as many. */
    for (int i = 0; i < 200; i++) all[i] = made(IPC_PRIVATE, 1, 0600);
    for (int i = 0; i < 200; i += 9) tell(form("of 200, number %d", i), all[i]);
    for (int i = 0; i < 200; i++) {
        int id = made(IPC_PRIVATE, 1, 0600);
        if (i % 13 == 0 || (id & 32767) < 64 || (id & 32767) > 295) tell(form("beside 200, %d", i), id);
        removed(id);
    }
    for (int i = 0; i < 200; i += 2) removed(all[i]);
    for (int i = 0; i < 150; i++) {
        int id = made(IPC_PRIVATE, 1, 0600);
        if (i % 13 == 0 || (id & 32767) < 64 || (id & 32767) > 145) tell(form("beside 100, %d", i), id);
        removed(id);
    }
    for (int i = 1; i < 200; i += 2) removed(all[i]);
    /* Made with a key and found by it: the identifier stays. */
    int id = made(0x31337, 100, IPC_CREAT | 0600);
    tell("with a key", id);
    for (int i = 0; i < 3; i++) holds("found by its key", shmget(0x31337, 0, 0) == id);
    p = attached(id, NULL, 0);
    removed(id);
    int next = made(0x31337, 100, IPC_CREAT | 0600);
    tell("with the same key, the first being removed", next);
    for (int i = 0; i < 70; i++) {
        int other = made(IPC_PRIVATE, 1, 0600);
        need((other & 32767) != (id & 32767), "an index in use is not used");
        removed(other);
    }
    shmdt(p);
    says("the first, detached", shmctl(id, IPC_STAT, &(struct shmid_ds){0}));
    /* Wrong ones. */
    static const int deltas[] = {32768, 65536, 1 << 30, 1, 64, 1000};
    for (int i = 0; i < 6; i++) {
        int wrong = next + deltas[i];
        struct shmid_ds s;
        says(form("STAT of one wrong by %d", deltas[i]), shmctl(wrong, IPC_STAT, &s));
        at(form("attach one wrong by %d", deltas[i]), shmat(wrong, NULL, 0));
        says(form("remove one wrong by %d", deltas[i]), shmctl(wrong, IPC_RMID, NULL));
    }
    removed(next);
    id = made(IPC_PRIVATE, 1, 0600);
    says("an old identifier", shmctl(next, IPC_STAT, &(struct shmid_ds){0}));
    removed(id);
    return 0;
}
