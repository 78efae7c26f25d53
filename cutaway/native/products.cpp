// Products of quantised matrices with vectors, and their weights, for what has no kernel of its own.

#include "products.h"

#include <omp.h>

using namespace cutaway;

extern "C" {

// y = x Wᵀ + bias: `count` vectors of m.columns numbers to as many of m.rows.
void product(const Matrix* matrix, const float* x, long count, float* y, int threads) {
    const Matrix& m = *matrix;
    Vectors vectors(count, m.columns);
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num(), all = omp_get_num_threads();
        const Share mine(count, thread, all);
        for (int n = mine.begin; n < mine.end; n++) vectors.set(n, x + n * (long)m.columns);
#pragma omp barrier
        products({&m}, vectors, count, thread, all, [&](int, int t, int n, Floats sums) {
            std::memcpy(y + n * (long)m.rows + t * LANES, &sums, std::min(LANES, m.rows - t * LANES) * sizeof(float));
        });
    }
}

// The weights of some rows, count × columns.
void rows(const Matrix* matrix, const int64_t* numbers, long count, float* out) {
    for (long n = 0; n < count; n++) weights_of_row(*matrix, (int)numbers[n], out + n * matrix->columns);
}

}  // extern "C"
