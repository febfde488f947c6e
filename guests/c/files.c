/* Does to files and directories what programs do to them, and says what came of it.
 *
 * files DIR
 *
 * DIR must be writable and have no entry named "files-work". All that it makes it takes away again.
 * Exit code: 0 all went as expected, 1 a step failed (it is named on standard error), 2 wrong usage.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[512], other[512];
static const char *root;

static const char *in_root(char *out, const char *name) {
    snprintf(out, sizeof path, "%s/files-work%s%s", root, *name ? "/" : "", name);
    return out;
}

static void need(int ok, const char *step) {
    if (ok)
        return;
    fprintf(stderr, "files: %s: %s\n", step, strerror(errno));
    exit(1);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *what) {
    char *names[16];
    size_t count = 0;
    struct dirent *entry;
    char here[sizeof path];
    DIR *dir = opendir(in_root(here, ""));

    need(dir != NULL, "opendir");
    while ((entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            need(count < 16, "too many entries");
            names[count++] = strdup(entry->d_name);
        }
    closedir(dir);
    qsort(names, count, sizeof names[0], by_name);
    printf("%s:", what);
    for (size_t i = 0; i < count; i++) {
        printf(" %s", names[i]);
        free(names[i]);
    }
    printf("\n");
}

int main(int argc, char **argv) {
    struct stat st;
    char text[64];
    FILE *file;
    int fd;

    if (argc != 2) {
        fprintf(stderr, "usage: files DIR\n");
        return 2;
    }
    root = argv[1];

    need(mkdir(in_root(path, ""), 0755) == 0, "mkdir");
    need(mkdir(in_root(path, ""), 0755) != 0 && errno == EEXIST, "mkdir again");
    need(mkdir(in_root(path, "sub"), 0755) == 0, "mkdir sub");

    need((file = fopen(in_root(path, "a"), "w+")) != NULL, "create a");
    need(fputs("0123456789\n", file) >= 0, "write a");
    need(fseek(file, 3, SEEK_SET) == 0, "seek a");
    need(fgets(text, sizeof text, file) != NULL && strcmp(text, "3456789\n") == 0, "read a");
    need(fclose(file) == 0, "close a");

    need((file = fopen(path, "a")) != NULL, "append to a");
    need(fputs("more\n", file) >= 0 && fclose(file) == 0, "write more");
    need(stat(path, &st) == 0 && S_ISREG(st.st_mode), "stat a");
    printf("a has %lld bytes\n", (long long)st.st_size);

    need((fd = open(path, O_RDWR)) >= 0, "open a");
    need(ftruncate(fd, 4) == 0, "truncate a");
    need(lseek(fd, 0, SEEK_END) == 4, "seek to the end of a");
    need(pread(fd, text, 2, 1) == 2 && memcmp(text, "12", 2) == 0, "pread a");
    need(pwrite(fd, "X", 1, 2) == 1 && close(fd) == 0, "pwrite a");
    need((file = fopen(path, "r")) != NULL, "open a again");
    memset(text, 0, sizeof text);
    need(fread(text, 1, sizeof text - 1, file) == 4 && fclose(file) == 0, "read a again");
    printf("a is \"%s\"\n", text);

    list("before");
    need(rename(path, in_root(other, "b")) == 0, "rename a to b");
    need(stat(path, &st) != 0 && errno == ENOENT, "stat a after it was renamed");
    need(rename(other, in_root(path, "sub/c")) == 0, "move b to sub/c");
    list("after");
    need(rmdir(in_root(other, "sub")) != 0 && errno == ENOTEMPTY, "rmdir sub while it has c");
    need(unlink(path) == 0, "unlink sub/c");
    need(rmdir(other) == 0, "rmdir sub");

    need(fopen(in_root(path, "../../outside"), "r") == NULL, "open a path that leaves DIR");
    printf("outside: %s\n", errno == ENOENT ? "absent" : "refused");

    need(rmdir(in_root(path, "")) == 0, "rmdir");
    printf("done\n");
    return 0;
}
