/* How long it takes two threads to wake each other: each sleeps until it is its turn. Not a test (no two runs are the
 * same): prints `what microseconds`, the median of many round trips, for a futex, a semaphore, and a mutex with a condition
 * variable. The two are threads of one process, or of two copies: natively, in one guest, or in two.
 *   usage: wake_latency [ROUNDS]        vmm/examples/wake_latency.rs runs it everywhere by turns */
#include "futex.h"
#include <pthread.h>
#include <semaphore.h>

struct arena {
    struct meeting meeting;
    _Alignas(64) word turn;
    _Alignas(64) sem_t sem[2];
    _Alignas(64) pthread_mutex_t mutex;
    pthread_cond_t cond;
    int whose;
};
static struct arena *arena;
static long rounds;
static double *took;

static double microseconds(void) {
    struct timespec t = now(CLOCK_MONOTONIC);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

/* Waits for its turn and gives it to the other. */
static void by_futex(int me, long round) {
    uint32_t mine = (uint32_t)(2 * round + me), is;
    while ((is = atomic_load(&arena->turn)) != mine) futex_wait(&arena->turn, is);
    atomic_store(&arena->turn, mine + 1);
    futex_wake(&arena->turn, 1);
}
static void by_semaphore(int me, long round) {
    while (sem_wait(&arena->sem[me])) {}
    sem_post(&arena->sem[!me]);
}
static void by_condition(int me, long round) {
    pthread_mutex_lock(&arena->mutex);
    while (arena->whose != me) pthread_cond_wait(&arena->cond, &arena->mutex);
    arena->whose = !me;
    pthread_cond_signal(&arena->cond);
    pthread_mutex_unlock(&arena->mutex);
}
static const struct { const char *name; void (*turn)(int, long); } ways[] = {
    {"futex", by_futex}, {"semaphore", by_semaphore}, {"condition", by_condition},
};
enum { WAYS = sizeof ways / sizeof *ways };

/* All ways one after the other; the turn comes round, so they need no other start. */
static void plays(int me) {
    for (int way = 0; way < WAYS; way++)
        for (long i = 0; i < rounds; i++) {
            double start = microseconds();
            ways[way].turn(me, i);
            if (me == 0) took[way * rounds + i] = microseconds() - start;
        }
}
/* To the first or the last CPU there is: two, if there are two. */
static void go_to(int last) {
    cpu_set_t all, one;
    int chosen = -1;
    need(sched_getaffinity(0, sizeof all, &all) == 0, "sched_getaffinity");
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all) && (last || chosen < 0)) chosen = i;
    CPU_ZERO(&one);
    CPU_SET(chosen, &one);
    need(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
}
static void *second(void *unused) {
    go_to(1);
    plays(1);
    return NULL;
}
static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    rounds = argc > 1 ? atol(argv[1]) : 1000;
    need(copies() <= 2, "one copy or two");
    int id = segment_of_all(0x1a7e, sizeof *arena);
    arena = attached(id, NULL, 0);
    if (rank() == 0) {
        pthread_mutexattr_t mutexes;
        pthread_condattr_t conditions;
        pthread_mutexattr_init(&mutexes), pthread_condattr_init(&conditions);
        pthread_mutexattr_setpshared(&mutexes, PTHREAD_PROCESS_SHARED), pthread_condattr_setpshared(&conditions, PTHREAD_PROCESS_SHARED);
        need(pthread_mutex_init(&arena->mutex, &mutexes) == 0 && pthread_cond_init(&arena->cond, &conditions) == 0 &&
                 sem_init(&arena->sem[0], 1, 1) == 0 && sem_init(&arena->sem[1], 1, 0) == 0, "something to wait by");
    }
    need((took = malloc(sizeof *took * WAYS * rounds)) != NULL, "malloc");
    memset(took, 0, sizeof *took * WAYS * rounds);
    meet(&arena->meeting);
    if (rank() == 1) return second(NULL), 0;
    pthread_t thread;
    if (copies() == 1) need(pthread_create(&thread, NULL, second, NULL) == 0, "pthread_create");
    go_to(0);
    plays(0);
    if (copies() == 1) pthread_join(thread, NULL);
    for (int way = 0; way < WAYS; way++) {
        qsort(took + way * rounds, rounds, sizeof *took, by_size);
        printf("%s %.1f\n", ways[way].name, took[way * rounds + rounds / 2]);
    }
    need(shmctl(id, IPC_RMID, NULL) == 0, "IPC_RMID");
    return 0;
}
