/* The other guest's processes get, attach, fork, detach and remove without end, until their guest dies; guest 0's does
 * the same, checks every result, and says what is left of them. That the other guest is gone it learns from the harness,
 * by a segment.   usage: death rounds | death quota SEGMENTS */
#include "conf.h"

enum { NOTHING, MADE, ATTACHED, REMOVED };
enum { OVER = 0xdeaf, MOST = 64 };
struct control {
    _Atomic int ready, attached, held, go, ids[MOST];
    struct { _Atomic int id, stage; _Atomic long rounds; } other[2];
};

static void until(_Atomic int *flag) { while (!atomic_load(flag)) nap(500); }
static void until_over(void) {
    int id;
    while ((id = shmget(OVER, 0, 0)) < 0) nap(1000);
    removed(id);
}

/* One round; `control` is where one that may die at any moment says how far it is. */
static void round_of(int number, struct control *control) {
    int id = number % 3 ? shmget(IPC_PRIVATE, (number % 700) * PAGE + 1, 0600) : shmget(0x1000 + rank(), PAGE * 3, IPC_CREAT | IPC_EXCL | 0600);
    need(id >= 0, "shmget");
    _Atomic int ignored, *stage = control ? &control->other[proc()].stage : &ignored;
    if (control) atomic_store(&control->other[proc()].id, id);
    atomic_store(stage, MADE);
    char *p = attached(id, NULL, 0);
    atomic_store(stage, ATTACHED);
    char *ro = attached(id, number % 2 ? FREE_PLACE : NULL, SHM_RDONLY);
    need(p[0] == 0 && (p[0] = number | 1, ro[0] == (char)(number | 1)), "the byte");
    need(nattch(id) == 2, "two attaches");
    if (number % 4 == 0) AS_CHILD need(nattch(id) == 4 && shmdt(ro) == 0, "a child's attaches");
    if (number % 5 == 0) need(mprotect(p, PAGE, PROT_READ) == 0 && munmap(ro, PAGE) == 0, "mprotect and munmap");
    need(shmctl(id, IPC_RMID, NULL) == 0, "IPC_RMID");
    atomic_store(stage, REMOVED);
    shmdt(ro);
    need(shmdt(p) == 0, "shmdt");
    need(shmctl(id, IPC_STAT, &(struct shmid_ds){0}) == -1 && errno == EINVAL, "to be gone");
    atomic_store(stage, NOTHING);
}

/* What the dead have made and not removed: attached by nobody, and now removed. */
static void bury(void) {
    struct shm_usage usage;
    struct shmid_ds s;
    int highest = syscall(SYS_shmctl, 0, SHM_INFO, &usage), found = 0;
    for (int index = 0; index <= highest; index++) {
        int id = syscall(SYS_shmctl, index, SHM_STAT_ANY, &s);
        if (id < 0 || s.shm_cpid >> 14 != 1 || s.shm_perm.__key == 0xdead || s.shm_perm.__key == 0xdeae) continue;
        need(s.shm_nattch == 0 && !(s.shm_perm.mode & SHM_DEST), "what the dead made to be attached by nobody, and not removed");
        removed(id), found++;
    }
    need(found <= 2, "each of the dead had at most one");
}

static void rounds(struct control *control, int common) {
    if (guest() == 1) {
        until(&control->ready);
        if (proc() == 0) {
            attached(common, NULL, 0);
            attached(common, NULL, SHM_RDONLY);
            atomic_store(&control->attached, 1);
        }
        for (int i = 0;; i++) {
            round_of(i, control);
            atomic_store(&control->other[proc()].rounds, i + 1);
        }
    }
    char *p = attached(common, NULL, 0);
    memset(p, 0x77, 5 * PAGE);
    madvise(p, 5 * PAGE, MADV_DONTFORK); /* So that its children are never the last to detach. */
    atomic_store(&control->ready, 1);
    for (int i = 0; i < 2; i++) round_of(i, NULL);
    until_over();
    struct shmid_ds s = stat_of(common);
    holds("attaches are right", s.shm_nattch == 1);
    int by_other = s.shm_lpid >> 14 == 1;
    if (atomic_load(&control->attached)) holds("by a process of the other", by_other);
    if (by_other) holds("detached just now", s.shm_dtime != 0 && s.shm_dtime >= s.shm_atime && s.shm_dtime <= time(NULL));
    int same = 1;
    for (size_t i = 0; i < 5 * PAGE; i++) same &= p[i] == 0x77;
    holds("its bytes are unchanged", same);
    for (int i = 0; i < 2; i++) {
        int stage = atomic_load(&control->other[i].stage), id = atomic_load(&control->other[i].id);
        int there = shmctl(id, IPC_STAT, &s) == 0;
        printf("stage %d after %ld rounds: %s\n", stage, atomic_load(&control->other[i].rounds), there ? "there" : "gone");
        need(!(stage == REMOVED && there), "a removed segment to be gone");
    }
    bury();
    for (int i = 2; i < 4; i++) round_of(i, NULL);
}

/* Segments made by guest 0 that only the other still holds count for guest 0 until the other dies. */
static void quota(struct control *control, int count) {
    if (guest() == 1) {
        until(&control->ready);
        for (int i = 0; i < count; i++) attached(atomic_load(&control->ids[i]), NULL, i % 2 ? SHM_RDONLY : 0);
        atomic_store(&control->held, 1);
        until(&control->go);
        syscall(SYS_getpid); /* Its last. */
    }
    for (int i = 0; i < count; i++) atomic_store(&control->ids[i], made(IPC_PRIVATE, PAGE, 0600));
    got("one more than it may", shmget(IPC_PRIVATE, PAGE, 0600));
    atomic_store(&control->ready, 1);
    until(&control->held);
    for (int i = 0; i < count; i++) removed(atomic_load(&control->ids[i]));
    got("all removed, one more", shmget(IPC_PRIVATE, PAGE, 0600));
    atomic_store(&control->go, 1);
    until_over();
    for (int i = 0; i < count; i++) says("after the other's death", shmctl(atomic_load(&control->ids[i]), IPC_STAT, &(struct shmid_ds){0}));
    for (int i = 0; i < count; i++) atomic_store(&control->ids[i], made(IPC_PRIVATE, PAGE, 0600));
    got("as many anew, and one more", shmget(IPC_PRIVATE, PAGE, 0600));
    for (int i = 0; i < count; i++) removed(atomic_load(&control->ids[i]));
}

int main(int argc, char **argv) {
    /* So that it is known who makes the common ones. */
    while (argc > 2 && guest() == 1 && shmget(0xdead, 0, 0) < 0) nap(1000);
    int word = segment_of_all(0xdeae, sizeof(struct control)), common = segment_of_all(0xdead, 5 * PAGE);
    struct control *control = attached(word, NULL, 0);
    if (argc > 2) quota(control, atoi(argv[2]));
    else rounds(control, common);
    removed(common), removed(word);
    return 0;
}
