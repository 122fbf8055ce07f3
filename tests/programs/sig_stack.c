/* sigaltstack(2): what is refused, what is told, where handlers run, and that a stack that is used up is not left. */
#include "sig.h"

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif
static long raw_stack(const void *new, void *old) { return syscall(SYS_sigaltstack, new, old); }
static char room[256 << 10], other[64 << 10];
static stack_t set_aside(void *base, size_t size, int flags) { return (stack_t){.ss_sp = base, .ss_size = size, .ss_flags = flags}; }
static const char *place(const void *address) {
    if ((char *)address >= room && (char *)address < room + sizeof room) return "the room";
    if ((char *)address >= other && (char *)address < other + sizeof other) return "the other room";
    return "elsewhere";
}
static const char *stack_text(const stack_t *stack) { return form("at %s, %zu bytes, flags %x", stack->ss_sp ? place(stack->ss_sp) : "0", stack->ss_size, stack->ss_flags); }
static void tell_stack(const char *name) {
    stack_t now;
    memset(&now, 0x55, sizeof now);
    says(name, raw_stack(NULL, &now));
    printf("%s: %s\n", name, stack_text(&now));
}

static void arguments(void) {
    stack_t stack = set_aside(room, sizeof room, 0), old;
    tell_stack("at the start");
    says("from a bad address", raw_stack((void *)8, NULL));
    says("told to a bad address", raw_stack(NULL, (void *)8));
    says("nothing asked, nothing told", raw_stack(NULL, NULL));
    static const struct { size_t size; unsigned flags; } some[] = {{0, 0}, {1, 0}, {2047, 0}, {65536, 0}, {65536, SS_ONSTACK}, {65536, 3}, {65536, 4}, {65536, SS_AUTODISARM}, {65536, SS_AUTODISARM | SS_ONSTACK},
        {65536, SS_AUTODISARM | SS_DISABLE}, {0, SS_DISABLE}, {65536, SS_DISABLE}, {65536, 0x40000000}, {65536, SS_AUTODISARM | 8}, {0, SS_AUTODISARM}, {65536, 0}};
    for (unsigned i = 0; i < sizeof some / sizeof *some; i++) {
        stack = set_aside(room, some[i].size, some[i].flags);
        memset(&old, 0x55, sizeof old);
        long result = raw_stack(&stack, &old);
        printf("size %zu flags %x: %s, before %s\n", some[i].size, some[i].flags, outcome(result), result ? "unknown" : stack_text(&old));
        tell_stack("then");
    }
    IN_CHILD("one that is everywhere") {
        stack = set_aside(room, ~0UL, 0);
        says("set", raw_stack(&stack, NULL));
        tell_stack("then");
        says("off", raw_stack(&(stack_t){.ss_flags = SS_DISABLE}, NULL));
    }
    stack = set_aside(other, sizeof other, 0);
    says("set, the old one to a bad address", raw_stack(&stack, (void *)8));
    tell_stack("set all the same");
    stack = set_aside(NULL, 0, SS_DISABLE);
    says("off", raw_stack(&stack, NULL));
}

static int levels;
static void tell_handler(int number, siginfo_t *info, void *context) {
    (void)info;
    char here;
    stack_t stack;
    ucontext_t *ucontext = context;
    raw_stack(NULL, &stack);
    printf("handler of %d runs on %s; stack: %s; in the frame: %s; it came from %s\n", number, place(&here), stack_text(&stack), stack_text(&ucontext->uc_stack),
           place((void *)ucontext->uc_mcontext.gregs[REG_RSP]));
    stack = set_aside(other, sizeof other, 0);
    says("changing it there", raw_stack(&stack, NULL));
    raw_stack(NULL, &stack);
    printf("then: %s\n", stack_text(&stack));
    if (number == SIGUSR1 && levels++ < 3) send_self(SIGUSR2);
}
static void tell_only(int number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    char here;
    stack_t stack;
    raw_stack(NULL, &stack);
    printf("inner handler of %d runs on %s; stack: %s\n", number, place(&here), stack_text(&stack));
}
static void running(unsigned flags) {
    stack_t stack = set_aside(room, sizeof room, flags);
    levels = 0;
    printf("flags %x\n", flags);
    need(raw_stack(&stack, NULL) == 0, "sigaltstack");
    act_info(SIGUSR1, tell_handler, SA_ONSTACK), act_info(SIGUSR2, tell_only, SA_ONSTACK);
    send_self(SIGUSR1);
    tell_stack("after it");
    need(raw_stack(&stack, NULL) == 0, "sigaltstack");
    act_info(SIGUSR1, tell_handler, 0), act_info(SIGUSR2, tell_only, SA_ONSTACK);
    send_self(SIGUSR1);
    tell_stack("after one without SA_ONSTACK");
    need(raw_stack(&stack, NULL) == 0, "sigaltstack");
    act_info(SIGUSR1, tell_handler, SA_ONSTACK), act_info(SIGUSR2, tell_only, 0);
    send_self(SIGUSR1);
    tell_stack("after one with an inner one without SA_ONSTACK");
    stack = set_aside(NULL, 0, SS_DISABLE);
    need(raw_stack(&stack, NULL) == 0, "off");
    act_info(SIGUSR1, tell_only, SA_ONSTACK);
    send_self(SIGUSR1);
}

