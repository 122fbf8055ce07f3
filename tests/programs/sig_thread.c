/* Signals and threads: to one of them, to whoever takes it, masks of their own, cancellation, faults in many at once. */
#include "sig.h"
#include <pthread.h>
#include <semaphore.h>

static pid_t own_id(void) { return (pid_t)syscall(SYS_gettid); }
static void to_thread(pid_t id, int number) { need(syscall(SYS_tgkill, getpid(), id, number) == 0, "tgkill"); }

static _Atomic pid_t handled_by;
static _Atomic int handled;
static void note(int number) { (void)number; atomic_store(&handled_by, own_id()), atomic_fetch_add(&handled, 1); }

struct thread { pthread_t handle; _Atomic pid_t id; _Atomic int go, over; int number; long result; void (*work)(struct thread *); };
static void *begin(void *argument) {
    struct thread *thread = argument;
    atomic_store(&thread->id, own_id());
    thread->work(thread);
    return NULL;
}
static void start(struct thread *thread, void (*work)(struct thread *)) {
    memset(thread, 0, sizeof *thread);
    thread->work = work;
    need(pthread_create(&thread->handle, NULL, begin, thread) == 0, "pthread_create");
    while (!atomic_load(&thread->id)) nap(200);
}
static void join(struct thread *thread) { need(pthread_join(thread->handle, NULL) == 0, "pthread_join"); }

static void waits(struct thread *thread) { while (!atomic_load(&thread->over)) nap(500); }
static void spins(struct thread *thread) { while (!atomic_load(&thread->over)); }
static void waits_blocked(struct thread *thread) { block(SIGUSR1); atomic_store(&thread->go, 1); waits(thread); unblock(SIGUSR1); }
static void waits_open(struct thread *thread) { unblock(SIGUSR1); atomic_store(&thread->go, 1); waits(thread); }

static void who_gets_it(void) {
    struct thread a, b;
    act(SIGUSR1, note, 0);
    start(&a, waits), start(&b, spins);
    int right = 1;
    for (int i = 0; i < 20; i++) {
        pid_t target = i % 3 == 0 ? own_id() : i % 3 == 1 ? a.id : b.id;
        int before = handled;
        to_thread(target, SIGUSR1);
        while (handled == before) nap(200);
        right &= handled_by == target;
    }
    holds("a signal to a thread is handled by that thread", right);
    says("to a thread of another process", syscall(SYS_tgkill, getppid(), a.id, SIGUSR1));
    says("as if it were a process", syscall(SYS_tgkill, a.id, a.id, SIGUSR1));
    says("signal 0 to a thread", syscall(SYS_tgkill, getpid(), a.id, 0));
    says("tkill", syscall(SYS_tkill, a.id, 0));
    says("kill by a thread's number", kill(a.id, 0));
    atomic_store(&a.over, 1), atomic_store(&b.over, 1);
    join(&a), join(&b);
    says("to a thread that has ended", syscall(SYS_tgkill, getpid(), a.id, 0));

    /* To the process: who does not block it. */
    handled = 0;
    start(&a, waits_blocked), start(&b, waits_open);
    while (!a.go || !b.go) nap(200);
    block(SIGUSR1);
    right = 1;
    for (int i = 0; i < 20; i++) {
        int before = handled;
        send_self(SIGUSR1);
        while (handled == before) nap(200);
        right &= handled_by == b.id;
    }
    holds("a signal to the process is handled by who does not block it", right);
    atomic_store(&b.over, 1), join(&b);
    handled = 0;
    send_self(SIGUSR1);
    says_value("blocked by all: pending", is_pending(SIGUSR1));
    says_value("handled", handled);
    /* A thread that comes later, or opens, takes it. */
    start(&b, waits_open);
    while (!handled) nap(200);
    holds("a thread that unblocks it takes it", handled_by == b.id);
    send_self(SIGUSR1);
    while (handled < 2) nap(200);
    holds("and the next one", handled_by == b.id);
    /* One that is about to take it ends: another one does. */
    atomic_store(&b.over, 1), join(&b);
    send_self(SIGUSR1);
    atomic_store(&a.over, 1), join(&a);
    while (handled < 3) nap(200);
    holds("the last one that opens takes it", handled_by == a.id);
    unblock(SIGUSR1);
}

static void looks_inside(struct thread *thread) {
    stack_t stack;
    sigset_t pending;
    sigaltstack(NULL, &stack), sigpending(&pending);
    printf("a new thread: SIGUSR2 blocked %d, SIGHUP blocked %d, pending SIGUSR2 %d, stack flags %d\n", is_blocked(SIGUSR2), is_blocked(SIGHUP), sigismember(&pending, SIGUSR2), stack.ss_flags & 2);
    to_thread(own_id(), SIGUSR2);
    printf("its own: pending %d\n", is_pending(SIGUSR2));
    (void)thread;
}
static char some_stack[64 << 10];
static void inheritance(void) {
    struct thread a;
    stack_t stack = {.ss_sp = some_stack, .ss_size = sizeof some_stack};
    need(sigaltstack(&stack, NULL) == 0, "sigaltstack");
    act(SIGUSR2, note, 0);
    block(SIGUSR2);
    to_thread(own_id(), SIGUSR2);
    start(&a, looks_inside);
    join(&a);
    says_value("what was pending for a thread that has ended is gone; for this one it is there", is_pending(SIGUSR2));
    handled = 0;
    unblock(SIGUSR2);
    says_value("and comes once", handled);
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, NULL);
}

