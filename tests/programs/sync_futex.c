/* futex(2) itself: who is woken, in which order, with which result.   usage: sync_futex threads|private|forks (sync.h)
 *
 * How many wait is known exactly: FUTEX_CMP_REQUEUE from a word to itself, waking none, changes nothing and counts. */
#include "sync.h"
#include <limits.h>

enum { CALL, WAIT, WAIT_FOR, WAIT_MASK, WAIT_UNTIL, WAIT_UNTIL_REAL, PING, COUNT };
struct call { int operation, value, second, value3; long value2; };

static long at_word(int word, int operation, unsigned value, long fourth, _Atomic uint32_t *second, unsigned third) {
    return syscall(SYS_futex, &objects[word].word, operation | (shared ? 0 : FUTEX_PRIVATE), value, fourth, second, third);
}
static long on_time_or(clockid_t clock, const struct timespec *until, long result) { return on_time(clock, until, answer(result)); }

static long perform(int me, int what, int object, long argument) {
    _Atomic uint32_t *word = &objects[object].word;
    clockid_t clock = what == WAIT_UNTIL_REAL ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    struct timespec until = deadline(clock, argument), time = {argument / 1000, argument % 1000 * 1000000};
    switch (what) {
    case CALL: {
        struct call *call = (struct call *)&arena->cells[me * 4];
        return value(at_word(object, call->operation, call->value, call->value2, &objects[call->second].word, call->value3));
    }
    case WAIT: return answer(at_word(object, FUTEX_WAIT, argument, 0, NULL, 0));
    case WAIT_FOR: return on_time_or(CLOCK_MONOTONIC, &until, at_word(object, FUTEX_WAIT, 0, (long)&time, NULL, 0));
    case WAIT_MASK: return answer(at_word(object, FUTEX_WAIT_BITSET, 0, 0, NULL, argument));
    case WAIT_UNTIL: return on_time_or(clock, &until, at_word(object, FUTEX_WAIT_BITSET, 0, (long)&until, NULL, -1));
    case WAIT_UNTIL_REAL:
        return on_time_or(clock, &until, at_word(object, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, (long)&until, NULL, -1));
    case PING: /* Workers in a ring, each on a word of its own. */
        for (long i = 1; i <= argument; i++) {
            while (atomic_load(&objects[object + me].word) != (uint32_t)i) {
                at_word(object + me, FUTEX_WAIT, i - 1, 0, NULL, 0);
            }
            arena->plain[object]++;
            int next = object + (me + 1) % EMPLOYED;
            atomic_store(&objects[next].word, (uint32_t)i + (next == object));
            at_word(next, FUTEX_WAKE, 1, 0, NULL, 0);
        }
        return 0;
    case COUNT: /* A lock of three states: free, held, held and waited for. */
        for (long i = 0; i < argument; i++) {
            uint32_t state = 0;
            if (!atomic_compare_exchange_strong(word, &state, 1)) {
                if (state != 2) state = atomic_exchange(word, 2);
                while (state != 0) {
                    at_word(object, FUTEX_WAIT, 2, 0, NULL, 0);
                    state = atomic_exchange(word, 2);
                }
            }
            long before = arena->plain[object];
            if (i % 8 == me) sched_yield();
            arena->plain[object] = before + 1;
            if (atomic_exchange(word, 0) == 2) at_word(object, FUTEX_WAKE, 1, 0, NULL, 0);
        }
        return 0;
    }
    return ENOSYS;
}

