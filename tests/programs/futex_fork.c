/* futex words after fork: private memory is two words, shared anonymous memory and a segment are one. */
#include "common.h"
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <time.h>

/* As in linux/futex.h, which musl has not. */
enum { FUTEX_WAIT = 0, FUTEX_WAKE = 1, FUTEX_WAIT_PRIVATE = 128, FUTEX_WAKE_PRIVATE = 129 };

static int private_word;

static long wait_for(int *word, int operation) {
    struct timespec patience = {1, 0};
    return syscall(SYS_futex, word, operation, 0, &patience, NULL, 0);
}

static void between(const char *what, int *word, int operation_wait, int operation_wake) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        long r = wait_for(word, operation_wait);
        _exit(r == 0 ? 0 : errno == ETIMEDOUT ? 1 : 2);
    }
    /* The child may not wait yet: keep waking until someone was woken or the child has ended. */
    long woken = 0;
    int status;
    pid_t ended = 0;
    while (woken == 0 && ended == 0) {
        struct timespec nap = {0, 10000000};
        nanosleep(&nap, NULL);
        woken = syscall(SYS_futex, word, operation_wake, 1, NULL, NULL, 0);
        ended = waitpid(child, &status, WNOHANG);
    }
    need(ended == child || waitpid(child, &status, 0) == child, "waitpid");
    printf("%s: woken %ld, child %s\n", what, woken, WEXITSTATUS(status) == 0 ? "woken" : "timed out");
}

int main(void) {
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int id = shmget(IPC_PRIVATE, 4096, 0600);
    int *segment = shmat(id, NULL, 0);
    need(shared != MAP_FAILED && segment != (void *)-1, "memory");
    shmctl(id, IPC_RMID, NULL);
    between("private memory", &private_word, FUTEX_WAIT, FUTEX_WAKE);
    between("private memory, private calls", &private_word, FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE);
    between("shared anonymous memory", shared, FUTEX_WAIT, FUTEX_WAKE);
    between("shared anonymous memory, private calls", shared, FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE);
    between("a segment", segment, FUTEX_WAIT, FUTEX_WAKE);
    between("a segment, one side private", segment, FUTEX_WAIT_PRIVATE, FUTEX_WAKE);
    return 0;
}
