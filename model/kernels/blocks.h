/* What the blocks of both architectures have in common: their weights, and feed-forward parts. */
#ifndef STAMP_BLOCKS_H
#define STAMP_BLOCKS_H

#include <stdlib.h>

#include "attention.h"

#define ROWS_AT_ONCE 128 /* whose states between two products stay in the second-level cache */

typedef struct {
    int64_t d_model, heads, kv_heads, d_kv, d_ff;
    int64_t silu; /* what a gate goes through: 1 = SiLU, 0 = the tanh approximation of GELU */
    double epsilon;
} Shape;

typedef struct { /* of one block, packed (products.h); NULL = the model has none */
    const float *query, *query_bias, *query_norm, *key_value, *key_value_bias, *key_norm, *out;
    const float *cross_query, *cross_out;
    const float *inner, *inner_bias, *gate, *middle, *middle_bias, *outer, *outer_bias;
} Block;

typedef struct { /* keys and values of the history in one block; steps in floats */
    const float *key, *value;
    int64_t row_step, head_step, key_step;
} Memory;

/* 64 bytes in front of each part, so that no two begin at the same place of a cache. */
static float *part(float **scratch, size_t size)
{
    float *begin = *scratch;
    *scratch += UP(size) + LANES;
    return begin;
}

static float *memory_for(size_t size) { return malloc(4 * (size + 64 * (LANES + 16))); }

/* Real tokens stand first. */
static int real_tokens(const uint8_t *mask, int seq)
{
    int real = 0;
    while (real < seq && mask[real])
        real++;
    return real;
}

/* Keys up to the last that its bias does not hide; at least one. */
static int real_keys(const float *bias, int keys)
{
    while (keys > 1 && bias[keys - 1] < -1e30f)
        keys--;
    return keys;
}

/* A head that counts what attention the keys of one history receive, if there are votes. */
static Head counting(const float *votes, int real, float *row_votes, float *lanes, int seq)
{
    Head head = {.votes = NULL};
    if (votes) {
        memset(row_votes, 0, 4 * (size_t)UP(seq));
        memset(lanes, 0, 4 * (size_t)seq * LANES);
        memcpy(row_votes, votes, 4 * (size_t)real);
        head.votes = row_votes;
        head.received = lanes;
    }
    return head;
}

/* A linear map and its offset, if it has one; results `step` apart. */
static void affine(int rows, int inputs, int outputs, const float *from, const float *packed,
                   const float *offset, float *to, ptrdiff_t step, int how)
{
    for (int row = 0; offset && row < rows; row++)
        memcpy(to + row * step, offset, 4 * (size_t)outputs);
    linear(rows, inputs, outputs, from, packed, to, step, offset ? how | ADD : how);
}

/* SiLU or GELU of the gate, times inner, in place of inner. */
static void gated(float *inner, const float *gate, size_t size, int silu)
{
    for (size_t at = 0; at < size; at += LANES) {
        vec x = load(gate + at);
        vec steep = x;
        if (!silu)
            steep = 1.5957691216f * (x + 0.044715f * x * x * x);
        steep = where(steep < -80.0f, all(-80.0f), steep);
        store(inner + at, load(inner + at) * x / (1.0f + exponential(-steep)));
    }
}

/* Adds the feed-forward part to the rows of the residual stream. */
static void feed_forward(const Shape *shape, const Block *block, float *hidden, int rows,
                         float *scratch)
{
    int width = (int)shape->d_model, wide = (int)shape->d_ff;
    float *normed = part(&scratch, (size_t)ROWS_AT_ONCE * width);
    float *inner = part(&scratch, (size_t)ROWS_AT_ONCE * wide);
    float *other = part(&scratch, (size_t)ROWS_AT_ONCE * wide);
    for (int row = 0; row < rows; row += ROWS_AT_ONCE) {
        int some = rows - row < ROWS_AT_ONCE ? rows - row : ROWS_AT_ONCE;
        float *stream = hidden + (size_t)row * width, *read = inner;
        norm_rows(stream, normed, some, width, (float)shape->epsilon, NULL);
        affine(some, width, wide, normed, block->inner, block->inner_bias, inner, wide,
               block->gate ? SET : RELU);
        if (block->gate) {
            linear(some, width, wide, normed, block->gate, other, wide, SET);
            gated(inner, other, (size_t)some * wide, (int)shape->silu);
        }
        if (block->middle) {
            affine(some, wide, wide, inner, block->middle, block->middle_bias, other, wide,
                   RELU);
            read = other;
        }
        for (int i = 0; block->outer_bias && i < some; i++)
            add_times(stream + (size_t)i * width, block->outer_bias, 1.0f, width);
        linear(some, wide, width, read, block->outer, stream, width, ADD);
    }
}

static size_t feed_forward_scratch(const Shape *shape)
{
    return (size_t)ROWS_AT_ONCE * (size_t)(shape->d_model + 2 * shape->d_ff);
}

#endif
