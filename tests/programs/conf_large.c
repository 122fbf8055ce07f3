/* Attaches so large that a small guest has no memory for all of their page tables. */
#include "conf.h"

#define GIB (1UL << 30)

static void touched(const char *name, char *p, size_t size) {
    int right = 1;
    /* Far apart, at both ends, and many in one place. */
    for (size_t at = 0; at < size; at += size / 7) right &= p[at] == 0, p[at] = 1 + at % 100;
    right &= p[size - 1] == 0, p[size - 1] = 77;
    for (int i = 1; i < 200; i++) right &= p[size / 2 + i * PAGE] == 0, p[size / 2 + i * PAGE] = i % 100;
    for (size_t at = 0; at < size; at += size / 7) right &= p[at] == (char)(1 + at % 100);
    for (int i = 1; i < 200; i++) right &= p[size / 2 + i * PAGE] == i % 100;
    holds(name, right && p[size - 1] == 77);
}

int main(void) {
    const size_t size = 12 * GIB + 5;
    char *p, *q, *above = FREE_PLACE + 8 * GIB;
    int id = made(IPC_PRIVATE, size, SHM_NORESERVE | 0600);
    need(mmap(above, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == above, "mmap");
    at("with something above", shmat(id, FREE_PLACE, 0));
    at("with something above, read-only", shmat(id, FREE_PLACE, SHM_RDONLY));
    at("with something right above", shmat(id, above - PAGE, 0));
    at("on it", shmat(id, above, 0));
    state("refused", id);
    p = shmat(id, above, SHM_REMAP);
    at("in its place", p);
    touched("in its place, it holds what is written", p, size);
    q = shmat(id, NULL, SHM_RDONLY);
    at("a second time", q);
    holds("the same", q[0] == p[0] && q[size - 1] == 77 && q[size / 2 + PAGE] == 1);
    state("then", id);
    IN_CHILD("a child") {
        holds("the same", q[0] == 1 && p[size - 1] == 77 && q[size / 2 + 5 * PAGE] == 5);
        p[9 * PAGE] = 9;
        state("in a child", id);
        printf("%s\n", store(q));
    }
    holds("a child's byte", q[9 * PAGE] == 9);
    attaches("then", id);
    says("rights", mprotect(p + 3 * GIB, GIB, PROT_READ));
    attaches("then", id);
    printf("%s %s %s\n", store(p + 3 * GIB - 1), store(p + 3 * GIB), store(p + 4 * GIB));
    says("munmap of a part", munmap(p + 5 * GIB, GIB));
    attaches("then", id);
    char *r = mremap(p + 8 * GIB, GIB, GIB, MREMAP_MAYMOVE | MREMAP_FIXED, FREE_PLACE + 1000 * GIB);
    at("a part moved", r);
    printf("%s %s\n", load(r), load(p + 8 * GIB));
    attaches("then", id);
    says("moved part detached", shmdt(r));
    says("shmdt", shmdt(p));
    says("shmdt", shmdt(q));
    says("munmap", munmap(r, GIB));
    attaches("then", id);
    at("crooked", shmat(id, FREE_PLACE + 1, 0));
    p = shmat(id, FREE_PLACE + PAGE, 0);
    at("not at a large page's boundary", p);
    holds("the same", p[0] == 1 && p[size - 1] == 77);
    says("removed", shmctl(id, IPC_RMID, NULL));
    at("another time", q = shmat(id, NULL, 0));
    says("shmdt", shmdt(q));
    says("shmdt", shmdt(p));
    at("gone", shmat(id, NULL, 0));
    return 0;
}
