/* T5's blocks over whole batches: the encoder's, without its padding, and a decoder's pass.
 *
 * Called from Python through library.py, which says what each argument is. The weights of a linear
 * map that reads a norm hold the norm's weights.
 */
#include "blocks.h"

/* Self-attention of one encoder block over the rows of one history. */
static void encoder_attention(const Shape *shape, const Block *block, float *hidden, int rows,
                              const Head *biases, const float *distances, int64_t reach,
                              float *scratch)
{
    int width = (int)shape->d_model, all_heads = (int)(shape->heads * shape->d_kv);
    float *normed = part(&scratch, (size_t)rows * width);
    float *qkv = part(&scratch, (size_t)rows * 3 * all_heads);
    float *mixed = part(&scratch, (size_t)rows * all_heads);
    norm_rows(hidden, normed, rows, width, (float)shape->epsilon, NULL);
    linear(rows, width, all_heads, normed, block->query, qkv, 3 * all_heads, SET);
    linear(rows, width, 2 * all_heads, normed, block->key_value, qkv + all_heads, 3 * all_heads,
           SET);
    for (int64_t h = 0; h < shape->heads; h++) {
        Head head = *biases;
        head.queries = head.keys = rows;
        head.width = (int)shape->d_kv;
        head.query = qkv + h * shape->d_kv;
        head.key = head.query + all_heads;
        head.value = head.key + all_heads;
        head.query_step = head.key_step = head.value_step = 3 * all_heads;
        head.mixed = mixed + h * shape->d_kv;
        head.mixed_step = all_heads;
        head.of_distance = distances ? distances + h * reach + reach / 2 : NULL;
        attend(&head, scratch);
    }
    linear(rows, all_heads, width, mixed, block->out, hidden, width, ADD);
}

/* Encoder blocks over the real tokens of each history; padding stays as it is.
 *
 * hidden: (batch, seq, d_model), changed in place. mask: (batch, seq), real tokens first.
 * distances: (heads, reach), the bias of each distance in ascending order, 0 in the middle, with
 * LANES of slack on both sides of the whole; NULL = none. positions: (batch, seq); NULL = 0, 1, ...
 * votes: (batch, seq) of queries; received: (batch, seq), their weights, summed over heads and
 * queries; both NULL = not asked for. Returns 0, or -1 without memory.
 */
int stamp_t5_encode(const Shape *shape, const Block *blocks, int64_t num_blocks, int64_t batch,
                    int64_t seq, float *hidden, const uint8_t *mask, const float *distances,
                    int64_t reach, const int64_t *positions, const float *votes, float *received)
{
    int most = (int)seq, all_heads = (int)(shape->heads * shape->d_kv);
    size_t attention = (size_t)most * (size_t)(shape->d_model + 4 * all_heads) +
                       attention_scratch(most, most, (int)shape->d_kv);
    size_t size = feed_forward_scratch(shape);
    size = size > attention ? size : attention;
    float *memory = memory_for(size + UP(most) + (size_t)most * LANES), *scratch = memory;
    if (!memory)
        return -1;
    float *row_votes = part(&scratch, UP(most)), *lanes = part(&scratch, (size_t)most * LANES);
    for (int64_t b = 0; b < num_blocks; b++)
        for (int64_t row = 0; row < batch; row++) {
            int real = real_tokens(mask + row * seq, most);
            Head biases = counting(votes ? votes + row * seq : NULL, real, row_votes, lanes, most);
            biases.positions = positions ? positions + row * seq : NULL;
            float *stream = hidden + row * seq * shape->d_model;
            encoder_attention(shape, blocks + b, stream, real, &biases, distances, reach, scratch);
            for (int key = 0; votes && key < most; key++)
                received[row * seq + key] = sum_of(load(lanes + (size_t)key * LANES));
            feed_forward(shape, blocks + b, stream, real, scratch);
        }
    free(memory);
    return 0;
}

/* Attention of one row over the few codes that it sees; bias: (depth, heads). */
static void attend_seen(const Shape *shape, const float *query, const float *codes,
                        const int64_t *seen, int depth, const float *bias, float *mixed)
{
    int width = (int)shape->d_kv, heads = (int)shape->heads, all_heads = heads * width;
    for (int h = 0; h < heads; h++, query += width, mixed += width) {
        const float *key = codes + h * width, *value = key + all_heads;
        float scores[64], top = -INFINITY, sum = 0;
        for (int d = 0; d < depth; d++) {
            scores[d] = dot(query, key + seen[d] * 2 * all_heads, width) + bias[d * heads + h];
            top = scores[d] > top ? scores[d] : top;
        }
        for (int d = 0; d < depth; d++)
            sum += scores[d] = expf(scores[d] - top);
        memset(mixed, 0, 4 * (size_t)width);
        for (int d = 0; d < depth; d++)
            add_times(mixed, value + seen[d] * 2 * all_heads, scores[d] / sum, width);
    }
}

