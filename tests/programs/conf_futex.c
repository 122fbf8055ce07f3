/* futex(2), one call after the other: what is checked, and in which order, for every operation and kind of memory.
 * Nobody else waits here; that is futex_words.c. */
#include "conf.h"
#include "futex.h"

static const char *const names[] = {[FUTEX_WAIT] = "wait", [FUTEX_WAKE] = "wake", [FUTEX_REQUEUE] = "requeue",
                                    [FUTEX_CMP_REQUEUE] = "compare and requeue", [FUTEX_WAKE_OP] = "wake and operate",
                                    [FUTEX_WAIT_BITSET] = "wait bitset", [FUTEX_WAKE_BITSET] = "wake bitset"};
static const int operations[] = {FUTEX_WAIT, FUTEX_WAKE, FUTEX_REQUEUE, FUTEX_CMP_REQUEUE, FUTEX_WAKE_OP,
                                 FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET};
#define EACH(name, array) for (unsigned name = 0; name < sizeof array / sizeof array[0]; name++)

static word ordinary = 7, other = 7;
static const uint32_t constant = 7;
static const struct timespec none_at_all = {0, 0}, shortly = {0, 1000000};

static struct { const char *name; volatile void *at; } words[32];
static int count;
static void add(const char *name, volatile void *at) { words[count].name = name, words[count++].at = at; }

static char *pages(int protection, int flags, uint32_t value) {
    uint32_t *at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    need(at != MAP_FAILED, "mmap");
    if (value) *at = value;
    need(mprotect(at, PAGE, protection) == 0, "mprotect");
    return (char *)at;
}

static void collect(void) {
    add("static", &ordinary);
    add("constant", (void *)&constant);
    add("private memory", pages(PROT_READ | PROT_WRITE, MAP_PRIVATE, 7));
    add("untouched private memory", pages(PROT_READ | PROT_WRITE, MAP_PRIVATE, 0));
    add("read-only private memory", pages(PROT_READ, MAP_PRIVATE, 7));
    add("untouched read-only private memory", pages(PROT_READ, MAP_PRIVATE, 0));
    add("private memory without rights", pages(PROT_NONE, MAP_PRIVATE, 7));
    add("shared memory", pages(PROT_READ | PROT_WRITE, MAP_SHARED, 7));
    add("untouched read-only shared memory", pages(PROT_READ, MAP_SHARED, 0));
    add("shared memory without rights", pages(PROT_NONE, MAP_SHARED, 7));
    int id = made(IPC_PRIVATE, 3 * PAGE + 100, 0600);
    char *writable = attached(id, NULL, 0), *readable = attached(id, NULL, SHM_RDONLY), *neither = attached(id, NULL, 0);
    removed(id);
    *(word *)writable = 7, *(word *)(writable + 4 * PAGE - 4) = 7;
    need(mprotect(neither, PAGE, PROT_NONE) == 0, "mprotect");
    add("a segment", writable);
    add("a segment's last page beyond its size", writable + 4 * PAGE - 4);
    add("beyond a segment", writable + 4 * PAGE);
    add("a segment attached read-only", readable);
    add("a segment without rights", neither);
    add("crooked", (char *)&ordinary + 2);
    add("crooked in a segment", writable + 1);
    add("null", NULL);
    add("nowhere", (void *)16);
    add("crooked and nowhere", (void *)17);
    add("the last address", (void *)0x7fffffffeffc);
    add("beyond the last address", (void *)0x7ffffffff000);
    add("the kernel's", (void *)KERNEL_ADDRESS);
}

/* Every operation on every word, with the value it has and with another. */
static void matrix(void) {
    EACH(o, operations) {
        int operation = operations[o], waits = operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET;
        for (int flag = 0; flag <= FUTEX_PRIVATE; flag += FUTEX_PRIVATE)
            for (int i = 0; i < count; i++)
                for (int value = 7; value >= 0; value -= 7) {
                    if (!waits && operation != FUTEX_CMP_REQUEUE && value != 7) continue;
                    const void *fourth = waits ? (void *)&none_at_all : (void *)1;
                    long third = waits ? value : 1;
                    long sixth = operation == FUTEX_CMP_REQUEUE ? value : operation == FUTEX_WAKE_OP ? 0 : EVERY_BIT;
                    long got = futex(words[i].at, operation | flag, third, fourth, &other, sixth);
                    says_value(form("%s%s, %s, %d:", names[operation], flag ? " privately" : "", words[i].name, value), got);
                }
    }
    /* The second word, after the first and after what is compared. */
    static const int two[] = {FUTEX_REQUEUE, FUTEX_CMP_REQUEUE, FUTEX_WAKE_OP};
    EACH(o, two) {
        for (int flag = 0; flag <= FUTEX_PRIVATE; flag += FUTEX_PRIVATE)
            for (int i = 0; i < count; i++)
                for (int value = 7; value >= 6; value--) {
                    ordinary = 7;
                    long got = futex(&ordinary, two[o] | flag, 1, (void *)1, words[i].at, two[o] == FUTEX_WAKE_OP ? 7 << 12 : value);
                    says_value(form("%s%s, second %s, %d:", names[two[o]], flag ? " privately" : "", words[i].name, value), got);
                }
        says(form("%s, both crooked", names[two[o]]), futex((char *)&ordinary + 1, two[o], 1, (void *)1, (char *)&ordinary + 2, 0));
        says(form("%s, first nowhere, second crooked", names[two[o]]),
             futex((void *)16, two[o], 1, (void *)1, (char *)&ordinary + 2, 0));
    }
}

