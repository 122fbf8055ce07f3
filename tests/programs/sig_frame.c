/* The frame of a handler: which registers it keeps, where it lies, what the handler may change in it, and what
 * rt_sigreturn refuses. */
#include "sig.h"

/* Registers before and after a handler, without the C compiler's help: all are loaded with known values, the process
 * sends itself a signal (the call itself changes rax, rcx and r11), and all are stored. */
struct registers { unsigned long r[16], flags; unsigned char vectors[16][16]; unsigned long x87[8]; unsigned mxcsr; unsigned short control; };
void send_with_registers(struct registers *in, struct registers *out, long pid, long number);
__asm__(
    ".text\n.globl send_with_registers\nsend_with_registers:\n"
    "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %rsi\n"
    "mov %rcx, %r9; mov %rdx, %r8\n"
    "movdqu 136(%rdi), %xmm0; movdqu 152(%rdi), %xmm1; movdqu 168(%rdi), %xmm2; movdqu 184(%rdi), %xmm3; movdqu 200(%rdi), %xmm4; movdqu 216(%rdi), %xmm5; movdqu 232(%rdi), %xmm6; movdqu 248(%rdi), %xmm7\n"
    "movdqu 264(%rdi), %xmm8; movdqu 280(%rdi), %xmm9; movdqu 296(%rdi), %xmm10; movdqu 312(%rdi), %xmm11; movdqu 328(%rdi), %xmm12; movdqu 344(%rdi), %xmm13; movdqu 360(%rdi), %xmm14; movdqu 376(%rdi), %xmm15\n"
    "fninit; fldcw 460(%rdi); fildll 392(%rdi); fildll 400(%rdi); fildll 408(%rdi); fildll 416(%rdi); fildll 424(%rdi); fildll 432(%rdi); fildll 440(%rdi); fildll 448(%rdi)\n"
    "ldmxcsr 456(%rdi)\n"
    "mov 8(%rdi), %rbx; mov 24(%rdi), %rdx; mov 48(%rdi), %rbp; mov 80(%rdi), %r10; mov 96(%rdi), %r12; mov 104(%rdi), %r13; mov 112(%rdi), %r14; mov 120(%rdi), %r15\n"
    "mov %r8, %rdi; mov %r9, %rsi; mov $0x1122334455667788, %r8; mov $0x99aabbccddeeff00, %r9\n"
    "mov $0x5a5a5a5a5a5a5a5a, %rax; mov %rax, -8(%rsp); mov %rax, -64(%rsp); mov %rax, -128(%rsp)\n" /* The red zone. */
    "mov $62, %eax; stc; std; syscall; pushfq; cld\n"
    "pop %r11; mov (%rsp), %rcx\n"
    "mov %rax, (%rcx); mov %rbx, 8(%rcx); mov %rdx, 24(%rcx); mov %rsi, 32(%rcx); mov %rdi, 40(%rcx); mov %rbp, 48(%rcx); mov %rsp, 56(%rcx); mov %r8, 64(%rcx); mov %r9, 72(%rcx); mov %r10, 80(%rcx)\n"
    "mov %r12, 96(%rcx); mov %r13, 104(%rcx); mov %r14, 112(%rcx); mov %r15, 120(%rcx); mov %r11, 128(%rcx)\n"
    "mov -64(%rsp), %rax; mov %rax, 16(%rcx); mov -128(%rsp), %rax; mov %rax, 88(%rcx)\n"
    "movdqu %xmm0, 136(%rcx); movdqu %xmm1, 152(%rcx); movdqu %xmm2, 168(%rcx); movdqu %xmm3, 184(%rcx); movdqu %xmm4, 200(%rcx); movdqu %xmm5, 216(%rcx); movdqu %xmm6, 232(%rcx); movdqu %xmm7, 248(%rcx)\n"
    "movdqu %xmm8, 264(%rcx); movdqu %xmm9, 280(%rcx); movdqu %xmm10, 296(%rcx); movdqu %xmm11, 312(%rcx); movdqu %xmm12, 328(%rcx); movdqu %xmm13, 344(%rcx); movdqu %xmm14, 360(%rcx); movdqu %xmm15, 376(%rcx)\n"
    "fnstcw 460(%rcx); fistpll 448(%rcx); fistpll 440(%rcx); fistpll 432(%rcx); fistpll 424(%rcx); fistpll 416(%rcx); fistpll 408(%rcx); fistpll 400(%rcx); fistpll 392(%rcx)\n"
    "stmxcsr 456(%rcx); fninit; movl $0x1f80, -4(%rsp); ldmxcsr -4(%rsp)\n"
    "pop %rsi; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");
