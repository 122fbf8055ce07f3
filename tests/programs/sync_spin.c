/* Spin locks: no system call at all, so they work wherever memory does.   usage: sync_spin threads|private|forks (sync.h) */
#include "sync.h"

enum { LOCK, TRYLOCK, UNLOCK, ADD };

static long perform(int me, int what, int object, long argument) {
    pthread_spinlock_t *lock = &objects[object].spin;
    switch (what) {
    case LOCK: return pthread_spin_lock(lock);
    case TRYLOCK: return pthread_spin_trylock(lock);
    case UNLOCK: return pthread_spin_unlock(lock);
    case ADD:
        for (long i = 0; i < argument; i++) {
            /* As one should where there may be fewer CPUs than threads. */
            while (pthread_spin_trylock(lock)) sched_yield();
            arena->plain[object]++;
            pthread_spin_unlock(lock);
        }
        return 0;
    }
    return ENOSYS;
}

int main(int argc, char **argv) {
    if (opened(argc, argv)) {
        printf("init %s\n", told(pthread_spin_init(&objects[0].spin, shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE)));
        does("A locks", 0, LOCK, 0, 0);
        does("B tries", 1, TRYLOCK, 0, 0);
        does("A unlocks", 0, UNLOCK, 0, 0);
        does("B tries", 1, TRYLOCK, 0, 0);
        waits("A locks", 0, LOCK, 0, 0);
        does("B unlocks", 1, UNLOCK, 0, 0);
        then("A", 0);
        does("C tries", 2, TRYLOCK, 0, 0);
        does("A unlocks", 0, UNLOCK, 0, 0);
        all_do("all count together", ADD, 0, 300);
        printf("counted %ld\n", arena->plain[0]);
        printf("destroy %s\n", told(pthread_spin_destroy(&objects[0].spin)));
    }
    return closed();
}