static void sigwaits(struct thread *thread) {
    sigset_t set = set_of(2, RT(0), RT(1));
    siginfo_t info;
    for (int i = 0; i < 50; i++) {
        int number = syscall(SYS_rt_sigtimedwait, &set, &info, NULL, 8);
        if (number == RT(0)) thread->result += info.si_value.sival_int;
        else i--;
        atomic_fetch_add(&thread->go, 1);
    }
}
static void waiting_thread(void) {
    struct thread a, b;
    block(RT(0)), block(RT(1));
    start(&a, sigwaits), start(&b, sigwaits);
    for (int i = 0; i < 100; i++) need(queue_to(getpid(), RT(0), i) == 0, "sigqueue");
    join(&a), join(&b);
    says_value("two threads that wait share what is sent to the process", a.result + b.result);
    unblock(RT(0)), unblock(RT(1));
}

/* Cancellation, by whatever signal the C library uses for it. */
static _Atomic int cleaned;
static void clean(void *argument) { (void)argument; atomic_fetch_add(&cleaned, 1); }
static sem_t semaphore;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int way;
static void cancelled(struct thread *thread) {
    pthread_cleanup_push(clean, NULL);
    atomic_store(&thread->go, 1);
    switch (way) {
    case 0: for (;;) pause(); break;
    case 1: for (;;) nanosleep(&(struct timespec){1000, 0}, NULL); break;
    case 2: for (;;) sem_wait(&semaphore); break;
    case 3: pthread_mutex_lock(&mutex); for (;;) pthread_cond_wait(&condition, &mutex); break;
    case 4: for (;;) pthread_testcancel(), sched_yield(); break;
    case 5: pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL); for (;;); break;
    case 6: {
        sigset_t set = set_of(1, SIGUSR2);
        int number;
        for (;;) sigwait(&set, &number);
        break;
    }
    case 7: for (;;) sigsuspend(&(sigset_t){0}); break;
    }
    pthread_cleanup_pop(0);
}
static void cancelling(void) {
    static const char *const names[] = {"pause", "nanosleep", "sem_wait", "pthread_cond_wait", "pthread_testcancel", "a loop, asynchronously", "sigwait", "sigsuspend"};
    sem_init(&semaphore, 0, 0);
    for (way = 0; way < 8; way++)
        for (int early = 0; early < 2; early++) {
            struct thread a;
            void *result;
            cleaned = 0;
            start(&a, cancelled);
            if (!early) {
                while (!a.go) nap(200);
                nap(10000);
            }
            need(pthread_cancel(a.handle) == 0, "pthread_cancel");
            need(pthread_join(a.handle, &result) == 0, "pthread_join");
            /* One that was cancelled before it began may not have come so far as to clean up. */
            printf("cancelled in %s: %d, cleaned up %d\n", names[way], result == PTHREAD_CANCELED, early || cleaned == 1);
            if (way == 3) pthread_mutex_unlock(&mutex), pthread_mutex_init(&mutex, NULL);
        }
}

/* Semaphores and signals. */
static pid_t main_id;
static void pesters(struct thread *thread) { while (!atomic_load(&thread->over)) to_thread(main_id, SIGUSR1), nap(2000); }
static void posts_late(struct thread *thread) {
    while (handled < 5) nap(500);
    sem_post(&semaphore);
    (void)thread;
}
static void semaphores(void) {
    struct thread a, b;
    struct timespec until;
    main_id = own_id();
    act(SIGUSR1, note, 0);
    start(&a, pesters);
    says("sem_wait, interrupted", sem_wait(&semaphore));
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1000;
    says("sem_timedwait, interrupted", sem_timedwait(&semaphore, &until));
    act(SIGUSR1, note, SA_RESTART);
    handled = 0;
    start(&b, posts_late);
    says("sem_wait, SA_RESTART", sem_wait(&semaphore));
    holds("handled meanwhile", handled >= 5);
    join(&b);
    atomic_store(&a.over, 1), join(&a);
}

