/* Every copy in turn writes the first, a middle and the last byte of every page of one segment, and every copy reads them
 * through every attach it has.   usage: sharing SIZE [chosen|given|odd|several] */
#include "common.h"

struct control {
    struct meeting meeting;
    _Atomic uint32_t wrong;
};

static unsigned char mark(int writer, size_t page, int place) {
    return (unsigned char)(1 + writer * 53 + (int)(page * 7) + (int)(page >> 8) + place * 101);
}

static void write_all(volatile unsigned char *p, size_t pages, int writer) {
    for (size_t i = 0; i < pages; i++) {
        p[i * PAGE] = mark(writer, i, 0);
        p[i * PAGE + 1234] = mark(writer, i, 1);
        p[i * PAGE + PAGE - 1] = mark(writer, i, 2);
    }
}

static size_t wrong_in(const volatile unsigned char *p, size_t pages, int writer) {
    size_t wrong = 0;
    for (size_t i = 0; i < pages; i++)
        wrong += (p[i * PAGE] != mark(writer, i, 0)) + (p[i * PAGE + 1234] != mark(writer, i, 1)) +
                 (p[i * PAGE + PAGE - 1] != mark(writer, i, 2));
    return wrong;
}

int main(int argc, char **argv) {
    size_t size = argc > 1 ? strtoul(argv[1], NULL, 0) : PAGE, pages = (size + PAGE - 1) / PAGE;
    const char *how = argc > 2 ? argv[2] : "chosen";
    struct control *control = attached(segment_of_all(0x5a1, sizeof *control), NULL, 0);
    int id = segment_of_all(0x5a2, size);

    /* Each copy attaches somewhere else, so nothing can work by equal addresses. */
    char *place = (char *)0x100000000000 + (size_t)rank() * (1UL << 32);
    unsigned char *views[4];
    int count = 0, writable = 1;
    if (strcmp(how, "chosen") == 0) views[count++] = attached(id, NULL, 0);
    if (strcmp(how, "given") == 0) views[count++] = attached(id, place, 0);
    if (strcmp(how, "odd") == 0) views[count++] = attached(id, place + 17 * PAGE, 0);
    if (strcmp(how, "several") == 0) {
        views[count++] = attached(id, NULL, 0);
        views[count++] = attached(id, place + PAGE, 0);
        writable = 2;
        views[count++] = attached(id, NULL, SHM_RDONLY);
        views[count++] = attached(id, place + (1UL << 31), SHM_RDONLY);
    }
    need(count > 0, "chosen, given, odd or several");
    meet(&control->meeting);
    printf("%ld attaches of %zu bytes\n", nattch(id), size);
    meet(&control->meeting);

    for (int writer = 0; writer < copies(); writer++) {
        if (writer == rank()) write_all(views[writer % writable], pages, writer);
        meet(&control->meeting);
        size_t wrong = 0;
        for (int view = 0; view < count; view++) wrong += wrong_in(views[view], pages, writer);
        if (wrong) atomic_fetch_add(&control->wrong, 1);
        printf("what %d wrote, %d sees with %zu wrong bytes\n", writer, rank(), wrong);
        meet(&control->meeting);
    }
    if (rank() == 0) shmctl(id, IPC_RMID, NULL), shmctl(shmget(0x5a1, 0, 0), IPC_RMID, NULL);
    for (int view = 0; view < count; view++) says("detach", shmdt(views[view]));
    return atomic_load(&control->wrong) != 0;
}
