#pragma once
/// One matrix product through OpenBLAS, for float and double.

#include <cblas.h>

#include <algorithm>
#include <cstdint>

#include "moesaic/base/contract.hpp"
#include "moesaic/kernels/gemm.hpp"

namespace moesaic::reference {

inline blasint blas_int(std::int64_t value) {
  MOESAIC_EXPECT(0 <= value && value <= INT32_MAX);
  return static_cast<blasint>(value);
}
inline CBLAS_TRANSPOSE blas_transpose(Transpose transpose) {
  return transpose == Transpose::yes ? CblasTrans : CblasNoTrans;
}

/// c [m, n] = alpha * op(a) op(b) + beta * c; rows of a, b and c are stride_a, ... apart. Runs in the calling thread when
/// that is one of a team.
template <class T>
void blas_gemm(Transpose transpose_a, Transpose transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha,
               const T* a, std::int64_t stride_a, const T* b, std::int64_t stride_b, T beta, T* c,
               std::int64_t stride_c) {
  if (m == 0 || n == 0) return;
  const auto leading = [](std::int64_t stride, std::int64_t columns) {
    return blas_int(std::max({stride, columns, std::int64_t{1}}));
  };
  const blasint lda = leading(stride_a, transpose_a == Transpose::yes ? m : k);
  const blasint ldb = leading(stride_b, transpose_b == Transpose::yes ? k : n);
  const blasint ldc = leading(stride_c, n);
  const CBLAS_TRANSPOSE ta = blas_transpose(transpose_a), tb = blas_transpose(transpose_b);
  if constexpr (sizeof(T) == sizeof(float))
    cblas_sgemm(CblasRowMajor, ta, tb, blas_int(m), blas_int(n), blas_int(k), alpha, a, lda, b, ldb, beta, c, ldc);
  else
    cblas_dgemm(CblasRowMajor, ta, tb, blas_int(m), blas_int(n), blas_int(k), alpha, a, lda, b, ldb, beta, c, ldc);
}

}  // namespace moesaic::reference
