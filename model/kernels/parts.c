/* Single parts of a model, and how it wants its weights. */
#include "blocks.h"

int stamp_wide(void) { return WIDE; }
int stamp_lanes(void) { return LANES; }

/* (rows, inputs) times a packed linear map -> (rows, outputs). */
void stamp_linear(int64_t rows, int64_t inputs, int64_t outputs, const float *from,
                  const float *packed, float *to)
{
    linear((int)rows, (int)inputs, (int)outputs, from, packed, to, outputs, SET);
}

/* (rows, width) -> the same, normed. */
void stamp_norm(int64_t rows, int64_t width, double epsilon, const float *from,
                const float *weight, float *to)
{
    norm_rows(from, to, (int)rows, (int)width, (float)epsilon, weight);
}

/* Attention of heads: (heads, queries, width) over (heads, keys, width), without scale or bias. */
int stamp_attention(int64_t heads, int64_t queries, int64_t keys, int64_t width, const float *query,
                    const float *key, const float *value, float *mixed)
{
    float *memory = memory_for(attention_scratch((int)queries, (int)keys, (int)width));
    if (!memory)
        return -1;
    for (int64_t h = 0; h < heads; h++) {
        Head head = {.queries = (int)queries,
                     .keys = (int)keys,
                     .width = (int)width,
                     .query = query + h * queries * width,
                     .key = key + h * keys * width,
                     .value = value + h * keys * width,
                     .query_step = width,
                     .key_step = width,
                     .value_step = width,
                     .mixed = mixed + h * queries * width,
                     .mixed_step = width};
        attend(&head, memory);
    }
    free(memory);
    return 0;
}
