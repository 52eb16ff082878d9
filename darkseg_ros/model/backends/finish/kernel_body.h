/* The finish for one instruction set: kernel.c includes this once for each, with FINISH_NAME, which makes its names, and
   LANES, the floats of its vectors: 4 or 8. */

#define WIDE (PHASES * LANES)
#define vf FINISH_NAME(vf)
#define vi FINISH_NAME(vi)
#define vu FINISH_NAME(vu)

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * LANES)));

/* The greater of each pair, the right one where they are equal; and the lower of each pair, the left one then. */
static inline vf FINISH_NAME(higher)(vf left, vf right) {
#ifdef __AVX__
    return __builtin_ia32_maxps256(left, right);
#else
    return choose(left > right, left, right);
#endif
}

static inline vf FINISH_NAME(lower)(vf left, vf right) {
#ifdef __AVX__
    return __builtin_ia32_minps256(right, left);
#else
    return choose(left > right, right, left);
#endif
}

/* Is left >= right in some lane? */
static inline int FINISH_NAME(anywhere_at_least)(vf left, vf right) {
    vi lanes = left >= right;
#ifdef __AVX__
    return __builtin_ia32_movmskps256((vf)lanes) != 0;
#else
    int32_t found = 0;
    for (int i = 0; i < LANES; i++) found |= lanes[i];
    return found != 0;
#endif
}

