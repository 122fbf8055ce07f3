/* In every copy six threads wait in a segment, each by something else, until copy 0 lets them all go.
 *   usage: sync_idle MILLISECONDS    how long they wait; 0: for ever */
#include "conf.h"
#include "futex.h"
#include <pthread.h>
#include <semaphore.h>

enum { WAYS = 6 };
struct arena {
    struct meeting meeting;
    pthread_mutex_t mutex, with_cond;
    pthread_cond_t cond;
    pthread_rwlock_t lock;
    pthread_barrier_t barrier;
    sem_t sem;
    word word;
    int open;
    _Atomic int waiting, woken;
};
static struct arena *arena;

static void *waits(void *way) {
    atomic_fetch_add(&arena->waiting, 1);
    switch ((intptr_t)way) {
    case 0:
        pthread_mutex_lock(&arena->mutex);
        pthread_mutex_unlock(&arena->mutex);
        break;
    case 1:
        pthread_mutex_lock(&arena->with_cond);
        while (!arena->open) pthread_cond_wait(&arena->cond, &arena->with_cond);
        pthread_mutex_unlock(&arena->with_cond);
        break;
    case 2:
        pthread_rwlock_rdlock(&arena->lock);
        pthread_rwlock_unlock(&arena->lock);
        break;
    case 3: pthread_barrier_wait(&arena->barrier); break;
    case 4: sem_wait(&arena->sem); break;
    case 5: futex_wait(&arena->word, 0); break;
    }
    atomic_fetch_add(&arena->woken, 1);
    return NULL;
}

int main(int argc, char **argv) {
    long milliseconds = argc > 1 ? atol(argv[1]) : 0;
    int id = segment_of_all(0x1d1e, sizeof *arena);
    arena = attached(id, NULL, 0);
    if (rank() == 0) {
        pthread_mutexattr_t mutexes;
        pthread_condattr_t conditions;
        pthread_rwlockattr_t locks;
        pthread_barrierattr_t barriers;
        pthread_mutexattr_init(&mutexes), pthread_condattr_init(&conditions), pthread_rwlockattr_init(&locks), pthread_barrierattr_init(&barriers);
        int failed = pthread_mutexattr_setpshared(&mutexes, PTHREAD_PROCESS_SHARED) | pthread_condattr_setpshared(&conditions, PTHREAD_PROCESS_SHARED) |
                     pthread_rwlockattr_setpshared(&locks, PTHREAD_PROCESS_SHARED) | pthread_barrierattr_setpshared(&barriers, PTHREAD_PROCESS_SHARED);
        failed |= pthread_mutex_init(&arena->mutex, &mutexes) | pthread_mutex_init(&arena->with_cond, &mutexes) |
                  pthread_cond_init(&arena->cond, &conditions) | pthread_rwlock_init(&arena->lock, &locks) |
                  pthread_barrier_init(&arena->barrier, &barriers, (unsigned)copies() + 1) | sem_init(&arena->sem, 1, 0);
        need(!failed && pthread_mutex_lock(&arena->mutex) == 0 && pthread_rwlock_wrlock(&arena->lock) == 0, "something to wait by");
    }
    meet(&arena->meeting);
    pthread_t threads[WAYS];
    for (intptr_t way = 0; way < WAYS; way++) need(pthread_create(&threads[way], NULL, waits, (void *)way) == 0, "pthread_create");
    if (rank() == 0) {
        while (atomic_load(&arena->waiting) < WAYS * copies()) nap(1000);
        for (word never = 0; milliseconds == 0;) futex_wait(&never, 0);
        nap(milliseconds * 1000);
        printf("woken before %d\n", atomic_load(&arena->woken));
        pthread_mutex_unlock(&arena->mutex);
        pthread_mutex_lock(&arena->with_cond);
        arena->open = 1;
        pthread_cond_broadcast(&arena->cond);
        pthread_mutex_unlock(&arena->with_cond);
        pthread_rwlock_unlock(&arena->lock);
        pthread_barrier_wait(&arena->barrier);
        for (int i = 0; i < copies(); i++) sem_post(&arena->sem);
        /* The last may not wait yet for the word: then it finds another value. */
        atomic_store(&arena->word, 1);
        futex_wake(&arena->word, INT32_MAX);
    }
    for (int way = 0; way < WAYS; way++) need(pthread_join(threads[way], NULL) == 0, "pthread_join");
    meet(&arena->meeting);
    if (rank() == 0) {
        printf("woken %d\n", atomic_load(&arena->woken) == WAYS * copies());
        need(shmctl(id, IPC_RMID, NULL) == 0, "IPC_RMID");
    }
    return 0;
}
