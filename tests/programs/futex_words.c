/* Waiting for and waking each other through words of one segment: the copies may be processes of one Linux, of one guest,
 * or of several guests, and each must write the same. Nothing depends on how long anything takes: who wakes first
 * counts how many wait. Copies have the segment at different addresses, odd ones wait through a read-only attach. */
#include "conf.h"
#include "futex.h"

struct shared {
    struct meeting meeting;
    _Alignas(64) word a, b, c, turn;
    _Alignas(64) word order, log[64];
    word ended;
};
static struct shared *s;
static const struct shared *ro;
static int me, all;

/* Through which mapping this copy waits. */
static const word *through(const word *at) { return me % 2 ? (const word *)((const char *)ro + ((const char *)at - (const char *)s)) : at; }

static void phase(const char *name) {
    fflush(stdout);
    gather(&s->meeting);
    if (me == 0) {
        s->a = s->b = s->c = s->turn = s->order = s->ended = 0;
        printf("-- %s\n", name);
    }
    fflush(stdout);
    gather(&s->meeting);
}

/* Everybody but the first waits, in the order of their ranks; says who woke when. */
static void in_order(const word *at, uint32_t bitset, const struct timespec *until, int clock) {
    while (waiters(at) != me - 1) nap(500);
    long result = futex(through(at), FUTEX_WAIT_BITSET | clock, 0, until, NULL, bitset);
    says("waited", result);
    if (result == 0) s->log[s->order++] = me;
    atomic_fetch_add(&s->ended, 1), futex_wake(&s->ended, INT32_MAX);
}
static void until_ended(uint32_t count) { until(&s->ended, count); }
static void show_log(void) {
    printf("woken:");
    for (uint32_t i = 0; i < s->order; i++) printf(" %u", s->log[i]);
    printf("\n");
}

/* One after the other, in the order they came; then none is left. */
static void one_by_one(void) {
    phase("one by one");
    if (me) return in_order(&s->a, EVERY_BIT, NULL, 0);
    until_waiters(&s->a, all - 1);
    for (int i = 1; i < all; i++) {
        printf("waiting: %ld\n", waiters(&s->a));
        says_value("wake", futex_wake(&s->a, 1));
        until_ended(i);
    }
    show_log();
    says_value("wake", futex_wake(&s->a, 1));
}

static void all_at_once(void) {
    phase("all at once");
    if (me) return in_order(&s->a, EVERY_BIT, NULL, 0);
    until_waiters(&s->a, all - 1);
    says_value("wake another word", futex_wake(&s->b, INT32_MAX));
    says_value("wake privately", futex(&s->a, FUTEX_WAKE | FUTEX_PRIVATE, INT32_MAX, NULL, NULL, 0));
    printf("waiting: %ld\n", waiters(&s->a));
    says_value("wake all", futex_wake(&s->a, INT32_MAX));
    until_ended(all - 1);
    says_value("wake all", futex_wake(&s->a, INT32_MAX));
}

static void other_value(void) {
    phase("another value");
    if (me) {
        says("not what it is", futex_wait(through(&s->a), 1));
        atomic_fetch_add(&s->ended, 1), futex_wake(&s->ended, INT32_MAX);
        return;
    }
    until_ended(all - 1);
    printf("waiting: %ld\n", waiters(&s->a));
}

static void bitsets(void) {
    phase("bitsets");
    if (me) return in_order(&s->a, 1u << me, NULL, 0);
    until_waiters(&s->a, all - 1);
    says_value("nobody's bit", futex(&s->a, FUTEX_WAKE_BITSET, INT32_MAX, NULL, NULL, 1));
    for (int rank = all - 1; rank > 0; rank--) {
        says_value("one's bit", futex(&s->a, FUTEX_WAKE_BITSET, INT32_MAX, NULL, NULL, 1u << rank));
        until_ended(all - rank);
    }
    show_log();
}

static void with_time(void) {
    static const struct { int clock; clockid_t id; } clocks[] = {{0, CLOCK_MONOTONIC}, {FUTEX_CLOCK_REALTIME, CLOCK_REALTIME}};
    for (int c = 0; c < 2; c++) {
        phase("with time enough");
        struct timespec later = now(clocks[c].id);
        later.tv_sec += HOUR;
        if (me) in_order(&s->a, EVERY_BIT, &later, clocks[c].clock);
        else {
            until_waiters(&s->a, all - 1);
            says_value("wake all", futex_wake(&s->a, INT32_MAX));
            until_ended(all - 1);
        }
        phase("with too little time");
        if (me) {
            struct timespec soon = after(now(clocks[c].id), 5000000);
            says("absolute", futex(through(&s->a), FUTEX_WAIT_BITSET | clocks[c].clock, 0, &soon, NULL, EVERY_BIT));
            holds("not before", is_past(clocks[c].id, soon));
            says("relative", futex(through(&s->a), FUTEX_WAIT, 0, &(struct timespec){0, 3000000}, NULL, 0));
            atomic_fetch_add(&s->ended, 1), futex_wake(&s->ended, INT32_MAX);
        } else {
            until_ended(all - 1);
            says_value("wake, nobody is left", futex_wake(&s->a, INT32_MAX));
        }
    }
}

