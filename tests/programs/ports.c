/* Touches I/O ports, this copy its share: always a fault, whose handler goes on behind the instruction. Widths take
 * turns, so that ports at the seams are tried from below, too.
 *   usage: ports in|out STEP     the ports below 0x600, where devices are, and every STEP-th of the others */
#include "common.h"
#include <ucontext.h>

static volatile unsigned long faults, wrong;

static void skip(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    faults++;
    wrong += number != SIGSEGV || info->si_code != 0x80 || registers[REG_TRAPNO] != 13 || registers[REG_ERR] != 0;
    /* Where to go on. */
    registers[REG_RIP] = registers[REG_RCX];
}

#define TRY(instruction) \
    __asm__ volatile("lea 1f(%%rip), %%rcx\n\t" instruction "\n1:" : "+a"(value), "+S"(source) : "d"(port) : "rcx", "memory")

/* What is in the register afterwards. */
static unsigned try(int out, unsigned port, unsigned turn) {
    unsigned value = 0x5a5a5a5a;
    const void *source = &value;
    switch (turn % 3 + 3 * out) {
    case 0: TRY("inb %%dx, %%al"); break;
    case 1: TRY("inw %%dx, %%ax"); break;
    case 2: TRY("inl %%dx, %%eax"); break;
    case 3: TRY("outl %%eax, %%dx"); break;
    case 4: TRY("outb %%al, %%dx"); break;
    case 5: TRY("outsw"); break;
    }
    return value;
}

int main(int argc, char **argv) {
    int out = argc > 1 && strcmp(argv[1], "out") == 0;
    struct sigaction action = {.sa_sigaction = skip, .sa_flags = SA_SIGINFO};
    need(sigaction(SIGSEGV, &action, NULL) == 0, "sigaction");
    unsigned long tried = 0, changed = 0;
    unsigned step = argc > 2 ? (unsigned)atoi(argv[2]) : 1, number = 0;
    for (unsigned port = 0; port < 65536; port += port < 0x600 ? 1 : step) {
        if (number++ % (unsigned)copies() != (unsigned)rank()) continue;
        tried++;
        changed += try(out, port, port / 4 + port) != 0x5a5a5a5a;
    }
    printf("tried %lu\nfaults %lu\nother faults %lu\nread something %lu\n", tried, faults, wrong, changed);
    return 0;
}
