// Registers of 16 lanes, written once for AVX-512, AVX2 and plain C++: GCC's vector types, and the few operations that they lack.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace cutaway {

constexpr int LANES = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint8_t Bytes __attribute__((vector_size(64)));  // four of each lane
typedef uint16_t half;                                   // IEEE 754 binary16

inline Floats all(float x) { return Floats{} + x; }
inline Ints all(int32_t x) { return Ints{} + x; }

template <class V>
inline V load(const void* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

template <class V>
inline void store(void* p, V v) {
    std::memcpy(p, &v, sizeof v);
}

inline Floats as_floats(Ints x) { return __builtin_convertvector(x, Floats); }

inline float to_float(half x) {
    const uint32_t sign = (uint32_t)(x & 0x8000) << 16, rest = x & 0x7fff;
    uint32_t bits;
    if (rest >= 0x7c00) {
        bits = sign | 0x7f800000 | (rest & 0x3ff) << 13;
    } else {  // scaling by 2^112 moves the exponent's bias, and makes subnormal numbers right too
        bits = rest << 13;
        float scaled;
        std::memcpy(&scaled, &bits, 4);
        scaled *= 0x1p112f;
        std::memcpy(&bits, &scaled, 4);
        bits |= sign;
    }
    float y;
    std::memcpy(&y, &bits, 4);
    return y;
}

inline half to_half(float x) {  // to nearest, ties to even; what is too large becomes infinite
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    const uint32_t sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) return (half)(sign | 0x7e00);
    if (bits >= 0x477ff000) return (half)(sign | 0x7c00);
    if (bits < 0x38800000) {  // subnormal: adding 1/2 puts the 10 bits that stay to the end
        float y;
        std::memcpy(&y, &bits, 4);
        y += 0.5f;
        std::memcpy(&bits, &y, 4);
        return (half)(sign | (bits - 0x3f000000));
    }
    return (half)(sign | ((bits + 0xfff + (bits >> 13 & 1) - 0x38000000) >> 13));
}

inline Floats load_half(const half* p) {
#if defined(__AVX512F__)
    return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#elif defined(__F16C__)
    float v[LANES];
    for (int i = 0; i < LANES; i += 8) _mm256_storeu_ps(v + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + i))));
    return load<Floats>(v);
#else
    float v[LANES];
    for (int i = 0; i < LANES; i++) v[i] = to_float(p[i]);
    return load<Floats>(v);
#endif
}

template <class Byte>
inline Floats load_bytes(const Byte* p) {  // 16 whole numbers, signed or not
    typedef Byte Row __attribute__((vector_size(LANES)));
    return as_floats(__builtin_convertvector(load<Row>(p), Ints));
}

inline float sum(Floats x) {
    float total = 0;
    for (int i = 0; i < LANES; i++) total += x[i];
    return total;
}

inline float largest(Floats x) {
    float most = x[0];
    for (int i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
    return most;
}

inline Floats maximum(Floats x, Floats y) { return x > y ? x : y; }
inline Floats absolute(Floats x) { return (Floats)((Ints)x & all(0x7fffffff)); }

// To the nearest whole number, for |x| < 2^22.
inline Ints nearest(Floats x) {
    const Floats shift = all(0x1.8p23f);
    return (Ints)(x + shift) - (Ints)shift;
}

// e^x within 2e-7 of it for x <= 88; 0 below -87.
inline Floats exponential(Floats x) {
    const Floats low = x < all(-87.0f) ? all(-87.0f) : x;
    const Ints n = nearest(low * 1.44269504f);
    const Floats whole = as_floats(n);
    const Floats r = (low - whole * 0.693359375f) + whole * 2.12194440e-4f;
    Floats p = all(1.0f / 720);
    for (float c : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = p * r + c;
    const Floats scaled = (Floats)((Ints)p + (n << 23));
    return x < all(-87.0f) ? all(0.0f) : scaled;
}

// total[lane] + the sum of the lane's four codes times the four signed numbers in `quad`.
inline Ints dot4(Ints total, Bytes codes, int32_t quad) {
#if defined(__AVX512VNNI__)
    return (Ints)_mm512_dpbusd_epi32((__m512i)total, (__m512i)codes, _mm512_set1_epi32(quad));
#elif defined(__AVX2__)
    int8_t x[4];
    std::memcpy(x, &quad, 4);
    const __m256i even = _mm256_set1_epi32((uint16_t)x[0] | (int32_t)x[2] << 16);
    const __m256i odd = _mm256_set1_epi32((uint16_t)x[1] | (int32_t)x[3] << 16);
    __m256i parts[2], sums[2];
    std::memcpy(parts, &codes, 64);
    std::memcpy(sums, &total, 64);
    for (int i = 0; i < 2; i++) {  // 16-bit products, since 8-bit ones would saturate
        const __m256i first = _mm256_and_si256(parts[i], _mm256_set1_epi16(255)), second = _mm256_srli_epi16(parts[i], 8);
        sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(first, even));
        sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(second, odd));
    }
    return load<Ints>(sums);
#else
    int8_t x[4];
    std::memcpy(x, &quad, 4);
    for (int lane = 0; lane < LANES; lane++)
        for (int i = 0; i < 4; i++) total[lane] += codes[4 * lane + i] * x[i];
    return total;
#endif
}

}  // namespace cutaway
