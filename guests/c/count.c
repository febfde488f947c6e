/* Counts lines, words and bytes of the files it is given, or of standard input.
 *
 * count [FILE...]
 *
 * Environment: COUNT_TOTAL, if set and not "0", adds a line with the sums.
 * Exit code: 0 all was read, 1 some file was not, 2 wrong usage.
 * Output: one line a file, "LINES WORDS BYTES NAME".
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct counts {
    unsigned long lines, words, bytes;
};

/* Reads in blocks of an odd length, so that words and lines cross their ends. */
static int count(FILE *in, struct counts *out) {
    static char block[1021];
    int in_word = 0;
    size_t got;

    memset(out, 0, sizeof *out);
    while ((got = fread(block, 1, sizeof block, in)) > 0) {
        out->bytes += got;
        for (size_t i = 0; i < got; i++) {
            unsigned char c = (unsigned char)block[i];
            if (c == '\n')
                out->lines++;
            if (isspace(c)) {
                in_word = 0;
            } else if (!in_word) {
                in_word = 1;
                out->words++;
            }
        }
    }
    return ferror(in) ? -1 : 0;
}

static void print(const struct counts *c, const char *name) {
    printf("%lu %lu %lu %s\n", c->lines, c->words, c->bytes, name);
}

int main(int argc, char **argv) {
    const char *total_wish = getenv("COUNT_TOTAL");
    int want_total = total_wish != NULL && strcmp(total_wish, "0") != 0;
    struct counts total = {0, 0, 0};
    int failed = 0;

    if (argc > 1 && argv[1][0] == '-' && argv[1][1] != '\0') {
        fprintf(stderr, "usage: count [FILE...]\n");
        return 2;
    }
    if (argc == 1) {
        struct counts c;
        if (count(stdin, &c) != 0) {
            fprintf(stderr, "count: standard input: %s\n", strerror(errno));
            return 1;
        }
        print(&c, "-");
        return 0;
    }
    for (int i = 1; i < argc; i++) {
        struct counts c;
        FILE *in = fopen(argv[i], "rb");
        if (in == NULL || count(in, &c) != 0) {
            fprintf(stderr, "count: %s: %s\n", argv[i], strerror(errno));
            failed = 1;
        } else {
            print(&c, argv[i]);
            total.lines += c.lines;
            total.words += c.words;
            total.bytes += c.bytes;
        }
        if (in != NULL)
            fclose(in);
    }
    if (want_total)
        print(&total, "total");
    return failed;
}
