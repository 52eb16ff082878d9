/* A frame stretched to the network's size and a class map stretched back, on one thread; see stretch.py.

   With AVX2 alone: scalar code is no faster than OpenCV's. The numbers are OpenCV's, bit by bit: weights of 11 bits, the
   rows' sums cut to 15 bits, the columns' products to 16 of 27.
   Source: resize.cpp of OpenCV (HResizeLinear, VResizeLinear; resizeNN_bitexact). */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

int darkseg_stretch_can_run(void) { return __builtin_cpu_supports("avx2"); }

/* Pixels between two of a row. `at` is the byte of the left one, `weights` has both weights four times for each pixel;
   `safe` pixels have eight bytes of the row from `at` on. */
__attribute__((target("avx2"))) static void blend_row(
    const uint8_t *row, const int32_t *at, const int16_t *weights, ptrdiff_t width, ptrdiff_t safe, int16_t *out) {
    const __m256i sides = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i close_up = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 4, 5, 8, 9, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
    ptrdiff_t x = 0;
    for (; x + 2 <= safe; x += 2) {
        const __m128i left = _mm_loadl_epi64((const __m128i *)(row + at[x]));
        const __m128i right = _mm_loadl_epi64((const __m128i *)(row + at[x + 1]));
        const __m256i values = _mm256_shuffle_epi8(_mm256_set_m128i(right, left), sides);
        const __m256i both = _mm256_loadu_si256((const __m256i *)(weights + 8 * x));
        const __m256i sums = _mm256_srli_epi32(_mm256_madd_epi16(values, both), 4);
        const __m256i closed = _mm256_shuffle_epi8(sums, close_up);
        _mm_storel_epi64((__m128i *)(out + 3 * x), _mm256_castsi256_si128(closed)); /* one value too many, written over */
        _mm_storel_epi64((__m128i *)(out + 3 * x + 3), _mm256_extracti128_si256(closed, 1));
    }
    for (; x < width; x++) {
        const uint8_t *pixel = row + at[x];
        for (int c = 0; c < 3; c++)
            out[3 * x + c] = (int16_t)((pixel[c] * weights[8 * x] + pixel[3 + c] * weights[8 * x + 1]) >> 4);
    }
}

__attribute__((target("avx2"))) static __m256i blend_16(
    const int16_t *upper, const int16_t *lower, __m256i upper_weight, __m256i lower_weight) {
    const __m256i first = _mm256_mulhi_epi16(_mm256_loadu_si256((const __m256i *)upper), upper_weight);
    const __m256i second = _mm256_mulhi_epi16(_mm256_loadu_si256((const __m256i *)lower), lower_weight);
    return _mm256_srai_epi16(_mm256_add_epi16(_mm256_add_epi16(first, second), _mm256_set1_epi16(2)), 2);
}

__attribute__((target("avx2"))) static void blend_rows(
    const int16_t *upper, const int16_t *lower, const int16_t *weights, ptrdiff_t count, uint8_t *out) {
    const __m256i first = _mm256_set1_epi16(weights[0]), second = _mm256_set1_epi16(weights[1]);
    ptrdiff_t i = 0;
    for (; i + 32 <= count; i += 32) {
        const __m256i left = blend_16(upper + i, lower + i, first, second);
        const __m256i right = blend_16(upper + i + 16, lower + i + 16, first, second);
        const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(left, right), 0xd8);
        _mm256_storeu_si256((__m256i *)(out + i), bytes);
    }
    for (; i < count; i++)
        out[i] = (uint8_t)((((upper[i] * weights[0]) >> 16) + ((lower[i] * weights[1]) >> 16) + 2) >> 2);
}

/* Bilinear, (H, W, 3) to (height, width, 3). `rows` has the upper and the lower row of each row, `memory` room for two
   rows of 3 · width + 1 values. */
void darkseg_stretch_frame(
    const uint8_t *frame, ptrdiff_t row_bytes, const int32_t *at, const int16_t *weights, ptrdiff_t width, ptrdiff_t safe,
    const int32_t *rows, const int16_t *row_weights, ptrdiff_t height, uint8_t *out, int16_t *memory) {
    const ptrdiff_t count = 3 * width;
    int16_t *blended[2] = {memory, memory + count + 1};
    int32_t holds[2] = {-1, -1};
    for (ptrdiff_t y = 0; y < height; y++) {
        if (holds[1] == rows[2 * y]) { /* the lower row has become the upper one */
            int16_t *const kept = blended[1];
            blended[1] = blended[0];
            blended[0] = kept;
            holds[1] = holds[0];
            holds[0] = rows[2 * y];
        }
        for (int side = 0; side < 2; side++) {
            const int32_t row = rows[2 * y + side];
            if (holds[side] == row) continue;
            blend_row(frame + row * row_bytes, at, weights, width, safe, blended[side]);
            holds[side] = row;
        }
        blend_rows(blended[0], blended[1], row_weights + 2 * y, count, out + count * y);
    }
}

/* Nearest, (h, w) to (height, width) with width at least w and 16. Sixteen values of a row come from sixteen of the
   map's row, from `starts` on, in the order of `order`; the last block may overlap the one before. */
__attribute__((target("avx2"))) void darkseg_stretch_map(
    const uint8_t *map, ptrdiff_t map_width, const int32_t *starts, const uint8_t *order, ptrdiff_t width,
    const int32_t *rows, ptrdiff_t height, uint8_t *out) {
    const ptrdiff_t blocks = (width + 15) / 16;
    for (ptrdiff_t y = 0; y < height; y++, out += width) {
        if (y && rows[y] == rows[y - 1]) {
            memcpy(out, out - width, (size_t)width);
            continue;
        }
        const uint8_t *row = map + rows[y] * map_width;
        for (ptrdiff_t block = 0; block < blocks; block++) {
            const __m128i values = _mm_loadu_si128((const __m128i *)(row + starts[block]));
            const __m128i taken = _mm_shuffle_epi8(values, _mm_loadu_si128((const __m128i *)(order + 16 * block)));
            const ptrdiff_t x = block + 1 < blocks ? 16 * block : width - 16;
            _mm_storeu_si128((__m128i *)(out + x), taken);
        }
    }
}
#else
int darkseg_stretch_can_run(void) { return 0; }
#endif
