/* Who may do what: classes of users, directories, sticky ones, owners, groups, access, and the ids for files. */
#include "fs.h"
#include <sys/fsuid.h>

static const struct user { const char *name; uid_t uid; gid_t gid; gid_t groups[2]; int count; } users[] = {
    {"root", 0, 0, {0}, 0}, {"owner", 1001, 2001, {0}, 0}, {"group", 1002, 2002, {2001}, 1}, {"member", 1003, 2001, {0}, 0}, {"other", 1004, 2004, {2005, 2006}, 2}};
#define USERS (int)(sizeof users / sizeof *users)

static void be(const struct user *u) { become(u->uid, u->gid, u->count, u->groups); }

/* Three lines of nine letters: which of reading, writing, executing each user may. */
static void files(void) {
    puts("-- files");
    static const int modes[] = {0, 0400, 0200, 0100, 0600, 0644, 0666, 0640, 0620, 0610, 0040, 0020, 0010, 0004, 0002, 0001, 0755, 0711, 0700, 0070, 0007, 0077, 0111, 0222, 0444};
    for (unsigned m = 0; m < sizeof modes / sizeof *modes; m++) {
        put("f", "#");
        need(chown("f", 1001, 2001) == 0 && chmod("f", modes[m]) == 0, "a file");
        for (int u = 0; u < USERS; u++)
            AS_CHILD {
                be(&users[u]);
                char line[64];
                int n = sprintf(line, "%04o %s:", modes[m], users[u].name);
                static const int flags[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC};
                for (int i = 0; i < 4; i++) {
                    int fd = open("f", flags[i]);
                    line[n++] = fd < 0 ? '-' : "rwbt"[i];
                    if (fd >= 0) close(fd);
                }
                line[n++] = ' ';
                for (int want = 1; want < 8; want++) line[n++] = access("f", want) ? '-' : '0' + want;
                line[n++] = ' ';
                char *const none[] = {NULL};
                /* Not a program, so ENOEXEC is what comes after permission. */
                line[n++] = (execve("f", none, none), errno == EACCES) ? '-' : 'x';
                line[n] = 0;
                puts(line);
            }
    }
    unlink("f");
}

static void directories(void) {
    puts("-- directories");
    static const int modes[] = {0, 0111, 0222, 0333, 0444, 0555, 0666, 0777, 01777, 0700, 0070, 0007, 0750, 0711};
    for (unsigned m = 0; m < sizeof modes / sizeof *modes; m++) {
        mkdir("d", 0755);
        put("d/theirs", "x"), put("d/mine", "x"), put("d/third", "x");
        mkdir("d/sub", 0755);
        need(chown("d/theirs", 1004, 2004) == 0 && chown("d/mine", 1002, 2002) == 0 && chown("d/sub", 1002, 2002) == 0 && chmod("d/third", 0666) == 0, "files");
        need(chown("d", 1001, 2001) == 0 && chmod("d", modes[m]) == 0, "a directory");
        for (int u = 1; u < USERS; u++)
            AS_CHILD {
                be(&users[u]);
                printf("%04o %s\n", modes[m], users[u].name);
                DIR *d = opendir("d");
                says("  list", d ? 0 : -1);
                if (d) closedir(d);
                struct stat s;
                says("  stat", stat("d/third", &s));
                says("  stat what is not", stat("d/nothing", &s));
                says("  make", open("d/new", O_CREAT | O_WRONLY | O_EXCL, 0600) < 0 ? -1 : 0);
                says("  mkdir", mkdir("d/newdir", 0700));
                says("  mkdir over", mkdir("d/third", 0700));
                says("  symlink", symlink("x", "d/newlink"));
                says("  link to a third's", link("d/third", "d/another"));
                says("  link to another's", link("d/theirs", "d/another2"));
                says("  rename", rename("d/third", "d/renamed"));
                says("  rename back", rename("d/renamed", "d/third"));
                says("  unlink of mine", unlink("d/mine"));
                says("  unlink of another's", unlink("d/theirs"));
                says("  unlink of root's", unlink("d/third"));
                says("  unlink of what is not", unlink("d/nothing"));
                says("  rmdir", rmdir("d/sub"));
                says("  rmdir of my own", rmdir("d/newdir"));
                says("  chdir", chdir("d"));
            }
        remove_tree("d");
    }
}

static void owners(void) {
    puts("-- owners");
    for (int u = 0; u < USERS; u++) {
        put("f", "");
        need(chown("f", 1001, 2001) == 0 && chmod("f", 06755) == 0, "a file");
        AS_CHILD {
            be(&users[u]);
            printf("%s\n", users[u].name);
            says("  chown to itself", chown("f", 1001, -1));
            facts("f");
            says("  chown to another", chown("f", 1002, -1));
            says("  chgrp to its own", chown("f", -1, 2001));
            says("  chgrp to another", chown("f", -1, 2004));
            says("  neither", chown("f", -1, -1));
            facts("f");
            says("  chmod", chmod("f", 06711));
            facts("f");
            says("  chmod of more bits", chmod("f", 0x7fffffff));
            facts("f");
            says("  fchmod", (open("f", O_RDONLY), fchmod(3, 0644)));
        }
        facts("f");
        unlink("f");
    }
    put("f", ""), symlink("f", "l");
    says("lchown", lchown("l", 5, 6));
    facts("l"), facts("f");
    says("fchownat", fchownat(AT_FDCWD, "l", 7, 8, AT_SYMLINK_NOFOLLOW));
    facts("l"), facts("f");
    says("fchownat, followed", fchownat(AT_FDCWD, "l", 9, 10, 0));
    facts("l"), facts("f");
    says("fchownat with bad flags", fchownat(AT_FDCWD, "l", 9, 10, 0x8000));
    int fd = open("f", O_RDONLY);
    says("fchown", fchown(fd, 11, 12));
    facts("f");
    says("fchown of no descriptor", fchown(99, 1, 1));
    says("fchmod of no descriptor", fchmod(99, 1));
    says("chmod of what is not", chmod("nothing", 0));
    says("chmod below a file", chmod("f/x", 0));
    close(fd);
    /* Set-group-id without execution stays when the owner changes. */
    chmod("f", 02644), chown("f", 1, 1);
    facts("f");
    chmod("f", 02654), chown("f", 1, 1);
    facts("f");
    chmod("f", 06755);
    AS_CHILD {
        need(chown("f", 1001, 2001) == 0 && chmod("f", 06777) == 0, "a file");
        be(&users[4]);
        fd = open("f", O_WRONLY);
        says_value("writing takes the bits away", write(fd, "x", 1));
        facts("f");
    }
    unlink("f"), unlink("l");
    mkdir("d", 0755);
    chmod("d", 02755), chown("d", 1001, 2001);
    facts("d");
    rmdir("d");
}

