/* The ways a process can be ended for what it did to a segment. The first argument names one. */
#include "common.h"

static void go_to_cpu(int cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    need(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
    unsigned now;
    syscall(SYS_getcpu, &now, NULL, NULL);
    need((int)now == cpu, "to be there");
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    int id = shmget(IPC_PRIVATE, 2 * PAGE + 1, 0700);
    need(id >= 0, "shmget");
    static char save[512] __attribute__((aligned(64)));
    /* Far apart, with nothing next to them. */
    volatile char *rw = attached(id, (void *)0x280000000000, 0);
    volatile char *ro = attached(id, (void *)0x290000000000, SHM_RDONLY);
    need(shmctl(id, IPC_RMID, NULL) == 0, "IPC_RMID"); /* The faulting process leaves nothing behind. */
    rw[64] = 42;
    printf("read-only reads %d\nabout to %s\n", ro[64], what);
    fflush(stdout);
#define IF(name) if (strcmp(what, name) == 0)
    IF("store") ro[64] = 1;
    IF("store-last") ro[3 * PAGE - 1] = 1;
    IF("xadd") __asm__ volatile("lock xaddl %%eax, (%0)" ::"r"(ro + 64) : "memory", "eax");
    IF("cmpxchg") __asm__ volatile("lock cmpxchgl %%ecx, (%0)" ::"r"(ro + 64), "a"(42), "c"(1) : "memory");
    IF("xchg") __asm__ volatile("xchgl %%eax, (%0)" ::"r"(ro + 64) : "memory", "eax");
    IF("movups") __asm__ volatile("movups %%xmm0, (%0)" ::"r"(ro + 64) : "memory");
    IF("rep-movsb") __asm__ volatile("rep movsb" ::"D"(ro + 64), "S"(save), "c"(8) : "memory");
    IF("push") __asm__ volatile("mov %0, %%rsp; push %%rax" ::"r"(ro + 72) : "memory");
    IF("fxsave") __asm__ volatile("fxsave64 (%0)" ::"r"(ro + 128) : "memory");
    IF("movnti") __asm__ volatile("movnti %%eax, (%0)" ::"r"(ro + 64) : "memory");
    IF("not-exchanged") __asm__ volatile("lock cmpxchgl %%ecx, (%0)" ::"r"(ro + 64), "a"(7), "c"(1) : "memory");
    IF("read-beyond") (void)rw[3 * PAGE];
    IF("write-beyond") rw[3 * PAGE] = 1;
    IF("read-before") (void)rw[-1];
    IF("execute") {
        rw[0] = (char)0xc3;
        ((void (*)(void))(uintptr_t)rw)();
    }
    IF("execute-allowed") {
        static const unsigned char returns_42[] = {0xb8, 42, 0, 0, 0, 0xc3};
        memcpy((void *)rw, returns_42, sizeof returns_42);
        int (*function)(void) = (int (*)(void))(uintptr_t)attached(id, NULL, SHM_RDONLY | SHM_EXEC);
        return function();
    }
    IF("read-detached") {
        shmdt((void *)rw);
        (void)rw[0];
    }
    IF("write-detached") {
        shmdt((void *)rw);
        rw[0] = 1;
    }
    IF("read-detached-ro") {
        shmdt((void *)ro);
        (void)ro[0];
    }
    IF("write-unmapped") {
        rw[PAGE] = 1;
        munmap((void *)(rw + PAGE), PAGE);
        rw[0] = rw[2 * PAGE];
        rw[PAGE] = 2;
    }
    IF("write-protected") {
        rw[PAGE] = 1;
        mprotect((void *)(rw + PAGE), PAGE, PROT_READ);
        rw[0] = 2;
        rw[PAGE] = 3;
    }
    IF("read-detached-elsewhere") { /* Both CPUs have used the translation; the detach happens on one of them. */
        go_to_cpu(1);
        rw[PAGE] = 1;
        go_to_cpu(0);
        rw[PAGE] = 2;
        shmdt((void *)rw);
        go_to_cpu(1);
        (void)rw[PAGE];
    }
    IF("write-moved") {
        go_to_cpu(1);
        rw[PAGE] = 1;
        go_to_cpu(0);
        char *to = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        char *moved = mremap((void *)rw, 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
        need(moved == to && moved[PAGE] == 1, "mremap");
        go_to_cpu(1);
        moved[PAGE] = 2;
        rw[PAGE] = 3;
    }
    puts("survived");
    return 0;
}