/* A call that does not wait, by some worker. */
static long calls(int worker, int operation, int word, int value, long value2, int second, int value3) {
    *(struct call *)&arena->cells[worker * 4] = (struct call){operation, value, second, value3, value2};
    return ask(worker, CALL, word, 0);
}
static void wakes(const char *name, int worker, int word, int count) {
    printf("%s %s\n", name, told(calls(worker, FUTEX_WAKE, word, count, 0, word, 0)));
}
static int queued(int word) {
    long count = at_word(word, FUTEX_CMP_REQUEUE, 0, INT_MAX, &objects[word].word, atomic_load(&objects[word].word));
    need(count >= 0, "to count waiters");
    return count;
}
static void until_queued(int word, int count) { UNTIL(queued(word) == count, "waiters"); }
/* One after the other, so that they queue in this order. */
static void queue_up(int from, int to, int word) {
    for (int w = from; w <= to; w++) {
        int before = queued(word);
        order(w, WAIT, word, 0);
        until_queued(word, before + 1);
    }
}
static int woken(int from, int to) {
    int count = 0;
    for (int w = from; w <= to; w++) count += done(w);
    return count;
}
static void lets_go(int from, int to) {
    for (int w = from; w <= to; w++) then(form("%c", 'A' + w), w);
}

static void waiting_and_waking(void) {
    does("A waits for another value", 0, WAIT, 0, 1);
    wakes("D wakes nobody", 3, 0, 1);
    waits("A waits", 0, WAIT, 0, 0);
    until_queued(0, 1);
    wakes("D wakes at another word", 3, 1, 1);
    still("A", 0);
    wakes("D wakes", 3, 0, 1);
    then("A", 0);
    wakes("D wakes nobody", 3, 0, 1);
    queue_up(0, 2, 0);
    wakes("D wakes two of three", 3, 0, 2);
    lets_go(0, 1);
    still("C", 2);
    wakes("D wakes all", 3, 0, INT_MAX);
    lets_go(2, 2);
    queue_up(0, 2, 0);
    for (int w = 0; w < 3; w++) {
        wakes("D wakes one", 3, 0, 1);
        then(form("it is %c", 'A' + w), w);
        printf("woken %d\n", woken(0, 2));
    }
    queue_up(0, 2, 0);
    wakes("D wakes none", 3, 0, 0);
    UNTIL(woken(0, 2) == 1, "one all the same");
    wakes("D wakes fewer than none", 3, 0, -1);
    UNTIL(woken(0, 2) == 2, "another");
    wakes("D wakes ten", 3, 0, 10);
    lets_go(0, 2);
    queue_up(0, 0, 0), queue_up(1, 1, 1), queue_up(2, 2, 2);
    wakes("each its own word", 3, 1, 10);
    lets_go(1, 1);
    wakes("each its own word", 3, 0, 10);
    lets_go(0, 0);
    wakes("each its own word", 3, 2, 10);
    lets_go(2, 2);
}

static void masks(void) {
    for (int w = 0; w < 3; w++) order(w, WAIT_MASK, 0, 1 << w), until_queued(0, w + 1);
    printf("bits nobody waits for %s\n", told(calls(3, FUTEX_WAKE_BITSET, 0, 10, 0, 0, 8)));
    printf("B's bit %s\n", told(calls(3, FUTEX_WAKE_BITSET, 0, 10, 0, 0, 2)));
    then("B", 1);
    printf("the others', one of them %s\n", told(calls(3, FUTEX_WAKE_BITSET, 0, 1, 0, 0, 7)));
    then("A", 0);
    printf("any %s\n", told(calls(3, FUTEX_WAKE, 0, 10, 0, 0, 0)));
    then("C", 2);
    order(0, WAIT_MASK, 0, INT_MIN);
    until_queued(0, 1);
    printf("the highest bit %s\n", told(calls(3, FUTEX_WAKE_BITSET, 0, 10, 0, 0, INT_MIN)));
    then("A", 0);
    does("A waits for no bits", 0, WAIT_MASK, 0, 0);
    printf("no bits %s\n", told(calls(3, FUTEX_WAKE_BITSET, 0, 1, 0, 0, 0)));
}

