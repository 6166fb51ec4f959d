/* One level of beam search: score the legal children of all beams and keep each row's best.
 *
 * What model/candidates.py does in torch, without quotas: the same ranks, the same order of ties.
 */
#include <stdlib.h>

#include "vectors.h"

typedef struct { /* of one level; see stamp_select */
    const int32_t *first_child, *codes;
} Level;

typedef struct { /* what a row may enter; NULL = no such rule */
    int64_t num_alive, num_biases, num_excluded, num_allowed, num_few;
    const uint8_t *const *alive;       /* (batch, num_alive), marks of nodes; NULL = not this row */
    const float *const *biases;        /* (batch, num_biases), numbers of nodes */
    const int64_t *excluded, *allowed; /* (batch, num_*) ascending nodes, large ones behind */
    const uint8_t *bound;              /* (batch,), whether a row has allowed nodes */
    const int64_t *few;                /* (batch, num_few) nodes that have a bias, and it */
    const float *few_biases;
} Rules;

typedef struct { /* (batch, width) each; `lost`: (batch,) */
    int64_t width;
    int64_t *nodes, *owners;
    float *scores, *ranks, *terms, *lost;
} Kept;

typedef struct {
    int64_t key;
    int32_t node, owner;
    float score, rank, term;
} Candidate;

/* Sorts like the rank, then like the smaller node; see ranking_keys in candidates.py. */
INLINE int64_t key_of(float rank, int64_t node)
{
    int32_t bits;
    memcpy(&bits, &rank, 4);
    int64_t ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF);
    return ordered * 2147483648LL - node;
}

/* The place of a node among ascending ones; -1 = it is not there. */
static int64_t place_of(const int64_t *nodes, int64_t count, int64_t node)
{
    int64_t low = 0, high = count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (nodes[middle] < node)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && nodes[low] == node ? low : -1;
}

static int is_legal(const Rules *rules, int64_t row, int64_t node)
{
    for (int64_t s = 0; s < rules->num_alive; s++) {
        const uint8_t *marks = rules->alive[row * rules->num_alive + s];
        if (marks && !marks[node])
            return 0;
    }
    if (rules->num_excluded &&
        place_of(rules->excluded + row * rules->num_excluded, rules->num_excluded, node) >= 0)
        return 0;
    if (rules->bound && rules->bound[row])
        return place_of(rules->allowed + row * rules->num_allowed, rules->num_allowed, node) >= 0;
    return 1;
}

static float bias_of(const Rules *rules, int64_t row, int64_t node)
{
    float bias = 0;
    if (rules->num_few) {
        int64_t place = place_of(rules->few + row * rules->num_few, rules->num_few, node);
        bias = place < 0 ? 0 : rules->few_biases[row * rules->num_few + place];
    }
    for (int64_t s = 0; s < rules->num_biases; s++) {
        const float *numbers = rules->biases[row * rules->num_biases + s];
        bias += numbers ? numbers[node] : 0;
    }
    return bias;
}

/* The largest of `size` numbers, and ln of the sum of e^(x - largest). */
static float log_sum_exp(const float *x, int64_t size, float *largest)
{
    float top = -INFINITY, rest = 0;
    vec tops = all(-INFINITY), sum = {0};
    int64_t whole = size / LANES * LANES;
    for (int64_t at = 0; at < whole; at += LANES)
        tops = larger(load(x + at), tops);
    for (int lane = 0; lane < LANES; lane++)
        top = tops[lane] > top ? tops[lane] : top;
    for (int64_t at = whole; at < size; at++)
        top = x[at] > top ? x[at] : top;
    for (int64_t at = 0; at < whole; at += LANES)
        sum += exponential(load(x + at) - top);
    for (int64_t at = whole; at < size; at++)
        rest += expf(x[at] - top);
    *largest = top;
    return logf(sum_of(sum) + rest);
}

/* A heap whose first is the worst: a better one takes its place. */
static void offer(Candidate *heap, int64_t *count, int64_t most, Candidate candidate)
{
    int64_t hole = 0;
    if (*count < most) {
        for (hole = (*count)++; hole && heap[(hole - 1) / 2].key > candidate.key;
             hole = (hole - 1) / 2)
            heap[hole] = heap[(hole - 1) / 2];
        heap[hole] = candidate;
        return;
    }
    if (candidate.key <= heap[0].key)
        return;
    for (int64_t child; (child = 2 * hole + 1) < most; hole = child) {
        child += child + 1 < most && heap[child + 1].key < heap[child].key;
        if (heap[child].key >= candidate.key)
            break;
        heap[hole] = heap[child];
    }
    heap[hole] = candidate;
}

static int best_first(const void *one, const void *other)
{
    int64_t a = ((const Candidate *)one)->key, b = ((const Candidate *)other)->key;
    return (a < b) - (a > b);
}

/* Writes one row's best; returns how many there are. */
static int64_t keep(const Candidate *sorted, int64_t count, int64_t row, const Kept *kept)
{
    int64_t width = count < kept->width ? count : kept->width, begin = row * kept->width;
    for (int64_t i = 0; i < kept->width; i++) {
        const Candidate *from = i < width ? sorted + i : NULL;
        kept->nodes[begin + i] = from ? from->node : 0;
        kept->owners[begin + i] = from ? from->owner : 0;
        kept->scores[begin + i] = from ? from->score : -INFINITY;
        kept->ranks[begin + i] = from ? from->rank : -INFINITY;
        kept->terms[begin + i] = from ? from->term : 0;
    }
    kept->lost[row] = count > kept->width ? sorted[kept->width].rank : -INFINITY;
    return width;
}

/* The best children of all beams.
 *
 * parents, scores: (batch, beams); a score of -inf is filler. logits: (batch, beams, codes).
 * Returns the most that a row has, behind which all of `kept` is filler; or -1 without memory.
 */
int64_t stamp_select(const Level *level, const Rules *rules, const Kept *kept, int64_t batch,
                     int64_t beams, int64_t codes, const int64_t *parents, const float *scores,
                     const float *logits)
{
    int64_t most = 0;
    Candidate *heap = malloc(sizeof(Candidate) * (size_t)(kept->width + 1));
    if (!heap)
        return -1;
    for (int64_t row = 0; row < batch; row++) {
        int64_t count = 0;
        for (int64_t beam = row * beams; beam < (row + 1) * beams; beam++) {
            if (scores[beam] == -INFINITY)
                continue;
            const float *own = logits + beam * codes;
            float top, sum = log_sum_exp(own, codes, &top);
            int64_t end = level->first_child[parents[beam] + 1];
            for (int64_t node = level->first_child[parents[beam]]; node < end; node++) {
                if (!is_legal(rules, row, node))
                    continue;
                Candidate candidate = {.node = (int32_t)node,
                                       .owner = (int32_t)(beam - row * beams),
                                       .term = own[level->codes[node]] - top - sum};
                candidate.score = scores[beam] + candidate.term;
                candidate.rank = candidate.score + bias_of(rules, row, node);
                candidate.key = key_of(candidate.rank, node);
                offer(heap, &count, kept->width + 1, candidate);
            }
        }
        qsort(heap, (size_t)count, sizeof(Candidate), best_first);
        int64_t width = keep(heap, count, row, kept);
        most = width > most ? width : most;
    }
    free(heap);
    return most;
}
