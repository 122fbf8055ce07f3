/* Producers and consumers over a ring in a segment: even copies produce, odd ones consume; one copy alone does both.
 * usage: ring [ITEMS-PER-PRODUCER] */
#include "common.h"

enum { SLOTS = 64 };
struct ring {
    struct meeting meeting;
    _Atomic uint32_t lock, producing;
    uint32_t head, tail;
    uint64_t slots[SLOTS];
    _Atomic uint64_t produced, consumed, taken;
};

static void lock(struct ring *ring) {
    for (int spins = 0; atomic_exchange(&ring->lock, 1); spins++)
        if (spins > 50) nap(50);
}
static void unlock(struct ring *ring) { atomic_store(&ring->lock, 0); }

static int put(struct ring *ring, uint64_t item) {
    lock(ring);
    int room = ring->head - ring->tail < SLOTS;
    if (room) ring->slots[ring->head++ % SLOTS] = item;
    unlock(ring);
    return room;
}
static int take(struct ring *ring, uint64_t *item) {
    lock(ring);
    int some = ring->head != ring->tail;
    if (some) *item = ring->slots[ring->tail++ % SLOTS];
    unlock(ring);
    return some;
}
static void consume(struct ring *ring, uint64_t item) {
    atomic_fetch_add(&ring->consumed, item);
    atomic_fetch_add(&ring->taken, 1);
}

int main(int argc, char **argv) {
    uint64_t items = argc > 1 ? strtoul(argv[1], NULL, 0) : 5000, item;
    key_t key = ftok("/", 'r');
    need(key != -1, "ftok");
    struct ring *ring = attached(segment_of_all(key, sizeof *ring), NULL, 0);
    int alone = copies() == 1, producer = rank() % 2 == 0;
    if (producer) atomic_fetch_add(&ring->producing, 1);
    meet(&ring->meeting);
    if (producer) {
        for (uint64_t i = 0; i < items; i++) {
            uint64_t value = ((uint64_t)rank() << 32 | i) * 2654435761u;
            atomic_fetch_add(&ring->produced, value);
            while (!put(ring, value)) {
                if (alone && take(ring, &item)) consume(ring, item);
                else nap(50);
            }
        }
        atomic_fetch_sub(&ring->producing, 1);
        printf("produced %lu\n", (unsigned long)items);
    }
    if (!producer || alone) {
        for (;;) {
            int last = atomic_load(&ring->producing) == 0;
            if (take(ring, &item)) consume(ring, item);
            else if (last) break;
            else nap(50);
        }
    }
    meet(&ring->meeting);
    int right = atomic_load(&ring->produced) == atomic_load(&ring->consumed);
    printf("%lu items went through\n", (unsigned long)atomic_load(&ring->taken));
    holds("what was consumed is what was produced", right);
    meet(&ring->meeting);
    if (rank() == 0) says("remove", shmctl(shmget(key, 0, 0), IPC_RMID, NULL));
    says("detach", shmdt(ring));
    return !right;
}
