/* Which words are one futex, and what becomes of those who wait when memory, threads and processes go. */
#include "conf.h"
#include "futex.h"
#include <limits.h>
#include <pthread.h>

static long wake(void *at, int private) { return futex(at, FUTEX_WAKE | private, INT_MAX, 0, NULL, 0); }
/* As waiters(), privately or not. */
static long queued(void *at, int private) { return futex(at, FUTEX_REQUEUE | private, 0, (void *)(long)INT_MAX, at, 0); }
static void until_queued(void *word, int private, long count) {
    for (int naps = 0; queued(word, private) != count; naps++) need(naps < 20000, "waiters"), nap(500);
}

struct waiter {
    void *word;
    int private, milliseconds;
    pthread_t thread;
    long result;
    int error;
};
static void *waits(void *at) {
    struct waiter *waiter = at;
    struct timespec time = {waiter->milliseconds / 1000, waiter->milliseconds % 1000 * 1000000};
    waiter->result = futex(waiter->word, FUTEX_WAIT | waiter->private, 0, waiter->milliseconds ? &time : NULL, NULL, 0);
    waiter->error = errno;
    return NULL;
}
static void started(struct waiter *waiter) { need(pthread_create(&waiter->thread, NULL, waits, waiter) == 0, "pthread_create"); }
static const char *told(struct waiter *waiter) {
    need(pthread_join(waiter->thread, NULL) == 0, "pthread_join");
    errno = waiter->error;
    return outcome(waiter->result);
}

/* One waits at `word`, another wakes at `other`; if that was not it, it is woken where it waits. */
static void between(const char *name, void *word, int private, void *other, int other_private) {
    struct waiter waiter = {word, private};
    started(&waiter);
    until_queued(word, private, 1);
    printf("%s: %ld", name, wake(other, other_private));
    long rest = wake(word, private);
    printf(", then %ld, %s\n", rest, told(&waiter));
}

static char *shared_pages(void) {
    char *at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    need(at != MAP_FAILED, "mmap");
    return at;
}
static char *private_pages(void) {
    char *at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(at != MAP_FAILED, "mmap");
    return at;
}

static void sameness(void) {
    int id = made(IPC_PRIVATE, 3 * PAGE, 0600), other = made(IPC_PRIVATE, 3 * PAGE, 0600), big = made(IPC_PRIVATE, 4 * MIB, 0600);
    char *a = attached(id, NULL, 0), *b = attached(id, NULL, 0), *r = attached(id, NULL, SHM_RDONLY), *o = attached(other, NULL, 0);
    char *large = attached(big, NULL, 0), *again = attached(big, NULL, 0), *private = private_pages(), *shared = shared_pages();
    between("one attach", a, 0, a, 0);
    between("two attaches", a, 0, b, 0);
    between("two attaches, the other way", b, 0, a, 0);
    between("waited for read-only", r, 0, a, 0);
    between("woken read-only", a, 0, r, 0);
    between("another offset", a, 0, b + 4, 0);
    between("another page", a, 0, b + PAGE, 0);
    between("the last word", a + 3 * PAGE - 4, 0, b + 3 * PAGE - 4, 0);
    between("another segment", a, 0, o, 0);
    between("far within a large one", large + 3 * MIB + 40, 0, again + 3 * MIB + 40, 0);
    between("a large one, two megabytes off", large + 40, 0, again + 2 * MIB + 40, 0);
    between("an attach, waited for privately", a, FUTEX_PRIVATE, a, 0);
    between("an attach, woken privately", a, 0, a, FUTEX_PRIVATE);
    between("an attach, privately", a, FUTEX_PRIVATE, a, FUTEX_PRIVATE);
    between("two attaches, privately", a, FUTEX_PRIVATE, b, FUTEX_PRIVATE);
    between("private memory", private, 0, private, 0);
    between("private memory, privately", private, FUTEX_PRIVATE, private, FUTEX_PRIVATE);
    between("private memory, waited for privately", private, FUTEX_PRIVATE, private, 0);
    between("private memory, woken privately", private, 0, private, FUTEX_PRIVATE);
    between("shared memory", shared, 0, shared, 0);
    between("shared memory, woken privately", shared, 0, shared, FUTEX_PRIVATE);
    between("shared memory, another page", shared, 0, shared + PAGE, 0);
    between("private memory and an attach", private, 0, a, 0);
    removed(id), removed(other), removed(big);
    shmdt(a), shmdt(b), shmdt(r), shmdt(o), shmdt(large), shmdt(again);
    munmap(private, 2 * PAGE), munmap(shared, 2 * PAGE);
}

