/* Robust lists by the raw system calls, without a C library's locks: whoever dies, by whichever way, with locks in a
 * segment leaves them marked, and somebody who waits is woken. Copies take turns: one of them sends children to their
 * deaths, the last one inherits. */
#include "conf.h"
#include "futex.h"
#include <stddef.h>

struct lock { struct lock *next; word word; uint32_t private; };
struct head { struct lock *list; long offset; struct lock *pending; };
enum { LOCKS = 8, KEY = 0x20b };
struct shared {
    struct meeting meeting;
    struct lock locks[LOCKS];
    word told, child;
    struct lock many[3000];
};
static struct shared *s;
static char *read_only;
static int me, last;
#define OFFSET ((long)offsetof(struct lock, word))

static struct head head;
static void list_is(int count, struct lock *const *locks) {
    head.offset = OFFSET;
    head.list = count ? locks[0] : (struct lock *)&head;
    for (int i = 0; i < count; i++) locks[i]->next = i + 1 < count ? locks[i + 1] : (struct lock *)&head;
    need(syscall(SYS_set_robust_list, &head, sizeof head) == 0, "set_robust_list");
}
static uint32_t self(void) { return (uint32_t)syscall(SYS_gettid); }

/* What the child does before it dies, by number; each says what it expects to be found. */
static void prepare(int how) {
    struct lock *const l = s->locks;
    static struct lock mine;
    switch (how) {
    case 0: /* one lock, somebody waits */
        l[0].word = self() | FUTEX_WAITERS;
        list_is(1, (struct lock *[]){&l[0]});
        break;
    case 1: /* one lock that nobody waits for, so nobody is woken */
        l[0].word = self();
        list_is(1, (struct lock *[]){&l[0]});
        break;
    case 2: /* several, of which some are not the child's */
        l[0].word = self() | FUTEX_WAITERS, l[1].word = 4711 | FUTEX_WAITERS, l[2].word = 0, l[3].word = FUTEX_OWNER_DIED | self();
        l[4].word = FUTEX_WAITERS, l[5].word = self();
        list_is(6, (struct lock *[]){&l[5], &l[1], &l[2], &l[4], &l[3], &l[0]});
        break;
    case 3: /* a private one among them */
        l[0].word = self() | FUTEX_WAITERS, mine.word = self() | FUTEX_WAITERS, l[1].word = self();
        list_is(3, (struct lock *[]){&l[1], &mine, &l[0]});
        break;
    case 4: /* about to take the lock: it has it, but it is not in the list yet */
        l[0].word = self() | FUTEX_WAITERS, l[1].word = self();
        list_is(1, (struct lock *[]){&l[1]});
        head.pending = &l[0];
        break;
    case 5: /* about to give it back: free, but those who wait have not been woken */
        l[0].word = 0;
        list_is(0, NULL);
        head.pending = &l[0];
        break;
    case 6: /* pending, and somebody else's by now */
        l[0].word = 4711 | FUTEX_WAITERS;
        list_is(0, NULL);
        head.pending = &l[0];
        break;
    case 7: /* pending and in the list: dealt with once */
        l[0].word = self() | FUTEX_WAITERS, l[1].word = self();
        list_is(2, (struct lock *[]){&l[0], &l[1]});
        head.pending = &l[0];
        break;
    case 8: /* a list without an end */
        l[0].word = self() | FUTEX_WAITERS, l[1].word = self();
        list_is(2, (struct lock *[]){&l[1], &l[0]});
        l[0].next = &l[1];
        break;
    case 9: /* an entry that leads nowhere: what comes before is dealt with */
        l[0].word = self() | FUTEX_WAITERS, l[1].word = self();
        list_is(2, (struct lock *[]){&l[0], &l[1]});
        l[0].next = (struct lock *)16;
        break;
    case 10: /* the first entry's word is at a crooked address */
        l[0].word = self() | FUTEX_WAITERS;
        list_is(1, (struct lock *[]){&l[0]});
        head.offset += 2;
        break;
    case 11: /* a lock that is only attached read-only can't be marked, and nothing after it is */
        l[0].word = self() | FUTEX_WAITERS, l[1].word = self(), l[2].word = self();
        list_is(2, (struct lock *[]){&l[1], &l[0]});
        head.list = (struct lock *)(read_only + ((char *)&l[1] - (char *)s));
        break;
    case 12: /* with priority inheritance: marked, but nobody is woken */
        l[0].word = self() | FUTEX_WAITERS, l[1].word = self() | FUTEX_WAITERS;
        list_is(2, (struct lock *[]){&l[0], &l[1]});
        head.list = (struct lock *)((char *)head.list + 1);
        break;
    case 13: /* the head is nowhere */
        l[0].word = self() | FUTEX_WAITERS;
        need(syscall(SYS_set_robust_list, 16, sizeof head) == 0, "set_robust_list");
        break;
    case 14: /* the list was taken back */
        l[0].word = self() | FUTEX_WAITERS;
        list_is(1, (struct lock *[]){&l[0]});
        need(syscall(SYS_set_robust_list, NULL, sizeof head) == 0, "set_robust_list");
        break;
    case 15: /* more than 2048 */
        for (int i = 0; i < 3000; i++) s->many[i].word = self(), s->many[i].next = i < 2999 ? &s->many[i + 1] : (struct lock *)&head;
        l[0].word = self() | FUTEX_WAITERS;
        list_is(1, (struct lock *[]){&l[0]});
        l[0].next = &s->many[0];
        break;
    }
}
enum { PREPARATIONS = 16 };

