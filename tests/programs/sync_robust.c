/* Robust mutexes of every type: whoever comes after an owner that died is told.
 *   usage: sync_robust threads|private|forks (sync.h)
 * Owners die in all the ways that a worker of the mode can; all must look the same. */
#define WORKERS 40
#include "sync.h"

enum { LOCK, TRYLOCK, TIMEDLOCK, UNLOCK, CONSISTENT, WAIT, SIGNAL, SIGNAL_AND_DIE, ADD, DIE };
enum { ENDS, EXITS, IS_KILLED, FAULTS, BECOMES_ANOTHER, IS_ENDED_BY_A_THREAD, WAYS };
enum { COND = 40, SEVERAL = 20 };

static void *ending_thread(void *unused) {
    _exit(0);
    return unused;
}
static long die(long way) {
    if (forking) switch (way) {
        case EXITS: syscall(SYS_exit, 0); break;
        case IS_KILLED: kill(getpid(), SIGKILL); break;
        case FAULTS: *(volatile char *)16 = 1; break;
        case BECOMES_ANOTHER: execl("/proc/self/exe", "sync_robust", "another", NULL); break;
        case IS_ENDED_BY_A_THREAD: {
            pthread_t thread;
            need(pthread_create(&thread, NULL, ending_thread, NULL) == 0, "pthread_create");
            for (;;) pause();
        }
        default: _exit(0);
        }
    /* musl tells Linux of a thread's robust mutexes only if they are shared. */
    if (way == EXITS && shared) syscall(SYS_exit, 0);
    pthread_exit(NULL);
}

static long perform(int me, int what, int object, long argument) {
    pthread_mutex_t *mutex = &objects[object].mutex;
    pthread_cond_t *cond = &objects[COND].cond;
    struct timespec until = deadline(CLOCK_REALTIME, argument);
    int error;
    switch (what) {
    case LOCK: return pthread_mutex_lock(mutex);
    case TRYLOCK: return pthread_mutex_trylock(mutex);
    case TIMEDLOCK: return on_time(CLOCK_REALTIME, &until, pthread_mutex_timedlock(mutex, &until));
    case UNLOCK: return pthread_mutex_unlock(mutex);
    case CONSISTENT: return pthread_mutex_consistent(mutex);
    case WAIT:
        if ((error = pthread_mutex_lock(mutex))) return error;
        arena->plain[object]++;
        /* Nobody signals but when its owner dies; the answer is the mutex's. */
        return pthread_cond_wait(cond, mutex);
    case SIGNAL_AND_DIE:
        if ((error = pthread_mutex_lock(mutex))) return error;
        pthread_cond_signal(cond);
        die(ENDS);
    case ADD:
        for (long i = 0; i < argument; i++) {
            if ((error = pthread_mutex_lock(mutex))) return error;
            arena->plain[object]++;
            if ((error = pthread_mutex_unlock(mutex))) return error;
        }
        return 0;
    case DIE: die(argument);
    }
    return ENOSYS;
}

static void new_mutex(int object, int type) {
    pthread_mutexattr_t attributes;
    need(pthread_mutexattr_init(&attributes) == 0, "pthread_mutexattr_init");
    need(pthread_mutexattr_settype(&attributes, type) == 0, "pthread_mutexattr_settype");
    need(pthread_mutexattr_setpshared(&attributes, shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE) == 0, "setpshared");
    need(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0, "pthread_mutexattr_setrobust");
    memset(&objects[object], 0, sizeof objects[object]);
    need(pthread_mutex_init(&objects[object].mutex, &attributes) == 0, "pthread_mutex_init");
}

static int next_victim = EMPLOYED;
static int victim(void) {
    hire(next_victim);
    return next_victim++;
}
/* The mutex was a dead one's: until then it is busy. */
static void told_by_trying(const char *name, int worker, int m) {
    long result;
    UNTIL((result = ask(worker, TRYLOCK, m, 0)) != EBUSY, "the owner's death");
    printf("%s %s\n", name, told(result));
}