/* target[i * target_step + j] = source[j * source_step + i]: a tile of LANES by LANES. */
static inline void FINISH_NAME(transpose)(
    const float *source, ptrdiff_t source_step, float *target, ptrdiff_t target_step) {
    vf r[LANES], s[LANES], t[LANES];
    for (int i = 0; i < LANES; i++) r[i] = load(source + i * source_step);
#if LANES == 8
    for (int i = 0; i < 8; i += 2) {
        s[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        s[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int half = 0; half < 8; half += 4) {
        for (int i = half; i < half + 2; i++) {
            t[i] = __builtin_shufflevector(s[i], s[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            t[i + 2] = __builtin_shufflevector(s[i], s[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    }
    for (int i = 0; i < 4; i++) {
        store(target + i * target_step, __builtin_shufflevector(t[i], t[i + 4], 0, 1, 2, 3, 8, 9, 10, 11));
        store(target + (i + 4) * target_step, __builtin_shufflevector(t[i], t[i + 4], 4, 5, 6, 7, 12, 13, 14, 15));
    }
#else
    for (int i = 0; i < 4; i += 2) {
        s[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 4, 2, 6);
        s[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 1, 5, 3, 7);
    }
    for (int i = 0; i < 2; i++) {
        t[i] = __builtin_shufflevector(s[i], s[i + 2], 0, 1, 4, 5);
        t[i + 2] = __builtin_shufflevector(s[i], s[i + 2], 2, 3, 6, 7);
    }
    for (int i = 0; i < 4; i++) store(target + i * target_step, t[i]);
#endif
}

/* taps[b][t][p][i] weighs source pixel x + t - 1 in output column 4x + p, where x is pixel i of block b. One of the outer
   two taps is 0, and adding 0 rounds nothing: three taps give the two-tap blend, and every phase is a vector. Beyond the
   last pixel, all are 0. */
static inline void FINISH_NAME(tap)(const Frame *f, ptrdiff_t blocks, float *taps) {
    memset(taps, 0, sizeof(float) * blocks * 3 * WIDE);
    for (ptrdiff_t column = 0; column < PHASES * f->width; column++) {
        const ptrdiff_t x = column / PHASES, phase = column % PHASES, tap = f->column_first[column] - x + 1;
        float *at = taps + x / LANES * 3 * WIDE + phase * LANES + x % LANES;
        at[tap * WIDE] = f->left_weights[column];
        at[(tap + 1) * WIDE] = f->right_weights[column];
    }
}

/* row[x] = a source row's pixel at LANES + x; its ends are repeated, one pixel to the left and to the right up to the
   one beyond the last block. */
static inline void FINISH_NAME(repeat_ends)(float *row, ptrdiff_t width, ptrdiff_t step) {
    row[LANES - 1] = row[LANES];
    for (ptrdiff_t x = LANES + width; x < step - LANES + 1; x++) row[x] = row[LANES + width - 1];
}

/* sources[c * step + LANES + x] = pixel x of class c in a source row. */
static inline void FINISH_NAME(gather)(const Frame *f, ptrdiff_t step, ptrdiff_t y, float *sources) {
    const float *row = f->logits + y * f->row_stride;
    const ptrdiff_t classes = f->classes, width = f->width;
    if (f->class_stride == 1 && classes >= LANES && width >= LANES) {
        /* channels last: tiles, the last one each way overlapping the one before */
        for (ptrdiff_t first_x = 0; first_x < width; first_x += LANES) {
            ptrdiff_t x = least(first_x, width - LANES);
            for (ptrdiff_t first_c = 0; first_c < classes; first_c += LANES) {
                ptrdiff_t c = least(first_c, classes - LANES);
                FINISH_NAME(transpose)(
                    row + x * f->column_stride + c, f->column_stride, sources + c * step + LANES + x, step);
            }
        }
    } else {
        for (ptrdiff_t c = 0; c < classes; c++)
            for (ptrdiff_t x = 0; x < width; x++)
                sources[c * step + LANES + x] = row[c * f->class_stride + x * f->column_stride];
    }
    for (ptrdiff_t c = 0; c < classes; c++) FINISH_NAME(repeat_ends)(sources + c * step, width, step);
}

/* bounds[b][c][0 or 1] = lowest or highest of class c at each pixel of block b and its neighbours left and right.
   Every output pixel lies between a source pixel and one of these neighbours. */
static inline void FINISH_NAME(bound)(const Frame *f, ptrdiff_t step, const float *sources, float *bounds) {
    for (ptrdiff_t block = 0; block < step / LANES - 2; block++) {
        const float *at = sources + LANES * (block + 1);
        float *to = bounds + block * f->classes * 2 * LANES;
        for (ptrdiff_t c = 0; c < f->classes; c++, at += step, to += 2 * LANES) {
            vf left = load(at - 1), here = load(at), right = load(at + 1);
            store(to, FINISH_NAME(lower)(FINISH_NAME(lower)(left, here), right));
            store(to + LANES, FINISH_NAME(higher)(FINISH_NAME(higher)(left, here), right));
        }
    }
}

/* 2^x for x <= 0, 2^-126 below -126; relative error < 3e-6. */
static inline vf FINISH_NAME(exp2)(vf x) {
    const float shift = 0x1.8p23f;
    x = FINISH_NAME(higher)(x, filled(-126.0f));
    vf shifted = x + shift; /* as large as this, a float has no binary places, and the lowest bits are the integer's */
    vf r = x - (shifted - shift);
    /* 2^r for |r| <= 0.5, the largest relative error as small as it can be */
    vf fraction = 0.00957010f * r + 0.0559178613f;
    fraction = fraction * r + 0.240247449f;
    fraction = fraction * r + 0.693121813f;
    fraction = fraction * r + 0.999999257f;
    return (vf)((vu)fraction + ((vu)shifted << 23)); /* adds the integer to the exponent */
}

/* probability[x] = 255 * max softmax of the classes at x, for all x of whole blocks. */
static inline void FINISH_NAME(max_probability)(
    const Frame *f, ptrdiff_t step, const float *sources, float *probability) {
    for (ptrdiff_t x = LANES; x < step - LANES; x += LANES) {
        const float *at = sources + x;
        vf highest = load(at);
        for (ptrdiff_t c = 1; c < f->classes; c++) highest = FINISH_NAME(higher)(load(at + c * step), highest);
        vf total = filled(0.0f);
        for (ptrdiff_t c = 0; c < f->classes; c++)
            total += FINISH_NAME(exp2)((load(at + c * step) - highest) * f->sharpness);
        store(probability + x, 255.0f / total);
    }
}

/* Writes, in ascending order, the classes that may be the best one of an output pixel of a block; their number.

   Let H be the highest of class c at the source pixels around an output pixel, L the lowest of class d. Blending is
   a chain of products with weights >= 0, of sums and of roundings, none of which ever falls where its arguments rise.
   So c there is at most what a constant H would be blended to, F(H), and d at least F(L). The weights of an axis sum
   to 1 within 2^-25, and the chain rounds four times: |F(v) - v| <= 6 * 2^-24 |v| + 2^-123, the latter for products
   below the normal numbers, even where the thread takes them for 0. F(H) < F(L) hence follows from
   H < L - (2^-20 |L| + 2^-120), whose slack is 16 * 2^-24 |L| for the 12 that both sides need and for its own
   rounding; beyond the largest float the threshold is -infinity and drops no class. A class lower than another one at
   every output pixel of the block is the best of none, not even in a tie. The class that sets L is never dropped. */
static inline ptrdiff_t FINISH_NAME(contenders)(
    const Frame *f, const float *upper, const float *lower, ptrdiff_t *contenders) {
    vf floor = FINISH_NAME(lower)(load(upper), load(lower));
    for (ptrdiff_t c = 1; c < f->classes; c++) {
        ptrdiff_t at = c * 2 * LANES;
        floor = FINISH_NAME(higher)(FINISH_NAME(lower)(load(upper + at), load(lower + at)), floor);
    }
    vf threshold = floor - (0x1p-20f * FINISH_NAME(higher)(floor, -floor) + 0x1p-120f);
    ptrdiff_t count = 0;
    for (ptrdiff_t c = 0; c < f->classes; c++) {
        ptrdiff_t at = c * 2 * LANES + LANES;
        contenders[count] = c; /* counted or overwritten: a branch would be guessed wrong too often */
        count += FINISH_NAME(anywhere_at_least)(FINISH_NAME(higher)(load(upper + at), load(lower + at)), threshold);
    }
    return count;
}

/* wide[p] = output columns 4x + p of the block at x of a source row. */
static inline void FINISH_NAME(widen)(const float *row, const float *taps, float *wide) {
    vf left = load(row - 1), here = load(row), right = load(row + 1);
    for (int p = 0; p < PHASES; p++) {
        vf blended = load(taps + p * LANES) * left + load(taps + (PHASES + p) * LANES) * here;
        store(wide + p * LANES, blended + load(taps + (2 * PHASES + p) * LANES) * right);
    }
}

/* row[0 ...] = the lowest bytes of four phases, pixel by pixel; those beyond the row's end are dropped. */
static inline void FINISH_NAME(write)(const vu phases[PHASES], uint8_t *row, ptrdiff_t left) {
    vu packed = (phases[0] & 255) | (phases[1] & 255) << 8 | (phases[2] & 255) << 16 | (phases[3] & 255) << 24;
    if (left >= WIDE)
        memcpy(row, &packed, WIDE);
    else
        memcpy(row, &packed, left);
}

/* Returns 0, or 1 if there is no memory. Blocks are of LANES source pixels; a gathered row has one more at both ends. */
static int FINISH_NAME(finish)(const Frame *f) {
    const ptrdiff_t classes = f->classes, height = f->height, out_width = PHASES * f->width;
    const ptrdiff_t blocks = (f->width + LANES - 1) / LANES, step = (blocks + 2) * LANES;
    const ptrdiff_t source_size = classes * step, bound_size = blocks * classes * 2 * LANES;
    const ptrdiff_t sizes[] = {
        2 * source_size, /* sources: a source row and the next */
        2 * bound_size, /* their bounds */
        step, /* probability */
        2 * blocks * WIDE, /* wide_probability, of both rows */
        classes * 2 * WIDE, /* wide: the contenders of a block in both rows */
        blocks * 3 * WIDE, /* taps */
        2 * classes, /* contenders, of two floats' size */
    };
    float *parts[sizeof sizes / sizeof *sizes], *memory = allocated(sizes, parts, sizeof sizes / sizeof *sizes);
    if (!memory) return 1;
    float *sources = parts[0], *bounds = parts[1], *probability = parts[2], *wide_probability = parts[3];
    float *wide = parts[4], *taps = parts[5];
    ptrdiff_t *contenders = (ptrdiff_t *)parts[6];
    FINISH_NAME(tap)(f, blocks, taps);
    ptrdiff_t first_y = 0;
    for (ptrdiff_t source_y = -1; source_y < height; source_y++) {
        /* the row below the last one is the last one again, at weight 0; rows take turns */
        const ptrdiff_t next_y = least(source_y + 1, height - 1);
        const ptrdiff_t upper = source_y & 1, lower = next_y & 1;
        const float *upper_sources = sources + upper * source_size, *upper_bounds = bounds + upper * bound_size;
        float *lower_sources = sources + lower * source_size, *lower_bounds = bounds + lower * bound_size;
        const float *upper_probability = wide_probability + upper * blocks * WIDE;
        float *lower_probability = wide_probability + lower * blocks * WIDE;
        if (next_y > source_y) {
            FINISH_NAME(gather)(f, step, next_y, lower_sources);
            FINISH_NAME(bound)(f, step, lower_sources, lower_bounds);
            FINISH_NAME(max_probability)(f, step, lower_sources, probability);
            FINISH_NAME(repeat_ends)(probability, f->width, step);
            for (ptrdiff_t block = 0; block < blocks; block++)
                FINISH_NAME(widen)(
                    probability + LANES * (block + 1), taps + block * 3 * WIDE, lower_probability + block * WIDE);
        }
        if (source_y < 0) continue; /* above the first row lies none */
        ptrdiff_t end_y = first_y;
        while (end_y < PHASES * height && f->row_first[end_y] == source_y) end_y++;
        for (ptrdiff_t block = 0; block < blocks; block++) {
            const ptrdiff_t x = LANES * (block + 1), left = out_width - WIDE * block;
            const float *block_taps = taps + block * 3 * WIDE;
            const ptrdiff_t bounds_at = block * classes * 2 * LANES;
            const ptrdiff_t count =
                FINISH_NAME(contenders)(f, upper_bounds + bounds_at, lower_bounds + bounds_at, contenders);
            if (count > 1) { /* one alone is the best whatever its values */
                for (ptrdiff_t k = 0; k < count; k++) {
                    const ptrdiff_t at = contenders[k] * step + x;
                    FINISH_NAME(widen)(upper_sources + at, block_taps, wide + 2 * k * WIDE);
                    FINISH_NAME(widen)(lower_sources + at, block_taps, wide + (2 * k + 1) * WIDE);
                }
            }
            for (ptrdiff_t y = first_y; y < end_y; y++) {
                const float above = f->upper_weights[y], below = f->lower_weights[y];
                vf best[PHASES];
                vu index[PHASES];
                for (int p = 0; p < PHASES; p++) index[p] = filled_u((uint32_t)contenders[0]);
                if (count > 1) {
                    for (int p = 0; p < PHASES; p++)
                        best[p] = above * load(wide + p * LANES) + below * load(wide + WIDE + p * LANES);
                    for (ptrdiff_t k = 1; k < count; k++) { /* ties go to the first */
                        const float *rows = wide + 2 * k * WIDE;
                        const vu candidate = filled_u((uint32_t)contenders[k]);
                        for (int p = 0; p < PHASES; p++) {
                            vf value = above * load(rows + p * LANES) + below * load(rows + WIDE + p * LANES);
                            index[p] = (vu)choose(value > best[p], (vf)candidate, (vf)index[p]);
                            best[p] = FINISH_NAME(higher)(value, best[p]);
                        }
                    }
                }
                FINISH_NAME(write)(index, f->class_map + y * out_width + WIDE * block, left);
                vu share[PHASES];
                for (int p = 0; p < PHASES; p++) {
                    const ptrdiff_t at = block * WIDE + p * LANES;
                    vf blended = above * load(upper_probability + at) + below * load(lower_probability + at);
                    /* from 2^23 on a float is an integer, rounded to even, and its lowest bits are the integer's */
                    share[p] = (vu)(blended + 0x1p23f);
                }
                FINISH_NAME(write)(share, f->confidence + y * out_width + WIDE * block, left);
            }
        }
        first_y = end_y;
    }
    free(memory);
    return 0;
}

#undef WIDE
#undef vf
#undef vi
#undef vu
