// Attention for training on processors with bfloat16 dot products (AVX-512 BF16): forward, and backward from the outputs.
//
// Dao et al. 2022 (FlashAttention), algorithms 1 and 4: blocks of 64 queries by 64 keys; forward keeps a running maximum and sum per
// query, backward makes the weights again from the log of the sum. A block that a mask leaves empty costs nothing.
// Products take bfloat16 and sum in float32; between products a block is float32 and stays in cache.
//
// Names: T queries, S keys, K head width, all per (batch, head). "Words" are pairs of bfloat16 that the dot-product instruction
// takes together: along K for scores, along queries or keys for the other products.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef __AVX512BF16__
#include <immintrin.h>

namespace {

using bf16 = uint16_t;
using word = uint32_t;
constexpr long BLOCK = 64, LANES = 16;

struct Matrix {  // bfloat16, rows of contiguous numbers
    const bf16* data;
    long row;  // numbers from one row to the next
    const bf16* at(long r) const { return data + r * row; }
};

struct Mask {  // one byte per query and key, true may attend; without bytes: causal, the last query sees every key
    const uint8_t* data;
    long row, shift;
};

__m512 widen(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }
__m256i narrow(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }

// e^x for x <= 0 within 2e-7 of it; 0 below the smallest normal number; NaN of NaN, so that broken numbers are not hidden.
__m512 exponential(__m512 x) {
    const __mmask16 normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_NLE_UQ);
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.0f / 720);
    for (float c : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
    return _mm512_maskz_scalef_ps(normal, p, n);
}

// C += A B for MR rows and NV·16 columns. A's word of row m and pair p is a[m * row + p * pair]; B has a row of words per pair.
template <int MR, int NV>
void multiply_tile(const word* a, long row, long pair, const word* b, long ldb, float* c, long ldc, long pairs) {
    __m512 sum[MR][NV];
    for (int m = 0; m < MR; m++)
        for (int n = 0; n < NV; n++) sum[m][n] = _mm512_loadu_ps(c + m * ldc + n * LANES);
    for (long p = 0; p < pairs; p++) {
        __m512bh columns[NV];
        for (int n = 0; n < NV; n++) columns[n] = (__m512bh)_mm512_loadu_si512(b + p * ldb + n * LANES);
        for (int m = 0; m < MR; m++) {
            word both;
            std::memcpy(&both, a + m * row + p * pair, sizeof both);
            const __m512bh rows = (__m512bh)_mm512_set1_epi32(both);
            for (int n = 0; n < NV; n++) sum[m][n] = _mm512_dpbf16_ps(sum[m][n], rows, columns[n]);
        }
    }
    for (int m = 0; m < MR; m++)
        for (int n = 0; n < NV; n++) _mm512_storeu_ps(c + m * ldc + n * LANES, sum[m][n]);
}

template <int NV>
void multiply_columns(const word* a, long row, long pair, const word* b, long ldb, float* c, long ldc, long M, long pairs) {
    long m = 0;
    for (; m + 4 <= M; m += 4) multiply_tile<4, NV>(a + m * row, row, pair, b, ldb, c + m * ldc, ldc, pairs);
    for (; m < M; m++) multiply_tile<1, NV>(a + m * row, row, pair, b, ldb, c + m * ldc, ldc, pairs);
}

// C (M × N, N a multiple of 16) += A B.
void multiply(const word* a, long row, long pair, const word* b, long ldb, float* c, long ldc, long M, long N, long pairs) {
    long n = 0;
    for (; n + 64 <= N; n += 64) multiply_columns<4>(a, row, pair, b + n, ldb, c + n, ldc, M, pairs);
    for (; n < N; n += LANES) multiply_columns<1>(a, row, pair, b + n, ldb, c + n, ldc, M, pairs);
}

// Words along K, one row per pair: out[p][s] = (x[s][2p], x[s][2p+1]); rows beyond the matrix are zero.
void pack_transposed(Matrix x, long rows, long K, word* out) {
    for (long s = 0; s < BLOCK; s++)
        for (long p = 0; p < K / 2; p++) {
            word both = 0;
            if (s < rows) std::memcpy(&both, x.at(s) + 2 * p, sizeof both);
            out[p * BLOCK + s] = both;
        }
}

