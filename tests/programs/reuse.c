/* Takes, fills and gives back most of a 64 MiB guest's memory, again and again, by every way there is. */
#include "common.h"

int main(void) {
    const size_t size = 40 * MIB;
    int zero = 1, rounds;
    for (rounds = 0; rounds < 12; rounds++) {
        char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        need(p != MAP_FAILED, "mmap");
        for (size_t i = 0; i < size; i += 512) zero &= p[i] == 0, p[i] = (char)0xff;
        if (rounds % 3 == 0) madvise(p, size, MADV_DONTNEED);
        if (rounds % 3 == 1)
            for (size_t i = 0; i < 3 * MIB; i += 3 * PAGE) munmap(p + i, PAGE);
        munmap(p, size);
    }
    printf("%d rounds\n", rounds);
    holds("zero each time", zero);
    return 0;
}
