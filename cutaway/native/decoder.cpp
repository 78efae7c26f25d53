// A Llama-style decoder over quantised weights and a paged cache: one call takes a batch of tokens through all layers.
//
// Tokens may belong to different sequences and stand anywhere in them: prompts, their parts and single new tokens are all the same.
// Threads share the work of each product by tiles of 16 rows, and of attention by tokens, key-value heads and parts of the context.
// The cache holds half-precision numbers in blocks of 16 positions: keys by dimension, so that a register holds one dimension of 16
// positions, and values by position.
//
// Names as in models/llama.py: D model width, H query heads, G key-value heads, K head width, F feed-forward width.

#include <omp.h>

#include "products.h"

using namespace cutaway;

namespace {

constexpr int BLOCK = 16;  // positions

struct Layer {
    const float *attention_norm, *feedforward_norm, *q_norm, *k_norm;  // the last two may be none
    Matrix q, k, v, o, gate, up, down;
    half *keys, *values;  // blocks × G × K × 16, blocks × G × 16 × K
};

struct Model {
    const Layer* layers;
    const float *final_norm, *cosines, *sines;  // positions × K / 2
    Matrix embedding, head;
    int32_t layer_count, D, H, G, K, F, window;  // no window: 0
    float eps;
};

struct Step {
    const int32_t *ids, *positions, *rows;  // of each token; a row of `tables` is a sequence
    const int32_t* tables;                  // the blocks of each sequence, in order
    const int32_t* wanted;                  // tokens whose logits are asked for
    float* logits;                          // wanted × vocabulary
    int32_t tokens, wanted_count, blocks_per_row, threads;
};

void normalise(const float* x, const float* weight, int width, float eps, float* out) {
    Floats squares{};
    for (int i = 0; i < width; i += LANES) {
        const Floats v = load<Floats>(x + i);
        squares += v * v;
    }
    const float factor = 1.0f / std::sqrt(sum(squares) / width + eps);
    for (int i = 0; i < width; i += LANES) store(out + i, load<Floats>(x + i) * factor * load<Floats>(weight + i));
}

void rotate(float* x, const float* cosines, const float* sines, int K) {
    for (int i = 0; i < K / 2; i++) {
        const float a = x[i], b = x[i + K / 2];
        x[i] = a * cosines[i] - b * sines[i];
        x[i + K / 2] = b * cosines[i] + a * sines[i];
    }
}

// Attention of some query heads that share a key-value head, over a part of the context: weights that do not sum to one yet.
struct Attention {
    const Model& model;
    const Layer& layer;
    const Step& step;

    // Into out: per head the largest score, the sum of the weights, and the weighted sum of the values.
    void part(const float* q, int heads, int g, const int32_t* table, int begin, int end, float* out, long per_head,
              std::vector<float>& space) const {
        for (int h = 0; h < heads && begin == end; h++) out[h * per_head] = -INFINITY, out[h * per_head + 1] = 0;
        for (int h = 0; h < heads && begin < end; h += 4) {
            const int count = std::min(4, heads - h);
            const float* here = q + h * (long)model.K;
            float* there = out + h * per_head;
            if (count == 4) few<4>(here, g, table, begin, end, there, per_head, space);
            if (count == 3) few<3>(here, g, table, begin, end, there, per_head, space);
            if (count == 2) few<2>(here, g, table, begin, end, there, per_head, space);
            if (count == 1) few<1>(here, g, table, begin, end, there, per_head, space);
        }
    }