// Words along the rows: out[p][k] = (x[2p][k], x[2p+1][k]).
void pack_pairs(Matrix x, long rows, long K, word* out) {
    for (long p = 0; p < BLOCK / 2; p++)
        for (long k = 0; k < K; k++) {
            const word low = 2 * p < rows ? x.at(2 * p)[k] : 0, high = 2 * p + 1 < rows ? x.at(2 * p + 1)[k] : 0;
            out[p * K + k] = low | high << 16;
        }
}

enum class Seen { nothing, some, everything };

Seen seen(const Mask& mask, long t, long n_t, long s, long n_s) {
    if (!mask.data) {
        if (s > t + n_t - 1 + mask.shift) return Seen::nothing;
        return s + n_s - 1 <= t + mask.shift && n_s == BLOCK ? Seen::everything : Seen::some;
    }
    uint8_t any = 0, all = 1;  // bytes, which the compiler turns into wide registers
    for (long i = 0; i < n_t; i++) {
        const uint8_t* row = mask.data + (t + i) * mask.row + s;
        for (long j = 0; j < n_s; j++) any |= row[j], all &= row[j];
    }
    return !any ? Seen::nothing : all && n_s == BLOCK ? Seen::everything : Seen::some;
}

// Scores of a block, scaled; -inf where a query may not attend and beyond the last key.
void score(const Matrix& q, const word* keys, float* scores, const Mask& mask, Seen how, long t, long n_t, long s, long n_s,
           long K, float scale) {
    std::fill(scores, scores + BLOCK * BLOCK, 0.0f);
    multiply(reinterpret_cast<const word*>(q.at(t)), q.row / 2, 1, keys, BLOCK, scores, BLOCK, n_t, BLOCK, K / 2);
    for (long i = 0; i < n_t; i++) {
        float* row = scores + i * BLOCK;
        for (long j = 0; j < BLOCK; j++) row[j] *= scale;
        if (how == Seen::everything) continue;
        long end = n_s;
        if (mask.data) {
            const uint8_t* may = mask.data + (t + i) * mask.row + s;
            for (long j = 0; j < n_s; j++) row[j] = may[j] ? row[j] : -INFINITY;
        } else {
            end = std::clamp(t + i + mask.shift + 1 - s, 0L, n_s);
        }
        std::fill(row + end, row + BLOCK, -INFINITY);
    }
}

struct Shape {
    long T, S, K;
};

void forward(Matrix q, Matrix k, Matrix v, Mask mask, bf16* out, float* lse, Shape shape, float scale) {
    const auto [T, S, K] = shape;
    const long blocks = (S + BLOCK - 1) / BLOCK;
    std::vector<word> keys(blocks * BLOCK * K / 2), values(blocks * BLOCK * K / 2);
    for (long j = 0; j < blocks; j++) {
        const long n = std::min(BLOCK, S - j * BLOCK);
        pack_transposed({k.at(j * BLOCK), k.row}, n, K, &keys[j * BLOCK * K / 2]);
        pack_pairs({v.at(j * BLOCK), v.row}, n, K, &values[j * BLOCK * K / 2]);
    }
    std::vector<float> scores(BLOCK * BLOCK), sums(BLOCK * K);
    std::vector<bf16> weights(BLOCK * BLOCK);
    float highest[BLOCK], total[BLOCK];
    for (long t = 0; t < T; t += BLOCK) {
        const long n_t = std::min(BLOCK, T - t);
        std::fill(sums.begin(), sums.end(), 0.0f);
        std::fill(highest, highest + BLOCK, -INFINITY);
        std::fill(total, total + BLOCK, 0.0f);
        for (long s = 0; s < S; s += BLOCK) {
            const long n_s = std::min(BLOCK, S - s);
            const Seen how = seen(mask, t, n_t, s, n_s);
            if (how == Seen::nothing) continue;
            score(q, &keys[s * K / 2], scores.data(), mask, how, t, n_t, s, n_s, K, scale);
            for (long i = 0; i < n_t; i++) {
                const float* row = &scores[i * BLOCK];
                __m512 best = _mm512_loadu_ps(row);
                for (long j = LANES; j < BLOCK; j += LANES) best = _mm512_max_ps(best, _mm512_loadu_ps(row + j));
                const float top = std::max(highest[i], _mm512_reduce_max_ps(best));
                const float base = top == -INFINITY ? 0.0f : top, correction = std::exp(highest[i] - base);
                __m512 sum = _mm512_setzero_ps();
                for (long j = 0; j < BLOCK; j += LANES) {
                    const __m512 w = exponential(_mm512_sub_ps(_mm512_loadu_ps(row + j), _mm512_set1_ps(base)));
                    sum = _mm512_add_ps(sum, w);
                    _mm256_storeu_si256(reinterpret_cast<__m256i*>(&weights[i * BLOCK + j]), narrow(w));
                }
                total[i] = total[i] * correction + _mm512_reduce_add_ps(sum);
                highest[i] = top;
                for (long c = 0; c < K; c++) sums[i * K + c] *= correction;
            }
            multiply(reinterpret_cast<const word*>(weights.data()), BLOCK / 2, 1, &values[s * K / 2], K, sums.data(), K, n_t, K,
                     BLOCK / 2);
        }
        for (long i = 0; i < n_t; i++) {
            const bool none = total[i] == 0.0f;
            lse[t + i] = none ? INFINITY : highest[i] + std::log(total[i]);
            const __m512 factor = _mm512_set1_ps(none ? 0.0f : 1.0f / total[i]);
            for (long c = 0; c < K; c += LANES)
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + (t + i) * K + c),
                                    narrow(_mm512_mul_ps(_mm512_loadu_ps(&sums[i * K + c]), factor)));
        }
    }
}