static void ids(void) {
    puts("-- ids");
    put("mine", "x"), chmod("mine", 0600), chown("mine", 1001, 2001);
    put("roots", "x"), chmod("roots", 0600);
    chmod(".", 0777);
    AS_CHILD {
        /* access(2) is about the real ids. */
        need(setresuid(1001, 0, 0) == 0, "ids");
        says("real 1001: access root's", access("roots", R_OK));
        says("real 1001: access mine", access("mine", R_OK));
        says("real 1001: open root's", open("roots", O_RDONLY) < 0 ? -1 : 0);
        says("real 1001: faccessat by the effective", faccessat(AT_FDCWD, "roots", R_OK, AT_EACCESS));
        says("F_OK", access("roots", F_OK));
        says("bad mode", access("roots", 8));
        says("bad flags", syscall(439, AT_FDCWD, "roots", R_OK, 0x8000));
    }
    AS_CHILD {
        need(setresuid(0, 1001, 0) == 0, "ids");
        says("effective 1001: access root's", access("roots", R_OK));
        says("effective 1001: open root's", open("roots", O_RDONLY));
        says("effective 1001: open mine", open("mine", O_RDONLY) < 0 ? -1 : 0);
        put("made", "x");
        facts("made");
        unlink("made");
    }
    AS_CHILD {
        says_value("setfsuid", setfsuid(1001));
        says_value("again", setfsuid(1001));
        says("open root's", open("roots", O_RDONLY));
        says("open mine", open("mine", O_RDONLY) < 0 ? -1 : 0);
        says_value("setfsgid", setfsgid(2001));
        put("made", "x");
        facts("made");
        says("chown", chown("made", 0, 0));
        unlink("made");
        says_value("and back", setfsuid(0));
        says("open root's", open("roots", O_RDONLY) < 0 ? -1 : 0);
        says("seteuid sets it, too", seteuid(1001));
        says_value("setfsuid", setfsuid(0));
        says_value("it is", setfsuid(-1));
        says("open root's", open("roots", O_RDONLY) < 0 ? -1 : 0);
    }
    AS_CHILD {
        gid_t groups[] = {2001};
        become(1005, 2005, 1, groups);
        put("made", "x");
        facts("made");
        says("give it to a group of mine", chown("made", -1, 2001));
        facts("made");
        says("to another", chown("made", -1, 2002));
        unlink("made");
    }
    /* Descriptors carry what was allowed when they were opened. */
    AS_CHILD {
        int fd = open("roots", O_RDWR);
        become(1005, 2005, 0, NULL);
        char c;
        says_value("an open file stays usable", pread(fd, &c, 1, 0));
        says_value("for writing, too", pwrite(fd, "y", 1, 0));
        says("but not by name", open("roots", O_RDONLY));
        says("nor by its descriptor's", open(form("/proc/self/fd/%d", fd), O_RDONLY));
        says("fchmod", fchmod(fd, 0666));
        says("ftruncate", ftruncate(fd, 0));
    }
    unlink("mine"), unlink("roots");
    /* A sticky directory. */
    mkdir("t", 0777), chmod("t", 01777);
    put("t/a", "x"), chown("t/a", 1001, 2001), put("t/b", "x"), chown("t/b", 1002, 2002);
    AS_CHILD {
        be(&users[1]);
        says("rename over another's", rename("t/a", "t/b"));
        says("rename of another's", rename("t/b", "t/c"));
        says("rename of mine", rename("t/a", "t/c"));
        says("unlink of another's", unlink("t/b"));
    }
    chown("t", 1001, 2001);
    AS_CHILD {
        be(&users[1]);
        says("the directory's owner may", rename("t/c", "t/b"));
    }
    lists("t");
    remove_tree("t");
    /* Paths through what may not be searched. */
    mkdir("p", 0700), mkdir("p/q", 0777), put("p/q/f", "x");
    int fd = open("p/q", O_RDONLY);
    AS_CHILD {
        become(1001, 2001, 0, NULL);
        struct stat s;
        says("stat", stat("p/q/f", &s));
        says("open", open("p/q/f", O_RDONLY));
        says("by a descriptor", openat(fd, "f", O_RDONLY) < 0 ? -1 : 0);
        says("dots", stat("p/..", &s));
        says("dots by a descriptor", fstatat(fd, "..", &s, 0));
        says("up through it", fstatat(fd, "../..", &s, 0));
        says("fchdir", fchdir(fd));
        char path[300];
        holds("getcwd", getcwd(path, sizeof path) != NULL);
    }
    remove_tree("p");
}

int main(void) {
    enter_home();
    files();
    directories();
    owners();
    ids();
    leave_home();
    return 0;
}