    template <int M>
    void few(const float* q, int g, const int32_t* table, int begin, int end, float* out, long per_head, std::vector<float>& space) const {
        const int K = model.K, first = begin / BLOCK, last = (end + BLOCK - 1) / BLOCK;
        const long stride = (last - first) * (long)BLOCK;
        space.resize(std::max<size_t>(space.size(), M * stride));
        Floats most[M];
        for (int m = 0; m < M; m++) most[m] = all(-INFINITY);
        const Ints lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        for (int b = first; b < last; b++) {
            const half* keys = layer.keys + ((long)table[b] * model.G + g) * K * BLOCK;
            Floats scores[M];
#pragma GCC unroll 4
            for (int m = 0; m < M; m++) scores[m] = Floats{};
            for (int k = 0; k < K; k++) {
                const Floats key = load_half(keys + k * BLOCK);
#pragma GCC unroll 4
                for (int m = 0; m < M; m++) scores[m] += key * q[m * K + k];
            }
            const Ints position = lane + BLOCK * b;
            const Ints seen = (position >= begin) & (position < end);
            for (int m = 0; m < M; m++) {
                scores[m] = seen ? scores[m] : all(-INFINITY);
                most[m] = maximum(most[m], scores[m]);
                store(&space[m * stride + (b - first) * BLOCK], scores[m]);
            }
        }
        for (int m = 0; m < M; m++) {
            const float top = largest(most[m]);
            Floats total{};
            for (long i = 0; i < stride; i += LANES) {
                const Floats weights = exponential(load<Floats>(&space[m * stride + i]) - top);
                total += weights;
                store(&space[m * stride + i], weights);
            }
            out[m * per_head] = top;
            out[m * per_head + 1] = sum(total);
        }
        for (int k = 0; k < K; k += LANES) {
            Floats values[M];
#pragma GCC unroll 4
            for (int m = 0; m < M; m++) values[m] = Floats{};
            for (int b = first; b < last; b++) {
                const half* block = layer.values + ((long)table[b] * model.G + g) * K * BLOCK + k;
                const int stop = std::min(BLOCK, end - b * BLOCK);
                for (int i = std::max(0, begin - b * BLOCK); i < stop; i++) {
                    const Floats value = load_half(block + i * K);
#pragma GCC unroll 4
                    for (int m = 0; m < M; m++) values[m] += value * space[m * stride + (b - first) * BLOCK + i];
                }
            }
            for (int m = 0; m < M; m++) store(out + m * per_head + 2 + k, values[m]);
        }
    }
};

// Parts of a head's context put together: softmax over all of them.
void join(const float* parts, int count, long from_part, int K, float* out) {
    float top = -INFINITY, total = 0;
    for (int p = 0; p < count; p++) top = std::max(top, parts[p * from_part]);
    std::fill(out, out + K, 0.0f);
    for (int p = 0; p < count; p++) {
        const float* part = parts + p * from_part;
        const float factor = part[1] > 0 ? std::exp(part[0] - top) : 0.0f;
        total += factor * part[1];
        for (int k = 0; k < K; k++) out[k] += factor * part[2 + k];
    }
    for (int k = 0; k < K; k++) out[k] /= total;
}

}  // namespace

