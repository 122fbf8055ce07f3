/* A robust lock as C libraries make one, in a segment, with which every copy counts. Copies of the guests named die at
 * any moment (the test sees to that) and never end by themselves; the others count to the end, and repair what the dead
 * have left half-done.   usage: robust_lock times doomed-guests... */
#include "futex.h"

struct entry { struct entry *next; };
struct shared {
    struct meeting meeting;
    _Alignas(64) struct entry entry;
    word word;
    _Alignas(64) volatile uint64_t first, second;
    volatile uint64_t repaired;
    word done;
};
static struct { struct entry *list; long offset; struct entry *pending; } head;
static struct shared *s;
static uint32_t me;

#define IN_ORDER atomic_signal_fence(memory_order_seq_cst)

/* Whether the owner before had died. */
static int lock(void) {
    uint32_t value = 0, others = 0;
    head.pending = &s->entry;
    IN_ORDER;
    int died = 0;
    for (;;) {
        value = s->word;
        if (value == 0) {
            if (atomic_compare_exchange_strong(&s->word, &value, me | others)) break;
        } else if (value & FUTEX_OWNER_DIED) {
            if (atomic_compare_exchange_strong(&s->word, &value, me | others | (value & FUTEX_WAITERS))) {
                died = 1;
                break;
            }
        } else if (value & FUTEX_WAITERS || atomic_compare_exchange_strong(&s->word, &value, value | FUTEX_WAITERS)) {
            futex_wait(&s->word, value | FUTEX_WAITERS);
            /* There may be more who wait. */
            others = FUTEX_WAITERS;
        }
    }
    s->entry.next = (struct entry *)&head;
    head.list = &s->entry;
    IN_ORDER;
    head.pending = NULL;
    return died;
}

static void unlock(void) {
    head.pending = &s->entry;
    IN_ORDER;
    head.list = (struct entry *)&head;
    IN_ORDER;
    if (atomic_exchange(&s->word, 0) & FUTEX_WAITERS) futex_wake(&s->word, 1);
    IN_ORDER;
    head.pending = NULL;
}

static void count(int i) {
    if (lock() && s->first != s->second) {
        s->second = s->first;
        s->repaired++;
    }
    need(s->first == s->second, "nobody else between the two");
    s->first++;
    if (i % 7 == 0) sched_yield();
    s->second++;
    unlock();
}

int main(int argc, char **argv) {
    int times = atoi(argv[1]), doomed = 0, mourners = guests();
    for (int i = 2; i < argc; i++) mourners--, doomed |= atoi(argv[i]) == guest();
    me = (uint32_t)syscall(SYS_gettid);
    int id = segment_of_all(0x20b0, sizeof *s);
    s = attached(id, NULL, 0);
    head.list = (struct entry *)&head;
    head.offset = (char *)&s->word - (char *)&s->entry;
    need(syscall(SYS_set_robust_list, &head, sizeof head) == 0, "set_robust_list");
    for (int i = 0; doomed || i < times; i++) {
        count(i);
        /* Their deaths are by the number of requests they make of the host; each of these is one. */
        if (doomed) futex_wake(&s->done, 1);
    }
    uint32_t all = (uint32_t)(mourners * procs());
    if (atomic_fetch_add(&s->done, 1) + 1 == all) {
        /* At least what the living have counted. */
        holds("enough", s->first >= (uint64_t)times * all);
        while (nattch(id) > 1) nap(1000);
        says("remove", shmctl(id, IPC_RMID, NULL));
    }
    return 0;
}
