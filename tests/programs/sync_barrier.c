/* Barriers.   usage: sync_barrier threads|private|forks (sync.h) */
#include "sync.h"

enum { WAIT, LAPS };

static long perform(int me, int what, int object, long argument) {
    pthread_barrier_t *barrier = &objects[object].barrier;
    int result;
    switch (what) {
    case WAIT:
        result = pthread_barrier_wait(barrier);
        return result == PTHREAD_BARRIER_SERIAL_THREAD ? SERIAL : result;
    case LAPS: { /* Nobody is ahead of or behind anybody; one in each lap is the serial one. */
        long serial = 0;
        for (long lap = 1; lap <= argument; lap++) {
            arena->plain[me] = lap;
            result = pthread_barrier_wait(barrier);
            if (result != 0 && result != PTHREAD_BARRIER_SERIAL_THREAD) return result;
            serial += result != 0;
            for (int w = 0; w < EMPLOYED; w++)
                if (arena->plain[w] != lap) return EINVAL;
            result = pthread_barrier_wait(barrier);
            if (result != 0 && result != PTHREAD_BARRIER_SERIAL_THREAD) return result;
            serial += result != 0;
        }
        atomic_fetch_add(&arena->cells[0], serial);
        return 0;
    }
    }
    return ENOSYS;
}

static pthread_barrierattr_t attributes;
static void new_barrier(int object, unsigned count) {
    need(pthread_barrierattr_setpshared(&attributes, shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE) == 0, "setpshared");
    need(pthread_barrier_init(&objects[object].barrier, &attributes, count) == 0, "pthread_barrier_init");
}

int main(int argc, char **argv) {
    if (opened(argc, argv)) {
        int sharing = -1;
        need(pthread_barrierattr_init(&attributes) == 0, "pthread_barrierattr_init");
        pthread_barrierattr_getpshared(&attributes, &sharing);
        holds("private by default", sharing == PTHREAD_PROCESS_PRIVATE);
        printf("unknown sharing %s\n", told(pthread_barrierattr_setpshared(&attributes, 77)));
        printf("for nobody %s\n", told(pthread_barrier_init(&objects[0].barrier, &attributes, 0)));
        printf("for more than there can be %s\n", told(pthread_barrier_init(&objects[0].barrier, &attributes, -1)));
        new_barrier(0, 1);
        for (int i = 0; i < 3; i++) does("A alone", 0, WAIT, 0, 0);
        printf("destroy %s\n", told(pthread_barrier_destroy(&objects[0].barrier)));
        for (int round = 0; round < 3; round++) {
            new_barrier(0, 4);
            for (int w = 0; w < 3; w++) waits(form("%c", 'A' + w), w, WAIT, 0, 0);
            for (int w = 0; w < 3; w++) still(form("%c", 'A' + w), w);
            order(3, WAIT, 0, 0);
            int serial = 0, others = 0;
            for (int w = 0; w < 4; w++) serial += result(w) == SERIAL, others += result(w) == 0;
            printf("the fourth opens it: %d serial, %d others\n", serial, others);
            if (round == 1) printf("destroy %s\n", told(pthread_barrier_destroy(&objects[0].barrier)));
        }
        /* Two of two, by turns, through one barrier. */
        new_barrier(1, 2);
        for (int pair = 0; pair < 4; pair++) {
            int one = pair, other = (pair + 1) % 4;
            waits(form("%c", 'A' + one), one, WAIT, 1, 0);
            order(other, WAIT, 1, 0);
            holds("one is the serial one", (result(one) == SERIAL) + (result(other) == SERIAL) == 1);
            holds("the other is not", (result(one) == 0) + (result(other) == 0) == 1);
        }
        new_barrier(2, 4);
        all_do("laps", LAPS, 2, 20);
        printf("serial %ld\n", atomic_load(&arena->cells[0]));
        printf("destroy %s\n", told(pthread_barrier_destroy(&objects[2].barrier)));
    }
    return closed();
}