extern "C" {

int decoder_block() { return BLOCK; }

void decoder_step(const Model* model_at, const Step* step_at) {
    const Model& model = *model_at;
    const Step& step = *step_at;
    const int N = step.tokens, D = model.D, K = model.K, HK = model.H * K, GK = model.G * K, M = model.H / model.G;
    const int longest = *std::max_element(step.positions, step.positions + N) + 1;
    const int parts = std::clamp(2 * step.threads / (N * model.G) + 1, 1, longest / 64 + 1);
    const long per_part = K + 2, per_head = parts * per_part;
    std::vector<float> x(N * (long)D), q(N * (long)HK), k(N * (long)GK), v(N * (long)GK), weighed(N * model.H * per_head);
    Vectors read(N, D), attended(N, HK), hidden(N, model.F), last(step.wanted_count, D);

#pragma omp parallel num_threads(step.threads)
    {
        const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
        const Share mine(N, thread, threads);
        std::vector<float> row(std::max(D, HK)), space;

        auto read_normalised = [&](const float* weight) {
            for (int n = mine.begin; n < mine.end; n++) {
                normalise(&x[n * (long)D], weight, D, model.eps, row.data());
                read.set(n, row.data());
            }
        };
        auto add = [&](int, int t, int n, Floats y) {
            float* to = &x[n * (long)D + t * LANES];
            store(to, load<Floats>(to) + y);
        };

        for (int n = mine.begin; n < mine.end; n++) weights_of_row(model.embedding, step.ids[n], &x[n * (long)D]);
        for (int number = 0; number < model.layer_count; number++) {
            const Layer& layer = model.layers[number];
            read_normalised(layer.attention_norm);
#pragma omp barrier
            float* const to[] = {q.data(), k.data(), v.data()};
            const int width[] = {HK, GK, GK};
            products({&layer.q, &layer.k, &layer.v}, read, N, thread, threads,
                     [&](int which, int t, int n, Floats y) { store(to[which] + n * (long)width[which] + t * LANES, y); });
#pragma omp barrier
            for (int n = mine.begin; n < mine.end; n++) {
                const int position = step.positions[n];
                const float *cosines = model.cosines + position * (long)(K / 2), *sines = model.sines + position * (long)(K / 2);
                const long block = step.tables[step.rows[n] * (long)step.blocks_per_row + position / BLOCK];
                for (int h = 0; h < model.H; h++) {
                    float* head = &q[n * (long)HK + h * K];
                    if (layer.q_norm) normalise(head, layer.q_norm, K, model.eps, head);
                    rotate(head, cosines, sines, K);
                }
                const float scale = 1.0f / std::sqrt((float)K);
                for (int i = 0; i < HK; i++) q[n * (long)HK + i] *= scale;
                for (int g = 0; g < model.G; g++) {
                    float* key = &k[n * (long)GK + g * K];
                    if (layer.k_norm) normalise(key, layer.k_norm, K, model.eps, key);
                    rotate(key, cosines, sines, K);
                    half* keys = layer.keys + (block * model.G + g) * K * BLOCK + position % BLOCK;
                    half* values = layer.values + (block * model.G + g) * K * BLOCK + position % BLOCK * K;
                    for (int i = 0; i < K; i++) {
                        keys[i * BLOCK] = to_half(key[i]);
                        values[i] = to_half(v[n * (long)GK + g * K + i]);
                    }
                }
            }
#pragma omp barrier
            for (int item = thread; item < N * model.G * parts; item += threads) {
                const int n = item / (model.G * parts), g = item / parts % model.G, part = item % parts;
                const int end = step.positions[n] + 1, begin = model.window ? std::max(0, end - model.window) : 0;
                const int from = begin + (long)(end - begin) * part / parts, until = begin + (long)(end - begin) * (part + 1) / parts;
                float* out = &weighed[(n * (long)model.H + g * M) * per_head + part * per_part];
                Attention{model, layer, step}.part(&q[n * (long)HK + g * M * K], M, g,
                                                   step.tables + step.rows[n] * (long)step.blocks_per_row, from, until, out,
                                                   per_head, space);
            }
#pragma omp barrier
            for (int n = mine.begin; n < mine.end; n++) {
                for (int h = 0; h < model.H; h++)
                    join(&weighed[(n * (long)model.H + h) * per_head], parts, per_part, K, &row[h * K]);
                attended.set(n, row.data());
            }
#pragma omp barrier
            products({&layer.o}, attended, N, thread, threads, add);
#pragma omp barrier
            read_normalised(layer.feedforward_norm);
#pragma omp barrier
            const Share pairs(model.F / GROUP, thread, threads);
            for (int pair = pairs.begin; pair < pairs.end; pair++)
                for (int n = 0; n < N; n += MOST) {
                    const int count = std::min(MOST, N - n);
                    Floats gate[2][MOST], up[2][MOST];
                    for (int side = 0; side < 2; side++) {
                        multiply_tile(layer.gate, 2 * pair + side, count, &read.each[n], gate[side]);
                        multiply_tile(layer.up, 2 * pair + side, count, &read.each[n], up[side]);
                    }
                    for (int i = 0; i < count; i++) {
                        float group[GROUP];
                        for (int side = 0; side < 2; side++)
                            store(group + LANES * side, gate[side][i] / (1.0f + exponential(-gate[side][i])) * up[side][i]);
                        hidden.set(n + i, pair, group);
                    }
                }
#pragma omp barrier
            products({&layer.down}, hidden, N, thread, threads, add);
#pragma omp barrier
        }
        const Share ends(step.wanted_count, thread, threads);
        for (int i = ends.begin; i < ends.end; i++) {
            normalise(&x[step.wanted[i] * (long)D], model.final_norm, D, model.eps, row.data());
            last.set(i, row.data());
        }
#pragma omp barrier
        const long V = model.head.rows;
        products({&model.head}, last, step.wanted_count, thread, threads, [&](int, int t, int n, Floats y) {
            const int count = std::min<long>(LANES, V - t * LANES);
            std::memcpy(step.logits + n * V + t * LANES, &y, count * sizeof(float));
        });
    }
}

}  // extern "C"
