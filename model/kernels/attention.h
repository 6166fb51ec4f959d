/* Attention of one head, softmax included.
 *
 * Scores stand with a row per key and a column per query: then softmax needs no sums across a
 * vector, and keys and values are read where they are, without being copied into another order.
 */
#ifndef STAMP_ATTENTION_H
#define STAMP_ATTENTION_H

#include "products.h"

#define UP(count) (((count) + LANES - 1) / LANES * LANES)

typedef struct {
    int queries, keys, width; /* width of the head, a multiple of LANES */
    const float *query, *key, *value;
    ptrdiff_t query_step, key_step, value_step; /* from a row to the next, in floats */
    float *mixed;                               /* the result, a row per query */
    ptrdiff_t mixed_step;
    int causal;               /* query i sees keys 0..i only */
    const float *of_key;      /* (keys,) added to a key's scores; NULL = nothing */
    const float *of_distance; /* at query position - key position; NULL = nothing */
    const int64_t *positions; /* (queries,), the keys' as well; NULL = 0, 1, 2, ... */
    const float *votes;       /* (UP(queries),) of each query, 0 behind; NULL = not asked for */
    float *received;          /* (keys, LANES): votes times weights are added, lane by lane */
    int depth;                /* keys behind the others that each query has for itself */
    const int64_t *seen;      /* (queries, depth), their places */
    const float *own_key, *own_value; /* at place 0 */
    ptrdiff_t own_step;               /* from a place to the next */
    const float *hides;               /* (queries, depth), added to their scores; NULL = nothing */
} Head;

/* Floats that `attend` needs for its work; keys include those of each query. */
static size_t attention_scratch(int queries, int keys, int width)
{
    return (size_t)UP(queries) * (size_t)(keys + width + 1);
}

/* (queries, width) rows -> (width, UP(queries)) panels, filled up with zeros. */
static void turn(const Head *head, float *to)
{
    int columns = UP(head->queries);
    for (int begin = 0, panel; begin < columns; begin += panel) {
        panel = panel_width(columns, begin);
        for (int column = 0; column < panel; column++) {
            const float *from = head->query + (begin + column) * head->query_step;
            int real = begin + column < head->queries;
            for (int at = 0; at < head->width; at++)
                to[at * panel + column] = real ? from[at] : 0;
        }
        to += panel * head->width;
    }
}

INLINE vec bias_of(const Head *head, int key, int column)
{
    vec bias = {0};
    if (head->of_key)
        bias += head->of_key[key];
    if (head->of_distance && !head->positions)
        bias += load(head->of_distance + column - key);
    if (head->of_distance && head->positions)
        for (int lane = 0; lane < LANES && column + lane < head->queries; lane++)
            bias[lane] += head->of_distance[head->positions[column + lane] - head->positions[key]];
    if (head->causal)
        for (int lane = 0; lane < LANES; lane++)
            if (key > column + lane)
                bias[lane] = -INFINITY;
    return bias;
}

/* Scores of the keys that each query has for itself; (depth, columns). */
static void score_own(const Head *head, float *scores, int columns)
{
    memset(scores, 0, 4 * (size_t)head->depth * columns);
    for (int row = 0; row < head->queries; row++)
        for (int d = 0; d < head->depth; d++) {
            const float *query = head->query + row * head->query_step;
            const float *key = head->own_key + head->seen[row * head->depth + d] * head->own_step;
            float *score = scores + (size_t)d * columns + row;
            *score = dot(query, key, head->width);
            if (head->hides)
                *score += head->hides[row * head->depth + d];
        }
}

/* Adds their values; (depth, columns) weights. */
static void mix_own(const Head *head, const float *weights, int columns)
{
    for (int row = 0; row < head->queries; row++)
        for (int d = 0; d < head->depth; d++) {
            const int64_t place = head->seen[row * head->depth + d];
            add_times(head->mixed + row * head->mixed_step,
                      head->own_value + place * head->own_step,
                      weights[(size_t)d * columns + row], head->width);
        }
}

/* Softmax of one vector of queries over the keys, but for the division, which is returned. */
INLINE vec soften(const Head *head, float *scores, int columns, int column)
{
    vec top = all(-INFINITY), sum = {0};
    int biased = head->of_key || head->of_distance || head->causal;
    for (int key = 0; key < head->keys; key++) {
        float *at = scores + (size_t)key * columns + column;
        vec score = load(at);
        if (biased) {
            score += bias_of(head, key, column);
            store(at, score);
        }
        top = larger(score, top);
    }
    for (int key = head->keys; key < head->keys + head->depth; key++)
        top = larger(load(scores + (size_t)key * columns + column), top);
    for (int key = 0; key < head->keys + head->depth; key++) {
        float *at = scores + (size_t)key * columns + column;
        vec weight = exponential(load(at) - top);
        store(at, weight);
        sum += weight;
    }
    return 1.0f / sum;
}

static void attend(const Head *head, float *scratch)
{
    int columns = UP(head->queries);
    float *turned = scratch, *scores = turned + (size_t)columns * head->width;
    float *own = scores + (size_t)columns * head->keys;
    float *shares = own + (size_t)columns * head->depth;
    turn(head, turned);
    product(head->keys, columns, head->width, head->key, head->key_step, 1, turned, 0, scores,
            columns, SET);
    score_own(head, own, columns);
    for (int column = 0; column < columns; column += LANES) {
        vec share = soften(head, scores, columns, column);
        store(shares + column, share);
        if (head->votes) {
            vec vote = load(head->votes + column) * share;
            for (int key = 0; key < head->keys; key++) {
                float *lanes = head->received + (size_t)key * LANES;
                store(lanes, load(lanes) + vote * load(scores + (size_t)key * columns + column));
            }
        }
    }
    product(head->queries, head->width, head->keys, scores, 1, columns, head->value,
            head->value_step, head->mixed, head->mixed_step, SET);
    mix_own(head, own, columns);
    for (int row = 0; row < head->queries; row++)
        scale(head->mixed + row * head->mixed_step, shares[row], head->width);
}

#endif