static void die(const char *how) {
    if (!strcmp(how, "exit")) syscall(SYS_exit, 0);
    if (!strcmp(how, "exit_group")) _exit(0);
    if (!strcmp(how, "kill")) kill(getpid(), SIGKILL);
    if (!strcmp(how, "fault")) *(volatile int *)16 = 1;
    if (!strcmp(how, "exec")) execl("/proc/self/exe", "robust", "nothing", NULL);
    if (!strcmp(how, "wait")) {
        static word never;
        futex_wait(&never, 0);
    }
    if (!strcmp(how, "wait shared")) futex_wait(&s->locks[LOCKS - 1].word, 0);
    /* The whole guest at once, if it was started so; else as above. */
    if (!strcmp(how, "panic")) {
        syscall(SYS_getpid);
        kill((pid_t)self(), SIGKILL);
    }
    need(0, "a death");
}

static void show(const char *name, uint32_t value) {
    uint32_t owner = value & FUTEX_TID_MASK;
    printf("%s:%s%s %s\n", name, value & FUTEX_WAITERS ? " waited for" : "", value & FUTEX_OWNER_DIED ? " owner died" : "",
           owner == 0 ? "free" : owner == s->child ? "the child's" : owner == 4711 ? "another's" : "a stranger's");
}

static void show_all(int how) {
    char name[] = "lock 0";
    for (int i = 0; i < LOCKS - 1; i++) name[5] = (char)('0' + i), show(name, s->locks[i].word);
    if (how == 15) {
        int died = 0;
        for (int i = 0; i < 3000; i++) died += s->many[i].word == FUTEX_OWNER_DIED;
        printf("of many %d\n", died);
    }
}

/* Locks are set up, somebody waits for the first one, the owner dies. */
static void death_of(int how, const char *end) {
    prepare(how);
    s->child = self();
    tell(&s->told, 1);
    until_waiters(&s->locks[0].word, 1);
    die(end);
}

/* The first copy's child dies; the last copy waits. */
static void child_dies(int how, const char *end) {
    fflush(stdout);
    gather(&s->meeting);
    memset((void *)s->locks, 0, sizeof s->locks);
    s->told = s->child = 0;
    gather(&s->meeting);
    if (me == 0) {
        pid_t child = fork();
        need(child >= 0, "fork");
        if (child == 0) death_of(how, end);
        if (!strncmp(end, "wait", 4)) {
            /* It waits for ever; it is killed in its wait. */
            if (!strcmp(end, "wait shared")) until_waiters(&s->locks[LOCKS - 1].word, 1);
            until_waiters(&s->locks[0].word, 1);
            nap(2000);
            kill(child, SIGKILL);
        }
        need(waitpid(child, NULL, 0) == child, "waitpid");
        printf("%d, %s: still waiting: %ld, of the dead %ld\n", how, end, waiters(&s->locks[0].word), waiters(&s->locks[LOCKS - 1].word));
        show_all(how);
        futex_wake(&s->locks[0].word, INT32_MAX);
    }
    if (me == last) {
        until(&s->told, 1);
        says("waited", futex_wait(&s->locks[0].word, s->locks[0].word));
    }
}

/* The second copy dies itself, and with it, perhaps, its guest. */
static void copy_dies(int how) {
    if (me == 1) death_of(how, "panic");
    until(&s->told, 1);
    says("waited", futex_wait(&s->locks[0].word, s->locks[0].word));
    /* The dead have let go of their locks before they let go of the segment. */
    while (nattch(shmget(KEY, 0, 0)) != 2) nap(500);
    show_all(how);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "nothing")) return 0;
    me = rank(), last = copies() - 1;
    need(copies() > 1, "two copies");
    int id = segment_of_all(KEY, sizeof *s);
    s = attached(id, NULL, 0);
    read_only = attached(id, NULL, SHM_RDONLY);
    gather(&s->meeting);
    if (argc > 1) {
        copy_dies(atoi(argv[1]));
    } else {
        static const char *const ends[] = {"exit", "exit_group", "kill", "fault", "exec", "wait", "wait shared"};
        for (int how = 0; how < PREPARATIONS; how++) child_dies(how, ends[how % 7]);
        for (int i = 0; i < 7; i++) child_dies(0, ends[i]), child_dies(4, ends[i]);
        gather(&s->meeting);
    }
    if (me == 0) removed(id);
    return 0;
}
