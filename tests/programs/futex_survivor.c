/* Whoever is dead waits for nothing: guest 1's copies wait for a word, and guest 2's after them; guest 1 dies; the next
 * wake-up is guest 2's. On Linux guest 1 are processes that are killed. */
#include "futex.h"

struct shared {
    struct meeting meeting;
    _Alignas(64) word a, all_wait;
    pid_t doomed[8];
};

int main(void) {
    int id = segment_of_all(0x5042, sizeof(struct shared)), last = procs() - 1;
    struct shared *s = attached(id, NULL, 0);
    if (guest() == 1) s->doomed[proc()] = (pid_t)syscall(SYS_gettid);
    gather(&s->meeting);
    if (guest() == 1 && proc() == last) {
        /* All of guest 1 at once, if it was started so; else one after the other. */
        until_waiters(&s->a, last + procs());
        tell(&s->all_wait, 1);
        syscall(SYS_getpid);
        for (int i = 0; i <= last; i++) kill(s->doomed[i], SIGKILL);
    }
    if (guest() == 1) return (int)futex_wait(&s->a, 0);
    if (guest() == 2) {
        while (waiters(&s->a) < last + proc()) nap(500);
        says("waited", futex_wait(&s->a, 0));
        return 0;
    }
    if (proc() > 0) return 0;
    until(&s->all_wait, 1);
    until_waiters(&s->a, procs());
    for (int i = 0; i < procs(); i++) says_value("wake one", futex_wake(&s->a, 1));
    says_value("wake one", futex_wake(&s->a, 1));
    while (nattch(id) > 1) nap(500);
    says("remove", shmctl(id, IPC_RMID, NULL));
    return 0;
}
