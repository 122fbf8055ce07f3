/* Copies that never wait must all get on, each with its own registers.   usage: busy MILLISECONDS */
#include "common.h"
#include <immintrin.h>

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv) {
    struct meeting *meeting = attached(segment_of_all(0xb5, PAGE), NULL, 0);
    volatile uint32_t *turns = (uint32_t *)(meeting + 1);
    meet(meeting);
    int64_t end = now() + (argc > 1 ? atol(argv[1]) : 100) * 1000000LL;
    double mine = 1.5 + rank();
    __m128d in = _mm_set1_pd(mine), out;
    double x87;
    unsigned long wrong = 0;
    unsigned rounding = 0x1f80u | (unsigned)(rank() % 4) << 13, rounding_now;
    __asm__ volatile("ldmxcsr %0" ::"m"(rounding));
    while (now() < end || turns[rank()] == 0) {
        __asm__ volatile("movapd %2, %%xmm7; movapd %2, %%xmm15; fldl %3; mov $20000, %%ecx; 1: loop 1b;"
                         "addpd %%xmm15, %%xmm7; movapd %%xmm7, %0; fstpl %1"
                         : "=x"(out), "=m"(x87) : "x"(in), "m"(mine) : "ecx", "xmm7", "xmm15");
        __asm__ volatile("stmxcsr %0" : "=m"(rounding_now));
        wrong += out[0] != 2 * mine || out[1] != 2 * mine || x87 != mine || (rounding_now & 0x6000) != (rounding & 0x6000);
        turns[rank()]++;
    }
    int all = 1;
    /* The others have had as much time; none may be starved. */
    for (int i = 0; i < copies(); i++) all &= turns[i] > 0;
    says_value("wrong registers", (long)wrong);
    holds("all got on", all);
    return wrong || !all;
}
