/* Guest 1's copy gets, attaches, forks, detaches and removes without end, until its guest dies; guest 0's does the same,
 * checks every result, and says what is left of the other.   usage: death ROUNDS */
#include "conf.h"

enum { NOTHING, MADE, ATTACHED, REMOVED };
struct control {
    _Atomic int pid, id, stage, attached;
    _Atomic long rounds;
};

static void round_of(int number, struct control *doomed) {
    int id = number % 3 ? shmget(IPC_PRIVATE, (number % 700) * PAGE + 1, 0600) : shmget(0x1000 + guest(), PAGE * 3, IPC_CREAT | IPC_EXCL | 0600);
    need(id >= 0, "shmget");
    if (doomed) atomic_store(&doomed->id, id), atomic_store(&doomed->stage, MADE);
    char *p = attached(id, NULL, 0);
    if (doomed) atomic_store(&doomed->stage, ATTACHED);
    char *ro = attached(id, number % 2 ? FREE_PLACE : NULL, SHM_RDONLY);
    need(p[0] == 0 && (p[0] = number | 1, ro[0] == (char)(number | 1)), "the byte");
    need(nattch(id) == 2, "two attaches");
    if (number % 4 == 0) AS_CHILD need(nattch(id) == 4 && shmdt(ro) == 0, "a child's attaches");
    if (number % 5 == 0) need(mprotect(p, PAGE, PROT_READ) == 0 && munmap(ro, PAGE) == 0, "mprotect and munmap");
    need(shmctl(id, IPC_RMID, NULL) == 0, "IPC_RMID");
    if (doomed) atomic_store(&doomed->stage, REMOVED);
    shmdt(ro);
    need(shmdt(p) == 0, "shmdt");
    need(shmctl(id, IPC_STAT, &(struct shmid_ds){0}) == -1 && errno == EINVAL, "to be gone");
    if (doomed) atomic_store(&doomed->stage, NOTHING);
}

int main(int argc, char **argv) {
    int common = segment_of_all(0xdead, 5 * PAGE), word = segment_of_all(0xdeae, sizeof(struct control));
    struct control *control = attached(word, NULL, 0);
    if (guest() == 1) {
        atomic_store(&control->pid, getpid());
        attached(common, NULL, 0);
        attached(common, NULL, SHM_RDONLY);
        atomic_store(&control->attached, 1);
        for (int i = 0;; i++) {
            round_of(i, control);
            atomic_store(&control->rounds, i + 1);
        }
    }
    char *p = attached(common, NULL, 0);
    memset(p, 0x77, 5 * PAGE);
    madvise(p, 5 * PAGE, MADV_DONTFORK); /* So that its children are never the last to detach. */
    /* Was it alive after this one attached? Otherwise this one was the last. */
    int alive = nattch(common) == 3;
    int rounds = argc > 1 ? atoi(argv[1]) : 20;
    for (int i = 0; i < rounds; i++) round_of(i, NULL);
    /* The other is over when only this one holds the common ones, and stays so while time passes. */
    for (int calm = 0, waited = 0; calm < 100; waited++) {
        need(waited < 20000, "the other guest to end");
        calm = nattch(common) == 1 && nattch(word) == 1 ? calm + 1 : 0;
        alive |= nattch(common) == 3;
        nap(1000);
    }
    struct shmid_ds s = stat_of(common);
    int stage = atomic_load(&control->stage), id = atomic_load(&control->id);
    holds("attaches are right", s.shm_nattch == 1);
    if (atomic_load(&control->attached)) {
        holds("detached just now", labs(s.shm_dtime - time(NULL)) < 60 && s.shm_dtime != 0);
        if (alive) holds("by a process of the other", s.shm_lpid >> 14 == 1);
    }
    int same = 1;
    for (size_t i = 0; i < 5 * PAGE; i++) same &= p[i] == 0x77;
    holds("its bytes are unchanged", same);
    if (stage != NOTHING) {
        int there = shmctl(id, IPC_STAT, &s) == 0;
        printf("stage %d: %s\n", stage, there ? "there" : "gone");
        need(!(stage == REMOVED && there), "a removed segment to be gone");
        need(!there || s.shm_nattch == 0, "no attaches of the dead");
        if (there) removed(id);
    }
    for (int i = 0; i < rounds; i++) round_of(i, NULL);
    printf("rounds of the other: %ld\n", atomic_load(&control->rounds));
    removed(common), removed(word);
    return 0;
}
