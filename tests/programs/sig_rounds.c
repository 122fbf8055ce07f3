/* Many rounds through handlers: nothing is lost on the way, neither registers nor vectors nor masks nor memory.
 * usage: sig_rounds ROUNDS */
#include "sig.h"

static volatile long handled_sum;
static int has_avx, has_avx512;
static unsigned long dirty;

/* The registers that came after SSE, where there are any: what a handler finds in them, and that it leaves nothing. */
static void spoil_wide(void) {
    unsigned long found[8] = {0};
    if (has_avx) __asm__ volatile("vmovdqu %%ymm12, %0; vpcmpeqd %%xmm0, %%xmm0, %%xmm0; vinsertf128 $1, %%xmm0, %%ymm0, %%ymm0; vmovaps %%ymm0, %%ymm3; vmovaps %%ymm0, %%ymm12" : "=m"(*(unsigned long(*)[4])found) :: "xmm0", "xmm3", "xmm12");
    if (has_avx512) __asm__ volatile("vmovdqu64 %%zmm20, %0; vpternlogd $0xff, %%zmm20, %%zmm20, %%zmm20; vpternlogd $0xff, %%zmm3, %%zmm3, %%zmm3; kxnorq %%k3, %%k3, %%k3" : "=m"(*(unsigned long(*)[8])found) :: "memory");
    for (int i = 0; i < 8; i++) dirty |= found[i];
}
/* As round_trip below, with those. */
static int wide_trip(long pid, long id, long number, unsigned long seed) {
    unsigned long in[8], out[2][8], mask = seed * 0x9e3779b97f4a7c15, mask_after = mask;
    for (int i = 0; i < 8; i++) in[i] = (seed + i) * 0x9e3779b97f4a7c15 | 1;
    memcpy(out[0], in, sizeof in), memcpy(out[1], in, sizeof in);
    long result = 0;
    if (has_avx512)
        __asm__ volatile("vmovdqu64 %[in], %%zmm3; vmovdqu64 %[in], %%zmm20; kmovq %[mask], %%k3; syscall; vmovdqu64 %%zmm3, %[first]; vmovdqu64 %%zmm20, %[second]; kmovq %%k3, %[mask_after]"
                         : "=a"(result), [first] "=m"(out[0]), [second] "=m"(out[1]), [mask_after] "=m"(mask_after) : "a"(SYS_tgkill), "D"(pid), "S"(id), "d"(number), [in] "m"(in), [mask] "m"(mask) : "rcx", "r11", "xmm3", "memory");
    else if (has_avx)
        __asm__ volatile("vmovdqu %[in], %%ymm3; vmovdqu %[in], %%ymm12; syscall; vmovdqu %%ymm3, %[first]; vmovdqu %%ymm12, %[second]"
                         : "=a"(result), [first] "=m"(out[0]), [second] "=m"(out[1]) : "a"(SYS_tgkill), "D"(pid), "S"(id), "d"(number), [in] "m"(in) : "rcx", "r11", "xmm3", "xmm12", "memory");
    else
        result = syscall(SYS_tgkill, pid, id, number);
    if (has_avx) __asm__ volatile("vzeroupper");
    return result || memcmp(in, out[0], sizeof in) || memcmp(in, out[1], sizeof in) || mask != mask_after;
}
static void spoils(int number, siginfo_t *info, void *context) {
    (void)context;
    /* All of the vector registers and the x87 stack hold something else when it returns. */
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0; movdqa %%xmm0, %%xmm1; movdqa %%xmm0, %%xmm2; movdqa %%xmm0, %%xmm3; movdqa %%xmm0, %%xmm4; movdqa %%xmm0, %%xmm5; movdqa %%xmm0, %%xmm6; movdqa %%xmm0, %%xmm7;"
                     "movdqa %%xmm0, %%xmm8; movdqa %%xmm0, %%xmm9; movdqa %%xmm0, %%xmm10; movdqa %%xmm0, %%xmm11; movdqa %%xmm0, %%xmm12; movdqa %%xmm0, %%xmm13; movdqa %%xmm0, %%xmm14; movdqa %%xmm0, %%xmm15; fldpi; fldpi; fldpi"
                     ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    spoil_wide();
    caught[number]++;
    handled_sum += info->si_code;
}

