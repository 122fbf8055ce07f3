/* As many threads as a guest has tasks, all there at once: each meets all others, counts under one lock, and hands its
 * own part on.
 *   usage: thread_crowd THREADS ROUNDS */
#include "common.h"
#include <pthread.h>
#include <stdlib.h>

static pthread_barrier_t all;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long total, rounds;
static _Atomic int inside, most;
static _Thread_local long own;

static void *counts(void *number) {
    int now = atomic_fetch_add(&inside, 1) + 1;
    for (int seen = atomic_load(&most); seen < now && !atomic_compare_exchange_weak(&most, &seen, now);) {}
    pthread_barrier_wait(&all);
    for (long i = 0; i < rounds; i++) {
        own += (intptr_t)number;
        pthread_mutex_lock(&lock);
        total++;
        pthread_mutex_unlock(&lock);
    }
    pthread_barrier_wait(&all);
    atomic_fetch_sub(&inside, 1);
    return (void *)own;
}

int main(int argc, char **argv) {
    long threads = argc > 1 ? atol(argv[1]) : 255;
    rounds = argc > 2 ? atol(argv[2]) : 100;
    pthread_attr_t attributes;
    pthread_t *each = calloc((size_t)threads, sizeof *each);
    need(each && pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, 1 << 16) == 0, "attributes");
    need(pthread_barrier_init(&all, NULL, (unsigned)threads) == 0, "pthread_barrier_init");
    for (intptr_t i = 0; i < threads; i++) {
        int error = pthread_create(&each[i], &attributes, counts, (void *)(i + 1));
        if (error) {
            printf("thread %ld: %s\n", (long)i + 1, strerror(error));
            return 1;
        }
    }
    long sum = 0;
    for (long i = 0; i < threads; i++) {
        void *part;
        need(pthread_join(each[i], &part) == 0, "pthread_join");
        sum += (long)part;
    }
    printf("together %d\ntotal %ld\nsum of parts %ld\n", atomic_load(&most), total, sum);
    return 0;
}