/* Adds what `rows` new codes of every history say to each other and to earlier ones. */
static void decoder_attention(const Shape *shape, const Block *block, float *hidden, int rows,
                              float *codes, int64_t begin, const int64_t *seen, int depth,
                              const float *bias, int64_t bias_step, int bias_rows, float *scratch)
{
    int width = (int)shape->d_model, all_heads = (int)(shape->heads * shape->d_kv);
    float *normed = part(&scratch, (size_t)rows * width);
    float *query = part(&scratch, (size_t)rows * all_heads);
    float *mixed = part(&scratch, (size_t)rows * all_heads);
    float *now = codes + begin * 2 * all_heads;
    norm_rows(hidden, normed, rows, width, (float)shape->epsilon, NULL);
    linear(rows, width, 2 * all_heads, normed, block->key_value, now, 2 * all_heads, SET);
    if (seen) {
        linear(rows, width, all_heads, normed, block->query, query, all_heads, SET);
        for (int row = 0; row < rows; row++)
            attend_seen(shape, query + (size_t)row * all_heads, codes, seen + row * depth, depth,
                        bias + row % bias_rows * bias_step, mixed + (size_t)row * all_heads);
    } else {
        for (int row = 0; row < rows; row++)
            memcpy(mixed + (size_t)row * all_heads, now + (size_t)(2 * row + 1) * all_heads,
                   4 * (size_t)all_heads);
    }
    linear(rows, all_heads, width, mixed, block->out, hidden, width, ADD);
}

/* Adds what the histories say to the rows that belong to them. */
static void cross_attention(const Shape *shape, const Block *block, float *hidden, int batch,
                            int rows, const Memory *memory, const float *bias, int64_t seq,
                            float *scratch)
{
    int width = (int)shape->d_model, all_heads = (int)(shape->heads * shape->d_kv);
    float *normed = part(&scratch, (size_t)batch * rows * width);
    float *query = part(&scratch, (size_t)batch * rows * all_heads);
    float *mixed = part(&scratch, (size_t)batch * rows * all_heads);
    norm_rows(hidden, normed, batch * rows, width, (float)shape->epsilon, NULL);
    linear(batch * rows, width, all_heads, normed, block->cross_query, query, all_heads, SET);
    for (int row = 0; row < batch; row++)
        for (int64_t h = 0; h < shape->heads; h++) {
            ptrdiff_t own = (ptrdiff_t)row * rows * all_heads + h * shape->d_kv;
            ptrdiff_t theirs = row * memory->row_step + h * memory->head_step;
            Head head = {.queries = rows,
                         .keys = real_keys(bias + row * seq, (int)seq),
                         .width = (int)shape->d_kv,
                         .query = query + own,
                         .key = memory->key + theirs,
                         .value = memory->value + theirs,
                         .query_step = all_heads,
                         .key_step = memory->key_step,
                         .value_step = memory->key_step,
                         .mixed = mixed + own,
                         .mixed_step = all_heads,
                         .of_key = bias + row * seq};
            attend(&head, scratch);
        }
    linear(batch * rows, all_heads, width, mixed, block->cross_out, hidden, width, ADD);
}

/* A pass of the decoder over `rows` new codes of every history.
 *
 * hidden: (batch * rows, d_model), becomes the normed states. codes: (blocks, places, numbers), its
 * blocks `code_step` floats apart; keys and values of the rows go to the places from `begin` on.
 * seen: (batch * rows, depth) places; NULL = itself alone. bias: (bias_rows, depth, heads), for the
 * rows of a history by turns. memories: one for each block. memory_bias: (batch, seq). Returns 0,
 * or -1 without memory.
 */
int stamp_t5_step(const Shape *shape, const Block *blocks, int64_t num_blocks, const float *norm,
                  int64_t batch, int64_t rows, float *hidden, float *codes, int64_t code_step,
                  int64_t begin, const int64_t *seen, int64_t depth, const float *bias,
                  int64_t bias_rows, const Memory *memories, const float *memory_bias, int64_t seq)
{
    int total = (int)(batch * rows), all_heads = (int)(shape->heads * shape->d_kv);
    size_t size = (size_t)total * (size_t)(shape->d_model + 2 * all_heads) +
                  attention_scratch((int)rows, (int)seq, (int)shape->d_kv);
    size_t other = feed_forward_scratch(shape);
    float *memory = memory_for(size > other ? size : other), *scratch = memory;
    if (!memory)
        return -1;
    for (int64_t b = 0; b < num_blocks; b++) {
        decoder_attention(shape, blocks + b, hidden, total, codes + b * code_step, begin, seen,
                          (int)depth, bias, depth * shape->heads, (int)bias_rows, scratch);
        cross_attention(shape, blocks + b, hidden, (int)batch, (int)rows, memories + b,
                        memory_bias, seq, scratch);
        feed_forward(shape, blocks + b, hidden, total, scratch);
    }
    norm_rows(hidden, hidden, total, (int)shape->d_model, (float)shape->epsilon, norm);
    free(memory);
    return 0;
}