/* What the frame says of the stack counts when the handler returns. */
static unsigned changed_flags;
static void changes_frame(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    ucontext_t *ucontext = context;
    ucontext->uc_stack = set_aside(other, changed_flags & 0x10000 ? 100 : sizeof other, changed_flags & 0xffff);
}
static void returning(void) {
    stack_t stack = set_aside(NULL, 0, SS_DISABLE);
    act_info(SIGUSR1, changes_frame, 0);
    for (unsigned i = 0; i < 4; i++) {
        need(raw_stack(&stack, NULL) == 0, "off");
        changed_flags = (unsigned[]){0, 2, 9, 0x10000}[i];
        send_self(SIGUSR1);
        tell_stack(form("set by a frame, %x", changed_flags));
    }
    stack = set_aside(room, sizeof room, 0);
    need(raw_stack(&stack, NULL) == 0, "on");
    act_info(SIGUSR1, changes_frame, SA_ONSTACK);
    changed_flags = 0;
    send_self(SIGUSR1);
    tell_stack("set by a frame on the stack itself");
    stack = set_aside(room, sizeof room, SS_AUTODISARM);
    raw_stack(&stack, NULL);
    send_self(SIGUSR1);
    tell_stack("set by a frame on a stack that disarms itself");
    stack = set_aside(NULL, 0, SS_DISABLE);
    raw_stack(&stack, NULL);
}

/* A handler that never stops using its stack. */
/* Sends SIGUSR1 again and again without using any stack: only frames fill it. */
pid_t own_pid;
void sends_first(int number);
__asm__(".text; .globl sends_first; sends_first: mov own_pid(%rip), %edi; mov $10, %esi; mov $62, %eax; syscall; jmp sends_first");
static sigjmp_buf back;
static int overflow(int level) {
    volatile char use[2000];
    use[0] = (char)level;
    return overflow(level + 1) + use[0];
}
static void jumps(int number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    count(number);
    siglongjmp(back, 1);
}
static void using_up(void) {
    IN_CHILD("a handler that fills its stack with itself") {
        stack_t stack = set_aside(room, 64 << 10, 0);
        raw_stack(&stack, NULL);
        /* The inner ones without SA_ONSTACK: they would begin anew at the top as soon as the red zone is not on it. */
        act(SIGUSR1, sends_first, SA_NODEFER), act(SIGUSR2, sends_first, SA_ONSTACK);
        own_pid = getpid();
        send_self(SIGUSR2);
    }
    IN_CHILD("and one that overflows it") {
        stack_t stack = set_aside(mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 32 * PAGE, 0);
        mprotect(stack.ss_sp, PAGE, PROT_NONE);
        raw_stack(&stack, NULL);
        act(SIGUSR1, (void (*)(int))overflow, SA_ONSTACK);
        send_self(SIGUSR1);
    }
    IN_CHILD("a stack that is too small for a frame") {
        stack_t stack = set_aside(room, 2048, 0);
        raw_stack(&stack, NULL);
        act(SIGUSR1, count, SA_ONSTACK);
        /* Bytes that a frame needs depend on the CPU: on some it fits. */
        if (fork() == 0) send_self(SIGUSR1), _exit(0);
        int status;
        wait(&status);
        _exit(WIFEXITED(status) && WEXITSTATUS(status) == 0 || WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV ? 0 : 1);
    }
    IN_CHILD("a stack that is not there") {
        stack_t stack = set_aside((void *)0x10000, 65536, 0);
        raw_stack(&stack, NULL);
        act(SIGUSR1, count, SA_ONSTACK);
        send_self(SIGUSR1);
    }
    IN_CHILD("recovery from an overflow of the stack, again and again") {
        stack_t stack = set_aside(room, 64 << 10, 0);
        raw_stack(&stack, NULL);
        act_info(SIGSEGV, jumps, SA_ONSTACK);
        for (int i = 0; i < 10; i++)
            if (sigsetjmp(back, 1) == 0) overflow(0);
        says_value("recovered", caught[SIGSEGV]);
    }
}

int main(int argc, char **argv) {
    if (argc > 1) {
        tell_stack("after exec");
        return 0;
    }
    arguments();
    running(0), running(SS_AUTODISARM);
    returning();
    using_up();
    stack_t stack = set_aside(room, sizeof room, SS_AUTODISARM);
    raw_stack(&stack, NULL);
    IN_CHILD("forked") tell_stack("forked");
    fflush(stdout);
    if (forked() == 0) execl("/proc/self/exe", argv[0], "after", NULL), _exit(97);
    waited(the_child);
    return 0;
}
