/* Matrix products whose right side is stored in panels of as many columns as the registers hold.
 *
 * A tile of the result stays in registers while all of its depth is added up, one outer product
 * after the other, so each number is a single chain of multiply-adds in ascending order.
 */
#ifndef STAMP_PRODUCTS_H
#define STAMP_PRODUCTS_H

#include "vectors.h"

#define TALL 6   /* rows of a tile */
#define AHEAD 32 /* rows of b that are fetched in advance */
#define LINE 16  /* floats of a line of the cache */
#if LANES == 8
#define WIDE 2 /* vectors of a tile's row: 16 registers hold 6 x 2 sums, 2 of b and one of a */
#else
#define WIDE 4
#endif

enum { SET = 0, ADD = 1, RELU = 2 }; /* ADD to what is there; RELU: negative results as 0 */

/* A: number (row, k) at a[row * row_step + k * k_step]; B: row k at b + k * b_step.
 *
 * Weights come from far away: for every k, `lines` (0 to 4) lines of the cache that will be needed
 * later are fetched, from `next` on.
 */
INLINE void tile(int rows, int width, int depth, const float *a, ptrdiff_t row_step,
                 ptrdiff_t k_step, const float *b, ptrdiff_t b_step, float *c, ptrdiff_t c_step,
                 int how, const float *next, int lines)
{
    ptrdiff_t second = lines > 1 ? LINE : 0, third = lines > 2 ? 2 * LINE : 0;
    ptrdiff_t fourth = lines > 3 ? 3 * LINE : 0;
    vec sums[TALL][WIDE];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < width; j++)
            sums[i][j] = how & ADD ? load(c + i * c_step + j * LANES) : (vec){0};
    for (int k = 0; k < depth; k++, a += k_step, b += b_step, next += lines * LINE) {
        vec right[WIDE];
        __builtin_prefetch(next);
        __builtin_prefetch(next + second);
        __builtin_prefetch(next + third);
        __builtin_prefetch(next + fourth);
#pragma GCC unroll 4
        for (int j = 0; j < width; j++)
            right[j] = load(b + j * LANES);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            float left = a[i * row_step];
#pragma GCC unroll 4
            for (int j = 0; j < width; j++)
                sums[i][j] += left * right[j];
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < width; j++) {
            vec sum = sums[i][j];
            store(c + i * c_step + j * LANES, how & RELU ? larger(sum, (vec){0}) : sum);
        }
}

typedef void tile_of(int, const float *, ptrdiff_t, ptrdiff_t, const float *, ptrdiff_t, float *,
                     ptrdiff_t, int, const float *, int);

#define TILE(rows, width)                                                                         \
    static __attribute__((noinline)) void tile_##rows##_##width(                                  \
        int depth, const float *a, ptrdiff_t row_step, ptrdiff_t k_step, const float *b,          \
        ptrdiff_t b_step, float *c, ptrdiff_t c_step, int how, const float *next, int lines)      \
    {                                                                                             \
        tile(rows, width, depth, a, row_step, k_step, b, b_step, c, c_step, how, next, lines);    \
    }
#define TILES(width)                                                                              \
    TILE(1, width) TILE(2, width) TILE(3, width) TILE(4, width) TILE(5, width) TILE(6, width)
#define NAMES(width)                                                                              \
    {                                                                                             \
        tile_1_##width, tile_2_##width, tile_3_##width, tile_4_##width, tile_5_##width,           \
            tile_6_##width                                                                        \
    }

TILES(1)
TILES(2)
#if WIDE == 4
TILES(3)
TILES(4)
static tile_of *const TILE_OF[WIDE][TALL] = {NAMES(1), NAMES(2), NAMES(3), NAMES(4)};
#else
static tile_of *const TILE_OF[WIDE][TALL] = {NAMES(1), NAMES(2)};
#endif

/* How wide the panel is that begins at a column: all of them are nearly alike. */
INLINE int panel_width(int columns, int column)
{
    int vectors = (columns - column) / LANES;
    return vectors / ((vectors + WIDE - 1) / WIDE) * LANES;
}

/* Where tile `t` of a panel fetches from, and how many lines for every k. The first fetches what it
 * needs itself, a little ahead; each of the others a part of the next panel, so that weights go on
 * coming while those that are there are multiplied. */
INLINE const float *fetch_for(const float *panel, int width, int depth, int t, int *lines)
{
    int all_lines = (width + LINE - 1) / LINE;
    *lines = t == 0 ? all_lines : t <= all_lines;
    return t == 0 ? panel + AHEAD * width : panel + (size_t)(width + (t - 1) * LINE) * depth;
}

/* C (rows x columns, a multiple of LANES) = A (rows x depth) times B.
 *
 * B is in panels, one behind the other, with all rows of one before the next begins. With b_step
 * given, its rows are whole instead, and so far apart.
 */
static void product(int rows, int columns, int depth, const float *a, ptrdiff_t row_step,
                    ptrdiff_t k_step, const float *b, ptrdiff_t b_step, float *c,
                    ptrdiff_t c_step, int how)
{
    int tiles = (rows + TALL - 1) / TALL;
    for (int column = 0, width; column < columns; column += width) {
        width = panel_width(columns, column);
        const float *panel = b_step ? b + column : b + (size_t)column * depth;
        for (int t = 0, row = 0; t < tiles; t++) {
            int height = (rows - row) / (tiles - t), lines = 0;
            const float *next = b_step ? panel : fetch_for(panel, width, depth, t, &lines);
            TILE_OF[width / LANES - 1][height - 1](depth, a + row * row_step, row_step, k_step,
                                                   panel, b_step ? b_step : width,
                                                   c + row * c_step + column, c_step, how,
                                                   next, lines);
            row += height;
        }
    }
}

/* `rows` rows of `inputs` numbers times a packed linear map -> rows of `outputs`, `step` apart. */
static void linear(int rows, int inputs, int outputs, const float *from, const float *packed,
                   float *to, ptrdiff_t step, int how)
{
    product(rows, outputs, inputs, from, inputs, 1, packed, 0, to, step, how);
}

#endif
