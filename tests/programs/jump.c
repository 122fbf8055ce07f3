/* Jumps to an address in the kernel as if it were the way in, with RCX and R11 of its own choice.
 * usage: jump ADDRESS good|kernel|noncanonical|null FLAGS
 * Where SYSCALL arrives in ring 3 the jump may count as a call; then RCX is where it returns to. */
#include "common.h"

int main(int argc, char **argv) {
    unsigned long address = argc > 1 ? strtoul(argv[1], NULL, 0) : 0xffffffff80200000UL;
    /* Without a place to aim at, each copy takes another one in the image. */
    if (argc > 1 && strcmp(argv[1], "spread") == 0) address = 0xffffffff80200000UL + (unsigned long)rank() * 0x240;
    const char *where = argc > 2 ? argv[2] : "good";
    unsigned long flags = argc > 3 ? strtoul(argv[3], NULL, 0) : 0x3f7ed7, after, result;
    unsigned long back = strcmp(where, "kernel") == 0         ? 0xffffffff80200010UL
                         : strcmp(where, "noncanonical") == 0 ? 0x8000000000000000UL
                                                              : 0;
    __asm__ volatile("lea 1f(%%rip), %%rcx\n"
                     "test %[back], %[back]\n"
                     "cmovnz %[back], %%rcx\n"
                     "mov %[flags], %%r11\n"
                     "sub $128, %%rsp\n"
                     "jmp *%[address]\n"
                     "1: pushfq\n"
                     "pop %[after]\n"
                     "add $128, %%rsp\n"
                     "cld\n"
                     "pushq $0x202\n"
                     "popfq\n"
                     : "=a"(result), [after] "=&r"(after)
                     : "a"(SYS_getpid), [back] "r"(back), [flags] "r"(flags), [address] "r"(address)
                     : "rcx", "r11", "memory", "cc");
    printf("came back with %s\n", (long)result == getpid() ? "my pid" : "something else");
    holds("interrupts are on", (after & 0x200) != 0);
    holds("no I/O privilege", (after & 0x3000) == 0);
    holds("no nested task, no virtual 8086 mode", (after & 0x24000) == 0);
    return 0;
}