static void requeued(void) {
    phase("requeued");
    if (me) return in_order(&s->a, 1u << me, NULL, 0);
    until_waiters(&s->a, all - 1);
    s->a = 5;
    says_value("compare, other value", futex_cmp_requeue(&s->a, 1, INT32_MAX, &s->b, 0));
    printf("waiting: %ld and %ld\n", waiters(&s->a), waiters(&s->b));
    says_value("move none", futex_requeue(&s->a, 0, 0, &s->b));
    says_value("compare, wake one, move one", futex_cmp_requeue(&s->a, 1, 1, &s->b, 5));
    until_ended(1);
    printf("waiting: %ld and %ld\n", waiters(&s->a), waiters(&s->b));
    says_value("move the others", futex_requeue(&s->a, 0, INT32_MAX, &s->b));
    printf("waiting: %ld and %ld\n", waiters(&s->a), waiters(&s->b));
    says_value("wake the first word", futex_wake(&s->a, INT32_MAX));
    says_value("move them back and forth", futex_requeue(&s->b, 0, INT32_MAX, &s->c));
    says_value("", futex_requeue(&s->c, 0, INT32_MAX, &s->b));
    for (int i = 2; i < all; i++) {
        /* Bits stay with whoever waits. */
        says_value("one's bit", futex(&s->b, FUTEX_WAKE_BITSET, INT32_MAX, NULL, NULL, 1u << i));
        until_ended(i);
    }
    show_log();
}

static void operated(void) {
    phase("wake and operate");
    const word *mine = me % 2 ? &s->a : &s->b;
    if (me) {
        while (s->b != 5 || waiters(&s->a) + waiters(&s->b) != me - 1) nap(500);
        says("waited", futex_wait(through(mine), me % 2 ? 0 : 5));
        atomic_fetch_add(&s->ended, 1), futex_wake(&s->ended, INT32_MAX);
        return;
    }
    s->b = 5;
    while (waiters(&s->a) + waiters(&s->b) != all - 1) nap(500);
    says_value("second's not asked for", futex(&s->a, FUTEX_WAKE_OP, 1, (void *)1, &s->b, 1 << 28 | 0 << 24 | 2 << 12 | 4));
    printf("%u; waiting: %ld and %ld\n", s->b, waiters(&s->a), waiters(&s->b));
    says_value("both", futex(&s->a, FUTEX_WAKE_OP, INT32_MAX, (void *)INT32_MAX, &s->b, 4 << 28 | 4 << 24 | 1 << 12 | 6));
    printf("%u; waiting: %ld and %ld\n", s->b, waiters(&s->a), waiters(&s->b));
    until_ended(all - 1);
}

/* From a segment's word to another kind of word: those who were to be moved can be woken by the second word, or have
 * been woken already. */
static void elsewhere(void) {
    phase("to a word elsewhere and back");
    static word private, here;
    if (me) return in_order(&s->a, EVERY_BIT, NULL, 0);
    until_waiters(&s->a, all - 1);
    says_value("compare, other value", futex_cmp_requeue(&s->a, 0, INT32_MAX, &private, 1));
    printf("waiting: %ld\n", waiters(&s->a));
    says_value("to private memory", futex_cmp_requeue(&s->a, 1, INT32_MAX, &private, 0));
    futex_wake(&private, INT32_MAX);
    until_ended(all - 1);
    says_value("from private memory", futex_requeue(&here, 1, INT32_MAX, &s->a));
}

/* Each hands a number to the next, as often as it takes. */
static void round_robin(void) {
    phase("round robin");
    const int ROUNDS = 400 / (all * all) + 5;
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t mine = (uint32_t)(i * all + me), is;
        while ((is = s->turn) != mine) futex_wait(through(&s->turn), is);
        s->turn = mine + 1;
        /* All but the next look in vain and wait again. */
        futex_wake(&s->turn, INT32_MAX);
    }
    phase("and the sum");
}

/* A lock and a counter: the classic mutex (0 free, 1 taken, 2 taken and somebody may wait). */
static void locked(void) {
    phase("a lock");
    enum { TIMES = 200 };
    for (int i = 0; i < TIMES; i++) {
        uint32_t was = 0;
        if (!atomic_compare_exchange_strong(&s->a, &was, 1)) {
            if (was != 2) was = atomic_exchange(&s->a, 2);
            while (was != 0) {
                futex_wait(through(&s->a), 2);
                was = atomic_exchange(&s->a, 2);
            }
        }
        uint32_t before = s->b;
        if (i % 16 == 0) sched_yield();
        s->b = before + 1;
        if (atomic_exchange(&s->a, 0) == 2) futex_wake(&s->a, 1);
    }
    atomic_fetch_add(&s->ended, 1), futex_wake(&s->ended, INT32_MAX);
    until_ended(all);
    printf("%u\n", s->b == (uint32_t)(TIMES * all));
}

int main(void) {
    me = rank(), all = copies();
    int id = segment_of_all(0xf07e, sizeof(struct shared));
    s = attached(id, FREE_PLACE + me * (1L << 30), 0);
    ro = attached(id, FREE_PLACE + me * (1L << 30) + (1L << 29), SHM_RDONLY);
    one_by_one();
    all_at_once();
    other_value();
    bitsets();
    with_time();
    requeued();
    operated();
    elsewhere();
    round_robin();
    locked();
    phase("the end");
    if (me == 0) removed(id);
    return 0;
}