static void times(void) {
    does("A waits 25 ms", 0, WAIT_FOR, 0, 25);
    does("A waits no time", 0, WAIT_FOR, 0, 0);
    does("A waits until 25 ms later", 0, WAIT_UNTIL, 0, 25);
    does("A waits until the past", 0, WAIT_UNTIL, 0, LONG_PAST);
    does("A waits until before the clock began", 0, WAIT_UNTIL, 0, BEFORE_TIME);
    does("A waits until an impossible time", 0, WAIT_UNTIL, 0, IMPOSSIBLE);
    does("A waits until 25 ms later by the wall", 0, WAIT_UNTIL_REAL, 0, 25);
    does("A waits until the past by the wall", 0, WAIT_UNTIL_REAL, 0, LONG_PAST);
    does("A waits until an impossible time by the wall", 0, WAIT_UNTIL_REAL, 0, IMPOSSIBLE);
    printf("nobody is left %d\n", queued(0));
    order(0, WAIT_FOR, 0, FAR), until_queued(0, 1);
    order(1, WAIT_UNTIL, 0, FAR), until_queued(0, 2);
    order(2, WAIT_UNTIL_REAL, 0, FAR), until_queued(0, 3);
    wakes("D wakes those that wait a minute", 3, 0, 10);
    lets_go(0, 2);
    /* One in the middle gives up. */
    queue_up(0, 0, 0);
    order(1, WAIT_FOR, 0, 40);
    order(2, WAIT_FOR, 0, FAR);
    then("B, in the middle", 1);
    until_queued(0, 2);
    wakes("D wakes the others", 3, 0, 10);
    then("A", 0), then("C", 2);
    struct timespec soon = {0, 1000000};
    printf("a relative time by the wall clock %s\n", told(answer(at_word(0, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 0, (long)&soon, NULL, 0))));
}

static void requeueing(void) {
    queue_up(0, 2, 0);
    printf("compare another value %s\n", told(calls(3, FUTEX_CMP_REQUEUE, 0, 1, 1, 1, 77)));
    printf("at the first %d at the second %d\n", queued(0), queued(1));
    printf("wake one, move one %s\n", told(calls(3, FUTEX_CMP_REQUEUE, 0, 1, 1, 1, 0)));
    then("A", 0);
    printf("at the first %d at the second %d\n", queued(0), queued(1));
    wakes("at the second", 3, 1, 10);
    then("B", 1);
    printf("move the rest %s\n", told(calls(3, FUTEX_REQUEUE, 0, 0, INT_MAX, 1, 0)));
    printf("at the first %d at the second %d\n", queued(0), queued(1));
    wakes("at the first", 3, 0, 10);
    still("C", 2);
    wakes("at the second", 3, 1, 10);
    then("C", 2);
    printf("move nobody %s\n", told(calls(3, FUTEX_REQUEUE, 0, 1, 10, 1, 0)));
    /* Moved behind those that are there. */
    queue_up(0, 0, 1), queue_up(1, 2, 0);
    printf("move two %s\n", told(calls(3, FUTEX_CMP_REQUEUE, 0, 0, 2, 1, 0)));
    for (int w = 0; w < 3; w++) {
        wakes("one", 3, 1, 1);
        then(form("it is %c", 'A' + w), w);
        printf("woken %d\n", woken(0, 2));
    }
    /* To and fro, and its time is still over. */
    order(0, WAIT_FOR, 0, 500), until_queued(0, 1);
    printf("moved %s\n", told(calls(3, FUTEX_REQUEUE, 0, 0, 1, 1, 0)));
    printf("and on %s\n", told(calls(2, FUTEX_REQUEUE, 1, 0, 1, 2, 0)));
    printf("and back %s\n", told(calls(1, FUTEX_REQUEUE, 2, 0, 1, 0, 0)));
    then("A, moved about", 0);
    printf("nobody is left %d %d %d\n", queued(0), queued(1), queued(2));
    /* Moved to where the value is another. */
    atomic_store(&objects[1].word, 5);
    queue_up(0, 0, 0);
    printf("move to another value %s\n", told(calls(3, FUTEX_CMP_REQUEUE, 0, 0, 1, 1, 0)));
    wakes("there", 3, 1, 1);
    then("A", 0);
    atomic_store(&objects[1].word, 0);
    /* Bits go along. */
    order(0, WAIT_MASK, 0, 4), until_queued(0, 1);
    printf("move one with bits %s\n", told(calls(3, FUTEX_REQUEUE, 0, 0, 1, 1, 0)));
    printf("other bits %s\n", told(calls(3, FUTEX_WAKE_BITSET, 1, 10, 0, 1, 3)));
    printf("its bits %s\n", told(calls(3, FUTEX_WAKE_BITSET, 1, 10, 0, 1, 12)));
    then("A", 0);
    queue_up(0, 2, 0);
    printf("wake two of three, move none %s\n", told(calls(3, FUTEX_CMP_REQUEUE, 0, 2, 0, 1, 0)));
    then("A", 0), then("B", 1);
    printf("to itself %s\n", told(calls(3, FUTEX_CMP_REQUEUE, 0, 0, 10, 0, 0)));
    printf("wake all, move all %s\n", told(calls(3, FUTEX_CMP_REQUEUE, 0, INT_MAX, INT_MAX, 1, 0)));
    then("C", 2);
    printf("wake fewer than none %s\n", told(calls(3, FUTEX_CMP_REQUEUE, 0, -1, 1, 1, 0)));
    printf("move fewer than none %s\n", told(calls(3, FUTEX_CMP_REQUEUE, 0, 1, -1, 1, 0)));
    printf("move fewer than none %s\n", told(calls(3, FUTEX_REQUEUE, 0, 1, -1, 1, 0)));
}

