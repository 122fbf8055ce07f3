/* Every task has its own x87, SSE, AVX and AVX-512 registers, however many take turns on a CPU: as far as CPUID and XCR0
 * say that the CPU has them, as libraries ask before they use them.   usage: registers */
#include "common.h"
#include <cpuid.h>
#include <pthread.h>
#include <sys/wait.h>

enum { TASKS = 6, ROUNDS = 300 };

/* 0: SSE only, 1: AVX, 2: AVX-512. */
static int level(void) {
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1 << 27) || !(c & 1 << 28)) return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 6) != 6) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1 << 16) || (low & 0xe6) != 0xe6) return 1;
    return 2;
}

struct image {
    unsigned char vector[32][64];
    unsigned long mask[8];
    double x87;
    unsigned mxcsr;
};

/* Everything at once, so that the compiler's own use comes before and after: loaded, then something happens for as long as
 * `spins` says (0: a system call), then stored. */
#define EACH16(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15)
#define EACH32(f) EACH16(f) f(16) f(17) f(18) f(19) f(20) f(21) f(22) f(23) f(24) f(25) f(26) f(27) f(28) f(29) f(30) f(31)
#define MIDDLE                                                                                                              \
    "test %[spins], %[spins]\n jz 2f\n 1: pause\n dec %[spins]\n jnz 1b\n jmp 3f\n"                                        \
    "2: mov $24, %%eax\n syscall\n 3:\n"
#define CLOBBERS "rax", "rcx", "r11", "memory", "cc"
#define SSE_IN(n) "movups " #n "*64(%[in]), %%xmm" #n "\n"
#define SSE_OUT(n) "movups %%xmm" #n ", " #n "*64(%[out])\n"
#define AVX_IN(n) "vmovups " #n "*64(%[in]), %%ymm" #n "\n"
#define AVX_OUT(n) "vmovups %%ymm" #n ", " #n "*64(%[out])\n"
#define WIDE_IN(n) "vmovups " #n "*64(%[in]), %%zmm" #n "\n"
#define WIDE_OUT(n) "vmovups %%zmm" #n ", " #n "*64(%[out])\n"

static void pass(int level, const struct image *in, struct image *out, long spins) {
    __asm__ volatile("ldmxcsr %0\n fldl %1" ::"m"(in->mxcsr), "m"(in->x87));
    if (level == 0)
        __asm__ volatile(EACH16(SSE_IN) MIDDLE EACH16(SSE_OUT) : [spins] "+r"(spins) : [in] "r"(in), [out] "r"(out) : CLOBBERS);
    else if (level == 1)
        __asm__ volatile(EACH16(AVX_IN) MIDDLE EACH16(AVX_OUT) "vzeroupper\n" : [spins] "+r"(spins) : [in] "r"(in), [out] "r"(out) : CLOBBERS);
    else
        __asm__ volatile("kmovq 2048(%[in]), %%k1\n kmovq 2104(%[in]), %%k7\n" EACH32(WIDE_IN) MIDDLE EACH32(WIDE_OUT)
                         "kmovq %%k1, 2048(%[out])\n kmovq %%k7, 2104(%[out])\n vzeroupper\n"
                         : [spins] "+r"(spins) : [in] "r"(in), [out] "r"(out) : CLOBBERS);
    __asm__ volatile("fstpl %0\n stmxcsr %1" : "=m"(out->x87), "=m"(out->mxcsr));
    unsigned usual = 0x1f80;
    __asm__ volatile("ldmxcsr %0" ::"m"(usual));
}

/* How many of so many rounds found something else in a register than had been put there. */
static long differing(int number, int level) {
    static const size_t widths[] = {16, 32, 64}, counts[] = {16, 16, 32};
    long wrong = 0;
    unsigned state = (unsigned)number * 2654435761u + 1;
    struct image *in = aligned_alloc(64, sizeof(struct image) + 64), *out = aligned_alloc(64, sizeof(struct image) + 64);
    need(in && out, "memory");
    for (int round = 0; round < ROUNDS; round++) {
        memset(out, 0, sizeof *out);
        memset(in, 0, sizeof *in);
        for (size_t i = 0; i < counts[level]; i++)
            for (size_t b = 0; b < widths[level]; b++) in->vector[i][b] = (unsigned char)((state = state * 1103515245 + 12345) >> 16);
        if (level == 2) in->mask[0] = state, in->mask[7] = ~(unsigned long)state;
        in->x87 = number * 1000.0 + round;
        in->mxcsr = 0x1f80 | (unsigned)(number & 3) << 13;
        /* Long enough for another to have a turn, now and then. */
        pass(level, in, out, round % 10 == 0 ? 400000 : round % 2 ? 0 : 2000);
        wrong += memcmp(in, out, sizeof *in) != 0;
    }
    return wrong;
}

static void *in_thread(void *number) { return (void *)differing((int)(intptr_t)number, level()); }

int main(void) {
    long wrong = 0;
    pthread_t threads[TASKS];
    for (intptr_t i = 0; i < TASKS; i++) {
        pid_t child = fork();
        need(child >= 0, "fork");
        if (child == 0) _exit(differing((int)i + 10, i % 3 < level() ? i % 3 : level()) != 0);
        need(pthread_create(&threads[i], NULL, in_thread, (void *)i) == 0, "pthread_create");
    }
    for (int i = 0; i < TASKS; i++) {
        void *result;
        need(pthread_join(threads[i], &result) == 0, "pthread_join");
        wrong += (long)result;
    }
    says_value("wrong in threads", wrong);
    wrong = 0;
    for (int i = 0, status; i < TASKS; i++) need(wait(&status) > 0, "wait"), wrong += status != 0;
    says_value("wrong processes", wrong);
    if (getenv("LEVEL")) says_value("level", level());
    return 0;
}
