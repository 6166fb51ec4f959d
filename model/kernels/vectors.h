/* Vectors of floats in the compiler's own terms, and what softmax and norms need of them.
 *
 * Nothing here is bound to a processor: a vector has as many lanes as the widest register that
 * the compiler was told of. Sums of a row are always added in the same order, so a row's result
 * does not depend on the rows beside it, to the last bit.
 */
#ifndef STAMP_VECTORS_H
#define STAMP_VECTORS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec numbers) { *(vec *)to = numbers; }
INLINE vec all(float number) { return number - (vec){0}; }

INLINE vec where(ivec condition, vec yes, vec no)
{
    return (vec)(((ivec)yes & condition) | ((ivec)no & ~condition));
}

INLINE vec larger(vec one, vec other) { return where(one > other, one, other); }

INLINE float sum_of(vec numbers)
{
    float total = 0;
    for (int lane = 0; lane < LANES; lane++)
        total += numbers[lane];
    return total;
}

/* Widths below are multiples of LANES. */
INLINE float dot(const float *one, const float *other, int width)
{
    vec products = {0};
    for (int at = 0; at < width; at += LANES)
        products += load(one + at) * load(other + at);
    return sum_of(products);
}

INLINE void add_times(float *to, const float *from, float factor, int width)
{
    for (int at = 0; at < width; at += LANES)
        store(to + at, load(to + at) + load(from + at) * factor);
}

INLINE void scale(float *numbers, float factor, int width)
{
    for (int at = 0; at < width; at += LANES)
        store(numbers + at, load(numbers + at) * factor);
}

/* e^x for x <= 88, within 2 units in the last place; 0 below -87. Cephes' polynomial. */
INLINE vec exponential(vec x)
{
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    ivec tiny = x < -87.0f;
    x = where(tiny, all(-87.0f), x);
    vec shifted = x * 1.44269504f + shift;
    vec n = shifted - shift;
    vec r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    vec p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    ivec power = ((ivec)shifted - 0x4B400000 + 127) << 23;
    return where(tiny, (vec){0}, p * (vec)power);
}

/* Root mean square norm of rows that stand one behind the other; weight may be NULL. */
INLINE void norm_rows(const float *from, float *to, int rows, int width, float epsilon,
                      const float *weight)
{
    for (int row = 0; row < rows; row++, from += width, to += width) {
        float factor = 1.0f / sqrtf(dot(from, from, width) / (float)width + epsilon);
        for (int at = 0; at < width; at += LANES) {
            vec normed = load(from + at) * factor;
            if (weight)
                normed *= load(weight + at);
            store(to + at, normed);
        }
    }
}

#endif
