/* Copies of guest 1 die while they hold files in /dev/shm, without names and with, a robust lock, and while they are to let
 * go of pages. (In a guest its kernel dies at the first getpid.) */
#include "posix.h"

struct table { struct meeting all, others; pthread_mutex_t lock; _Atomic int held, gone; };

/* Copies but those of guest 1. */
static void meet_others(struct meeting *meeting) {
    uint32_t count = (uint32_t)(copies() - procs()), mine = atomic_fetch_add(&meeting->arrived, 1);
    uint32_t target = (mine / count + 1) * count;
    while (atomic_load(&meeting->arrived) < target) nap(200);
}

int main(int argc, char **argv) {
    prefix = argv[1];
    int fd = opened("table", O_RDWR | O_CREAT, 0600);
    sized(fd, PAGE);
    struct table *table = (void *)mapped(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    close(fd);
    if (rank() == 0) {
        pthread_mutexattr_t attr;
        pthread_mutexattr_init(&attr);
        pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&table->lock, &attr);
    }
    fd = opened("file", O_RDWR | O_CREAT, 0600);
    meet(&table->all);
    if (rank() == 0) sized(fd, 64 * PAGE);
    meet(&table->all);
    char *p = mapped(fd, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    p[63 * PAGE] = 1;
    meet(&table->all);
    if (guest() == 1) {
        if (proc() == 0) {
            /* One with a name, which stays, and one without, which goes. */
            int left = opened("left", O_RDWR | O_CREAT, 0600), lost = opened("lost", O_RDWR | O_CREAT, 0600);
            sized(left, PAGE), sized(lost, PAGE);
            *mapped(left, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED) = 5;
            *mapped(lost, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED) = 6;
            shm_unlink(named("lost"));
            pthread_mutex_lock(&table->lock);
        }
        meet(&table->all);
        if (proc() == 0) {
            /* While it is to let go of pages, too. */
            for (int i = 0; i < 1000 && size_of(fd) == 64 * PAGE; i++) nap(100);
            syscall(SYS_getpid);
            kill(syscall(SYS_getpid), SIGKILL);
        }
        while (!table->gone) nap(1000);
        _exit(0);
    }
    meet(&table->all);
    if (rank() == 0) says("shrink", ftruncate(fd, PAGE));
    int error = pthread_mutex_lock(&table->lock);
    if (error == EOWNERDEAD) atomic_fetch_add(&table->gone, 1), pthread_mutex_consistent(&table->lock);
    pthread_mutex_unlock(&table->lock);
    meet_others(&table->others);
    printf("its owner died %d\n", table->gone);
    says_value("size", size_of(fd));
    printf("load: %s\n", load(p + 63 * PAGE));
    int left = opened("left", O_RDWR, 0);
    holds("what it left", *mapped(left, PAGE, PROT_READ, MAP_SHARED) == 5);
    says("what it lost", shm_open(named("lost"), O_RDWR, 0));
    meet_others(&table->others);
    ours("names");
    meet_others(&table->others);
    if (rank() == 0) {
        says("grow", ftruncate(fd, 8 * PAGE));
        shm_unlink(named("left")), shm_unlink(named("file")), shm_unlink(named("table"));
    }
    return 0;
}