/* Memory is taken away while somebody waits in it. */
static void memory_goes(void) {
    int id = made(IPC_PRIVATE, PAGE, 0600);
    char *a = attached(id, NULL, 0), *b = attached(id, NULL, 0);
    struct waiter waiter = {b};
    started(&waiter);
    until_queued(a, 0, 1);
    need(shmdt(b) == 0, "shmdt");
    says("wake where it was", wake(b, 0));
    printf("another attach wakes %ld", wake(a, 0));
    printf(", %s\n", told(&waiter));

    waiter = (struct waiter){a};
    started(&waiter);
    until_queued(a, 0, 1);
    b = mremap(a, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, FREE_PLACE);
    need(b != MAP_FAILED, "mremap");
    says("wake where it was", wake(a, 0));
    printf("wake where it is now %ld", wake(b, 0));
    printf(", %s\n", told(&waiter));

    waiter = (struct waiter){b};
    started(&waiter);
    until_queued(b, 0, 1);
    need(mprotect(b, PAGE, PROT_READ) == 0, "mprotect");
    printf("read-only now: wake %ld", wake(b, 0));
    printf(", %s\n", told(&waiter));
    need(mprotect(b, PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect");

    waiter = (struct waiter){b};
    started(&waiter);
    until_queued(b, 0, 1);
    need(shmctl(id, IPC_RMID, NULL) == 0, "IPC_RMID");
    printf("marked for removal: wake %ld", wake(b, 0));
    printf(", %s\n", told(&waiter));

    /* Nobody has the segment any more but those who wait in it. */
    waiter = (struct waiter){b, 0, 60};
    started(&waiter);
    until_queued(b, 0, 1);
    need(shmdt(b) == 0, "shmdt");
    says("the segment", shmctl(id, IPC_STAT, &(struct shmid_ds){0}));
    printf("waiting in a segment that is gone %s\n", told(&waiter));

    id = made(IPC_PRIVATE, PAGE, 0600);
    a = attached(id, FREE_PLACE, 0);
    waiter = (struct waiter){a, FUTEX_PRIVATE};
    started(&waiter);
    until_queued(a, FUTEX_PRIVATE, 1);
    need(shmdt(a) == 0, "shmdt");
    attaches("privately, detached", id);
    printf("wake there %ld", wake(a, FUTEX_PRIVATE));
    printf(", %s\n", told(&waiter));
    removed(id);

    for (int private = 0; private <= FUTEX_PRIVATE; private += FUTEX_PRIVATE) {
        const char *how = private ? "privately" : "shared";
        a = private_pages();
        *a = 0;
        waiter = (struct waiter){a, private};
        started(&waiter);
        until_queued(a, private, 1);
        need(munmap(a, PAGE) == 0, "munmap");
        printf("unmapped, %s: %s\n", how, outcome(wake(a, private) < 0 ? -1 : 0));
        if (!private) {
            need(mmap(a, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == a, "mmap");
            *a = 0;
            printf("mapped again: %ld\n", wake(a, private));
        }
        printf("%s\n", told(&waiter));
        munmap(a, 2 * PAGE);
    }
    a = shared_pages();
    *a = 0;
    waiter = (struct waiter){a, 0, 60};
    started(&waiter);
    until_queued(a, 0, 1);
    need(mmap(a, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == a, "mmap");
    *a = 0;
    printf("other shared memory: %ld", wake(a, 0));
    printf(", %s\n", told(&waiter));
    munmap(a, 2 * PAGE);
}

/* Those who wait are ended, or wait in another process. */
static void *sleeps_there(void *word) {
    for (;;) futex(word, FUTEX_WAIT, 0, 0, NULL, 0);
}
static void *exits_soon(void *unused) {
    nap(10000);
    _exit(3);
}
static void waiters_go(char *word, const char *where) {
    static const char *const ways[] = {"killed", "ended by another thread", "another program", "a fault"};
    printf("--- %s\n", where);
    pid_t child = forked();
    if (child == 0) {
        futex(word, FUTEX_WAIT, 0, 0, NULL, 0);
        _exit(7);
    }
    until_queued(word, 0, 1);
    printf("a child waits: woken %ld", wake(word, 0));
    printf(", %s\n", ended(waited(child)));
    struct waiter waiter = {word};
    started(&waiter);
    until_queued(word, 0, 1);
    child = forked();
    if (child == 0) _exit((int)wake(word, 0));
    printf("a child wakes: %s", ended(waited(child)));
    printf(", %s\n", told(&waiter));
    for (int way = 0; way < 4; way++) {
        child = forked();
        if (child == 0) {
            pthread_t thread;
            for (int i = 0; i < 3; i++) need(pthread_create(&thread, NULL, sleeps_there, word) == 0, "pthread_create");
            if (way == 1) need(pthread_create(&thread, NULL, exits_soon, NULL) == 0, "pthread_create");
            if (way < 2) sleeps_there(word);
            while (queued(word, 0) < 3) nap(500);
            nap(5000);
            if (way == 2) execl("/proc/self/exe", "thread_futex", "nothing", NULL);
            *(volatile char *)16 = 1;
        }
        if (way == 0) {
            until_queued(word, 0, 4);
            /* One that outlives them, in the queue behind them. */
            waiter = (struct waiter){word};
            started(&waiter);
            until_queued(word, 0, 5);
            need(kill(child, SIGKILL) == 0, "kill");
        }
        printf("%s: %s", ways[way], ended(waited(child)));
        if (way == 0) {
            until_queued(word, 0, 1);
            printf(", the one left is woken %ld", futex(word, FUTEX_WAKE, 1, 0, NULL, 0));
            printf(", %s", told(&waiter));
        }
        printf(", left %ld\n", queued(word, 0));
    }
}

enum { MANY = 60 };
static void many(char *word, int private, const char *where) {
    static struct waiter waiters[MANY];
    int good = 0;
    for (int i = 0; i < MANY; i++) waiters[i] = (struct waiter){word, private}, started(&waiters[i]);
    until_queued(word, private, MANY);
    printf("%s: woken %ld", where, futex(word, FUTEX_WAKE | private, 20, NULL, NULL, 0));
    printf(", %ld", futex(word, FUTEX_REQUEUE | private, 10, (void *)15, word + 64, 0));
    printf(", %ld", wake(word, private));
    printf(", %ld", wake(word + 64, private));
    printf(", %ld", wake(word, private));
    for (int i = 0; i < MANY; i++) good += strcmp(told(&waiters[i]), "ok") == 0;
    printf(": %d\n", good);
}

int main(int argc, char **argv) {
    if (argc > 1) return 4;
    setvbuf(stdout, NULL, _IOLBF, 0);
    sameness();
    printf("--- memory goes\n");
    memory_goes();
    int id = made(IPC_PRIVATE, PAGE, 0600);
    char *segment = attached(id, NULL, 0), *shared = shared_pages(), *private = private_pages();
    removed(id);
    waiters_go(segment, "in a segment");
    waiters_go(shared, "in shared memory");
    many(segment, 0, "many in a segment");
    many(shared, 0, "many in shared memory");
    many(private, 0, "many in private memory");
    many(private, FUTEX_PRIVATE, "many in private memory, privately");
    return 0;
}
