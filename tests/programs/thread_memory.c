/* Memory that threads share: what one takes away is gone for all when the call returns, also for one that keeps touching
 * it on another CPU; what several touch at once for the first time is one page.   usage: thread_memory [TIMES] */
#include "conf.h"
#include <pthread.h>

enum { STALE = 66, THREADS = 4 };
static _Atomic int stage, ready;
static _Atomic long touches;
static volatile char *page;

static void started(pthread_t *thread, void *(*what)(void *), void *argument) {
    need(pthread_create(thread, NULL, what, argument) == 0, "pthread_create");
}
static void *joined(pthread_t thread) {
    void *result = NULL;
    need(pthread_join(thread, &result) == 0, "pthread_join");
    return result;
}
/* Goes to the last CPU there is, main to the first: they are two if there are two. */
static void go_to(int last) {
    cpu_set_t all, one;
    CPU_ZERO(&one);
    need(sched_getaffinity(0, sizeof all, &all) == 0, "sched_getaffinity");
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all)) {
            if (last) CPU_ZERO(&one);
            if (last || CPU_COUNT(&one) == 0) CPU_SET(i, &one);
        }
    need(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
}

/* --- taking away --- */

enum how { READS, WRITES, READS_OLD };
static void *keeps_touching(void *how) {
    go_to(1);
    for (;;) {
        int gone = atomic_load(&stage), old = 0;
        if ((enum how)(intptr_t)how == WRITES) page[8] = 1;
        else old = page[8] == 1;
        if (gone && (old || (enum how)(intptr_t)how != READS_OLD)) _exit(STALE);
        if (atomic_fetch_add(&touches, 1) % 64 == 0) sched_yield();
    }
}
/* Waits until it has been touched `more` times. */
static void let_it_touch(long more) {
    long until = atomic_load(&touches) + more;
    while (atomic_load(&touches) < until) sched_yield();
}

static int segment, other_segment = -1;
static volatile char *mapped(size_t size, int flags) {
    char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    need(at != MAP_FAILED, "mmap");
    memset(at, 1, size);
    return at;
}
static void make(const char *what) {
    if (strncmp(what, "shm", 3) == 0 || strcmp(what, "attach over") == 0) {
        int over = strcmp(what, "attach over") == 0;
        segment = made(IPC_PRIVATE, 3 * PAGE, 0600);
        if (over) other_segment = made(IPC_PRIVATE, 3 * PAGE, 0600);
        page = attached(segment, over ? FREE_PLACE : NULL, 0);
        memset((char *)page, 1, 3 * PAGE);
        need(shmctl(segment, IPC_RMID, NULL) == 0, "IPC_RMID");
        return;
    }
    if (strcmp(what, "brk") == 0) {
        page = sbrk(0);
        page += -(uintptr_t)page % PAGE;
        need(syscall(SYS_brk, page + PAGE) == (long)(page + PAGE), "brk");
        page[8] = 1;
        return;
    }
    if (strstr(what, "large")) {
        page = mapped(6 * MIB, MAP_PRIVATE);
        page += -(uintptr_t)page % (2 * MIB) + MIB;
        return;
    }
    page = mapped(3 * PAGE, strstr(what, "shared") ? MAP_SHARED : MAP_PRIVATE);
}
static void take_away(const char *what) {
#define IF(name) if (strcmp(what, name) == 0)
    char *at = (char *)page;
    int error = -1;
    IF("munmap") error = munmap(at, PAGE);
    IF("munmap of a shared page") error = munmap(at, PAGE);
    IF("munmap of all") error = munmap(at, 3 * PAGE);
    IF("munmap of a page of a large one") error = munmap(at, PAGE);
    IF("munmap of a large one") error = munmap(at - MIB, 2 * MIB);
    IF("mprotect none") error = mprotect(at, PAGE, PROT_NONE);
    IF("mprotect read-only") error = mprotect(at, PAGE, PROT_READ);
    IF("mprotect read-only of a shared page") error = mprotect(at, PAGE, PROT_READ);
    IF("mprotect read-only within a large one") error = mprotect(at, PAGE, PROT_READ);
    IF("mremap elsewhere") error = mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, FREE_PLACE) == MAP_FAILED ? -1 : 0;
    IF("shmdt") error = shmdt(at);
    IF("shm munmap") error = munmap(at, PAGE);
    IF("shm mprotect") error = mprotect(at, PAGE, PROT_READ);
    IF("shm mremap") error = mremap(at, 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, FREE_PLACE) == MAP_FAILED ? -1 : 0;
    IF("brk") error = syscall(SYS_brk, at) == (long)at ? 0 : -1; /* musl's brk is none. */
    IF("map over") error = mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ? -1 : 0;
    IF("attach over") error = shmat(other_segment, at, SHM_REMAP) == (void *)-1 ? -1 : 0;
    IF("madvise") error = madvise(at, PAGE, MADV_DONTNEED);
    IF("madvise within a large one") error = madvise(at, PAGE, MADV_DONTNEED);
    need(error == 0, what);
}
static void taking_away(int times) {
    static const struct { const char *what; enum how how; } cases[] = {
        {"munmap", READS}, {"munmap of a shared page", WRITES}, {"munmap of all", WRITES}, {"munmap of a page of a large one", READS},
        {"munmap of a large one", WRITES}, {"mprotect none", READS}, {"mprotect read-only", WRITES}, {"mprotect read-only of a shared page", WRITES},
        {"mprotect read-only within a large one", WRITES}, {"mremap elsewhere", READS}, {"shmdt", READS}, {"shmdt", WRITES},
        {"shm munmap", READS}, {"shm mprotect", WRITES}, {"shm mremap", READS}, {"brk", READS}, {"map over", READS_OLD}, {"attach over", READS_OLD},
        {"madvise", READS_OLD}, {"madvise within a large one", READS_OLD},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int time = 0; time < times; time++)
            IN_CHILD(form("%s, another %s", cases[i].what, cases[i].how == WRITES ? "writes" : "reads")) {
                pthread_t thread;
                make(cases[i].what);
                atomic_store(&stage, 0);
                started(&thread, keeps_touching, (void *)(intptr_t)cases[i].how);
                go_to(0);
                let_it_touch(200);
                take_away(cases[i].what);
                atomic_store(&stage, 1);
                let_it_touch(2000);
                if (other_segment >= 0) removed(other_segment);
            }
}

