/* Sorts numbers that it makes itself and prints checksums of before and after.
 *
 * sort [COUNT [SEED]]
 *
 * Exit code: 0 sorted, 1 not sorted or not the same numbers, 2 wrong usage.
 * Output depends on COUNT and SEED only. It uses malloc of some MiB, function
 * pointers (qsort's and its own table of orders), 64-bit arithmetic and doubles.
 */
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint32_t crc32(const void *data, size_t len) {
    static uint32_t table[256];
    const unsigned char *at = data;
    uint32_t crc = 0xffffffffu;

    if (table[1] == 0)
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int bit = 0; bit < 8; bit++)
                c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
            table[i] = c;
        }
    while (len-- > 0)
        crc = table[(crc ^ *at++) & 0xff] ^ (crc >> 8);
    return ~crc;
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int descending(const void *a, const void *b) {
    return ascending(b, a);
}

/* By the number of bits set, then by value. */
static int by_weight(const void *a, const void *b) {
    int x = __builtin_popcount(*(const uint32_t *)a), y = __builtin_popcount(*(const uint32_t *)b);
    return x != y ? (x > y) - (x < y) : ascending(a, b);
}

static const struct {
    const char *name;
    int (*compare)(const void *, const void *);
} orders[] = {
    {"ascending", ascending},
    {"descending", descending},
    {"by weight", by_weight},
};

int main(int argc, char **argv) {
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 200000;
    uint64_t state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    uint64_t sum = 0;
    double roots = 0;

    if (argc > 3 || count == 0 || count > 4000000) {
        fprintf(stderr, "usage: sort [COUNT [SEED]], COUNT from 1 to 4000000\n");
        return 2;
    }
    uint32_t *numbers = malloc(count * sizeof *numbers);
    if (numbers == NULL) {
        fprintf(stderr, "sort: no memory for %zu numbers\n", count);
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        /* Knuth's MMIX generator; the high half is the good one. */
        state = state * 6364136223846793005u + 1442695040888963407u;
        numbers[i] = (uint32_t)(state >> 32);
        sum += numbers[i];
        roots += sqrt((double)numbers[i]);
    }
    printf("%zu numbers, sum %" PRIu64 ", roots %.3f, crc32 %08" PRIx32 "\n", count, sum, roots,
           crc32(numbers, count * sizeof *numbers));

    for (size_t k = 0; k < sizeof orders / sizeof orders[0]; k++) {
        uint64_t check = 0;
        qsort(numbers, count, sizeof *numbers, orders[k].compare);
        for (size_t i = 0; i < count; i++) {
            check += numbers[i];
            if (i > 0 && orders[k].compare(&numbers[i - 1], &numbers[i]) > 0) {
                printf("not sorted at %zu\n", i);
                return 1;
            }
        }
        if (check != sum) {
            printf("numbers lost\n");
            return 1;
        }
        printf("%s: first %" PRIu32 ", median %" PRIu32 ", last %" PRIu32 ", crc32 %08" PRIx32 "\n",
               orders[k].name, numbers[0], numbers[count / 2], numbers[count - 1],
               crc32(numbers, count * sizeof *numbers));
    }
    free(numbers);
    return 0;
}