_Static_assert(__builtin_offsetof(struct registers, vectors) == 136 && __builtin_offsetof(struct registers, x87) == 392 && __builtin_offsetof(struct registers, mxcsr) == 456 && __builtin_offsetof(struct registers, control) == 460, "the assembly's offsets");

static struct registers in, out;
static unsigned long interrupted_stack, frame_context, frame_rbx, frame_r8, frame_flags, frame_uc_flags;
static unsigned char frame_xmm7[16];
static unsigned frame_mxcsr;
static int frame_has_fpu, frame_fpu_aligned;

/* The C function called by the handler proper, which looks at the registers before any C does. */
void in_handler(int number, siginfo_t *info, void *context);
void first_in_handler(int number, siginfo_t *info, void *context);
unsigned long entry_stack, entry_flags, entry_rax;
unsigned char entry_xmm7[16];
struct { unsigned short control, pad1, status, pad2, tag, pad3; unsigned rest[4]; } entry_x87;
unsigned entry_mxcsr;
__asm__(".text\n.globl first_in_handler\nfirst_in_handler:\n"
        "mov %rsp, entry_stack(%rip); mov %rax, entry_rax(%rip); movdqu %xmm7, entry_xmm7(%rip); stmxcsr entry_mxcsr(%rip); fnstenv entry_x87(%rip); fldenv entry_x87(%rip)\n"
        "pushfq; popq entry_flags(%rip)\n"
        "sub $8, %rsp; call in_handler; add $8, %rsp\n"
        /* Spoil everything. */
        "pcmpeqd %xmm0, %xmm0; movdqa %xmm0, %xmm1; movdqa %xmm0, %xmm7; movdqa %xmm0, %xmm15; fninit; fldpi; fldpi\n"
        "mov $-1, %rbx; mov %rbx, %rbp; mov %rbx, %r8; mov %rbx, %r9; mov %rbx, %r10; mov %rbx, %r12; mov %rbx, %r13; mov %rbx, %r14; mov %rbx, %r15; mov %rbx, %rdx; mov %rbx, %rdi; mov %rbx, %rsi\n"
        "std; ret\n");
static void (*change)(ucontext_t *);
void in_handler(int number, siginfo_t *info, void *context) {
    (void)info;
    ucontext_t *u = context;
    caught[number]++;
    frame_context = (unsigned long)u;
    greg_t *r = u->uc_mcontext.gregs;
    frame_rbx = r[REG_RBX], frame_r8 = r[REG_R8], frame_flags = r[REG_EFL], interrupted_stack = r[REG_RSP], frame_uc_flags = u->uc_flags;
    unsigned char *fpu = (unsigned char *)u->uc_mcontext.fpregs;
    frame_has_fpu = fpu != NULL, frame_fpu_aligned = (unsigned long)fpu % 64 == 0;
    memcpy(frame_xmm7, fpu + 160 + 7 * 16, 16);
    memcpy(&frame_mxcsr, fpu + 24, 4);
    if (change) change(u);
}

