/* Blocks of a decoder-only model over whole batches: reading a history, and a pass over new codes.
 *
 * Called from Python through library.py. The weights of a linear map that reads a norm hold the
 * norm's weights, and what makes queries holds the scale of their scores.
 */
#include "blocks.h"

typedef struct { /* the states between two products, of some rows */
    float *normed, *query, *key_value, *mixed;
} States;

static size_t states_size(const Shape *shape, int rows)
{
    int64_t all_heads = 2 * (shape->heads + shape->kv_heads) * shape->d_kv;
    return (size_t)rows * (size_t)(shape->d_model + all_heads);
}

static States states_of(const Shape *shape, int rows, float **scratch)
{
    size_t all_heads = (size_t)(shape->heads * shape->d_kv);
    States states;
    states.normed = part(scratch, (size_t)rows * (size_t)shape->d_model);
    states.query = part(scratch, rows * all_heads);
    states.key_value = part(scratch, (size_t)rows * 2 * (size_t)(shape->kv_heads * shape->d_kv));
    states.mixed = part(scratch, rows * all_heads);
    return states;
}

/* Norms the heads of one row, if the model does, and turns them by its position. */
static void turn_heads(float *row, int64_t heads, int width, const float *weight, float epsilon,
                       const float *cosines, const float *sines)
{
    int half = width / 2;
    for (int64_t h = 0; h < heads; h++, row += width) {
        if (weight)
            norm_rows(row, row, 1, width, epsilon, weight);
        for (int at = 0; at < half; at++) {
            float first = row[at], second = row[at + half];
            row[at] = first * cosines[at] - second * sines[at];
            row[at + half] = second * cosines[at + half] + first * sines[at + half];
        }
    }
}

/* Queries, keys and values of rows whose angles stand one behind the other. */
static void project(const Shape *shape, const Block *block, const float *hidden, int rows,
                    const float *cosines, const float *sines, const States *to)
{
    int width = (int)shape->d_model, d_kv = (int)shape->d_kv;
    int all_heads = (int)shape->heads * d_kv, kv_width = (int)shape->kv_heads * d_kv;
    float epsilon = (float)shape->epsilon;
    norm_rows(hidden, to->normed, rows, width, epsilon, NULL);
    affine(rows, width, all_heads, to->normed, block->query, block->query_bias, to->query,
           all_heads, SET);
    affine(rows, width, 2 * kv_width, to->normed, block->key_value, block->key_value_bias,
           to->key_value, 2 * kv_width, SET);
    for (int row = 0; row < rows; row++, cosines += d_kv, sines += d_kv) {
        turn_heads(to->query + (size_t)row * all_heads, shape->heads, d_kv, block->query_norm,
                   epsilon, cosines, sines);
        turn_heads(to->key_value + (size_t)row * 2 * kv_width, shape->kv_heads, d_kv,
                   block->key_norm, epsilon, cosines, sines);
    }
}

/* Keys and values of one history into a block's memory, zeros for padding. */
static void remember(const Shape *shape, const float *key_value, int rows, int64_t seq,
                     const Memory *memory, int64_t row)
{
    int64_t d_kv = shape->d_kv, kv_width = shape->kv_heads * d_kv;
    for (int64_t h = 0; h < shape->kv_heads; h++) {
        float *keys = (float *)memory->key + row * memory->row_step + h * memory->head_step;
        float *values = (float *)memory->value + row * memory->row_step + h * memory->head_step;
        for (int64_t at = 0; at < seq; at++, keys += memory->key_step, values += memory->key_step) {
            const float *from = key_value + at * 2 * kv_width + h * d_kv;
            if (at < rows) {
                memcpy(keys, from, 4 * (size_t)d_kv);
                memcpy(values, from + kv_width, 4 * (size_t)d_kv);
            } else {
                memset(keys, 0, 4 * (size_t)d_kv);
                memset(values, 0, 4 * (size_t)d_kv);
            }
        }
    }
}

/* What the tokens of a history say to each other: causal attention, then the rest of the block. */
static void read_block(const Shape *shape, const Block *block, float *hidden, int rows,
                       const States *states, const Head *votes, float *scratch)
{
    int d_kv = (int)shape->d_kv, all_heads = (int)shape->heads * d_kv;
    int kv_width = (int)shape->kv_heads * d_kv;
    int64_t shared = shape->heads / shape->kv_heads;
    for (int64_t h = 0; h < shape->heads; h++) {
        Head head = *votes;
        head.queries = head.keys = rows;
        head.width = d_kv;
        head.causal = 1;
        head.query = states->query + h * d_kv;
        head.key = states->key_value + h / shared * d_kv;
        head.value = head.key + kv_width;
        head.query_step = head.mixed_step = all_heads;
        head.key_step = head.value_step = 2 * kv_width;
        head.mixed = states->mixed + h * d_kv;
        attend(&head, scratch);
    }
    linear(rows, all_heads, (int)shape->d_model, states->mixed, block->out, hidden,
           shape->d_model, ADD);
    feed_forward(shape, block, hidden, rows, scratch);
}

/* Blocks over the real tokens of each history; padding stays as it is.
 *
 * hidden: (batch, seq, d_model), changed in place. mask: (batch, seq), real tokens first. cosines
 * and sines: (turns, seq, d_kv) with 1 or batch turns. memories: one for each block, filled. votes
 * and received: as in stamp_t5_encode. Returns 0, or -1 without memory.
 */