/* A child has memory as it was at the fork, though a thread goes on writing. */
static void *keeps_counting(void *words) {
    volatile long *word = words;
    go_to(1);
    for (long i = 1; !atomic_load(&stage); i++) {
        word[0] = i;
        word[PAGE / sizeof(long)] = i;
        if (atomic_fetch_add(&touches, 1) % 64 == 0) sched_yield();
    }
    return NULL;
}
static void forking(void) {
    volatile long *words = (volatile long *)mapped(2 * PAGE, MAP_PRIVATE);
    pthread_t thread;
    int good = 1;
    words[0] = words[PAGE / sizeof(long)] = 0;
    atomic_store(&stage, 0);
    started(&thread, keeps_counting, (void *)words);
    go_to(0);
    for (int round = 0; round < 10; round++) {
        let_it_touch(50);
        if (forked() == 0) {
            long first = words[0], second = words[PAGE / sizeof(long)];
            for (int i = 0; i < 20; i++) {
                sched_yield();
                if (words[0] != first || words[PAGE / sizeof(long)] != second) _exit(1);
            }
            /* Written in this order; no more than one apart. */
            if (first != second && first != second + 1) _exit(2);
            words[0] = -1;
            _exit(0);
        }
        let_it_touch(50);
        int status = waited(the_child);
        if (status) printf("a child saw its parent's writes: %s\n", ended(status)), good = 0;
    }
    atomic_store(&stage, 1);
    joined(thread);
    good &= words[0] > 0 && words[0] == words[PAGE / sizeof(long)];
    holds("children are not written to by threads", good);
}

/* --- at once --- */

static pthread_barrier_t barrier;
static _Atomic long *area;
enum { PAGES = 20, ROUNDS = 10 };
static void *touches_first(void *unused) {
    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&barrier);
        for (int i = 0; i < PAGES; i++) atomic_fetch_add(&area[i * PAGE / sizeof(long)], 1);
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}
static void at_once(const char *name, int kind) {
    pthread_t threads[THREADS];
    int right = 1;
    need(pthread_barrier_init(&barrier, NULL, THREADS + 1) == 0, "pthread_barrier_init");
    for (int i = 0; i < THREADS; i++) started(&threads[i], touches_first, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        char *at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, (kind == 1 ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);
        need(at != MAP_FAILED, "mmap");
        area = (_Atomic long *)at;
        if (kind == 2) { /* There already, and a child's as well. */
            memset(at, 0, PAGES * PAGE);
            if (forked() == 0) {
                nap(1000);
                _exit(0);
            }
        }
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        for (int i = 0; i < PAGES; i++) right &= area[i * PAGE / sizeof(long)] == THREADS;
        need(munmap(at, PAGES * PAGE) == 0, "munmap");
        if (kind == 2) waited(the_child);
        pthread_barrier_wait(&barrier);
    }
    for (int i = 0; i < THREADS; i++) joined(threads[i]);
    holds(name, right);
}

