/* What each thread has for itself: thread-local variables, keys with destructors, errno; and what is done once. */
#include "conf.h"
#include <limits.h>
#include <pthread.h>

enum { THREADS = 16 };
static pthread_barrier_t barrier;

/* --- variables --- */

static __thread int initialised = 42;
static __thread int zero;
static __thread char aligned[100] __attribute__((aligned(64)));
static __thread struct { long a; char b[2000]; } large = {7, "text"};

struct report {
    int fresh, aligned, kept, own_errno;
    void *where;
};
static void *look(void *argument) {
    struct report *report = argument;
    int number = (int)(intptr_t)report->where;
    report->fresh = initialised == 42 && zero == 0 && large.a == 7 && strcmp(large.b, "text") == 0 && large.b[1999] == 0;
    report->aligned = (uintptr_t)aligned % 64 == 0;
    for (size_t i = 0; i < sizeof aligned; i++) report->fresh &= aligned[i] == 0;
    initialised = number, zero = -number, large.a = number * 3L, aligned[99] = (char)number;
    errno = number + 1000;
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 10; i++) sched_yield();
    report->kept = initialised == number && zero == -number && large.a == number * 3L && aligned[99] == (char)number;
    report->own_errno = errno == number + 1000;
    report->where = &initialised;
    pthread_barrier_wait(&barrier);
    return NULL;
}
static void variables(void) {
    pthread_t threads[THREADS];
    struct report reports[THREADS] = {0}, all = {1, 1, 1, 1};
    initialised = 1, zero = 2, large.b[0] = 'T';
    need(pthread_barrier_init(&barrier, NULL, THREADS) == 0, "pthread_barrier_init");
    for (int i = 0; i < THREADS; i++) {
        reports[i].where = (void *)(intptr_t)(i + 1);
        need(pthread_create(&threads[i], NULL, look, &reports[i]) == 0, "pthread_create");
    }
    int distinct = 1;
    for (int i = 0; i < THREADS; i++) need(pthread_join(threads[i], NULL) == 0, "pthread_join");
    for (int i = 0; i < THREADS; i++) {
        all.fresh &= reports[i].fresh, all.aligned &= reports[i].aligned, all.kept &= reports[i].kept, all.own_errno &= reports[i].own_errno;
        for (int j = 0; j < i; j++) distinct &= reports[i].where != reports[j].where;
        distinct &= reports[i].where != &initialised;
    }
    holds("variables start as written", all.fresh);
    holds("they are aligned", all.aligned);
    holds("each thread keeps its own", all.kept);
    holds("and its errno", all.own_errno);
    holds("they lie apart", distinct);
    holds("main's are as main left them", initialised == 1 && zero == 2 && large.b[0] == 'T');
}

/* --- keys --- */

static pthread_key_t keys[3];
static _Atomic int destroyed[3], again;
static void destroy0(void *value) { atomic_fetch_add(&destroyed[0], (int)(intptr_t)value); }
static void destroy1(void *value) {
    atomic_fetch_add(&destroyed[1], 1);
    /* Comes back as often as there are rounds of destructors. */
    atomic_fetch_add(&again, 1);
    pthread_setspecific(keys[1], value);
}
static void destroy2(void *value) {
    atomic_fetch_add(&destroyed[2], 1);
    if (value != keys) pthread_setspecific(keys[0], (void *)1);
}
static void *with_keys(void *number) {
    int fresh = pthread_getspecific(keys[0]) == NULL && pthread_getspecific(keys[1]) == NULL;
    pthread_setspecific(keys[0], number);
    pthread_setspecific(keys[1], keys);
    pthread_setspecific(keys[2], &barrier);
    for (int i = 0; i < 5; i++) sched_yield();
    return (void *)(intptr_t)(fresh && pthread_getspecific(keys[0]) == number && pthread_getspecific(keys[1]) == keys);
}
static void *ends_by_exit(void *number) {
    pthread_setspecific(keys[0], number);
    pthread_exit((void *)77);
}
static void specifics(void) {
    printf("a key %s\n", outcome(pthread_key_create(&keys[0], destroy0) ? -1 : 0));
    need(pthread_key_create(&keys[1], destroy1) == 0 && pthread_key_create(&keys[2], destroy2) == 0, "keys");
    holds("keys differ", keys[0] != keys[1] && keys[1] != keys[2]);
    pthread_t threads[THREADS];
    int good = 1;
    for (intptr_t i = 0; i < THREADS; i++) need(pthread_create(&threads[i], NULL, with_keys, (void *)(i + 1)) == 0, "pthread_create");
    for (int i = 0; i < THREADS; i++) {
        void *result;
        need(pthread_join(threads[i], &result) == 0, "pthread_join");
        good &= result == (void *)1;
    }
    holds("each thread has its values", good);
    printf("destroyed %d and %d\n", atomic_load(&destroyed[0]), atomic_load(&destroyed[2]));
    printf("rounds of destructors %d, as many as there are: %s\n", atomic_load(&again) / THREADS, atomic_load(&again) == THREADS * PTHREAD_DESTRUCTOR_ITERATIONS ? "yes" : "no");
    atomic_store(&destroyed[0], 0);
    void *result;
    need(pthread_create(&threads[0], NULL, ends_by_exit, (void *)5) == 0 && pthread_join(threads[0], &result) == 0, "a thread");
    printf("by pthread_exit %d, status %ld\n", atomic_load(&destroyed[0]), (long)result);
    pthread_setspecific(keys[0], (void *)9);
    printf("delete %s\n", outcome(pthread_key_delete(keys[0]) ? -1 : 0));
    pthread_key_t key = 0;
    int count = 0, error;
    while ((error = pthread_key_create(&key, NULL)) == 0 && count < 5000) count++;
    printf("%d more keys, then %s\n", count, errno_name(error));
}

/* --- once --- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic int times, finished;
static void initialise(void) {
    atomic_fetch_add(&times, 1);
    nap(20000);
    atomic_store(&finished, 1);
}
static void *by_once(void *unused) {
    pthread_barrier_wait(&barrier);
    int error = pthread_once(&once, initialise);
    return (void *)(intptr_t)(error == 0 && atomic_load(&finished));
}
static void done_once(void) {
    pthread_t threads[THREADS];
    int good = 1;
    for (int i = 0; i < THREADS; i++) need(pthread_create(&threads[i], NULL, by_once, NULL) == 0, "pthread_create");
    for (int i = 0; i < THREADS; i++) {
        void *result;
        need(pthread_join(threads[i], &result) == 0, "pthread_join");
        good &= result == (void *)1;
    }
    printf("done %d times\n", atomic_load(&times));
    holds("nobody came back before it was done", good);
}

int main(void) {
    variables();
    specifics();
    done_once();
    return 0;
}
