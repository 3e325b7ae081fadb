/* Vectors of words: a Huffman tree over a vocabulary, and skip-gram steps with a softmax along its paths. */
#include "kernel.h"

/* Products beyond MOST are not learned from; between, MLlib reads the sigmoid from a table with so many entries a unit. */
#define MOST 6.0f
#define ENTRIES 83.0

/* After so many words the learning rate is set anew; it never falls below LEAST of the first one. */
#define WORDS 10000
#define LEAST 1e-4

static inline float dot(const float *one, const float *other, int64_t width)
{
    floats sums[2] = {{0}, {0}};
    int64_t j = 0;
    for (; j + 2 * LANES <= width; j += 2 * LANES) {
        sums[0] += load(one + j) * load(other + j);
        sums[1] += load(one + j + LANES) * load(other + j + LANES);
    }
    if (j < width)
        sums[0] += load(one + j) * load(other + j);
    return total(sums[0] + sums[1]);
}

/*
 * Of words in the order of their counts, the largest first, the parent and the bit of each node of the tree but the last, its root:
 * words come before inner nodes, an inner node before its parent. Sums (2 words - 1) is room for the nodes' counts.
 */
KERNEL void words_tree(const int64_t *counts, int64_t words, int64_t *sums, int32_t *parents, uint8_t *bits)
{
    memcpy(sums, counts, (size_t)words * sizeof *sums);
    int64_t word = words - 1, inner = words;
    for (int64_t made = words; made < 2 * words - 1; made++) {
        int64_t pair[2];
        for (int i = 0; i < 2; i++)
            pair[i] = word >= 0 && (inner == made || sums[word] < sums[inner]) ? word-- : inner++;
        sums[made] = sums[pair[0]] + sums[pair[1]];
        for (int i = 0; i < 2; i++) {
            parents[pair[i]] = (int32_t)made;
            bits[pair[i]] = (uint8_t)i;
        }
    }
}

/* Moves the vector of a word, and those of the inner nodes above another one that stands near it. */
static void learn(float *word, int64_t node, const int32_t *parents, const uint8_t *bits, int64_t root, const float *sigmoid, double rate,
                  int64_t width, float *vectors, uint8_t *trained, float *change)
{
    memset(change, 0, (size_t)width * sizeof *change);
    for (; node != root; node = parents[node]) {
        float *inner = vectors + (int64_t)parents[node] * width;
        float product = dot(word, inner, width);
        /* A product that is no number is not learned from either. */
        if (!(product > -MOST && product < MOST))
            continue;
        float wanted = (float)(1 - bits[node]) - sigmoid[(int)((product + MOST) * ENTRIES)];
        floats step = splat((float)(wanted * rate));
        for (int64_t j = 0; j < width; j += LANES) {
            floats before = load(inner + j);
            store(change + j, load(change + j) + step * before);
            store(inner + j, before + step * load(word + j));
        }
        trained[parents[node]] = 1;
    }
    for (int64_t j = 0; j < width; j += LANES)
        store(word + j, load(word + j) + load(change + j));
}

/*
 * Trains vectors (root + 1, width) with sentences, one after the other: at each word with all up to its reach before and behind it.
 * The rate of the first sentence is given; later ones are step * (1 - (learners * words + before) / all) with the words until then.
 */
KERNEL void words_train(const int32_t *words, const int64_t *ends, int64_t sentences, const int32_t *reach, const int32_t *parents,
                        const uint8_t *bits, int64_t root, const float *sigmoid, double rate, double step, double learners, double before,
                        double all, int64_t width, float *vectors, uint8_t *trained, float *change)
{
    int64_t last = 0;
    for (int64_t sentence = 0; sentence < sentences; sentence++) {
        int64_t start = ends[sentence], end = ends[sentence + 1];
        if (start - last > WORDS) {
            last = start;
            rate = step * (1.0 - (learners * (double)start + before) / all);
            rate = rate < step * LEAST ? step * LEAST : rate;
        }
        for (int64_t at = start; at < end; at++) {
            int64_t first = at - reach[at] < start ? start : at - reach[at];
            int64_t beyond = at + reach[at] >= end ? end : at + reach[at] + 1;
            for (int64_t near = first; near < beyond; near++) {
                if (near == at)
                    continue;
                learn(vectors + (int64_t)words[near] * width, words[at], parents, bits, root, sigmoid, rate, width, vectors, trained, change);
                trained[words[near]] = 1;
            }
        }
    }
}
