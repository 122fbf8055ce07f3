/* Copy 0 ends without tidying up: what the others see of that. How it ends is the argument: return, kill, or
 * thread (the first thread ends first). */
#include "common.h"
#include <pthread.h>

struct control {
    struct meeting meeting;
    pthread_mutex_t robust;
    _Atomic int id, pid;
};

static struct control *control;
static void *last_thread(void *how) {
    nap(20000);
    exit(3);
    return how;
}

static int leave(const char *how) {
    int id = shmget(IPC_PRIVATE, 3 * PAGE, 0600);
    char *p = attached(id, NULL, 0);
    p[PAGE] = 'x', attached(id, NULL, SHM_RDONLY);
    /* One more fragment. */
    need(mprotect(p + PAGE, PAGE, PROT_READ) == 0, "mprotect");
    int fd = shm_open("/leaver", O_CREAT | O_RDWR, 0600);
    need(fd >= 0 && ftruncate(fd, 2 * PAGE) == 0, "a file");
    char *q = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    need(q != MAP_FAILED, "mmap"), q[0] = 'y';
    int nameless = shm_open("/leaver.gone", O_CREAT | O_RDWR, 0600);
    need(nameless >= 0 && ftruncate(nameless, PAGE) == 0 && shm_unlink("/leaver.gone") == 0, "a file without a name");
    need(pthread_mutex_lock(&control->robust) == 0, "lock");
    control->id = id, control->pid = getpid();
    meet(&control->meeting);
    if (!strcmp(how, "kill")) raise(SIGKILL);
    if (!strcmp(how, "thread")) {
        pthread_t thread;
        need(pthread_create(&thread, NULL, last_thread, NULL) == 0, "a thread");
        pthread_exit(NULL);
    }
    return 3;
}

static int stay(void) {
    meet(&control->meeting);
    int id = control->id;
    int error = pthread_mutex_lock(&control->robust);
    says_value("its robust mutex says EOWNERDEAD", error == EOWNERDEAD);
    struct shmid_ds state;
    while (nattch(id) > 0) nap(1000);
    need(shmctl(id, IPC_STAT, &state) == 0, "IPC_STAT");
    holds("it was the last to use its segment", state.shm_lpid == control->pid);
    holds("and when is known", state.shm_dtime > 0);
    char *p = attached(id, NULL, 0);
    printf("it wrote %c\n", p[PAGE]);
    int fd = shm_open("/leaver", O_RDWR, 0);
    char *q = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    need(fd >= 0 && q != MAP_FAILED, "its file");
    printf("and %c\n", q[0]);
    says("remove", shmctl(id, IPC_RMID, NULL));
    says("unlink", shm_unlink("/leaver"));
    return 0;
}

int main(int argc, char **argv) {
    int common = segment_of_all(0x1eaf, sizeof *control);
    control = attached(common, NULL, 0);
    if (rank() == 0) {
        pthread_mutexattr_t attributes;
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
        need(pthread_mutex_init(&control->robust, &attributes) == 0, "a mutex");
        need(argc == 2, "how to end");
        return leave(argv[1]);
    }
    int status = stay();
    shmctl(common, IPC_RMID, NULL);
    return status;
}