static int encoded(unsigned operation, unsigned compare, unsigned argument, unsigned compared) {
    return (int)(operation << 28 | compare << 24 | (argument & 0xfff) << 12 | (compared & 0xfff));
}
static void waking_with_an_operation(void) {
    enum { SET, ADD, OR, AND_NOT, XOR, SHIFTED = 8 };
    enum { EQUAL, OTHER, LESS, LESS_OR_EQUAL, GREATER, GREATER_OR_EQUAL };
    static const struct {
        unsigned operation, compare, argument, compared, before;
    } cases[] = {
        {SET, EQUAL, 7, 5, 5}, {SET, EQUAL, 7, 5, 6}, {SET, EQUAL, -1, 0, 0}, {SET, EQUAL, 0x800, 0, 0}, {SET, EQUAL, 0x7ff, 0, 0},
        {ADD, OTHER, 3, 1, 1}, {ADD, OTHER, 3, 1, 2}, {ADD, EQUAL, -1, 0, 0}, {ADD, LESS, 1, 0, 0x7fffffff}, {ADD, LESS, 1, 0, 0xffffffff},
        {OR, LESS, 0x0f0, 8, 7}, {OR, LESS, 0x0f0, 8, 8}, {AND_NOT, LESS_OR_EQUAL, 0x0f, 0x35, 0x35}, {AND_NOT, LESS_OR_EQUAL, 0xf0, 0x34, 0x35},
        {XOR, GREATER, 0xff, 1, 2}, {XOR, GREATER, 0xff, 2, 2}, {XOR, GREATER_OR_EQUAL, -1, 2, 2}, {XOR, GREATER_OR_EQUAL, 1, -1, 0xfffffffe},
        {SHIFTED | OR, EQUAL, 5, 0, 0}, {SHIFTED | SET, EQUAL, 31, 0, 0}, {SHIFTED | AND_NOT, OTHER, 4, 0, 0xff}, {SHIFTED | ADD, OTHER, 16, 0, 1},
        {5, EQUAL, 1, 0, 9}, {7, EQUAL, 1, 0, 9}, {SET, 6, 1, 0, 9}, {SET, 15, 1, 0, 9}, {SHIFTED | SET, EQUAL, 33, 0, 1}, {SHIFTED | SET, EQUAL, -1, 0, 1},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        atomic_store(&objects[1].word, cases[i].before);
        int what = encoded(cases[i].operation, cases[i].compare, cases[i].argument, cases[i].compared);
        long result = calls(i % 4, FUTEX_WAKE_OP, 0, 1, 1, 1, what);
        printf("operation %u comparison %u argument %x and %x on %x: %s %x\n", cases[i].operation, cases[i].compare, cases[i].argument,
               cases[i].compared, cases[i].before, told(result), (unsigned)atomic_load(&objects[1].word));
    }
    for (int matches = 0; matches < 2; matches++) {
        atomic_store(&objects[1].word, 0);
        queue_up(0, 0, 0), queue_up(1, 2, 1);
        atomic_store(&objects[1].word, matches ? 3 : 4);
        printf("add five, were it three %s\n", told(calls(3, FUTEX_WAKE_OP, 0, 1, 1, 1, encoded(ADD, EQUAL, 5, 3))));
        then("A, at the first word", 0);
        printf("now it is %u, and %d wait there\n", (unsigned)atomic_load(&objects[1].word), queued(1));
        atomic_store(&objects[1].word, 0);
        printf("wake the rest %s\n", told(calls(3, FUTEX_WAKE_OP, 0, 1, 10, 1, encoded(SET, EQUAL, 0, 0))));
        lets_go(1, 2);
    }
    /* One word in both places. */
    atomic_store(&objects[0].word, 0);
    queue_up(0, 2, 0);
    printf("one word: two and one %s\n", told(calls(3, FUTEX_WAKE_OP, 0, 2, 1, 0, encoded(SET, EQUAL, 9, 0))));
    lets_go(0, 2);
    printf("it is %u\n", (unsigned)atomic_load(&objects[0].word));
    atomic_store(&objects[0].word, 0), atomic_store(&objects[1].word, 0);
}

