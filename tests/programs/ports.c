/* Touches the I/O port its number stands for, one process a port: always a fault.   usage: ports in|out */
#include "common.h"

int main(int argc, char **argv) {
    static const unsigned chosen[] = {0x500, 0x501, 0x502, 0x503, 0x504, 0x505, 0x508, 0x20, 0x21, 0x40, 0x43, 0x60,
                                      0x64, 0x70, 0x71, 0x80, 0x92, 0xa0, 0xcf8, 0xcfc, 0x2f8, 0x3f8, 0x402, 0x604,
                                      0, 0xffff, 0x1f0, 0x3c0, 0x510, 0x511, 0x4d0, 0xb004};
    unsigned count = sizeof chosen / sizeof *chosen, index = (unsigned)rank();
    unsigned port = index < count ? chosen[index] : index * 2654435761u >> 16;
    unsigned value = 0;
    int out = argc > 1 && strcmp(argv[1], "out") == 0;
    if (!out && index % 3 == 0) __asm__ volatile("inb %%dx, %%al" : "+a"(value) : "d"(port));
    if (!out && index % 3 == 1) __asm__ volatile("inw %%dx, %%ax" : "+a"(value) : "d"(port));
    if (!out && index % 3 == 2) __asm__ volatile("inl %%dx, %%eax" : "+a"(value) : "d"(port));
    if (out && index % 3 == 0) __asm__ volatile("outl %%eax, %%dx" ::"a"(value), "d"(port));
    if (out && index % 3 == 1) __asm__ volatile("outb %%al, %%dx" ::"a"(value), "d"(port));
    if (out && index % 3 == 2) __asm__ volatile("rep outsl" ::"S"(chosen), "c"(1), "d"(port));
    printf("survived port %#x\n", port);
    return 0;
}