static void fill(void) {
    for (int i = 0; i < 16; i++) in.r[i] = 0x0101010101010101UL * (i + 1) + i;
    for (int i = 0; i < 16; i++) for (int j = 0; j < 16; j++) in.vectors[i][j] = (unsigned char)(i * 17 + j * 3 + 1);
    for (int i = 0; i < 8; i++) in.x87[i] = 1000000007UL * (i + 1);
    in.mxcsr = 0x1f80 | 0x2000 | 0x8000, in.control = 0x37f | 0x400;
}
static void kept(void) {
    fill();
    memset(&out, 0, sizeof out);
    act_info(SIGUSR1, first_in_handler, 0);
    send_with_registers(&in, &out, getpid(), SIGUSR1);
    says_value("handled", caught[SIGUSR1]);
    int general = 1;
    for (int i = 0; i < 16; i++)
        if (i == 1 || i == 3 || i == 6 || i == 10 || i >= 12) general &= in.r[i] == out.r[i];
    says_value("the call's result", out.r[0]);
    holds("general registers", general);
    holds("r8 and r9", out.r[8] == 0x1122334455667788 && out.r[9] == 0x99aabbccddeeff00);
    holds("the call's arguments", out.r[5] == (unsigned long)getpid() && out.r[4] == SIGUSR1);
    holds("the red zone", out.r[2] == 0x5a5a5a5a5a5a5a5a && out.r[11] == 0x5a5a5a5a5a5a5a5a);
    holds("carry and direction", (out.flags & 0x401) == 0x401);
    holds("vector registers", memcmp(in.vectors, out.vectors, sizeof in.vectors) == 0);
    holds("x87 stack", memcmp(in.x87, out.x87, sizeof in.x87) == 0);
    printf("mxcsr %x control %x\n", out.mxcsr, out.control);
    holds("the handler's stack is as after a call", entry_stack % 16 == 8);
    holds("it leaves the red zone alone", entry_stack < interrupted_stack - 128 && frame_context < interrupted_stack - 128);
    holds("the context follows the return address", frame_context == entry_stack + 8);
    printf("in the handler: rax %lx mxcsr %x control %x tags %x direction %d carry in the frame %d\n", entry_rax, entry_mxcsr, entry_x87.control, entry_x87.tag, !!(entry_flags & 0x400), !!(frame_flags & 1));
    static const unsigned char zero[16];
    holds("its vector registers are clear", memcmp(entry_xmm7, zero, 16) == 0);
    holds("the frame has those interrupted", memcmp(frame_xmm7, in.vectors[7], 16) == 0 && frame_mxcsr == in.mxcsr);
    holds("the frame has rbx and r8", frame_rbx == in.r[1] && frame_r8 == 0x1122334455667788);
    holds("its FPU state is there and aligned", frame_has_fpu && frame_fpu_aligned);
    holds("SS counts", (frame_uc_flags & 6) == 6);
}