static void of_any_type(int m, int type) {
    int v = victim();
    does("A locks", 0, LOCK, m, 0);
    does("A makes consistent what is", 0, CONSISTENT, m, 0);
    does("B tries", 1, TRYLOCK, m, 0);
    waits("the victim locks", v, LOCK, m, 0);
    does("A unlocks", 0, UNLOCK, m, 0);
    then("the victim has it", v);
    waits("B locks", 1, LOCK, m, 0);
    does("C tries for 20 ms", 2, TIMEDLOCK, m, 20);
    kills(v, DIE, m, ENDS);
    then("B has it", 1);
    does("C tries", 2, TRYLOCK, m, 0);
    waits("C locks", 2, LOCK, m, 0);
    does("B makes it consistent", 1, CONSISTENT, m, 0);
    does("B makes it consistent again", 1, CONSISTENT, m, 0);
    still("C", 2);
    does("B unlocks", 1, UNLOCK, m, 0);
    then("C has it", 2);
    does("C unlocks", 2, UNLOCK, m, 0);
    does("B makes consistent what it has not", 1, CONSISTENT, m, 0);

    printf("two die one after the other\n");
    int first = victim(), second = victim();
    does("the first locks", first, LOCK, m, 0);
    waits("the second locks", second, LOCK, m, 0);
    kills(first, DIE, m, EXITS);
    then("the second has it", second);
    waits("A locks", 0, TIMEDLOCK, m, FAR);
    kills(second, DIE, m, ENDS);
    then("A has it", 0);
    does("A makes it consistent", 0, CONSISTENT, m, 0);
    does("A unlocks", 0, UNLOCK, m, 0);

    if (type != PTHREAD_MUTEX_NORMAL) {
        does("A locks", 0, LOCK, m, 0);
        does("A locks again", 0, LOCK, m, 0);
        does("B unlocks what A has", 1, UNLOCK, m, 0);
        if (type == PTHREAD_MUTEX_RECURSIVE) does("A unlocks", 0, UNLOCK, m, 0);
        does("A unlocks", 0, UNLOCK, m, 0);
        does("A unlocks what it has not", 0, UNLOCK, m, 0);
    }
    if (type == PTHREAD_MUTEX_RECURSIVE) {
        v = victim();
        for (int i = 0; i < 3; i++) does("a victim locks", v, LOCK, m, 0);
        kills(v, DIE, m, ENDS);
        does("A locks", 0, LOCK, m, 0);
        does("A makes it consistent", 0, CONSISTENT, m, 0);
        does("A locks again", 0, LOCK, m, 0);
        for (int i = 0; i < 3; i++) does("A unlocks", 0, UNLOCK, m, 0);
    }
    all_do("all count together", ADD, m, 40);

    printf("nobody makes it consistent\n");
    v = victim();
    does("a victim locks", v, LOCK, m, 0);
    kills(v, DIE, m, ENDS);
    told_by_trying("B tries", 1, m);
    /* Only one: both libraries wake only one, and let the others sleep for ever. */
    waits("A locks", 0, LOCK, m, 0);
    does("B unlocks", 1, UNLOCK, m, 0);
    then("A", 0);
    does("C locks", 2, LOCK, m, 0);
    does("D locks", 3, LOCK, m, 0);
    does("D tries for 20 ms", 3, TIMEDLOCK, m, 20);
    does("D tries", 3, TRYLOCK, m, 0);
    printf("destroy %s\n", told(pthread_mutex_destroy(&objects[m].mutex)));
    new_mutex(m, type);
    does("made anew, D locks", 3, LOCK, m, 0);
    does("D unlocks", 3, UNLOCK, m, 0);
}

static void ways(int m) {
    new_mutex(m, PTHREAD_MUTEX_NORMAL);
    for (int way = 0; way < WAYS; way++) {
        int v = victim();
        does(form("a victim locks, way %d", way), v, LOCK, m, 0);
        waits("A waits", 0, LOCK, m, 0);
        kills(v, DIE, m, way);
        then("A", 0);
        does("A makes it consistent", 0, CONSISTENT, m, 0);
        does("A unlocks", 0, UNLOCK, m, 0);
    }
}

static void several(void) {
    for (int i = 0; i < SEVERAL; i++) new_mutex(10 + i, PTHREAD_MUTEX_NORMAL);
    int v = victim();
    for (int i = 0; i < SEVERAL; i++) need(ask(v, LOCK, 10 + i, 0) == 0, "the victim's locks");
    /* Out of their order, so that the list has been taken apart and joined. */
    for (int i = 0; i < SEVERAL; i += 3) need(ask(v, UNLOCK, 10 + i, 0) == 0, "the victim's unlocks");
    waits("A waits for one", 0, LOCK, 10 + 1, 0);
    waits("B waits for another", 1, LOCK, 10 + 4, 0);
    waits("C waits for the same", 2, LOCK, 10 + 4, 0);
    kills(v, DIE, 0, EXITS);
    then("A", 0);
    UNTIL(done(1) || done(2), "B or C to have it");
    int owner = done(1) ? 1 : 2, other = 3 - owner;
    then("the first of the two", owner);
    does("it makes it consistent", owner, CONSISTENT, 10 + 4, 0);
    does("and unlocks", owner, UNLOCK, 10 + 4, 0);
    then("the second", other);
    for (int i = 0; i < SEVERAL; i++) {
        if (i == 1 || i == 4) continue;
        printf("number %d: %s\n", i, told(ask(3, LOCK, 10 + i, 0)));
    }
}

static void with_a_condition(int m) {
    pthread_condattr_t attributes;
    need(pthread_condattr_init(&attributes) == 0, "pthread_condattr_init");
    need(pthread_condattr_setpshared(&attributes, shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE) == 0, "setpshared");
    need(pthread_cond_init(&objects[COND].cond, &attributes) == 0, "pthread_cond_init");
    new_mutex(m, PTHREAD_MUTEX_NORMAL);
    arena->plain[m] = 0;
    waits("A waits for a signal", 0, WAIT, m, 0);
    UNTIL(arena->plain[m] == 1, "A to be inside");
    int v = victim();
    kills(v, SIGNAL_AND_DIE, m, 0);
    then("A, signalled by one that died with the mutex", 0);
    does("A makes it consistent", 0, CONSISTENT, m, 0);
    does("A unlocks", 0, UNLOCK, m, 0);
    does("B locks", 1, LOCK, m, 0);
    does("B unlocks", 1, UNLOCK, m, 0);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "another") == 0) return 0;
    if (opened(argc, argv)) {
        static const char *const names[] = {"normal", "recursive", "error-checking"};
        static const int types[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK};
        for (int m = 0; m < 3; m++) {
            printf("--- %s\n", names[m]);
            new_mutex(m, types[m]);
            of_any_type(m, types[m]);
        }
        printf("--- ways to die\n");
        ways(4);
        printf("--- several at once\n");
        several();
        printf("--- with a condition variable\n");
        with_a_condition(5);
    }
    return closed();
}
