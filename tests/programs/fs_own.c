/* Each guest has a tree of its own, in which the same names give the same keys. All copies must say the same. */
#include "fs.h"

int main(void) {
    static const char *const names[] = {"/", ".", "/tmp", "/proc", "/dev/null", "/etc/passwd", "/etc"};
    for (int i = 0; i < 7; i++) {
        struct stat s;
        stat(names[i], &s);
        printf("%s: device %lx inode %lx key %x\n", names[i], (unsigned long)s.st_dev, (unsigned long)s.st_ino, ftok(names[i], 'k'));
    }
    /* Process 0 of each guest makes the files; process 1 finds those of its own guest. */
    int id = shmget(0x5555, 2 * PAGE, IPC_CREAT | 0600);
    struct meeting *meeting = attached(id, NULL, 0);
    char text[40], expected[40];
    sprintf(expected, "by guest %d", guest());
    if (proc() == 0) {
        mkdir("/tmp/common", 0755);
        put("/tmp/common/key", expected);
    }
    meet(meeting);
    holds("it is my guest's", !strcmp(text_of("/tmp/common/key"), expected));
    struct stat s;
    stat("/tmp/common/key", &s);
    printf("inode %lx key %x\n", (unsigned long)s.st_ino, ftok("/tmp/common/key", 7));
    /* The key leads all of them to one segment. */
    int common = shmget(ftok("/tmp/common/key", 7), PAGE, IPC_CREAT | 0600);
    _Atomic int *count = attached(common, NULL, 0);
    atomic_fetch_add(count, 1);
    meet(meeting);
    printf("%d have come\n", atomic_load(count));
    meet(meeting);
    shmdt((void *)count);
    if (rank() == 0) removed(common), removed(id);
    (void)text;
    return 0;
}
