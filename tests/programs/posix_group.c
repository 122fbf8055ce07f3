/* Several copies with files in /dev/shm in common, processes of one guest or of several: each prints what it sees of what
 * the others do. They meet in an object of their own. */
#include "posix.h"

static struct meeting *table;
static int me, all;

static void step(void) { meet(table); }
/* One copy does it while the others wait. */
#define BY(who) for (int once = (step(), me == (who) % all); once; once = 0)

static const char *touch(volatile char *address, int writes) { return writes ? store((char *)address) : load(address); }

int main(int argc, char **argv) {
    prefix = argv[1];
    me = rank(), all = copies();
    umask(022);
    int fd = opened("table", O_RDWR | O_CREAT, 0600);
    sized(fd, PAGE);
    table = (void *)mapped(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    close(fd);
    step();

    /* One makes it, all open it; who opened first is open. */
    fd = -1;
    BY(0) fd = opened("o", O_RDWR | O_CREAT | O_EXCL, 0640);
    step();
    if (fd < 0) {
        says("make it again", shm_open(named("o"), O_RDWR | O_CREAT | O_EXCL, 0640));
        fd = opened("o", O_RDWR, 0);
    } else says("make it again", shm_open(named("o"), O_RDWR | O_CREAT | O_EXCL, 0640));
    fd_facts("o", fd);
    ours("names");
    char *p = mapped(fd, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    step();
    printf("nothing there: %s\n", load(p));
    /* It grows: all see it, without being told. */
    BY(1) sized(fd, 2 * PAGE), strcpy(p + PAGE, "from one");
    step();
    printf("%s, %ld, %s\n", p + PAGE, size_of(fd), load(p + 2 * PAGE));
    BY(2) need(pwrite(fd, "written", 8, 2 * PAGE + 100) == 8, "pwrite");
    step();
    printf("%s, %ld\n", p + 2 * PAGE + 100, size_of(fd));
    char text[20] = "";
    need(pread(fd, text, 8, 2 * PAGE + 100) == 8, "pread");
    puts(text);
    /* Each adds; nothing is lost. */
    step();
    for (int i = 0; i < 2000; i++) atomic_fetch_add((_Atomic int *)p, 1);
    step();
    holds("all were counted", *(int *)p == 2000 * all);
    int append = open(path_of("o"), O_WRONLY | O_APPEND);
    need(append >= 0, "to append");
    for (int i = 0; i < 10; i++) need(write(append, "abc", 3) == 3, "append");
    close(append);
    step();
    holds("nor were appends", size_of(fd) == (long)(2 * PAGE + 108 + 30 * all));

    /* It shrinks under all: who touches what is gone gets SIGBUS; what comes back is zero. */
    for (int round = 0; round < 4; round++) {
        BY(round) sized(fd, 4 * PAGE);
        step();
        memset(p + 3 * PAGE, 7, PAGE), p[PAGE + 20] = 9;
        step();
        BY(round + 1) says("shrink", ftruncate(fd, PAGE + 10));
        step();
        printf("round %d: %s %s %s %d\n", round, touch(p + 3 * PAGE, round % 2), touch(p + 2 * PAGE, !(round % 2)), load(p + PAGE), p[PAGE + 20]);
        step();
        BY(round + 2) sized(fd, 4 * PAGE);
        step();
        int zero = 1;
        for (size_t i = 0; i < PAGE; i++) zero &= p[3 * PAGE + i] == 0;
        holds("zeros", zero && p[PAGE + 20] == 0);
    }
    /* All at once: the sizes are those that were asked for, and the pages there are follow. */
    step();
    for (int i = 0; i < 30; i++) {
        sized(fd, (off_t)((me + i) % 4 * PAGE));
        char byte;
        pread(fd, &byte, 1, 0);
    }
    step();
    BY(0) sized(fd, 4 * PAGE);
    step();
    p[3 * PAGE] = 1;
    step();

    /* Modes and names are the group's. */
    BY(1) says("chmod", fchmod(fd, 0600)), says("rename", rename(path_of("o"), path_of("q")));
    step();
    fd_facts("o", fd);
    says("the old name", shm_open(named("o"), O_RDWR, 0));
    BY(2) says("link", link(path_of("q"), path_of("r")));
    step();
    facts(path_of("r"));
    ours("names");
    step();
    BY(0) { shm_unlink(named("q")), shm_unlink(named("r")); }
    step();
    ours("unlinked");
    fd_facts("o", fd);
    BY(1) strcpy(p, "still");
    step();
    printf("%s there\n", p);
    step();
    close(fd);
    munmap(p, 4 * PAGE);

    /* Semaphores by name. */
    sem_t *turn[16], *done = sem_open(named("done"), O_CREAT, 0600, 0);
    for (int i = 0; i < all; i++) need((turn[i] = sem_open(named(form("turn%d", i)), O_CREAT, 0600, 0)) != SEM_FAILED, "sem_open");
    need(done != SEM_FAILED, "sem_open");
    step();
    ours("semaphores");
    step();
    if (me == 0) sem_post(turn[0]);
    for (int i = 0; i < 100; i++) {
        sem_wait(turn[me]);
        sem_post(turn[(me + 1) % all]);
    }
    if (me == 0) sem_wait(turn[0]);
    sem_post(done);
    if (me == 0) for (int i = 0; i < all; i++) sem_wait(done);
    step();
    int value;
    sem_getvalue(done, &value);
    says_value("done", value);
    if (me == 0) {
        sem_unlink(named("done"));
        for (int i = 0; i < all; i++) sem_unlink(named(form("turn%d", i)));
    }
    step();
    ours("none");
    sem_close(done);
    for (int i = 0; i < all; i++) sem_close(turn[i]);
    step();
    if (me == 0) shm_unlink(named("table"));
    return 0;
}