/* Faults in several threads, each with a stack of its own for them. */
static _Thread_local sigjmp_buf back;
static _Thread_local unsigned long expected, wrong;
static void leaves(int number, siginfo_t *info, void *context) {
    (void)context;
    wrong += number != SIGSEGV || (unsigned long)info->si_addr != expected;
    siglongjmp(back, 1);
}
static char *shared_page;
static void faults(struct thread *thread) {
    stack_t stack = {.ss_sp = malloc(64 << 10), .ss_size = 64 << 10};
    need(sigaltstack(&stack, NULL) == 0, "sigaltstack");
    for (volatile long i = 0; i < 100; i++) {
        expected = (unsigned long)shared_page + (i * 40 + 8 * (own_id() & 3)) % PAGE;
        if (sigsetjmp(back, 1) == 0) *(volatile char *)expected = 1;
        else thread->result++;
    }
    thread->result -= 1000 * (long)wrong;
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, NULL);
}
static void many_faults(void) {
    struct thread threads[4];
    long sum = 0;
    shared_page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    act_info(SIGSEGV, leaves, SA_ONSTACK);
    for (int i = 0; i < 4; i++) start(&threads[i], faults);
    for (int i = 0; i < 4; i++) join(&threads[i]), sum += threads[i].result;
    says_value("faults of four threads, each told its own address", sum);
    act(SIGSEGV, SIG_DFL, 0);
}

/* Everyone sends to everyone: nothing that queues up is lost. */
enum { CROWD = 6, SHOTS = 100 };
static struct thread crowd[CROWD];
static _Atomic long hits, sum_of_hits;
static _Atomic int ready, done;
static void hit(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    atomic_fetch_add(&hits, 1), atomic_fetch_add(&sum_of_hits, info->si_value.sival_int);
}
static void shoots(struct thread *thread) {
    atomic_fetch_add(&ready, 1);
    while (ready < CROWD) sched_yield();
    for (int i = 0; i < SHOTS; i++) {
        siginfo_t info = {.si_code = SI_QUEUE};
        info.si_value.sival_int = i;
        pid_t target = crowd[(thread - crowd + i) % CROWD].id;
        while (syscall(SYS_rt_tgsigqueueinfo, getpid(), target, RT(4), &info)) need(errno == EAGAIN, "EAGAIN"), sched_yield();
    }
    atomic_fetch_add(&done, 1);
    while (done < CROWD) sched_yield();
}
static void crossfire(void) {
    act_info(RT(4), hit, SA_RESTART);
    for (int i = 0; i < CROWD; i++) start(&crowd[i], shoots);
    for (int i = 0; i < CROWD; i++) join(&crowd[i]);
    printf("hits %ld sum %ld\n", (long)hits, (long)sum_of_hits);
}

/* The end of all, brought about by one. */
static void faults_once(struct thread *thread) { (void)thread; nap(5000); *(volatile char *)0 = 1; }
static void raises(struct thread *thread) { (void)thread; nap(5000); raise(SIGTERM); }
static void kills(struct thread *thread) { (void)thread; nap(5000); to_thread(own_id(), SIGKILL); }
static void aborts(struct thread *thread) { (void)thread; nap(5000); abort(); }
static void ends(void) {
    static void (*const ways[])(struct thread *) = {faults_once, raises, kills, aborts};
    static const char *const names[] = {"a fault in a thread", "SIGTERM to a thread", "SIGKILL to a thread", "abort in a thread"};
    for (int i = 0; i < 4; i++)
        IN_CHILD(names[i]) {
            struct thread threads[3];
            start(&threads[0], spins), start(&threads[1], waits), start(&threads[2], ways[i]);
            for (;;) pause();
        }
    IN_CHILD("SIGTERM to a process whose threads all wait") {
        struct thread threads[3];
        for (int i = 0; i < 3; i++) start(&threads[i], waits);
        pid_t parent = getpid();
        if (fork() == 0) nap(10000), kill(parent, SIGTERM), _exit(0);
        for (;;) pause();
    }
    IN_CHILD("SIGTERM when the first thread has ended") {
        struct thread a;
        start(&a, waits);
        pid_t parent = getpid();
        if (fork() == 0) nap(10000), kill(parent, SIGTERM), _exit(0);
        pthread_exit(NULL);
    }
    IN_CHILD("an alarm in a crowd") {
        struct thread threads[3];
        for (int i = 0; i < 3; i++) start(&threads[i], spins);
        struct itimerval timer = {{0, 0}, {0, 20000}};
        setitimer(ITIMER_REAL, &timer, NULL);
        for (;;) pause();
    }
    IN_CHILD("an alarm handled in a crowd") {
        struct thread threads[3];
        act(SIGALRM, note, 0);
        for (int i = 0; i < 3; i++) start(&threads[i], spins);
        handled = 0;
        struct itimerval timer = {{0, 0}, {0, 20000}};
        setitimer(ITIMER_REAL, &timer, NULL);
        while (!handled) nap(1000);
        says_value("handled once", handled);
    }
}

int main(void) {
    who_gets_it();
    inheritance();
    waiting_thread();
    cancelling();
    semaphores();
    many_faults();
    crossfire();
    ends();
    return 0;
}
