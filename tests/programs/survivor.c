/* Copy 0 outlives the others and says what became of what they held; the last copy does what the first argument says.
 * usage: survivor exit|fault|trespass|getpid|spin */
#include "common.h"

struct control {
    struct meeting meeting;
    _Atomic int doomed;
};

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "exit";
    struct control *control = attached(segment_of_all(0x50a1, sizeof *control), NULL, 0);
    int id = segment_of_all(0x50a2, 2 * MIB + PAGE);
    if (rank() == 0) {
        volatile char *all = attached(id, NULL, 0);
        for (size_t i = 0; i < 2 * MIB + PAGE; i += PAGE / 2) all[i] = 0x11;
        meet(&control->meeting); /* Victims attach now. */
        meet(&control->meeting);
        int doomed = atomic_load(&control->doomed);
        struct shmid_ds state;
        printf("attaches %ld, of the doomed one %ld\n", nattch(id), nattch(doomed));
        says("remove the doomed one", shmctl(doomed, IPC_RMID, NULL));
        fflush(stdout);
        meet(&control->meeting);
        for (int waited = 0; nattch(id) != 1 && waited < 10000; waited++) nap(1000);
        printf("attaches %ld\n", nattch(id));
        /* What a process held goes piece by piece when it ends. */
        for (int waited = 0; shmctl(doomed, IPC_STAT, &state) == 0 && waited < 10000; waited++) nap(1000);
        need(shmctl(id, IPC_STAT, &state) == 0, "IPC_STAT");
        holds("it was detached just now", labs(state.shm_dtime - time(NULL)) < 5);
        holds("by another process", state.shm_lpid != getpid() && state.shm_lpid > 0);
        says("the doomed one", shmctl(doomed, IPC_STAT, &state));
        int unchanged = 1;
        for (size_t i = 0; i < 2 * MIB + PAGE; i++) unchanged &= all[i] == (i % (PAGE / 2) == 0 ? 0x11 : 0);
        holds("its bytes are unchanged", unchanged);
        says("remove", shmctl(id, IPC_RMID, NULL));
        says("remove the control", shmctl(shmget(0x50a1, 0, 0), IPC_RMID, NULL));
        return 0;
    }
    meet(&control->meeting);
    volatile char *rw = attached(id, NULL, 0), *ro = attached(id, NULL, SHM_RDONLY);
    attached(id, NULL, 0);
    if (rank() == copies() - 1) {
        int doomed = shmget(IPC_PRIVATE, 5 * PAGE, 0600);
        need(doomed >= 0, "shmget");
        memset(attached(doomed, NULL, 0), 1, 5 * PAGE);
        atomic_store(&control->doomed, doomed);
    }
    need(rw[0] == 0x11 && ro[2 * MIB] == 0x11, "to see the bytes");
    meet(&control->meeting);
    meet(&control->meeting);
    if (rank() < copies() - 1) return 0;
    if (strcmp(how, "fault") == 0) *(volatile int *)16 = 1;
    if (strcmp(how, "trespass") == 0) ro[2 * MIB + PAGE - 1] = 0x22;
    if (strcmp(how, "getpid") == 0) syscall(SYS_getpid);
    if (strcmp(how, "spin") == 0) {
        /* On each vCPU in turn, asking the host for something each time. */
        cpu_set_t all, one;
        sched_getaffinity(0, sizeof all, &all);
        for (int cpu = 0;; cpu = (cpu + 1) % CPU_COUNT(&all)) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            sched_setaffinity(0, sizeof one, &one);
            nattch(id);
        }
    }
    return 0;
}
