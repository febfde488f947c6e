/* A picture as vectors see it: the bytes of a file, or a pattern, are taken as grey pixels; each step is
 * written with 128-bit vectors and ends in a number that a test can compute by other means. Loops without
 * intrinsics are here for the compiler to turn into vectors. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasm_simd128.h>

enum { WIDTH = 256, HEIGHT = 64, PIXELS = WIDTH * HEIGHT };

static uint8_t picture[PIXELS], other[PIXELS], result[PIXELS];
static float wave[PIXELS];

/* Sum of all bytes, 16 at a time. */
static uint32_t sum(const uint8_t *bytes) {
    v128_t total = wasm_i32x4_splat(0);
    for (int i = 0; i < PIXELS; i += 16) {
        v128_t pairs = wasm_u16x8_extadd_pairwise_u8x16(wasm_v128_load(bytes + i));
        total = wasm_i32x4_add(total, wasm_u32x4_extadd_pairwise_u16x8(pairs));
    }
    return wasm_u32x4_extract_lane(total, 0) + wasm_u32x4_extract_lane(total, 1) +
           wasm_u32x4_extract_lane(total, 2) + wasm_u32x4_extract_lane(total, 3);
}

/* Bytes that equal one. */
static int count(const uint8_t *bytes, uint8_t wanted) {
    int found = 0;
    v128_t all = wasm_u8x16_splat(wanted);
    for (int i = 0; i < PIXELS; i += 16) {
        v128_t equal = wasm_i8x16_eq(wasm_v128_load(bytes + i), all);
        found += __builtin_popcount(wasm_i8x16_bitmask(equal));
    }
    return found;
}

/* Brighter, without overflow; then the mean with another picture; then what is too dark becomes black. */
static void develop(uint8_t *to, const uint8_t *from, const uint8_t *with) {
    v128_t light = wasm_u8x16_splat(40), dark = wasm_u8x16_splat(96);
    for (int i = 0; i < PIXELS; i += 16) {
        v128_t bright = wasm_u8x16_add_sat(wasm_v128_load(from + i), light);
        v128_t mean = wasm_u8x16_avgr(bright, wasm_v128_load(with + i));
        v128_t keep = wasm_u8x16_ge(mean, dark);
        wasm_v128_store(to + i, wasm_v128_bitselect(mean, wasm_u8x16_splat(0), keep));
    }
}

/* Each row from right to left. */
static void mirror(uint8_t *to, const uint8_t *from) {
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x += 16) {
            v128_t part = wasm_v128_load(from + y * WIDTH + x);
            part = wasm_i8x16_shuffle(part, part, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
            wasm_v128_store(to + y * WIDTH + WIDTH - 16 - x, part);
        }
}

/* Products of signed 16-bit numbers, added up in 32 bits. */
static int32_t correlation(const uint8_t *a, const uint8_t *b) {
    v128_t total = wasm_i32x4_splat(0);
    for (int i = 0; i < PIXELS; i += 8) {
        v128_t left = wasm_i16x8_sub(wasm_u16x8_load8x8(a + i), wasm_i16x8_splat(128));
        v128_t right = wasm_i16x8_sub(wasm_u16x8_load8x8(b + i), wasm_i16x8_splat(128));
        total = wasm_i32x4_add(total, wasm_i32x4_dot_i16x8(left, right));
    }
    int32_t lanes[4];
    wasm_v128_store(lanes, total);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

/* Floats: halves and quarters are exact, so the order of additions does not matter. */
static double energy(void) {
    v128_t total = wasm_f64x2_splat(0);
    for (int i = 0; i < PIXELS; i += 4) {
        v128_t bytes = wasm_v128_load32_zero(picture + i);
        v128_t wide = wasm_u32x4_extend_low_u16x8(wasm_u16x8_extend_low_u8x16(bytes));
        v128_t scaled = wasm_f32x4_mul(wasm_f32x4_convert_u32x4(wide), wasm_f32x4_splat(0.25f));
        v128_t capped = wasm_f32x4_pmin(scaled, wasm_f32x4_splat(48.0f));
        wasm_v128_store(wave + i, wasm_f32x4_sqrt(wasm_f32x4_mul(capped, capped)));
        total = wasm_f64x2_add(total, wasm_f64x2_promote_low_f32x4(wasm_v128_load(wave + i)));
        total = wasm_f64x2_add(total, wasm_f64x2_promote_low_f32x4(wasm_v128_load64_zero(wave + i + 2)));
    }
    return wasm_f64x2_extract_lane(total, 0) + wasm_f64x2_extract_lane(total, 1);
}

/* The compiler's vectors. */
static uint32_t mixed(const uint8_t *bytes) {
    uint32_t lanes[16] = {0};
    for (int i = 0; i < PIXELS; i += 16)
        for (int lane = 0; lane < 16; lane++)
            lanes[lane] = (lanes[lane] ^ bytes[i + lane]) * 16777619u;
    uint32_t all = 0;
    for (int lane = 0; lane < 16; lane++)
        all = all * 31 + lanes[lane];
    return all;
}

int main(int argc, char **argv) {
    for (int i = 0; i < PIXELS; i++)
        picture[i] = (uint8_t)(i * 7 + i / WIDTH * 13);
    if (argc > 1) {
        FILE *file = fopen(argv[1], "rb");
        if (!file) {
            fprintf(stderr, "pixels: cannot read %s\n", argv[1]);
            return 1;
        }
        size_t read = fread(picture, 1, PIXELS, file);
        printf("read %zu\n", read);
        fclose(file);
    }
    mirror(other, picture);
    develop(result, picture, other);
    printf("sum %u %u %u\n", sum(picture), sum(other), sum(result));
    printf("black %d\n", count(result, 0));
    printf("correlation %d\n", correlation(picture, other));
    printf("energy %.2f\n", energy());
    printf("mixed %08x %08x\n", mixed(result), mixed(other));
    return 0;
}
