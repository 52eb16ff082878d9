/* From quarter-resolution logits to class map and confidence, on one thread; see logits_finish.py for what it computes.

   Every source row is gathered once, a run per class, from whatever memory order the logits have. Then the columns are
   finished in blocks of one vector of source pixels, between one source row and the next: most classes lie too low in
   both rows to be the best one of any output pixel between them, and only the others are widened, blended and compared.
   Where one class is left, which is half of a real frame, the answer stands without any of this. The four horizontal
   phases of a block are vectors of their own. No product is fused with a sum (-ffp-contract=off): the class map is
   NumPy's, bit for bit.

   setup.py compiles it where there is a compiler; compiled_finish.py calls it through ctypes. The vectors are GCC's and
   Clang's vector extensions. On x86-64, GCC compiles the body once for each instruction set and the processor chooses;
   elsewhere it is compiled for the machine's own. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { PHASES = 4 }; /* output columns, and rows, of a source pixel: LOGITS_STRIDE of bundle.py */

typedef struct {
    const float *logits; /* the strides count floats */
    ptrdiff_t class_stride, row_stride, column_stride;
    ptrdiff_t classes, height, width;
    float sharpness; /* log2(e) / temperature */
    /* AxisBlend of numpy_finish.py, of the rows and of the columns */
    const int64_t *row_first;
    const float *upper_weights, *lower_weights;
    const int64_t *column_first;
    const float *left_weights, *right_weights;
    uint8_t *class_map, *confidence; /* (PHASES * height, PHASES * width), written */
} Frame;

/* Macros: a function with vectors as arguments would belong to one instruction set. */
#define load(from) ({ vf loaded; memcpy(&loaded, (from), sizeof loaded); loaded; })
#define store(to, vector) do { vf stored = (vector); memcpy((to), &stored, sizeof stored); } while (0)
#define filled(number) ((vf){0} + (number))
#define filled_u(number) ((vu){0} + (number))
#define choose(mask, yes, no) ({ vi m = (mask); (vf)((m & (vi)(yes)) | (~m & (vi)(no))); })

static inline ptrdiff_t least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* Memory for arrays of so many floats, each on a cache line of its own: vectors that straddle two cost up to 20 % of the
   time (2026-11-22). Returns what to free, or NULL. */
static float *allocated(const ptrdiff_t *sizes, float **arrays, size_t count) {
    const size_t line = 64 / sizeof(float);
    size_t total = 0;
    for (size_t i = 0; i < count; i++) total += (sizes[i] + line - 1) / line * line;
    float *memory = aligned_alloc(64, total * sizeof(float)), *next = memory;
    for (size_t i = 0; memory && i < count; i++) {
        arrays[i] = next;
        next += (sizes[i] + line - 1) / line * line;
    }
    return memory;
}

#define FINISH_NAME(name) name##_baseline
#define LANES 4
#include "kernel_body.h"
#undef LANES
#undef FINISH_NAME

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CHOOSES_BY_PROCESSOR
#define LANES 8
#pragma GCC push_options
#pragma GCC target("avx2")
#define FINISH_NAME(name) name##_avx2
#include "kernel_body.h"
#undef FINISH_NAME
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq")
#define FINISH_NAME(name) name##_avx512
#include "kernel_body.h"
#undef FINISH_NAME
#pragma GCC pop_options
#undef LANES
#endif

enum { BASELINE, AVX2, AVX512 };

/* The best instruction set of this processor that the kernel was compiled for. */
int darkseg_finish_instruction_set(void) {
#ifdef CHOOSES_BY_PROCESSOR
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq"))
        return AVX512;
    if (__builtin_cpu_supports("avx2")) return AVX2;
#endif
    return BASELINE;
}

/* `instruction_set` is at most this processor's. Returns 0, or 1 if there is no memory. */
int darkseg_finish(
    const float *logits, ptrdiff_t class_stride, ptrdiff_t row_stride, ptrdiff_t column_stride, ptrdiff_t classes,
    ptrdiff_t height, ptrdiff_t width, float sharpness, const int64_t *row_first, const float *upper_weights,
    const float *lower_weights, const int64_t *column_first, const float *left_weights, const float *right_weights,
    uint8_t *class_map, uint8_t *confidence, int instruction_set) {
    const Frame frame = {
        logits, class_stride, row_stride, column_stride, classes, height, width, sharpness, row_first, upper_weights,
        lower_weights, column_first, left_weights, right_weights, class_map, confidence};
#ifdef CHOOSES_BY_PROCESSOR
    if (instruction_set == AVX512) return finish_avx512(&frame);
    if (instruction_set == AVX2) return finish_avx2(&frame);
#endif
    (void)instruction_set;
    return finish_baseline(&frame);
}