static unsigned long some_value;
static void set_rbx(ucontext_t *u) { u->uc_mcontext.gregs[REG_RBX] = 0x4242; }
static void set_xmm7(ucontext_t *u) { memset((char *)u->uc_mcontext.fpregs + 160 + 7 * 16, 0x42, 16); }
static void set_mxcsr(ucontext_t *u) { ((unsigned *)u->uc_mcontext.fpregs)[6] = some_value; }
static void set_fpu(ucontext_t *u) { u->uc_mcontext.fpregs = (void *)some_value; }
static unsigned char copy[16384] __attribute__((aligned(64)));
static void copy_fpu(ucontext_t *u) {
    /* As large as it may be; what is beyond the frame is not looked at. */
    unsigned char *fpu = (unsigned char *)u->uc_mcontext.fpregs;
    unsigned size = 512;
    if (*(unsigned *)(fpu + 464) == 0x46505853) size = *(unsigned *)(fpu + 468);
    memcpy(copy, fpu, size);
    memset(copy + 160 + 7 * 16, 0x24, 16);
    u->uc_mcontext.fpregs = (void *)(copy);
}
static void set_flags(ucontext_t *u) { u->uc_mcontext.gregs[REG_EFL] = some_value; }
static void set_mask(ucontext_t *u) { memset(&u->uc_sigmask, some_value, 8); }
static void set_rip(ucontext_t *u) { u->uc_mcontext.gregs[REG_RIP] = some_value; }
static void set_rsp(ucontext_t *u) { u->uc_mcontext.gregs[REG_RSP] = some_value; }
static void set_cs(ucontext_t *u) { *(unsigned short *)&u->uc_mcontext.gregs[REG_CSGSFS] = some_value; }
static void set_ss(ucontext_t *u) { ((unsigned short *)&u->uc_mcontext.gregs[REG_CSGSFS])[3] = some_value; }
static void set_lax_ss(ucontext_t *u) { set_ss(u), u->uc_flags &= ~4UL; }
static void set_gs_fs(ucontext_t *u) { ((unsigned short *)&u->uc_mcontext.gregs[REG_CSGSFS])[1] = some_value, ((unsigned short *)&u->uc_mcontext.gregs[REG_CSGSFS])[2] = some_value; }
static void set_result(ucontext_t *u) { u->uc_mcontext.gregs[REG_RAX] = some_value; }
static void set_link(ucontext_t *u) { u->uc_link = (void *)some_value, u->uc_mcontext.gregs[REG_ERR] = some_value, u->uc_mcontext.gregs[REG_TRAPNO] = some_value, u->uc_mcontext.gregs[REG_CR2] = some_value; }
static void run(void) {
    memset(&out, 0, sizeof out);
    send_with_registers(&in, &out, getpid(), SIGUSR1);
}
static void changing(void) {
    change = set_rbx, run();
    printf("rbx changed: %lx\n", out.r[1]);
    change = set_result, some_value = 0x777, run();
    printf("the call's result changed: %lx\n", out.r[0]);
    change = set_xmm7, run();
    printf("xmm7 changed: %x %x, xmm6 kept %d\n", out.vectors[7][0], out.vectors[7][15], memcmp(out.vectors[6], in.vectors[6], 16) == 0);
    change = copy_fpu, run();
    printf("FPU state elsewhere: %x, xmm6 kept %d\n", out.vectors[7][3], memcmp(out.vectors[6], in.vectors[6], 16) == 0);
    change = set_fpu, some_value = 0, run();
    static const unsigned char zero[16];
    printf("no FPU state: clear %d mxcsr %x control %x\n", memcmp(out.vectors[6], zero, 16) == 0, out.mxcsr, out.control);
    change = set_mxcsr, some_value = 0x1f80 | 0x6000, run();
    printf("mxcsr changed: %x\n", out.mxcsr);
    change = set_flags;
    for (unsigned i = 0; i < 22; i++) {
        if (i == 8 || i == 18) continue; /* Trap and alignment check: see below. */
        some_value = 0x202 | 1UL << i;
        run();
        printf("flag %d set: %lx\n", i, out.flags & ~0x10000UL);
        some_value = 0x202;
        run();
    }
    change = set_flags, some_value = ~0UL & ~0x40100, run();
    printf("all flags but two: %lx\n", out.flags & ~0x10000UL);
    change = set_flags, some_value = 0, run();
    printf("no flags: %lx\n", out.flags & ~0x10000UL);
    __asm__ volatile("cld; pushfq; andq $~0x204000, (%%rsp); popfq" ::: "cc", "memory");
    change = set_mask, some_value = 0xff, run();
    unsigned long mask;
    syscall(SYS_rt_sigprocmask, 0, NULL, &mask, 8);
    printf("mask changed: %lx\n", mask);
    unblock_all();
    change = set_link, some_value = ~0UL, run();
    says_value("what does not count: handled", caught[SIGUSR1] > 0);
    change = set_gs_fs, some_value = 0xffff, run();
    says_value("gs and fs do not count", out.r[0]);
    change = set_cs, some_value = 0x30, run();
    says_value("ring 3 is added to cs", out.r[0]);
    change = set_ss, some_value = 0x28, run();
    says_value("ring 3 is added to ss", out.r[0]);
    change = set_lax_ss;
    for (int i = 0; i < 3; i++) some_value = (unsigned long[]){0, 0x2b, 0xffff}[i], run(), printf("ss %lx where it does not count: %ld\n", some_value, (long)out.r[0]);
    change = NULL;
}

/* Frames that can't be returned to. */
static void told(int number, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    greg_t *r = u->uc_mcontext.gregs;
    unsigned long rip = r[REG_RIP], address = (unsigned long)info->si_addr;
    printf("handler of %d: code %d, address %s, rip %s, rbx as in the frame %d, vector %d, error %x\n", number, info->si_code, address == rip ? "where it returns to" : form("%lx", address),
           rip == some_value ? "the bad one" : "other", (unsigned long)r[REG_RBX] == in.r[1], info->si_code == 0x80 ? 0 : (int)r[REG_TRAPNO], info->si_code == 0x80 ? 0 : (unsigned)r[REG_ERR]);
    fflush(stdout);
    _exit(11);
}
static void bad(const char *name, void (*with)(ucontext_t *), unsigned long value) {
    static char room[128 << 10];
    stack_t stack = {.ss_sp = room, .ss_size = sizeof room};
    sigaltstack(&stack, NULL);
    IN_CHILD(form("%s %lx", name, value)) {
        change = with, some_value = value, run();
        printf("came back: %ld\n", (long)out.r[0]);
    }
    IN_CHILD(form("%s %lx, caught", name, value)) {
        act_info(SIGSEGV, told, SA_ONSTACK), act_info(SIGBUS, told, SA_ONSTACK), act_info(SIGTRAP, told, SA_ONSTACK);
        change = with, some_value = value, run();
        printf("came back: %ld\n", (long)out.r[0]);
    }
}
static void refusals(void) {
    unsigned long addresses[] = {0, 0x1000, 0x7ffffffff000, 0x7fffffffffff, 0x800000000000, 0x8000000000000000, 0xffff7fffffffffff};
    for (int i = 0; i < 7; i++) bad("return to", set_rip, addresses[i]);
    for (int i = 0; i < 2; i++) bad("return to the kernel at", set_rip, (unsigned long[]){0xffff800000000000, 0xffffffffff000000}[i]);
    for (unsigned bit = 16; bit < 32; bit++)
        if (bit != 17) bad("mxcsr", set_mxcsr, 1UL << bit | 0x1f80);
    bad("mxcsr", set_mxcsr, 0xffffffff);
    for (int i = 0; i < 5; i++) bad("FPU state at", set_fpu, (unsigned long[]){8, 0x7ffffffff000, 0xffff800000000000, 0x8000000000000000, ~0UL}[i]);
    /* Selectors of Linux's own table that this program can't use. */
    for (int i = 0; i < 4; i++) bad("cs", set_cs, (unsigned long[]){0, 0x10, 0x2b, 0xffff}[i]);
    for (int i = 0; i < 4; i++) bad("ss", set_ss, (unsigned long[]){0, 0x18, 0x33, 0xffff}[i]);
    bad("trap flag", set_flags, 0x302);
}

