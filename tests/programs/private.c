/* What is not shared is not seen: globals, heap, stack, private segments, segments with other keys, and what lies next to
 * a segment. */
#include "common.h"

static volatile int global;

int main(void) {
    struct meeting *meeting = attached(segment_of_all(0x9a1, PAGE), NULL, 0);
    int own = shmget(IPC_PRIVATE, PAGE, 0600), keyed = shmget(0x9b00 + rank(), PAGE, IPC_CREAT | IPC_EXCL | 0600);
    need(own >= 0 && keyed >= 0, "segments of my own");
    volatile int *fixed = mmap((void *)0x300000000000, PAGE, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    volatile int *heap = malloc(sizeof *heap), stack = 0;
    volatile int *a = attached(own, (void *)0x310000000000, 0), *b = attached(keyed, (void *)0x320000000000, 0);
    int mine = 1000 + rank();
    meet(meeting);
    global = *heap = stack = *fixed = *a = *b = mine;
    meet(meeting);
    nap(1000);
    holds("the global is mine", global == mine);
    holds("the heap is mine", *heap == mine);
    holds("the stack is mine", stack == mine);
    holds("a mapping at everyone's address is mine", *fixed == mine);
    holds("a private segment at everyone's address is mine", *a == mine);
    holds("a segment of my own key at everyone's address is mine", *b == mine);
    holds("the rest of my segments is empty", a[1] == 0 && b[1] == 0 && a[PAGE / 4 - 1] == 0 && b[PAGE / 4 - 1] == 0);
    says("after a segment is nothing", syscall(SYS_rt_sigprocmask, SIG_BLOCK, (char *)b + PAGE, NULL, 8UL));
    says("before it is nothing", syscall(SYS_rt_sigprocmask, SIG_BLOCK, (char *)b - 8, NULL, 8UL));
    meet(meeting);
    shmctl(own, IPC_RMID, NULL);
    shmctl(keyed, IPC_RMID, NULL);
    if (rank() == 0) shmctl(shmget(0x9a1, 0, 0), IPC_RMID, NULL);
    return 0;
}
