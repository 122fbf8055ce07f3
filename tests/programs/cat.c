/* Copies stdin to stdout in pieces of odd sizes and says on stderr how many bytes there were. */
#include "common.h"

int main(void) {
    static char buffer[70000];
    size_t total = 0, size = 1;
    for (;;) {
        long n = read(0, buffer, size);
        need(n >= 0, "read");
        if (n == 0) break;
        for (long done = 0; done < n;) {
            long w = write(1, buffer + done, (size_t)(n - done));
            need(w > 0, "write");
            done += w;
        }
        total += (size_t)n;
        size = size * 3 % sizeof buffer + 1;
    }
    fprintf(stderr, "%zu bytes\nat the end %ld\n", total, (long)read(0, buffer, 10));
    return 0;
}
