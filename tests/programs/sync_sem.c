/* Unnamed semaphores.   usage: sync_sem threads|private|forks (sync.h) */
#include "sync.h"
#include <limits.h>

enum { WAIT, TRYWAIT, TIMEDWAIT, POST, VALUE_OF, PING, PONG, COUNT, WAIT_CLOCK_MONOTONIC, WAIT_CLOCK_REALTIME };

static long perform(int me, int what, int object, long argument) {
    sem_t *sem = &objects[object].sem;
    struct timespec until = deadline(what == WAIT_CLOCK_MONOTONIC ? CLOCK_MONOTONIC : CLOCK_REALTIME, argument);
    int number = -1;
    switch (what) {
    case WAIT: return answer(sem_wait(sem));
    case TRYWAIT: return answer(sem_trywait(sem));
    case TIMEDWAIT: return on_time(CLOCK_REALTIME, &until, answer(sem_timedwait(sem, &until)));
    case POST: return answer(sem_post(sem));
    case VALUE_OF: return sem_getvalue(sem, &number) ? errno : value(number);
#ifdef __GLIBC__
    case WAIT_CLOCK_MONOTONIC: return on_time(CLOCK_MONOTONIC, &until, answer(sem_clockwait(sem, CLOCK_MONOTONIC, &until)));
    case WAIT_CLOCK_REALTIME: return on_time(CLOCK_REALTIME, &until, answer(sem_clockwait(sem, CLOCK_REALTIME, &until)));
#endif
    case PING:
    case PONG: /* Two semaphores, one waited for and the other posted. */
        for (long i = 0; i < argument; i++) {
            if (sem_wait(&objects[object + (what == PONG)].sem)) return errno;
            arena->plain[object] = arena->plain[object] * 3 + 1 + (what == PONG);
            if (sem_post(&objects[object + (what == PING)].sem)) return errno;
        }
        return 0;
    case COUNT: /* Never more inside than it lets in. */
        for (long i = 0; i < argument; i++) {
            if (sem_wait(sem)) return errno;
            if (atomic_fetch_add(&arena->cells[0], 1) >= 2) return ERANGE;
            if (i % 4 == 0) sched_yield();
            atomic_fetch_add(&arena->cells[1], 1);
            atomic_fetch_sub(&arena->cells[0], 1);
            if (sem_post(sem)) return errno;
        }
        return 0;
    }
    return ENOSYS;
}

int main(int argc, char **argv) {
    if (opened(argc, argv)) {
        sem_t *sem = &objects[0].sem;
        printf("more than the most %s\n", told(answer(sem_init(sem, shared, (unsigned)SEM_VALUE_MAX + 1))));
        printf("the most %s\n", told(answer(sem_init(sem, shared, SEM_VALUE_MAX))));
        does("A posts", 0, POST, 0, 0);
        does("A tries", 0, TRYWAIT, 0, 0);
        does("A posts", 0, POST, 0, 0);
        printf("destroy %s\n", told(answer(sem_destroy(sem))));
        printf("two %s\n", told(answer(sem_init(sem, shared, 2))));
        does("its value", 3, VALUE_OF, 0, 0);
        does("A", 0, WAIT, 0, 0);
        does("B tries", 1, TRYWAIT, 0, 0);
        does("its value", 3, VALUE_OF, 0, 0);
        does("C tries", 2, TRYWAIT, 0, 0);
        does("C tries for 30 ms", 2, TIMEDWAIT, 0, 30);
        does("C tries until the past", 2, TIMEDWAIT, 0, LONG_PAST);
        does("C tries until before 1970", 2, TIMEDWAIT, 0, BEFORE_TIME);
        does("C tries until an impossible time", 2, TIMEDWAIT, 0, IMPOSSIBLE);
        waits("C", 2, WAIT, 0, 0);
        does("its value", 3, VALUE_OF, 0, 0);
        does("A posts", 0, POST, 0, 0);
        then("C", 2);
        does("its value", 3, VALUE_OF, 0, 0);
        does("A posts", 0, POST, 0, 0);
        does("its value", 3, VALUE_OF, 0, 0);
        does("D until the past, one is there", 3, TIMEDWAIT, 0, LONG_PAST);
        does("D until an impossible time", 3, TIMEDWAIT, 0, IMPOSSIBLE);
        for (int w = 0; w < 3; w++) waits(form("%c for a minute", 'A' + w), w, w == 1 ? TIMEDWAIT : WAIT, 0, FAR);
        for (int posts = 1; posts <= 3; posts++) {
            does("D posts", 3, POST, 0, 0);
            UNTIL(done(0) + done(1) + done(2) == posts, "one to come in");
            nap(5000);
            printf("in are %d\n", done(0) + done(1) + done(2));
        }
        for (int w = 0; w < 3; w++) then(form("%c", 'A' + w), w);
        /* Some at once; one that gives up takes nothing with it. */
        for (int w = 0; w < 2; w++) waits(form("%c", 'A' + w), w, WAIT, 0, 0);
        does("C for 20 ms", 2, TIMEDWAIT, 0, 20);
        for (int i = 0; i < 3; i++) does("D posts", 3, POST, 0, 0);
        for (int w = 0; w < 2; w++) then(form("%c", 'A' + w), w);
        does("its value", 3, VALUE_OF, 0, 0);
        does("C", 2, WAIT, 0, 0);
#ifdef __GLIBC__
        for (int what = WAIT_CLOCK_MONOTONIC; what <= WAIT_CLOCK_REALTIME; what++) {
            does("A for 20 ms by a clock", 0, what, 0, 20);
            does("A until the past", 0, what, 0, LONG_PAST);
            waits("A for a minute", 0, what, 0, FAR);
            does("B posts", 1, POST, 0, 0);
            then("A", 0);
        }
#endif
        need(sem_init(&objects[1].sem, shared, 1) == 0 && sem_init(&objects[2].sem, shared, 0) == 0, "sem_init");
        order(0, PING, 1, 40), order(1, PONG, 1, 40);
        then("ping", 0);
        then("pong", 1);
        printf("trail %lx\n", (unsigned long)arena->plain[1]);
        need(sem_init(&objects[3].sem, shared, 2) == 0, "sem_init");
        all_do("two at a time", COUNT, 3, 40);
        printf("counted %ld\n", atomic_load(&arena->cells[1]));
        does("its value", 3, VALUE_OF, 3, 0);
        printf("destroy %s\n", told(answer(sem_destroy(&objects[3].sem))));
    }
    return closed();
}
