/* Single parts of a model, and how it wants its weights. */
#include "blocks.h"

int stamp_panel(void) { return PANEL; }
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
