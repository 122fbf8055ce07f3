/* Faults a program catches: what the handler is told (siginfo, ucontext), and the ways out of it: putting things right,
 * skipping the instruction, changing registers, siglongjmp, dying. */
#include "sig.h"

static sigjmp_buf back;
static const char *current;
static volatile unsigned long expected_address;

/* Error codes are compared without the bit that says whether a page was there: kernels fault in ahead differently. */
static void tell(int number, siginfo_t *info, void *context) {
    ucontext_t *ucontext = context;
    greg_t *r = ucontext->uc_mcontext.gregs;
    unsigned long address = (unsigned long)info->si_addr;
    printf("%s: signal %d errno %d code %d, address %s, vector %d error %x", current, number, info->si_errno, info->si_code,
           address == expected_address ? "as expected" : address == (unsigned long)r[REG_RIP] ? "of the instruction" : address == 0 ? "0" : "other",
           (int)r[REG_TRAPNO], (unsigned)r[REG_ERR] & ~1u);
    if (r[REG_TRAPNO] == 14) printf(", cr2 %s", (unsigned long)r[REG_CR2] == address ? "the same" : "other");
    printf(", cs %x, same signal in siginfo %d\n", (int)(r[REG_CSGSFS] & 0xffff), info->si_signo == number);
}
static void leave(int number, siginfo_t *info, void *context) {
    /* A handler runs with the alignment check its thread had. */
    __asm__ volatile("pushfq; andq $~0x40000, (%%rsp); popfq" ::: "memory", "cc");
    tell(number, info, context);
    siglongjmp(back, 1);
}

#define TRY(name, address, what)                     \
    do {                                             \
        current = (name);                            \
        expected_address = (unsigned long)(address); \
        if (sigsetjmp(back, 1) == 0) {               \
            what;                                    \
            printf("%s: nothing happened\n", name);  \
        }                                            \
    } while (0)

static char *page_of(int protection) {
    char *page = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(page != MAP_FAILED, "a page");
    page[PAGE] = 1;
    need(mprotect(page + PAGE, PAGE, protection) == 0, "mprotect");
    return page + PAGE;
}

