// Products of quantised matrices with vectors.
//
// A matrix is cut into tiles of 16 rows, and a tile into blocks of columns, in the order in which they are read. Inside a block the
// codes of 4 columns of all 16 rows stand together, one row per lane, for the instruction that multiplies and adds four 8-bit pairs
// per lane. Rows are filled up with zeros to a multiple of 16. A weight is scale * code + offset.
//
// Vectors are quantised to 8 bits in groups of 32 (ggml's Q8_1): x = d * q, with d = max |x| / 127. Weights of 16 bits are multiplied
// with the vectors as they are; in their tiles 16 rows of a column stand together, or of two columns, one row's two numbers per lane.
#pragma once

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <vector>

#include "simd.h"

namespace cutaway {

constexpr int GROUP = 32, QUADS = GROUP / 4;

struct Matrix {
    const uint8_t* tiles;
    const float* bias;  // of each row, or none
    int32_t format, rows, columns, unused;

    int tile_count() const { return (rows + LANES - 1) / LANES; }
};

struct Vector {           // quantised
    const int8_t* codes;  // whole numbers from -127 to 127
    const float* scale;   // of each group
    const float* sums;    // scale * sum of codes, of each half of a group
    const float* values;  // before that
};

// 4 bits: a byte holds the codes of columns i and i + 16 of a group.
inline void nibbles(const uint8_t* w, Bytes* codes) {
    for (int j = 0; j < 4; j++) {
        const Bytes both = load<Bytes>(w + 64 * j);
        codes[j] = both & 15;
        codes[j + 4] = both >> 4;
    }
}

// The formats. `groups` of 32 columns share a block of `bytes`; a group has `scales` scales, or its weights are numbers of their own.

struct Q4_0 {
    static constexpr int groups = 1, scales = 1, bytes = 256 + 32;
    static void codes(const uint8_t* w, int, Bytes* c) { nibbles(w, c); }
    static Floats scale(const uint8_t* w, int, int) { return load_half((const half*)(w + 256)); }
    static Floats offset(const uint8_t* w, int g, int s) { return scale(w, g, s) * -8.0f; }
};

struct Q4_1 {
    static constexpr int groups = 1, scales = 1, bytes = 256 + 64;
    static void codes(const uint8_t* w, int, Bytes* c) { nibbles(w, c); }
    static Floats scale(const uint8_t* w, int, int) { return load_half((const half*)(w + 256)); }
    static Floats offset(const uint8_t* w, int, int) { return load_half((const half*)(w + 288)); }
};

struct Q8_0 {  // codes are stored with 128 added
    static constexpr int groups = 1, scales = 1, bytes = 512 + 32;
    static void codes(const uint8_t* w, int, Bytes* c) {
        for (int j = 0; j < QUADS; j++) c[j] = load<Bytes>(w + 64 * j);
    }
    static Floats scale(const uint8_t* w, int, int) { return load_half((const half*)(w + 512)); }
    static Floats offset(const uint8_t* w, int g, int s) { return scale(w, g, s) * -128.0f; }
};

inline void fifth_bit(const uint8_t* w, Bytes* codes) {  // bit j of a byte belongs to quad j
    const Bytes high = load<Bytes>(w);
    for (int j = 0; j < QUADS; j++) codes[j] |= (high >> j & 1) << 4;
}

struct Q5_0 {
    static constexpr int groups = 1, scales = 1, bytes = 256 + 64 + 32;
    static void codes(const uint8_t* w, int, Bytes* c) {
        nibbles(w, c);
        fifth_bit(w + 256, c);
    }
    static Floats scale(const uint8_t* w, int, int) { return load_half((const half*)(w + 320)); }
    static Floats offset(const uint8_t* w, int g, int s) { return scale(w, g, s) * -16.0f; }
};

struct Q5_1 {
    static constexpr int groups = 1, scales = 1, bytes = 256 + 64 + 64;
    static void codes(const uint8_t* w, int, Bytes* c) {
        nibbles(w, c);
        fifth_bit(w + 256, c);
    }
    static Floats scale(const uint8_t* w, int, int) { return load_half((const half*)(w + 320)); }
    static Floats offset(const uint8_t* w, int, int) { return load_half((const half*)(w + 352)); }
};

struct Q4_K {  // codes of 8 groups, 8-bit scales and minima of each, and two numbers that multiply them
    static constexpr int groups = 8, scales = 1, parts = 8 * 256, bytes = parts + 8 * 32 + 64;
    static void codes(const uint8_t* w, int g, Bytes* c) { nibbles(w + 256 * g, c); }
    static Floats scale(const uint8_t* w, int g, int) {
        return load_half((const half*)(w + parts + 256)) * load_bytes(w + parts + 32 * g);
    }
    static Floats offset(const uint8_t* w, int g, int) {
        return -load_half((const half*)(w + parts + 288)) * load_bytes(w + parts + 32 * g + 16);
    }
};

struct Q5_K {  // as Q4_K, and a fifth bit
    static constexpr int groups = 8, scales = 1, parts = 8 * (256 + 64), bytes = parts + 8 * 32 + 64;
    static void codes(const uint8_t* w, int g, Bytes* c) {
        nibbles(w + 320 * g, c);
        fifth_bit(w + 320 * g + 256, c);
    }
    static Floats scale(const uint8_t* w, int g, int) {
        return load_half((const half*)(w + parts + 256)) * load_bytes(w + parts + 32 * g);
    }
    static Floats offset(const uint8_t* w, int g, int) {
        return -load_half((const half*)(w + parts + 288)) * load_bytes(w + parts + 32 * g + 16);
    }
};

struct Q6_K {  // two more bits: two of a byte belong to quad j, and the next byte's to quad j + 4; a scale per 16 columns
    static constexpr int groups = 8, scales = 2, parts = 8 * (256 + 128), bytes = parts + 16 * 16 + 32;
    static void codes(const uint8_t* w, int g, Bytes* c) {
        nibbles(w + 384 * g, c);
        for (int side = 0; side < 2; side++) {
            const Bytes high = load<Bytes>(w + 384 * g + 256 + 64 * side);
            for (int j = 0; j < 4; j++) c[4 * side + j] |= (high >> (2 * j) & 3) << 4;
        }
    }
    static Floats scale(const uint8_t* w, int g, int s) {
        return load_half((const half*)(w + parts + 256)) * load_bytes((const int8_t*)w + parts + 32 * g + 16 * s);
    }
    static Floats offset(const uint8_t* w, int g, int s) { return scale(w, g, s) * -32.0f; }
};

struct F16 {
    static constexpr int groups = 1, scales = 0, bytes = 32 * GROUP;
    static void pair(const uint8_t* w, Floats* columns) {
        columns[0] = load_half((const half*)w);
        columns[1] = load_half((const half*)(w + 32));
    }
};

struct BF16 {  // two columns together
    static constexpr int groups = 1, scales = 0, bytes = 32 * GROUP;
    static void pair(const uint8_t* w, Floats* columns) {
        const Ints both = load<Ints>(w);
        columns[0] = (Floats)(both << 16);
        columns[1] = (Floats)(both & all((int32_t)0xffff0000));
    }
};

// 16 rows times N vectors: of weights that are numbers. Sums of several columns go on at a time, since one waits for the one before.
template <class F, int N>
inline void plain_tile(const uint8_t* w, int columns, const Vector* x, Floats* y) {
    constexpr int chains = N < 4 ? 8 / N : 1, pairs = chains < 2 ? 1 : chains / 2;
    Floats total[N][chains];
    for (int n = 0; n < N; n++)
        for (int i = 0; i < chains; i++) total[n][i] = Floats{};
    for (int k = 0; k < columns; k += 2 * pairs, w += 64 * pairs) {
#pragma GCC unroll 4
        for (int p = 0; p < pairs; p++) {
            Floats column[2];
            F::pair(w + 64 * p, column);
#pragma GCC unroll 2
            for (int i = 0; i < 2; i++)
#pragma GCC unroll 8
                for (int n = 0; n < N; n++) total[n][(2 * p + i) % chains] += column[i] * x[n].values[k + 2 * p + i];
        }
    }
    for (int n = 0; n < N; n++) {
        y[n] = total[n][0];
        for (int i = 1; i < chains; i++) y[n] += total[n][i];
    }
}

// Of codes.
template <class F, int N>
inline void tile(const uint8_t* w, int columns, const Vector* x, Floats* y) {
    Floats total[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) total[n] = Floats{};
    for (int g = 0; g < columns / GROUP; w += F::bytes) {
        for (int inside = 0; inside < F::groups; inside++, g++) {
            Bytes c[QUADS];
            F::codes(w, inside, c);
#pragma GCC unroll 2
            for (int s = 0; s < F::scales; s++) {
                const Floats scale = F::scale(w, inside, s), offset = F::offset(w, inside, s);
                constexpr int quads = QUADS / F::scales;
#pragma GCC unroll 8
                for (int n = 0; n < N; n++) {
                    const int8_t* q = x[n].codes + GROUP * g + 4 * quads * s;
                    Ints dot{};
#pragma GCC unroll 8
                    for (int j = 0; j < quads; j++) dot = dot4(dot, c[quads * s + j], load<int32_t>(q + 4 * j));
                    const float* sums = x[n].sums + 2 * g + s;
                    total[n] += as_floats(dot) * (scale * x[n].scale[g]) + offset * (F::scales == 2 ? *sums : sums[0] + sums[1]);
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) y[n] = total[n];
}

constexpr int MOST = 8;  // vectors that a tile is multiplied with at a time

template <class F, int N = 1>
inline void tile_of(const uint8_t* w, int columns, int count, const Vector* x, Floats* y) {
    if constexpr (N < MOST)
        if (count > N) return tile_of<F, N + 1>(w, columns, count, x, y);
    if constexpr (F::scales == 0)
        plain_tile<F, N>(w, columns, x, y);
    else
        tile<F, N>(w, columns, x, y);
}

template <class Use>
auto with_format(int format, Use use) {  // in the order of quant/formats.py
    switch (format) {
        case 0: return use(Q4_0{});
        case 1: return use(Q4_1{});
        case 2: return use(Q8_0{});
        case 3: return use(Q4_K{});
        case 4: return use(Q5_K{});
        case 5: return use(Q6_K{});
        case 6: return use(Q5_0{});
        case 7: return use(Q5_1{});
        case 8: return use(F16{});
        default: return use(BF16{});
    }
}

inline long tile_bytes(const Matrix& m) {
    return with_format(m.format, [&](auto f) { return (long)(m.columns / (GROUP * f.groups)) * f.bytes; });
}

// Tile `t` of the matrix times up to MOST vectors, with its bias.
inline void multiply_tile(const Matrix& m, int t, int N, const Vector* x, Floats* y) {
    with_format(m.format, [&](auto f) {
        const long size = (long)(m.columns / (GROUP * f.groups)) * f.bytes;
        tile_of<decltype(f)>(m.tiles + t * size, m.columns, N, x, y);
    });
    if (m.bias)
        for (int n = 0; n < N; n++)
            for (int lane = 0; lane < LANES && LANES * t + lane < m.rows; lane++) y[n][lane] += m.bias[LANES * t + lane];
}

// One row as it is stored, for the embedding and for looking at weights.
inline void weights_of_row(const Matrix& m, int row, float* out) {
    with_format(m.format, [&](auto f) {
        using F = decltype(f);
        const int lane = row % LANES;
        const uint8_t* w = m.tiles + row / LANES * tile_bytes(m);
        for (int g = 0; g < m.columns / GROUP; w += F::bytes)
            for (int inside = 0; inside < F::groups; inside++, g++) {
                if constexpr (F::scales == 0) {
                    for (int i = 0; i < GROUP; i += 2) {
                        Floats columns[2];
                        F::pair(w + 32 * i, columns);
                        for (int j = 0; j < 2; j++) out[GROUP * g + i + j] = columns[j][lane];
                    }
                } else {
                    Bytes c[QUADS];
                    F::codes(w, inside, c);
                    for (int i = 0; i < GROUP; i++) {
                        const int s = i * F::scales / GROUP;
                        out[GROUP * g + i] = F::scale(w, inside, s)[lane] * c[i / 4][4 * lane + i % 4] + F::offset(w, inside, s)[lane];
                    }
                }
            }
    });
}

// One group of 32 numbers; if one of them is infinite or none at all, the scale says so.
inline void quantise_group(const float* x, int8_t* codes, float* scale, float* sums) {
    const Floats a = load<Floats>(x), b = load<Floats>(x + LANES);
    const float most = largest(maximum(absolute(a), absolute(b)));
    const float inverse = most > 0 ? 127.0f / most : 0.0f;
    const Ints qa = nearest(a * inverse), qb = nearest(b * inverse);
    int32_t totals[2] = {0, 0};
    for (int i = 0; i < LANES; i++) {
        codes[i] = (int8_t)qa[i];
        codes[LANES + i] = (int8_t)qb[i];
        totals[0] += qa[i];
        totals[1] += qb[i];
    }
    *scale = most / 127.0f + sum((a + b) * 0.0f);
    sums[0] = *scale * totals[0];
    sums[1] = *scale * totals[1];
}

// Vectors of a width, side by side.
struct Vectors {
    int width;
    std::vector<int8_t> codes;
    std::vector<float> scales, sums, values;
    std::vector<Vector> each;

    Vectors(int count, int width)
        : width(width), codes(count * (long)width), scales(codes.size() / GROUP), sums(2 * scales.size()), values(codes.size()),
          each(count) {
        for (long n = 0; n < count; n++) {
            const long first = n * width / GROUP;
            each[n] = {&codes[n * width], &scales[first], &sums[2 * first], &values[n * width]};
        }
    }
    void set(long n, int group, const float* x) {
        const long place = n * width / GROUP + group;
        std::copy(x, x + GROUP, &values[place * GROUP]);
        quantise_group(x, &codes[place * GROUP], &scales[place], &sums[2 * place]);
    }
    void set(long n, const float* x) {
        for (int g = 0; g < width / GROUP; g++) set(n, g, x + GROUP * g);
    }
};

struct Share {  // this thread's part of a number of items
    int begin, end;
    Share(int items, int thread, int threads)
        : begin((long)items * thread / threads), end((long)items * (thread + 1) / threads) {}
};

// Every tile of some matrices with as many columns, this thread's share, times all vectors; `use` gets the matrix's number, the
// tile, the vector and 16 results.
template <class Use>
void products(std::initializer_list<const Matrix*> matrices, const Vectors& x, int N, int thread, int threads, Use use) {
    int all_tiles = 0;
    for (const Matrix* m : matrices) all_tiles += m->tile_count();
    const Share share(all_tiles, thread, threads);
    int first = 0, number = 0;
    for (const Matrix* m : matrices) {
        const int begin = std::max(share.begin - first, 0), end = std::min(share.end - first, m->tile_count());
        for (int t = begin; t < end; t++)
            for (int n = 0; n < N; n += MOST) {
                Floats y[MOST];
                const int count = std::min(MOST, N - n);
                multiply_tile(*m, t, count, &x.each[n], y);
                for (int i = 0; i < count; i++) use(number, t, n + i, y[i]);
            }
        first += m->tile_count();
        number++;
    }
}

}  // namespace cutaway