int stamp_qwen_read(const Shape *shape, const Block *blocks, int64_t num_blocks, int64_t batch,
                    int64_t seq, float *hidden, const uint8_t *mask, const float *cosines,
                    const float *sines, int64_t turns, const Memory *memories, const float *votes,
                    float *received)
{
    int most = (int)seq;
    size_t attention = attention_scratch(most, most, (int)shape->d_kv);
    size_t size = feed_forward_scratch(shape);
    size = (size > attention ? size : attention) + states_size(shape, most);
    float *memory = memory_for(size + UP(most) + (size_t)most * LANES), *scratch = memory;
    if (!memory)
        return -1;
    float *row_votes = part(&scratch, UP(most)), *lanes = part(&scratch, (size_t)most * LANES);
    States states = states_of(shape, most, &scratch);
    for (int64_t b = 0; b < num_blocks; b++)
        for (int64_t row = 0; row < batch; row++) {
            int real = real_tokens(mask + row * seq, most);
            size_t turn = (size_t)(row % turns * seq * shape->d_kv);
            Head counted = counting(votes ? votes + row * seq : NULL, real, row_votes, lanes, most);
            float *stream = hidden + row * seq * shape->d_model;
            project(shape, blocks + b, stream, real, cosines + turn, sines + turn, &states);
            remember(shape, states.key_value, real, seq, memories + b, row);
            read_block(shape, blocks + b, stream, real, &states, &counted, scratch);
            for (int key = 0; votes && key < most; key++)
                received[row * seq + key] = sum_of(load(lanes + (size_t)key * LANES));
        }
    free(memory);
    return 0;
}

typedef struct { /* what new codes see besides the history; see stamp_qwen_step */
    float *codes;
    int64_t begin, depth;
    const int64_t *seen;
    const float *hides;
} Codes;

/* What the history and earlier codes say to `rows` new codes of one history. */
static void attend_all(const Shape *shape, const States *states, int64_t row, int rows,
                       const Memory *memory, const float *bias, int64_t keys, const Codes *codes,
                       float *scratch)
{
    int64_t d_kv = shape->d_kv, all_heads = shape->heads * d_kv, kv_width = shape->kv_heads * d_kv;
    int64_t shared = shape->heads / shape->kv_heads;
    for (int64_t h = 0; h < shape->heads; h++) {
        ptrdiff_t theirs = row * memory->row_step + h / shared * memory->head_step;
        ptrdiff_t own = row * rows * all_heads + h * d_kv;
        const float *code_keys = codes->codes + h / shared * d_kv;
        Head head = {.queries = rows,
                     .keys = real_keys(bias + row * keys, (int)keys),
                     .width = (int)d_kv,
                     .query = states->query + own,
                     .key = memory->key + theirs,
                     .value = memory->value + theirs,
                     .query_step = all_heads,
                     .key_step = memory->key_step,
                     .value_step = memory->key_step,
                     .mixed = states->mixed + own,
                     .mixed_step = all_heads,
                     .of_key = bias + row * keys,
                     .depth = (int)codes->depth,
                     .seen = codes->seen + row * rows * codes->depth,
                     .own_key = code_keys,
                     .own_value = code_keys + kv_width,
                     .own_step = 2 * kv_width,
                     .hides = codes->hides};
        attend(&head, scratch);
    }
}

/* A pass over `rows` new codes of every history.
 *
 * hidden: (batch * rows, d_model), becomes the normed states. cosines and sines: (batch * rows,
 * d_kv). codes: (blocks, places, numbers), its blocks `code_step` floats apart; keys and values of
 * the rows go to the places from `begin` on. seen: (batch * rows, depth) places. hides: (rows,
 * depth), added to their scores; NULL = nothing. memories, biases and keys: one for each block; a
 * bias is (batch, keys). Returns 0, or -1 without memory.
 */
int stamp_qwen_step(const Shape *shape, const Block *blocks, int64_t num_blocks, const float *norm,
                    int64_t batch, int64_t rows, float *hidden, const float *cosines,
                    const float *sines, float *codes, int64_t code_step, int64_t begin,
                    const int64_t *seen, int64_t depth, const float *hides, const Memory *memories,
                    const float *const *biases, const int64_t *keys)
{
    int total = (int)(batch * rows);
    int64_t numbers = 2 * shape->kv_heads * shape->d_kv, most = 0;
    for (int64_t b = 0; b < num_blocks; b++)
        most = keys[b] > most ? keys[b] : most;
    size_t attention = attention_scratch((int)rows, (int)(most + depth), (int)shape->d_kv);
    size_t size = feed_forward_scratch(shape);
    size = (size > attention ? size : attention) + states_size(shape, total);
    float *memory = memory_for(size), *scratch = memory;
    if (!memory)
        return -1;
    States states = states_of(shape, total, &scratch);
    for (int64_t b = 0; b < num_blocks; b++) {
        Codes seen_codes = {codes + b * code_step, begin, depth, seen, hides};
        project(shape, blocks + b, hidden, total, cosines, sines, &states);
        memcpy(seen_codes.codes + begin * numbers, states.key_value,
               4 * (size_t)(total * numbers));
        for (int64_t row = 0; row < batch; row++)
            attend_all(shape, &states, row, (int)rows, memories + b, biases[b], keys[b],
                       &seen_codes, scratch);
        linear(total, (int)(shape->heads * shape->d_kv), (int)shape->d_model, states.mixed,
               blocks[b].out, hidden, shape->d_model, ADD);
        feed_forward(shape, blocks + b, hidden, total, scratch);
    }
    norm_rows(hidden, hidden, total, (int)shape->d_model, (float)shape->epsilon, norm);
    free(memory);
    return 0;
}