void store_narrow(const float* from, bf16* to, long n) {
    for (long c = 0; c < n; c += LANES)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + c), narrow(_mm512_loadu_ps(from + c)));
}

// dq, dk, dv from the gradient of the outputs: dS = P ∘ (dO Vᵀ − rowsum(dO ∘ O)) · scale.
void backward(Matrix q, Matrix k, Matrix v, Matrix out, Matrix d_out, Mask mask, const float* lse, bf16* dq, bf16* dk, bf16* dv,
              Shape shape, float scale) {
    const auto [T, S, K] = shape;
    const long blocks = (T + BLOCK - 1) / BLOCK, half = BLOCK * K / 2;
    std::vector<word> queries(blocks * half), d_outs(blocks * half), keys(half), key_pairs(half), values(half);
    std::vector<float> delta(T), sum_q(blocks * BLOCK * K), sum_k(BLOCK * K), sum_v(BLOCK * K);
    std::vector<float> scores(BLOCK * BLOCK), d_weights(BLOCK * BLOCK);
    std::vector<word> weight_pairs(BLOCK * BLOCK / 2), error_pairs(BLOCK * BLOCK / 2);
    std::vector<bf16> errors(BLOCK * BLOCK);
    for (long i = 0; i < blocks; i++) {
        const long n = std::min(BLOCK, T - i * BLOCK);
        pack_pairs({q.at(i * BLOCK), q.row}, n, K, &queries[i * half]);
        pack_pairs({d_out.at(i * BLOCK), d_out.row}, n, K, &d_outs[i * half]);
    }
    for (long t = 0; t < T; t++) {
        __m512 sum = _mm512_setzero_ps();
        for (long c = 0; c < K; c += LANES)
            sum = _mm512_fmadd_ps(widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(out.at(t) + c))),
                                  widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(d_out.at(t) + c))), sum);
        delta[t] = _mm512_reduce_add_ps(sum);
    }
    for (long s = 0; s < S; s += BLOCK) {
        const long n_s = std::min(BLOCK, S - s);
        pack_transposed({k.at(s), k.row}, n_s, K, keys.data());
        pack_transposed({v.at(s), v.row}, n_s, K, values.data());
        pack_pairs({k.at(s), k.row}, n_s, K, key_pairs.data());
        std::fill(sum_k.begin(), sum_k.end(), 0.0f);
        std::fill(sum_v.begin(), sum_v.end(), 0.0f);
        for (long t = 0; t < T; t += BLOCK) {
            const long n_t = std::min(BLOCK, T - t);
            const Seen how = seen(mask, t, n_t, s, n_s);
            if (how == Seen::nothing) continue;
            score(q, keys.data(), scores.data(), mask, how, t, n_t, s, n_s, K, scale);
            std::fill(d_weights.begin(), d_weights.end(), 0.0f);
            multiply(reinterpret_cast<const word*>(d_out.at(t)), d_out.row / 2, 1, values.data(), BLOCK, d_weights.data(), BLOCK,
                     n_t, BLOCK, K / 2);
            for (long i = 0; i < BLOCK; i += 2)
                for (long j = 0; j < BLOCK; j += LANES) {
                    __m256i p[2], e[2];
                    for (long side = 0; side < 2; side++) {
                        const long at = (i + side) * BLOCK + j;
                        if (i + side >= n_t) {
                            p[side] = e[side] = _mm256_setzero_si256();
                        } else {
                            const __m512 w = exponential(_mm512_sub_ps(_mm512_loadu_ps(&scores[at]), _mm512_set1_ps(lse[t + i + side])));
                            const __m512 d = _mm512_sub_ps(_mm512_loadu_ps(&d_weights[at]), _mm512_set1_ps(delta[t + i + side]));
                            p[side] = narrow(w);
                            e[side] = narrow(_mm512_mul_ps(_mm512_mul_ps(w, d), _mm512_set1_ps(scale)));
                        }
                        _mm256_storeu_si256(reinterpret_cast<__m256i*>(&errors[at]), e[side]);
                    }
                    const auto pair = [](__m256i low, __m256i high) {
                        return _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
                    };
                    _mm512_storeu_si512(&weight_pairs[i / 2 * BLOCK + j], pair(p[0], p[1]));
                    _mm512_storeu_si512(&error_pairs[i / 2 * BLOCK + j], pair(e[0], e[1]));
                }
            multiply(weight_pairs.data(), 1, BLOCK, &d_outs[t * K / 2], K, sum_v.data(), K, BLOCK, K, BLOCK / 2);
            multiply(error_pairs.data(), 1, BLOCK, &queries[t * K / 2], K, sum_k.data(), K, BLOCK, K, BLOCK / 2);
            multiply(reinterpret_cast<const word*>(errors.data()), BLOCK / 2, 1, key_pairs.data(), K, &sum_q[t * K], K, n_t, K,
                     BLOCK / 2);
        }
        store_narrow(sum_k.data(), dk + s * K, n_s * K);
        store_narrow(sum_v.data(), dv + s * K, n_s * K);
    }
    store_narrow(sum_q.data(), dq, T * K);
}