static void mistakes(void) {
    char *words = (char *)&objects[0].word;
    struct timespec soon = {0, 1000000}, impossible = {0, 1000000000}, before = {-1, 0};
    char *unmapped = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(unmapped != MAP_FAILED && munmap(unmapped, PAGE) == 0, "mmap");
    char *untouchable = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *constant = unmapped + PAGE;
    const struct { const char *name; char *at; } places[] = {
        {"the word", words}, {"unaligned", words + 1}, {"half a word on", words + 2}, {"null", NULL}, {"low", (char *)16},
        {"unmapped", unmapped}, {"inaccessible", untouchable}, {"read-only", constant}, {"the kernel's", (char *)KERNEL_ADDRESS},
        {"the last word of the lower half", (char *)0x7ffffffffffcUL}, {"not canonical", (char *)0x800000000000UL},
    };
    static const struct { const char *name; int operation; } operations[] = {
        {"wait", FUTEX_WAIT}, {"wake", FUTEX_WAKE}, {"wait for bits", FUTEX_WAIT_BITSET}, {"wake bits", FUTEX_WAKE_BITSET},
    };
    for (int private = 0; private < 2; private++)
        for (unsigned o = 0; o < 4; o++)
            for (unsigned i = 0; i < sizeof places / sizeof *places; i++)
                printf("%s%s, %s %s\n", private ? "privately " : "", operations[o].name, places[i].name,
                       outcome(syscall(SYS_futex, places[i].at, operations[o].operation | private * FUTEX_PRIVATE, o % 2 ? 1 : 0, &soon, NULL, 1) == -1 ? -1 : 0));
    /* Words 0 and 1 exist; the other is at a bad place. */
    for (int second = 0; second < 2; second++)
        for (unsigned i = 1; i < sizeof places / sizeof *places; i++) {
            char *first_at = second ? words : places[i].at, *second_at = second ? places[i].at : words;
            const char *name = form("%s word %s", second ? "second" : "first", places[i].name);
            printf("requeue, %s %s\n", name, outcome(syscall(SYS_futex, first_at, FUTEX_REQUEUE, 1, 1L, second_at, 0)));
            printf("compare and requeue, %s %s\n", name, outcome(syscall(SYS_futex, first_at, FUTEX_CMP_REQUEUE, 1, 1L, second_at, 0)));
            printf("wake with operation, %s %s\n", name, outcome(syscall(SYS_futex, first_at, FUTEX_WAKE_OP, 1, 1L, second_at, 0)));
        }
    static const int flags[] = {0, FUTEX_CLOCK_REALTIME, FUTEX_PRIVATE | FUTEX_CLOCK_REALTIME, 512, 1 << 30};
    for (unsigned f = 0; f < sizeof flags / sizeof *flags; f++) {
        printf("flags %d: wait %s\n", flags[f], outcome(syscall(SYS_futex, words, FUTEX_WAIT | flags[f], 1, &soon, NULL, -1)));
        printf("flags %d: wait for bits %s\n", flags[f], outcome(syscall(SYS_futex, words, FUTEX_WAIT_BITSET | flags[f], 1, &soon, NULL, -1)));
        printf("flags %d: wake %s\n", flags[f], outcome(syscall(SYS_futex, words, FUTEX_WAKE | flags[f], 1, &soon, NULL, -1)));
        printf("flags %d: wake bits %s\n", flags[f], outcome(syscall(SYS_futex, words, FUTEX_WAKE_BITSET | flags[f], 1, &soon, NULL, -1)));
        printf("flags %d: requeue %s\n", flags[f], outcome(syscall(SYS_futex, words, FUTEX_REQUEUE | flags[f], 1, 1L, words, -1)));
    }
    const struct { const char *name; struct timespec *at; } instants[] = {
        {"impossible", &impossible}, {"negative", &before}, {"at a bad address", (void *)16}, {"in the kernel", (void *)KERNEL_ADDRESS},
    };
    for (unsigned i = 0; i < 4; i++) {
        printf("time %s %s\n", instants[i].name, outcome(syscall(SYS_futex, words, FUTEX_WAIT, 0, instants[i].at, NULL, 0)));
        printf("time %s, other value %s\n", instants[i].name, outcome(syscall(SYS_futex, words, FUTEX_WAIT, 1, instants[i].at, NULL, 0)));
        printf("time %s, for bits %s\n", instants[i].name, outcome(syscall(SYS_futex, words, FUTEX_WAIT_BITSET, 1, instants[i].at, NULL, -1)));
        printf("time %s, waking %s\n", instants[i].name, outcome(syscall(SYS_futex, words, FUTEX_WAKE, 1, instants[i].at, NULL, -1)));
    }
    static const int operations_that_are_not[] = {FUTEX_FD, 14, 77, 127};
    for (unsigned i = 0; i < 4; i++)
        printf("operation %d %s\n", operations_that_are_not[i], outcome(syscall(SYS_futex, words, operations_that_are_not[i], 0, 0, 0, 0)));
    munmap(constant, PAGE), munmap(untouchable, PAGE);
}

int main(int argc, char **argv) {
    if (opened(argc, argv)) {
        printf("--- waiting and waking\n");
        waiting_and_waking();
        printf("--- bits\n");
        masks();
        printf("--- times\n");
        times();
        printf("--- requeueing\n");
        requeueing();
        printf("--- waking with an operation\n");
        waking_with_an_operation();
        printf("--- mistakes\n");
        mistakes();
        printf("--- many\n");
        atomic_store(&objects[8].word, 1);
        all_do("round and round", PING, 8, 30);
        printf("hops %ld\n", arena->plain[8]);
        all_do("all count together", COUNT, 16, 100);
        printf("counted %ld\n", arena->plain[16]);
        for (int word = 0; word < 20; word++) need(queued(word) == 0, "nobody to be left");
    }
    return closed();
}