/* Each maps, fills, looks and unmaps; nobody's bytes turn up at another's. */
static void *maps(void *number) {
    long me = (intptr_t)number + 1, wrong = 0;
    for (long round = 0; round < 25; round++) {
        size_t size = (1 + (round * me) % 20) * PAGE;
        volatile long *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        need(at != MAP_FAILED, "mmap");
        for (size_t i = 0; i < size / sizeof(long); i += 64) wrong += at[i] != 0, at[i] = me * 1000 + round;
        if (round % 3 == 0) sched_yield();
        for (size_t i = 0; i < size / sizeof(long); i += 64) wrong += at[i] != me * 1000 + round;
        if (round % 5 == 0) need(mprotect((void *)at, PAGE, PROT_READ) == 0, "mprotect");
        wrong += at[0] != me * 1000 + round;
        need(munmap((void *)at, size) == 0, "munmap");
    }
    return (void *)wrong;
}
static int common;
static void *attaches_and_detaches(void *number) {
    long me = (intptr_t)number, wrong = 0;
    for (long round = 0; round < 25; round++) {
        int id = round % 2 ? common : shmget(IPC_PRIVATE, 2 * PAGE, 0600);
        need(id >= 0, "shmget");
        volatile long *at = attached(id, NULL, 0);
        volatile const long *read = round % 4 == 3 ? attached(id, NULL, SHM_RDONLY) : at;
        if (id != common) wrong += at[0] != 0, need(shmctl(id, IPC_RMID, NULL) == 0, "IPC_RMID");
        at[me * 8] = me * 1000 + round;
        if (round % 3 == 0) sched_yield();
        wrong += read[me * 8] != me * 1000 + round;
        if (read != at) need(shmdt((void *)read) == 0, "shmdt");
        need(shmdt((void *)at) == 0, "shmdt");
    }
    return (void *)wrong;
}
static void *allocates(void *number) {
    enum { BLOCKS = 32 };
    unsigned char *blocks[BLOCKS] = {0};
    size_t sizes[BLOCKS] = {0};
    long me = (intptr_t)number + 1, wrong = 0;
    unsigned seed = (unsigned)me * 7919;
    for (int round = 0; round < 400; round++) {
        seed = seed * 1103515245 + 12345;
        int b = seed >> 16 & (BLOCKS - 1);
        for (size_t i = 0; i < sizes[b]; i += 97) wrong += blocks[b][i] != (unsigned char)(me * 32 + b);
        free(blocks[b]);
        sizes[b] = (seed >> 8) % (round % 50 == 0 ? 300000 : 3000) + 1;
        need((blocks[b] = malloc(sizes[b])) != NULL, "malloc");
        memset(blocks[b], (unsigned char)(me * 32 + b), sizes[b]);
    }
    for (int b = 0; b < BLOCKS; b++) free(blocks[b]);
    return (void *)wrong;
}
static void each(const char *name, void *(*what)(void *)) {
    pthread_t threads[THREADS];
    long wrong = 0;
    for (intptr_t i = 0; i < THREADS; i++) started(&threads[i], what, (void *)i);
    for (int i = 0; i < THREADS; i++) wrong += (long)joined(threads[i]);
    printf("%s: %ld wrong\n", name, wrong);
}

/* --- attaches are the process's --- */

static void *attaches_for_all(void *id) { return attached((int)(intptr_t)id, NULL, 0); }
static void *reads_first(void *at) { return (void *)(intptr_t) * (volatile char *)at; }
static void *detaches(void *at) { return (void *)(intptr_t)shmdt(at); }
static void of_the_process(void) {
    pthread_t thread;
    int id = made(IPC_PRIVATE, PAGE, 0600);
    started(&thread, attaches_for_all, (void *)(intptr_t)id);
    char *at = joined(thread);
    attaches("by a thread that is gone", id);
    at[0] = 42;
    started(&thread, reads_first, at);
    says_value("another reads", (long)joined(thread));
    struct shmid_ds s = stat_of(id);
    printf("last by %s, made by %s\n", who(s.shm_lpid), who(s.shm_cpid));
    started(&thread, detaches, at);
    says_value("another detaches", (long)joined(thread));
    attaches("then", id);
    printf("it is gone: %s\n", load(at));
    removed(id);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    taking_away(argc > 1 ? atoi(argv[1]) : 1);
    forking();
    at_once("pages touched first by several at once", 0);
    at_once("shared ones", 1);
    at_once("ones that a child has as well", 2);
    each("mapping", maps);
    common = made(IPC_PRIVATE, 2 * PAGE, 0600);
    each("attaching", attaches_and_detaches);
    attaches("in the end", common);
    removed(common);
    each("allocating", allocates);
    of_the_process();
    return 0;
}