struct View {  // B × heads × rows × K with contiguous K
    const bf16* data;
    long batch, head, row;
    Matrix of(long b, long h) const { return {data + b * batch + h * head, row}; }
};

}  // namespace

extern "C" {

int attention_supported() { return 1; }

// `sizes`: B, H query heads, G key-value heads, T, S, K. `strides`: per tensor batch, head, row; the mask's last. A mask of null is causal.
void attention_forward(const bf16* q, const bf16* k, const bf16* v, const uint8_t* mask, bf16* out, float* lse, const long* sizes,
                       const long* strides, float scale) {
    const long B = sizes[0], H = sizes[1], G = sizes[2], T = sizes[3], S = sizes[4], K = sizes[5];
    const View views[3] = {{q, strides[0], strides[1], strides[2]}, {k, strides[3], strides[4], strides[5]},
                           {v, strides[6], strides[7], strides[8]}};
    const long* m = strides + 9;
#pragma omp parallel for schedule(dynamic)
    for (long n = 0; n < B * H; n++) {
        const long b = n / H, h = n % H, g = h / (H / G);
        const Mask one{mask ? mask + b * m[0] + h * m[1] : nullptr, m[2], S - T};
        forward(views[0].of(b, h), views[1].of(b, g), views[2].of(b, g), one, out + n * T * K, lse + n * T, {T, S, K}, scale);
    }
}

// dk and dv come per query head; who calls sums over the heads that share a key. `out` and the results are contiguous.
void attention_backward(const bf16* q, const bf16* k, const bf16* v, const bf16* d_out, const uint8_t* mask, const bf16* out,
                        const float* lse, bf16* dq, bf16* dk, bf16* dv, const long* sizes, const long* strides, float scale) {
    const long B = sizes[0], H = sizes[1], G = sizes[2], T = sizes[3], S = sizes[4], K = sizes[5];
    const View views[4] = {{q, strides[0], strides[1], strides[2]}, {k, strides[3], strides[4], strides[5]},
                           {v, strides[6], strides[7], strides[8]}, {d_out, strides[9], strides[10], strides[11]}};
    const long* m = strides + 12;
#pragma omp parallel for schedule(dynamic)
    for (long n = 0; n < B * H; n++) {
        const long b = n / H, h = n % H, g = h / (H / G);
        const Mask one{mask ? mask + b * m[0] + h * m[1] : nullptr, m[2], S - T};
        backward(views[0].of(b, h), views[1].of(b, g), views[2].of(b, g), {out + n * T * K, K}, views[3].of(b, h), one, lse + n * T,
                 dq + n * T * K, dk + n * S * K, dv + n * S * K, {T, S, K}, scale);
    }
}
}

#else

extern "C" int attention_supported() { return 0; }

#endif