/* Returning without a handler. */
static void naked(void) {
    for (int i = 0; i < 6; i++) {
        unsigned long stack = (unsigned long[]){0x2000, 0, 8, 0x7fffffffffff, 0xffff800000000000, 0x8000000000000000}[i];
        IN_CHILD(form("rt_sigreturn with its stack at %lx", stack))
            __asm__ volatile("mov %0, %%rsp; mov $15, %%eax; syscall; ud2" ::"r"(stack) : "rax");
        IN_CHILD(form("rt_sigreturn with its stack at %lx, SIGSEGV caught without a stack", stack)) {
            stack_t none = {.ss_flags = SS_DISABLE};
            sigaltstack(&none, NULL), act_info(SIGSEGV, told, 0);
            __asm__ volatile("mov %0, %%rsp; mov $15, %%eax; syscall; ud2" ::"r"(stack) : "rax");
        }
    }
    IN_CHILD("rt_sigreturn from nothing but zeros") {
        char *zeros = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        __asm__ volatile("mov %0, %%rsp; mov $15, %%eax; syscall; ud2" ::"r"(zeros + 2 * PAGE) : "rax");
    }
}

/* Handlers without the C library's help: what SA_RESTORER is for. */
struct kernel_action { void *handler; unsigned long flags; void *restorer; unsigned long mask; };
static void restorers(void) {
    IN_CHILD("no restorer") {
        struct kernel_action action = {(void *)count, 0, NULL, 0};
        syscall(SYS_rt_sigaction, SIGUSR1, &action, NULL, 8);
        send_self(SIGUSR1);
    }
    IN_CHILD("no restorer, SIGSEGV caught") {
        struct kernel_action action = {(void *)count, 0, NULL, 0};
        act_info(SIGSEGV, told, 0);
        syscall(SYS_rt_sigaction, SIGUSR1, &action, NULL, 8);
        send_self(SIGUSR1);
    }
    IN_CHILD("a restorer that is not there") {
        struct kernel_action action = {(void *)count, 0x04000000, (void *)0x1230, 0};
        syscall(SYS_rt_sigaction, SIGUSR1, &action, NULL, 8);
        send_self(SIGUSR1);
    }
    for (int i = 0; i < 4; i++) {
        unsigned long handler = (unsigned long[]){0x1230, 0x800000000000, 0x8000000000000000, 0xffffffff80000000}[i];
        IN_CHILD(form("a handler at %lx", handler)) {
            struct sigaction action = {.sa_handler = (void *)handler};
            sigaction(SIGUSR1, &action, NULL);
            send_self(SIGUSR1);
        }
        IN_CHILD(form("a handler at %lx, SIGSEGV caught", handler)) {
            struct sigaction action = {.sa_handler = (void *)handler};
            act_info(SIGSEGV, told, 0);
            some_value = handler;
            sigaction(SIGUSR1, &action, NULL);
            send_self(SIGUSR1);
        }
        IN_CHILD(form("SIGSEGV's handler at %lx", handler)) {
            struct sigaction action = {.sa_handler = (void *)handler};
            sigaction(SIGSEGV, &action, NULL);
            *(volatile char *)0 = 1;
        }
    }
}

int main(void) {
    kept();
    changing();
    refusals();
    naked();
    restorers();
    return 0;
}
