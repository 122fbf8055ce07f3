/* The ways a process can be ended for what it did. The first argument names one; an optional second one is an address. */
#include "common.h"

static const int constant = 1;
static int overflow(int levels) {
    volatile char room[4096];
    room[0] = (char)levels;
    return overflow(levels + 1) + room[0];
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    unsigned long address = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;
    volatile int *at = (volatile int *)address;
    printf("about to %s\n", what);
    fflush(stdout);
#define IF(name) if (strcmp(what, name) == 0)
    IF("read") (void)*at;
    IF("write") *at = 1;
    IF("jump") ((void (*)(void))address)();
    IF("write-text") *(volatile char *)(uintptr_t)main = 1;
    IF("write-constant") *(volatile int *)&constant = 2;
    IF("execute-stack") {
        unsigned char code[16] = {0xc3};
        ((void (*)(void))(uintptr_t)code)();
    }
    IF("execute-heap") {
        unsigned char *code = malloc(1);
        *code = 0xc3;
        ((void (*)(void))(uintptr_t)code)();
    }
    IF("write-none") {
        char *page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        *(volatile char *)page = 1;
    }
    IF("read-unmapped") {
        char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        *(volatile char *)page = 1;
        munmap(page, PAGE);
        (void)*(volatile char *)page;
    }
    IF("write-protected") {
        char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        *(volatile char *)page = 1;
        mprotect(page, PAGE, PROT_READ);
        *(volatile char *)page = 2;
    }
    IF("divide") {
        volatile int zero = 0;
        zero = 12345 / zero;
    }
    IF("divide-overflow") {
        volatile long least = INT64_MIN, minus = -1;
        least = least / minus;
    }
    IF("overflow-stack") return overflow(0);
    IF("ud2") __asm__ volatile("ud2");
    IF("int3") __asm__ volatile("int3");
    IF("int1") __asm__ volatile(".byte 0xf1");
    IF("int-n") __asm__ volatile("int $0x7f");
    IF("hlt") __asm__ volatile("hlt");
    IF("cli") __asm__ volatile("cli");
    IF("sti") __asm__ volatile("sti");
    IF("in") __asm__ volatile("inb $0x80, %%al" ::: "rax");
    IF("out") __asm__ volatile("outb %%al, $0x80" ::: "rax");
    IF("rdmsr") __asm__ volatile("rdmsr" ::"c"(0xc0000082) : "rax", "rdx");
    IF("wrmsr") __asm__ volatile("wrmsr" ::"c"(0xc0000082), "a"(0), "d"(0));
    IF("read-cr0") __asm__ volatile("mov %%cr0, %%rax" ::: "rax");
    IF("read-cr3") __asm__ volatile("mov %%cr3, %%rax" ::: "rax");
    IF("write-cr3") __asm__ volatile("mov %0, %%cr3" ::"r"(0UL));
    IF("write-cr4") __asm__ volatile("mov %0, %%cr4" ::"r"(0UL));
    IF("lgdt") __asm__ volatile("lgdt (%0)" ::"r"(argv));
    IF("lidt") __asm__ volatile("lidt (%0)" ::"r"(argv));
    IF("ltr") __asm__ volatile("ltr %%ax" ::"a"(0x40));
    IF("swapgs") __asm__ volatile("swapgs");
    IF("sysret") __asm__ volatile("sysretq" ::"c"(main));
    IF("iret-to-ring-0") __asm__ volatile("pushq $0x18; pushq %%rsp; pushfq; pushq $0x10; pushq %0; iretq" ::"r"((uintptr_t)main));
    IF("invlpg") __asm__ volatile("invlpg (%0)" ::"r"(argv));
    IF("clts") __asm__ volatile("clts");
    IF("load-kernel-ss") __asm__ volatile("mov %%ax, %%ss" ::"a"(0x18));
    IF("far-jump-to-ring-0") {
        struct __attribute__((packed)) { uint32_t offset; uint16_t segment; } target = {(uint32_t)(uintptr_t)main, 0x10};
        __asm__ volatile("ljmp *%0" ::"m"(target));
    }
    IF("noncanonical-stack") __asm__ volatile("mov %0, %%rsp; push %%rax" ::"r"(0x8000000000000000UL));
    IF("kernel-stack") __asm__ volatile("mov %0, %%rsp; push %%rax" ::"r"(0xffffffffc0007f00UL));
    IF("fpu-exception") {
        uint32_t unmasked = 0x1f80 & ~0x200u;
        __asm__ volatile("ldmxcsr %0" ::"m"(unmasked));
        volatile double zero = 0;
        zero = 12345 / zero;
    }
    IF("x87-exception") {
        unsigned short unmasked = 0x37f & ~4;
        __asm__ volatile("fldcw %0; fldz; fld1; fdivp; fwait" ::"m"(unmasked));
    }
    IF("alignment-check") {
        long pair[2];
        __asm__ volatile("pushfq; orq $0x40000, (%%rsp); popfq; movl %%eax, 1(%0)" ::"r"(pair) : "memory", "cc");
    }
    IF("single-step") __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop" ::: "cc", "memory");
    puts("survived");
    return 0;
}
