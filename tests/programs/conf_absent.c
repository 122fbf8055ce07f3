/* semctl and msgctl where there are no semaphores and no message queues: each command, with an identifier and a place
 * for the answer that can be and one that can't. */
#include "conf.h"

static unsigned char space[256];

static void told(const char *name, int command, int id, long result) {
    printf("%s %d of %d: %s", name, command, id, outcome(result));
    int length = sizeof space;
    while (length && space[length - 1] == 0xee) length--;
    for (int i = 0; i < length; i += 4) printf(" %d", *(int *)(space + i));
    printf(", %d bytes\n", length);
    memset(space, 0xee, sizeof space);
}

int main(void) {
    void *const places[] = {space, (void *)1};
    memset(space, 0xee, sizeof space);
    for (int command = -1; command <= 24; command++)
        for (int id = -1; id <= 1; id++)
            for (int i = 0; i < 2; i++) {
                told("semctl", command, id, syscall(SYS_semctl, id, 0, command, places[i]));
                told("msgctl", command, id, syscall(SYS_msgctl, id, command, places[i]));
            }
    return 0;
}