static void counts(void) {
    static const long numbers[] = {INT32_MIN, -1, 0, 1, INT32_MAX, 1L << 32};
    EACH(i, numbers) {
        says_value(form("wake %ld", numbers[i]), futex(&ordinary, FUTEX_WAKE, numbers[i], NULL, NULL, 0));
        EACH(k, numbers) {
            says_value(form("requeue %ld, %ld", numbers[i], numbers[k]),
                       futex(&ordinary, FUTEX_REQUEUE, numbers[i], (void *)numbers[k], &other, 0));
            says_value(form("requeue %ld, %ld, crooked", numbers[i], numbers[k]),
                       futex((char *)&ordinary + 1, FUTEX_REQUEUE, numbers[i], (void *)numbers[k], &other, 0));
            says_value(form("wake and operate %ld, %ld", numbers[i], numbers[k]),
                       futex(&ordinary, FUTEX_WAKE_OP, numbers[i], (void *)numbers[k], &other, 0));
        }
    }
}

/* A time is looked at before anything else, and before it is known whether there is such an operation by that clock. */
static void times(void) {
    static const struct timespec bad[] = {{-1, 0}, {0, -1}, {0, 1000000000}, {INT64_MIN, 0}, {0, INT64_MAX}};
    static const int clocks[] = {0, FUTEX_CLOCK_REALTIME, FUTEX_PRIVATE | FUTEX_CLOCK_REALTIME};
    EACH(o, operations) {
        EACH(c, clocks) {
            long how = operations[o] | clocks[c];
            const char *name = form("%s%s", names[operations[o]], c ? " by the wall clock" : "");
            says(form("%s, time nowhere", name), futex(&ordinary, how, 6, (void *)16, &other, 0));
            says(form("%s, time nowhere, crooked", name), futex((char *)&ordinary + 1, how, 6, (void *)16, &other, 0));
            EACH(i, bad) says(form("%s, bad time %d", name, i), futex(&ordinary, how, 6, &bad[i], &other, 0));
            says(form("%s, other value", name), futex(&ordinary, how, 6, &shortly, &other, 1));
        }
    }
    says("wait bitset, mask 0", futex(&ordinary, FUTEX_WAIT_BITSET, 7, NULL, NULL, 0));
    says("wait bitset, mask 0, crooked", futex((char *)&ordinary + 1, FUTEX_WAIT_BITSET, 7, NULL, NULL, 0));
    says("wake bitset, mask 0", futex(&ordinary, FUTEX_WAKE_BITSET, 7, NULL, NULL, 0));
    says("wake bitset, mask 0, nowhere", futex((void *)16, FUTEX_WAKE_BITSET, 7, NULL, NULL, 0));
    for (int i = 0; i < count && i < 3; i++) {
        volatile void *at = i == 0 ? &ordinary : i == 1 ? words[7].at : words[10].at;
        *(word *)at = 7;
        struct timespec start = now(CLOCK_MONOTONIC);
        says(form("word %d, time over", i), futex(at, FUTEX_WAIT, 7, &shortly, NULL, 0));
        struct timespec then = after(now(CLOCK_MONOTONIC), 3000000);
        says(form("word %d, absolute", i), futex(at, FUTEX_WAIT_BITSET, 7, &then, NULL, EVERY_BIT));
        holds("not before", is_past(CLOCK_MONOTONIC, then));
        then = after(now(CLOCK_REALTIME), 3000000);
        says(form("word %d, by the wall clock", i), futex(at, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 7, &then, NULL, 5));
        holds("not before", is_past(CLOCK_REALTIME, then));
        holds("all three took their time", is_past(CLOCK_MONOTONIC, after(start, 7000000)));
        says(form("word %d, past", i), futex(at, FUTEX_WAIT_BITSET, 7, &shortly, NULL, EVERY_BIT));
        says(form("word %d, past by the wall clock", i),
             futex(at, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 7, &shortly, NULL, EVERY_BIT));
        says(form("word %d, past, other value", i), futex(at, FUTEX_WAIT_BITSET, 6, &shortly, NULL, EVERY_BIT));
    }
}

/* What FUTEX_WAKE_OP makes of its second word. */
static void operate(void) {
    word *segment = words[10].at;
    for (unsigned operation = 0; operation < 16; operation++)
        for (unsigned operand = 0; operand < 0x1000; operand = operand * 3 + 1)
            for (int where = 0; where < 2; where++) {
                word *target = where ? segment : &other;
                *target = 0x80000005;
                long got = futex(&ordinary, FUTEX_WAKE_OP, 1, (void *)1, target, (int)(operation << 28 | operand << 12 | 5));
                says_value(form("operation %u %#x:", operation, operand), got);
                printf("%#x\n", *target);
            }
    for (unsigned comparison = 0; comparison < 16; comparison++) {
        other = 5;
        says_value(form("comparison %u:", comparison), futex(&ordinary, FUTEX_WAKE_OP, 1, (void *)1, &other, 1u << 28 | comparison << 24 | 1 << 12));
        printf("%u\n", other);
    }
}

int main(void) {
    collect();
    matrix();
    counts();
    times();
    operate();
    static const int unserved[] = {FUTEX_FD, 14, 15, 77, 1 << 9, FUTEX_WAKE | 1 << 20, FUTEX_PRIVATE | 77};
    EACH(i, unserved) says(form("operation %#x", (unsigned)unserved[i]), futex(&ordinary, unserved[i], 1, (void *)16, NULL, 0));
    says("an operation with bits above the 32nd", syscall(SYS_futex, &ordinary, 1L << 40 | FUTEX_WAKE, 1, NULL, NULL, 0));
    return 0;
}
