/* Attach, touch, detach, again and again, in all the ways there are.   usage: rounds COUNT SIZE */
#include "common.h"

int main(int argc, char **argv) {
    long count = argc > 1 ? atol(argv[1]) : 1000;
    size_t size = argc > 2 ? strtoul(argv[2], NULL, 0) : PAGE;
    int id = shmget(IPC_PRIVATE, size, 0600);
    need(id >= 0, "shmget");
    char *place = (char *)0x280000000000;
    /* A large segment where no large page fits would take minutes on a software KVM. */
    size_t step = size > 16 * MIB ? 2 * MIB : PAGE;
    long wrong = 0;
    for (long i = 0; i < count; i++) {
        volatile unsigned char *p = attached(id, i % 3 == 1 ? place + (i % 7) * step : NULL, 0);
        wrong += i > 0 && (p[0] != (unsigned char)(i - 1) || p[size - 1] != (unsigned char)(i - 1));
        p[0] = p[size - 1] = (unsigned char)i;
        if (i % 4 == 3) {
            volatile unsigned char *ro = attached(id, NULL, SHM_RDONLY);
            wrong += ro[0] != (unsigned char)i;
            wrong += shmdt((void *)ro) != 0;
        }
        wrong += (i % 5 == 4 ? munmap((void *)p, size) : shmdt((void *)p)) != 0;
    }
    printf("%ld rounds, %ld wrong\n", count, wrong);
    says_value("attaches", nattch(id));
    says("remove", shmctl(id, IPC_RMID, NULL));
    return wrong != 0;
}