static const int constant = 1;
static void kinds(void) {
    for (int i = 0; i < 5; i++) act_info((int[]){SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP}[i], leave, 0);
    char *none = page_of(PROT_NONE), *readable = page_of(PROT_READ), *plain = page_of(PROT_READ | PROT_WRITE), *gone = page_of(PROT_READ);
    munmap(gone, PAGE);
    TRY("read 0", 0, (void)*(volatile char *)0);
    TRY("read 8", 8, (void)*(volatile long *)8);
    TRY("write 0x1234", 0x1234, *(volatile char *)0x1234 = 1);
    TRY("call 0x10", 0x10, ((void (*)(void))0x10)());
    TRY("read no access", none + 5, (void)*(volatile char *)(none + 5));
    TRY("write no access", none + 4095, *(volatile char *)(none + 4095) = 1);
    TRY("write read-only", readable + 77, *(volatile char *)(readable + 77) = 1);
    TRY("write read-only, across its start", readable, *(volatile long *)(readable - 4) = 1);
    TRY("read-modify-write read-only", readable, __sync_fetch_and_add((int *)readable, 1));
    TRY("read what is gone", gone + 100, (void)*(volatile char *)(gone + 100));
    TRY("read across into what is gone", gone, (void)*(volatile long *)(gone - 3));
    TRY("write text", leave, *(volatile char *)leave = 1);
    TRY("write a constant", &constant, *(volatile int *)&constant = 2);
    plain[0] = (char)0xc3;
    TRY("execute data", plain, ((void (*)(void))plain)());
    TRY("read a kernel's address", KERNEL_ADDRESS, (void)*(volatile char *)KERNEL_ADDRESS);
    TRY("write a kernel's address", 0xffffffff80200000, *(volatile char *)0xffffffff80200000 = 1);
    TRY("read the last byte", ~0UL, (void)*(volatile char *)~0UL);
    TRY("read the last page of the lower half", 0x7ffffffff008, (void)*(volatile char *)0x7ffffffff008);
    TRY("read no address", 1, (void)*(volatile char *)0x8000000000000000);
    TRY("write no address", 1, *(volatile char *)0x0000800000000000 = 1);
    TRY("call a kernel's address", KERNEL_ADDRESS, ((void (*)(void))KERNEL_ADDRESS)());
    TRY("divide", 1, __asm__ volatile("xor %%ecx, %%ecx; xor %%edx, %%edx; mov $1, %%eax; div %%ecx" ::: "rax", "rcx", "rdx"));
    TRY("divide, overflow", 1, __asm__ volatile("mov $-1, %%rcx; mov $1, %%rax; shl $63, %%rax; cqo; idiv %%rcx" ::: "rax", "rcx", "rdx"));
    TRY("ud2", 1, __asm__ volatile("ud2"));
    TRY("int3", 1, __asm__ volatile("int3"));
    TRY("hlt", 1, __asm__ volatile("hlt"));
    TRY("cli", 1, __asm__ volatile("cli"));
    TRY("in", 1, __asm__ volatile("inb $0x80, %%al" ::: "rax"));
    TRY("rdmsr", 1, __asm__ volatile("rdmsr" ::"c"(0xc0000082) : "rax", "rdx"));
    TRY("read cr0", 1, __asm__ volatile("mov %%cr0, %%rax" ::: "rax"));
    TRY("lgdt", 1, __asm__ volatile("lgdt (%0)" ::"r"(plain)));
    TRY("movaps crooked", 1, __asm__ volatile("movaps 1(%0), %%xmm0" ::"r"(plain) : "xmm0"));
    TRY("single step", 1, __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop" ::: "cc", "memory"));
    /* Each exception of the vector unit by itself, and of the old one. */
    static const struct { const char *name; unsigned bit; double a, b; int operation; } vector[] = {
        {"invalid", 7, 0.0, 0.0, 0}, {"divide by zero", 9, 1.0, 0.0, 0}, {"overflow", 10, 1e300, 1e-300, 0}, {"underflow", 11, 1e-300, 1e300, 0}, {"inexact", 12, 1.0, 3.0, 0}, {"denormal", 8, 4.9e-324, 1.0, 0}};
    for (unsigned i = 0; i < sizeof vector / sizeof *vector; i++) {
        volatile double a = vector[i].a, b = vector[i].b;
        unsigned masks = 0x1f80 & ~(1u << vector[i].bit), usual = 0x1f80;
        TRY(form("SSE %s", vector[i].name), 1, __asm__ volatile("ldmxcsr %0; movsd %1, %%xmm0; divsd %2, %%xmm0" ::"m"(masks), "m"(a), "m"(b) : "xmm0"));
        __asm__ volatile("ldmxcsr %0" ::"m"(usual));
        unsigned short control = 0x37f & ~(1u << (vector[i].bit - 7)), initial = 0x37f;
        if (vector[i].bit == 10 || vector[i].bit == 11) continue; /* Its range is larger. */
        TRY(form("x87 %s", vector[i].name), 1, __asm__ volatile("fninit; fldcw %0; fldl %1; fldl %2; fdivp; fwait" ::"m"(control), "m"(b), "m"(a)));
        __asm__ volatile("fninit; fldcw %0" ::"m"(initial));
    }
    TRY("alignment", 1, __asm__ volatile("pushfq; orq $0x40000, (%%rsp); popfq; movl %%eax, 1(%0); pushfq; andq $~0x40000, (%%rsp); popfq" ::"r"(plain) : "memory", "cc"));
    __asm__ volatile("pushfq; andq $~0x40000, (%%rsp); popfq" ::: "memory", "cc");
}

/* A push where there is no stack; the handler finds none there either, unless it has one of its own. */
static void push_at(unsigned long stack) { __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; push %%rax; mov %%rbx, %%rsp" ::"r"(stack) : "rbx", "memory"); }

/* Handlers that put things right and return. */
static char *protected_page;
static void allow(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    count(SIGSEGV);
    mprotect((void *)((unsigned long)info->si_addr & ~(PAGE - 1)), PAGE, PROT_READ | PROT_WRITE);
}
static void skip_two(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    count(number);
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}
static void give_register(int number, siginfo_t *info, void *context) {
    (void)info;
    count(number);
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    r[REG_RIP] += 2, r[REG_RAX] = 0x1234567890, r[REG_RBX] = 77;
}
static void point_elsewhere(int number, siginfo_t *info, void *context) {
    (void)info;
    count(number);
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RCX] = (greg_t)protected_page;
}

static void repairs(void) {
    forget_caught();
    act_info(SIGSEGV, allow, 0);
    for (int i = 0; i < 50; i++) {
        char *page = page_of(PROT_READ);
        page[i * 80] = (char)i;
        need(page[i * 80] == (char)i, "it is written");
        munmap(page - PAGE, 3 * PAGE);
    }
    says_value("pages written after their handler allowed it", caught[SIGSEGV]);
    char *pages = mmap(NULL, 64 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long sum = 0;
    for (int i = 0; i < 64; i++) pages[(i * 37 % 64) * PAGE] = 1;
    for (int i = 0; i < 64; i++) sum += pages[i * PAGE];
    says_value("and pages without access", sum);
    says_value("handled", caught[SIGSEGV]);
    act_info(SIGILL, skip_two, 0);
    __asm__ volatile("ud2; ud2; ud2");
    says_value("ud2 skipped", caught[SIGILL]);
    act_info(SIGILL, give_register, 0);
    long a = 1, b = 2;
    __asm__ volatile("ud2" : "+a"(a), "+b"(b));
    printf("registers given by a handler: %lx %ld\n", a, b);
    protected_page = page_of(PROT_READ | PROT_WRITE);
    *(long *)protected_page = 4711;
    act_info(SIGSEGV, point_elsewhere, 0);
    long value = 0, address = 16;
    __asm__ volatile("mov (%1), %0" : "=r"(value), "+c"(address));
    says_value("loaded from where the handler pointed", value);
}

/* Faults in handlers, and ways to die. */
static void fault_again(int number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    count(number);
    *(volatile char *)0x5678 = 1;
}
static void nested_fault(int number, siginfo_t *info, void *context) {
    (void)context;
    count(number);
    printf("handler of %d, level %d, address %lx\n", number, caught[number], (unsigned long)info->si_addr);
    fflush(stdout);
    if (caught[number] < 4) *(volatile char *)(0x1000UL * caught[number]) = 1;
    siglongjmp(back, 1);
}
static void fault_in_other(int number) {
    count(number);
    *(volatile char *)0x77 = 1;
}
static void returns(int number) { count(number); if (caught[number] > 5) _exit(42); }

static void divide(void) { __asm__ volatile("xor %%ecx, %%ecx; xor %%edx, %%edx; mov $1, %%eax; div %%ecx" ::: "rax", "rcx", "rdx"); }
/* Unblocks everything with a stack pointer where nothing is. */
static void told_on_stack(int number, siginfo_t *info, void *context) {
    printf("handler of %d: code %d address %lx, stack pointer %lx\n", number, info->si_code, (unsigned long)info->si_addr, (unsigned long)((ucontext_t *)context)->uc_mcontext.gregs[REG_RSP]);
    fflush(stdout);
    _exit(5);
}
static void on_no_stack(int rescue) {
    static char room[64 << 10];
    static unsigned long none;
    stack_t stack = {.ss_sp = room, .ss_size = sizeof room};
    if (rescue) need(sigaltstack(&stack, NULL) == 0, "sigaltstack"), act_info(SIGSEGV, told_on_stack, SA_ONSTACK);
    long result;
    __asm__ volatile("mov %%rsp, %%rbx; mov $0x3000, %%esp; mov $8, %%r10d; syscall; mov %%rbx, %%rsp" : "=a"(result) : "a"(SYS_rt_sigprocmask), "D"(SIG_SETMASK), "S"(&none), "d"(0) : "rbx", "r10", "rcx", "r11", "memory");
}

static void deaths(void) {
    for (int i = 0; i < 5; i++) signal((int[]){SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP}[i], SIG_DFL);
    IN_CHILD("a fault while it is blocked") act_info(SIGSEGV, leave, 0), block(SIGSEGV), *(volatile char *)0 = 1;
    IN_CHILD("a fault while it is ignored") signal(SIGSEGV, SIG_IGN), *(volatile char *)0 = 1;
    IN_CHILD("ud2 while SIGILL is blocked") act_info(SIGILL, leave, 0), block(SIGILL), __builtin_trap();
    IN_CHILD("a division while SIGFPE is ignored") signal(SIGFPE, SIG_IGN), divide();
    IN_CHILD("a fault in its handler") act_info(SIGSEGV, fault_again, 0), *(volatile char *)0 = 1;
    IN_CHILD("nested faults, SA_NODEFER") {
        forget_caught();
        act_info(SIGSEGV, nested_fault, SA_NODEFER);
        if (sigsetjmp(back, 1) == 0) *(volatile char *)0x500 = 1;
        holds("out of all of them", caught[SIGSEGV] == 4);
    }
    IN_CHILD("a fault in another signal's handler") {
        act(SIGUSR1, fault_in_other, 0), act_info(SIGSEGV, leave, 0);
        TRY("in SIGUSR1's handler", 0x77, send_self(SIGUSR1));
        holds("SIGUSR1 is not blocked after siglongjmp", !is_blocked(SIGUSR1) && !is_blocked(SIGSEGV));
    }
    IN_CHILD("a handler that returns to the fault") act(SIGSEGV, returns, 0), *(volatile char *)0 = 1;
    IN_CHILD("a handler that resets itself") act(SIGSEGV, count, SA_RESETHAND), *(volatile char *)0 = 1;
    IN_CHILD("a stack without an address, a handler without a stack of its own") act_info(SIGBUS, leave, 0), act(SIGSEGV, returns, 0), push_at(0x8000000000000000);
    IN_CHILD("no stack, a handler without a stack of its own") act_info(SIGSEGV, leave, 0), push_at(0x2000);
    IN_CHILD("SIGUSR1 without a stack") act(SIGUSR1, count, 0), block(SIGUSR1), send_self(SIGUSR1), on_no_stack(0);
    IN_CHILD("SIGUSR1 without a stack, SIGSEGV has one") act(SIGUSR1, count, 0), block(SIGUSR1), send_self(SIGUSR1), on_no_stack(1);
    IN_CHILD("SIGSEGV sent while blocked, then a fault") {
        act(SIGSEGV, count, 0), block(SIGSEGV), send_self(SIGSEGV);
        *(volatile char *)0 = 1;
    }
    IN_CHILD("SIGSEGV sent") act_info(SIGSEGV, leave, 0), current = "sent", expected_address = 1, sigsetjmp(back, 1) ? _exit(3) : (void)kill(getpid(), SIGSEGV);
    IN_CHILD("default of a fault beside a pending signal") {
        act(SIGUSR1, count, 0), block(SIGUSR1), send_self(SIGUSR1);
        *(volatile char *)0 = 1;
    }
}

/* A stack that grows into a guard page, told on another stack. */
static volatile int depth;
static char *guard;
static void at_guard(int number, siginfo_t *info, void *context) {
    (void)context;
    count(number);
    holds(form("overflow %d: the address is in the guard page", caught[number]), (unsigned long)info->si_addr - (unsigned long)guard < PAGE);
    siglongjmp(back, 1);
}
static int overflow(int levels) {
    volatile char room[2048];
    room[0] = (char)levels;
    depth = levels;
    return overflow(levels + 1) + room[0];
}
static char *stack_for_overflow;
static void on_stack(void *top, int (*function)(int)) {
    __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; xor %%edi, %%edi; call *%1; mov %%rbx, %%rsp" ::"r"(top), "r"(function) : "rbx", "rdi", "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory");
}
static void guards(void) {
    forget_caught();
    static char room[64 << 10];
    stack_t stack = {.ss_sp = room, .ss_size = sizeof room};
    need(sigaltstack(&stack, NULL) == 0, "sigaltstack");
    act_info(SIGSEGV, at_guard, SA_ONSTACK);
    char *area = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    guard = area;
    mprotect(guard, PAGE, PROT_NONE);
    for (int i = 0; i < 20; i++)
        if (sigsetjmp(back, 1) == 0) on_stack(area + 64 * PAGE - 64, overflow);
    for (int i = 0; i < 2; i++) {
        act_info(SIGBUS, leave, SA_ONSTACK), act_info(SIGSEGV, leave, SA_ONSTACK);
        TRY(form("push without an address, handler on its own stack, %d", i), 1, push_at(0x8000000000000000));
        TRY(form("push without a stack, handler on its own stack, %d", i), 0x1ff8, push_at(0x2000));
    }
    says_value("overflows survived", caught[SIGSEGV]);
    holds("they went deep", depth > 80);
    stack = (stack_t){.ss_flags = SS_DISABLE};
    need(sigaltstack(&stack, NULL) == 0, "sigaltstack off");
}

int main(void) {
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    kinds();
    repairs();
    deaths();
    guards();
    return 0;
}
