/* A table of 256 bytes applied to every byte of a frame, on one thread; see exposure_table.py.

   Scalar code looks one byte up at a time. AVX2 looks 32 up in each of 16 rows of the table, and VBMI 64 at once. */

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define CHOOSES_BY_PROCESSOR
#endif

enum { BASELINE, AVX2, VBMI }; /* INSTRUCTION_SETS of exposure_table.py */

static void apply_baseline(uint8_t *values, size_t count, const uint8_t *table) {
    for (size_t i = 0; i < count; i++) values[i] = table[values[i]];
}

#ifdef CHOOSES_BY_PROCESSOR
/* A shuffle looks up by the low four bits, and gives 0 where the highest is set. Row i of a half is added for all values
   of 16 i and more, as its difference from the row before; each step lowers the values by 16 and stops at -128. */
__attribute__((target("avx2"))) static void apply_avx2(uint8_t *values, size_t count, const uint8_t *table) {
    __m256i differences[16];
    for (int row = 0; row < 16; row++) {
        __m128i own = _mm_loadu_si128((const __m128i *)(table + 16 * row));
        if (row % 8) own = _mm_xor_si128(own, _mm_loadu_si128((const __m128i *)(table + 16 * (row - 1))));
        differences[row] = _mm256_broadcastsi128_si256(own);
    }
    const __m256i step = _mm256_set1_epi8(16), half = _mm256_set1_epi8(-128);
    size_t at = 0;
    for (; at + 32 <= count; at += 32) {
        __m256i low = _mm256_loadu_si256((const __m256i *)(values + at)), high = _mm256_xor_si256(low, half);
        __m256i found = _mm256_setzero_si256();
        const int bright = _mm256_movemask_epi8(low); /* of which a dark frame has few */
        for (int row = 0; row < 8; row++, low = _mm256_subs_epi8(low, step))
            found = _mm256_xor_si256(found, _mm256_shuffle_epi8(differences[row], low));
        for (int row = 8; bright && row < 16; row++, high = _mm256_subs_epi8(high, step))
            found = _mm256_xor_si256(found, _mm256_shuffle_epi8(differences[row], high));
        _mm256_storeu_si256((__m256i *)(values + at), found);
    }
    apply_baseline(values + at, count - at, table);
}

__attribute__((target("avx512f,avx512bw,avx512vbmi"))) static void apply_vbmi(
    uint8_t *values, size_t count, const uint8_t *table) {
    const __m512i first = _mm512_loadu_si512(table), second = _mm512_loadu_si512(table + 64);
    const __m512i third = _mm512_loadu_si512(table + 128), fourth = _mm512_loadu_si512(table + 192);
    size_t at = 0;
    for (; at + 64 <= count; at += 64) {
        const __m512i value = _mm512_loadu_si512(values + at);
        const __m512i low = _mm512_permutex2var_epi8(first, value, second);
        const __m512i high = _mm512_permutex2var_epi8(third, value, fourth);
        _mm512_storeu_si512(values + at, _mm512_mask_blend_epi8(_mm512_movepi8_mask(value), low, high));
    }
    apply_baseline(values + at, count - at, table);
}
#endif

/* The processor's best of what the library was compiled for. */
int darkseg_table_instruction_set(void) {
#ifdef CHOOSES_BY_PROCESSOR
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi"))
        return VBMI;
    if (__builtin_cpu_supports("avx2")) return AVX2;
#endif
    return BASELINE;
}

/* `instruction_set` is at most this processor's. */
void darkseg_apply_table(uint8_t *values, size_t count, const uint8_t *table, int instruction_set) {
#ifdef CHOOSES_BY_PROCESSOR
    if (instruction_set == VBMI) {
        apply_vbmi(values, count, table);
        return;
    }
    if (instruction_set == AVX2) {
        apply_avx2(values, count, table);
        return;
    }
#endif
    (void)instruction_set;
    apply_baseline(values, count, table);
}
