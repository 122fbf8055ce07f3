/* Every copy's threads do operations on the same objects in a segment, each kind with an invariant that copy 0 checks.
 *   usage: sync_stress OPERATIONS THREADS [KIND...]     OPERATIONS of each kind by all threads of all copies together
 * A wake-up that is lost hangs it; a lock that lets in two breaks an invariant. */
#include "conf.h"
#include <pthread.h>
#include <semaphore.h>

enum { MOST = 256, SLOTS = 8, PERMITS = 3, RING = 16 };
struct arena {
    struct meeting meeting;
    _Atomic int ready, wrong;
    pthread_mutex_t mutex, mixed_mutex;
    pthread_cond_t not_full, not_empty;
    pthread_rwlock_t lock;
    pthread_barrier_t barrier;
    sem_t permits, ring[RING];
    long counted, summed, mixed;            /* Under the mutexes. */
    long slots[SLOTS], in, out, total;      /* The buffer. */
    long left, right;                       /* Under the read-write lock. */
    _Atomic long inside, entered, passed;
    volatile long laps[MOST];
};
static struct arena *arena;
static int threads, parties;
static long operations;

static void good(int result) {
    if (result) atomic_fetch_add(&arena->wrong, 1);
}
/* A little disorder, the same in every run. */
static unsigned next(unsigned *seed) { return (*seed = *seed * 1103515245 + 12345) >> 16; }

static void mutex(int me, long count) {
    for (long i = 0; i < count; i++) {
        good(pthread_mutex_lock(&arena->mutex));
        arena->counted++;
        arena->summed += arena->counted;
        good(pthread_mutex_unlock(&arena->mutex));
    }
}
/* Half of all produce, the others consume. */
static void condition(int me, long count) {
    for (long i = 0; i < count; i++) {
        good(pthread_mutex_lock(&arena->mutex));
        if (me % 2 == 0) {
            while (arena->in - arena->out == SLOTS) good(pthread_cond_wait(&arena->not_full, &arena->mutex));
            arena->slots[arena->in++ % SLOTS] = me * 1000003L + i;
            good(pthread_cond_signal(&arena->not_empty));
        } else {
            while (arena->in == arena->out) good(pthread_cond_wait(&arena->not_empty, &arena->mutex));
            arena->total += arena->slots[arena->out++ % SLOTS];
            good(pthread_cond_signal(&arena->not_full));
        }
        good(pthread_mutex_unlock(&arena->mutex));
    }
}
/* Of two laps at once nobody sees more than two. */
static void barrier(int me, long count) {
    for (long lap = 1; lap <= count; lap++) {
        arena->laps[me] = lap;
        int result = pthread_barrier_wait(&arena->barrier);
        good(result && result != PTHREAD_BARRIER_SERIAL_THREAD);
        for (int other = 0; other < parties; other++) good(arena->laps[other] != lap && arena->laps[other] != lap + 1);
        if (result) atomic_fetch_add(&arena->passed, 1);
    }
}
static void semaphore(int me, long count) {
    for (long i = 0; i < count; i++) {
        while (sem_wait(&arena->permits)) good(errno != EINTR);
        good(atomic_fetch_add(&arena->inside, 1) >= PERMITS);
        atomic_fetch_add(&arena->entered, 1);
        atomic_fetch_sub(&arena->inside, 1);
        good(sem_post(&arena->permits));
    }
}
/* Each waits for its own semaphore and posts the next one's. */
static void ring(int me, long count) {
    int size = parties < RING ? parties : RING;
    if (me >= size) return;
    for (long i = 0; i < count; i++) {
        while (sem_wait(&arena->ring[me])) good(errno != EINTR);
        arena->total++;
        good(sem_post(&arena->ring[(me + 1) % size]));
    }
}
static void rwlock(int me, long count) {
    for (long i = 0; i < count; i++) {
        if ((i + me) % 4 == 0) {
            good(pthread_rwlock_wrlock(&arena->lock));
            arena->left++;
            arena->right++;
        } else {
            good(pthread_rwlock_rdlock(&arena->lock));
            good(*(volatile long *)&arena->left != *(volatile long *)&arena->right);
        }
        good(pthread_rwlock_unlock(&arena->lock));
    }
}
/* In no order, some with time-outs that may or may not be over. */
static void mixed(int me, long count) {
    unsigned seed = (unsigned)me * 7919 + 1;
    for (long i = 0; i < count; i++) {
        struct timespec soon;
        clock_gettime(CLOCK_REALTIME, &soon);
        if ((soon.tv_nsec += next(&seed) % 200000) >= 1000000000) soon.tv_nsec -= 1000000000, soon.tv_sec++;
        int result;
        switch (next(&seed) % 4) {
        case 0:
            while ((result = pthread_mutex_timedlock(&arena->mixed_mutex, &soon)) != 0) {
                good(result != ETIMEDOUT);
                soon.tv_sec++;
            }
            arena->mixed++;
            good(pthread_mutex_unlock(&arena->mixed_mutex));
            break;
        case 1:
            while (sem_timedwait(&arena->permits, &soon)) {
                good(errno != ETIMEDOUT && errno != EINTR);
                soon.tv_sec++;
            }
            good(atomic_fetch_add(&arena->inside, 1) >= PERMITS);
            atomic_fetch_sub(&arena->inside, 1);
            good(sem_post(&arena->permits));
            goto counted;
        case 2:
            while ((result = pthread_rwlock_timedwrlock(&arena->lock, &soon)) != 0) {
                good(result != ETIMEDOUT);
                soon.tv_sec++;
            }
            arena->left++, arena->right++;
            good(pthread_rwlock_unlock(&arena->lock));
            goto counted;
        default:
            good(pthread_mutex_lock(&arena->mutex));
            result = pthread_cond_timedwait(&arena->not_full, &arena->mutex, &soon);
            good(result != 0 && result != ETIMEDOUT);
            if (result == 0) good(pthread_cond_signal(&arena->not_full));
            good(pthread_mutex_unlock(&arena->mutex));
            good(pthread_cond_broadcast(&arena->not_full));
        counted:
            good(pthread_mutex_lock(&arena->mixed_mutex));
            arena->mixed++;
            good(pthread_mutex_unlock(&arena->mixed_mutex));
        }
    }
}