/* Sends `number` to the thread `id` of process `pid` with known values in the registers that a function keeps, in vectors
 * and on the x87 stack; 0 if all are still there, else a bit for each kind that is not. */
static unsigned round_trip(long pid, long id, long number, unsigned long seed) {
    unsigned long values[4] = {seed * 0x9e3779b97f4a7c15, seed ^ 0x5555555555555555, ~seed, seed + 1}, after[4] = {0};
    double floats[4] = {(double)seed, 1.0 / (double)(seed + 1), -(double)seed * 1e100, (double)(seed % 97) * 0.5}, floats_after[4] = {0};
    long double tens = (long double)seed + 0.25L, tens_after = 0;
    long result;
    register long r12 __asm__("r12") = (long)values[0];
    register long r13 __asm__("r13") = (long)values[1];
    register long r14 __asm__("r14") = (long)values[2];
    register long r15 __asm__("r15") = (long)values[3];
    __asm__ volatile("fldt %[tens]\n\tmovsd %[f0], %%xmm0\n\tmovsd %[f1], %%xmm6\n\tmovsd %[f2], %%xmm9\n\tmovsd %[f3], %%xmm15\n\t"
                     "syscall\n\t"
                     "movsd %%xmm0, %[g0]\n\tmovsd %%xmm6, %[g1]\n\tmovsd %%xmm9, %[g2]\n\tmovsd %%xmm15, %[g3]\n\tfstpt %[tens_after]"
                     : "=a"(result), "+r"(r12), "+r"(r13), "+r"(r14), "+r"(r15), [g0] "=m"(floats_after[0]), [g1] "=m"(floats_after[1]), [g2] "=m"(floats_after[2]), [g3] "=m"(floats_after[3]), [tens_after] "=m"(tens_after)
                     : "a"(SYS_tgkill), "D"(pid), "S"(id), "d"(number), [f0] "m"(floats[0]), [f1] "m"(floats[1]), [f2] "m"(floats[2]), [f3] "m"(floats[3]), [tens] "m"(tens)
                     : "rcx", "r11", "xmm0", "xmm6", "xmm9", "xmm15", "st", "memory");
    after[0] = (unsigned long)r12, after[1] = (unsigned long)r13, after[2] = (unsigned long)r14, after[3] = (unsigned long)r15;
    return (result != 0) | (memcmp(values, after, sizeof values) != 0) << 1 | (memcmp(floats, floats_after, sizeof floats) != 0) << 2 | (tens != tens_after) << 3;
}

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 1000, wrong[16] = {0}, wide_wrong = 0;
    has_avx = __builtin_cpu_supports("avx"), has_avx512 = __builtin_cpu_supports("avx512bw");
    static char room[64 << 10];
    stack_t stack = {.ss_sp = room, .ss_size = sizeof room};
    need(sigaltstack(&stack, NULL) == 0, "sigaltstack");
    act_info(SIGUSR1, spoils, 0), act_info(SIGUSR2, spoils, SA_ONSTACK), act_info(RT(0), spoils, SA_NODEFER);
    static const int numbers[] = {SIGUSR1, SIGUSR2, RT(0)};
    pid_t pid = getpid(), id = (pid_t)syscall(SYS_gettid);
    for (long i = 0; i < rounds; i++) {
        unsigned long seed = (unsigned long)(i + 1) * (unsigned long)(rank() + 1);
        if (i % 5 == 4) wide_wrong += wide_trip(pid, id, numbers[i % 3], seed);
        else wrong[round_trip(pid, id, numbers[i % 3], seed)]++;
    }
    for (int i = 1; i < 16; i++)
        if (wrong[i]) printf("rounds that lost something, kind %d: %ld\n", i, wrong[i]);
    printf("right rounds: %ld\n", wrong[0]);
    printf("rounds that lost something of what is wide: %ld\n", wide_wrong);
    holds("handlers begin with nothing in it", dirty == 0);
    printf("handled: %d %d %d\n", caught[SIGUSR1], caught[SIGUSR2], caught[RT(0)]);
    holds("each was told that a thread had sent it", handled_sum == -6 * rounds);
    holds("nothing is blocked", !is_blocked(SIGUSR1) && !is_blocked(SIGUSR2) && !is_blocked(RT(0)));
    return 0;
}