static const struct kind { const char *name; void (*run)(int, long); } kinds[] = {
    {"mutex", mutex}, {"condition", condition}, {"barrier", barrier}, {"semaphore", semaphore}, {"ring", ring}, {"rwlock", rwlock}, {"mixed", mixed},
};
static const struct kind *now;

static void *run(void *number) {
    now->run(rank() * threads + (int)(intptr_t)number, operations / parties);
    return NULL;
}

/* What must be so afterwards, and all begins at 0 again. */
static int holds_for(const char *name) {
    long each = operations / parties, all = each * parties, expected = 0;
    int size = parties < RING ? parties : RING, right = 1;
#define IF(kind) if (strcmp(name, kind) == 0)
    IF("mutex") right = arena->counted == all && arena->summed == all * (all + 1) / 2;
    IF("condition") {
        for (int me = 0; me < parties; me += 2) expected += me * 1000003L * each + each * (each - 1) / 2;
        right = arena->in == all / 2 && arena->out == all / 2 && arena->total == expected;
    }
    IF("barrier") right = atomic_load(&arena->passed) == each;
    IF("semaphore") right = atomic_load(&arena->entered) == all;
    IF("ring") right = arena->total == each * size;
    IF("rwlock") {
        for (int me = 0; me < parties; me++)
            for (long i = 0; i < each; i++) expected += (i + me) % 4 == 0;
        right = arena->left == expected && arena->right == expected;
    }
    IF("mixed") right = arena->mixed == all && arena->left == arena->right;
    arena->counted = arena->summed = arena->mixed = arena->in = arena->out = arena->total = arena->left = arena->right = 0;
    return right;
}

static void prepare(void) {
    pthread_mutexattr_t mutexes;
    pthread_condattr_t conditions;
    pthread_rwlockattr_t locks;
    pthread_barrierattr_t barriers;
    pthread_mutexattr_init(&mutexes), pthread_condattr_init(&conditions), pthread_rwlockattr_init(&locks), pthread_barrierattr_init(&barriers);
    int failed = pthread_mutexattr_setpshared(&mutexes, PTHREAD_PROCESS_SHARED) | pthread_condattr_setpshared(&conditions, PTHREAD_PROCESS_SHARED) |
                 pthread_rwlockattr_setpshared(&locks, PTHREAD_PROCESS_SHARED) | pthread_barrierattr_setpshared(&barriers, PTHREAD_PROCESS_SHARED);
    failed |= pthread_mutex_init(&arena->mutex, &mutexes) | pthread_mutex_init(&arena->mixed_mutex, &mutexes) |
              pthread_cond_init(&arena->not_full, &conditions) | pthread_cond_init(&arena->not_empty, &conditions) |
              pthread_rwlock_init(&arena->lock, &locks) | pthread_barrier_init(&arena->barrier, &barriers, (unsigned)parties) |
              sem_init(&arena->permits, 1, PERMITS);
    for (int i = 0; i < RING; i++) failed |= sem_init(&arena->ring[i], 1, i == 0);
    need(!failed, "everything that synchronises");
}

int main(int argc, char **argv) {
    need(argc > 2, "OPERATIONS and THREADS");
    setvbuf(stdout, NULL, _IOLBF, 0);
    operations = atol(argv[1]), threads = atoi(argv[2]);
    parties = threads * copies();
    need(parties <= MOST && parties % 2 == 0, "an even number of threads, 256 at most");
    int id = segment_of_all(0x57e5, sizeof *arena);
    arena = attached(id, FREE_PLACE + (unsigned long)rank() * 0x1234000, 0);
    if (rank() == 0) prepare();
    meet(&arena->meeting);
    pthread_t all[MOST];
    pthread_attr_t attributes;
    need(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, 64 << 10) == 0, "attributes");
    for (unsigned kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        int wanted = argc == 3;
        for (int i = 3; i < argc; i++) wanted |= strcmp(argv[i], kinds[kind].name) == 0;
        if (!wanted) continue;
        now = &kinds[kind];
        for (intptr_t i = 0; i < threads; i++) need(pthread_create(&all[i], &attributes, run, (void *)i) == 0, "pthread_create");
        for (int i = 0; i < threads; i++) need(pthread_join(all[i], NULL) == 0, "pthread_join");
        meet(&arena->meeting);
        if (rank() == 0) {
            printf("%s %s\n", now->name, holds_for(now->name) ? "right" : "WRONG");
            if (atomic_load(&arena->wrong)) printf("%s: %d times something else than expected\n", now->name, atomic_exchange(&arena->wrong, 0));
        }
        meet(&arena->meeting);
    }
    if (rank() == 0) removed(id);
    return 0;
}
