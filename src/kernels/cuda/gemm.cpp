#include "moesaic/kernels/gemm.hpp"

#include "moesaic/tensor/cuda_memory.hpp"
#include "refuse.hpp"

#include <cublas_v2.h>

#include <algorithm>
#include <map>
#include <utility>

namespace moesaic::cuda {
namespace {

/// What cuBLAS recommends for Hopper. A workspace of our own makes its choice of algorithm, and so the bits, repeat.
constexpr std::int64_t workspace_bytes = std::int64_t{32} << 20;

void check_cublas(cublasStatus_t status, std::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw RunError(
      fmt::format("{} failed: {} (the device cannot go on); look for the first such error in the output of "
                  "all ranks",
                  what, cublasGetStatusString(status)));
}

cublasHandle_t make_handle(Stream stream) {
  cublasHandle_t handle = nullptr;
  check_cublas(cublasCreate(&handle), "cublasCreate");
  check_cublas(cublasSetStream(handle, cuda_stream(stream)), "cublasSetStream");
  // Default mathematics: f32 stays f32 (no TF32); partial sums of bf16 products are added in f32.
  const auto mode = static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
  check_cublas(cublasSetMathMode(handle, mode), "cublasSetMathMode");
  check_cublas(cublasSetAtomicsMode(handle, CUBLAS_ATOMICS_NOT_ALLOWED), "cublasSetAtomicsMode");
  return handle;
}

/// One handle a device and stream. They live as long as the program: at its end CUDA may be gone before us.
cublasHandle_t handle_of(Stream stream) {
  static std::map<std::pair<int, void*>, cublasHandle_t> handles;
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  cublasHandle_t& handle = handles[{device, stream.handle}];
  if (handle == nullptr) handle = make_handle(stream);
  return handle;
}

struct Precision {
  cudaDataType_t inputs, output;
  cublasComputeType_t compute;
};

Precision precision_of(DType inputs, DType output) {
  if (inputs == DType::bf16 && output == DType::bf16) return {CUDA_R_16BF, CUDA_R_16BF, CUBLAS_COMPUTE_32F};
  if (inputs == DType::bf16 && output == DType::f32) return {CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F};
  if (inputs == DType::f32 && output == DType::f32) return {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F};
  if (inputs == DType::f64 && output == DType::f64) return {CUDA_R_64F, CUDA_R_64F, CUBLAS_COMPUTE_64F};
  throw RunError(
      fmt::format("no CUDA matrix product takes {} to {} (bf16 to bf16 or f32, f32 and f64 exist); this is a "
                  "defect in moesaic, please report it",
                  name_of(inputs), name_of(output)));
}

/// Elements from one row to the next; cuBLAS wants at least a row's width, and 1.
std::int64_t leading_dimension(ConstView matrix) {
  return std::max({matrix.stride(0), matrix.extent(1), std::int64_t{1}});
}

cublasOperation_t operation(Transpose transpose) { return transpose == Transpose::yes ? CUBLAS_OP_T : CUBLAS_OP_N; }

/// A product over nothing: c = beta * c for beta 0 (1 leaves c alone).
void clear(Stream stream, View c) {
  const auto element = static_cast<std::size_t>(size_of(c.dtype()));
  check_cuda(cudaMemset2DAsync(c.raw(), static_cast<std::size_t>(leading_dimension(c)) * element, 0,
                               static_cast<std::size_t>(c.extent(1)) * element, static_cast<std::size_t>(c.extent(0)),
                               cuda_stream(stream)),
             "cudaMemset2DAsync");
}

}  // namespace

void gemm(const OperatorContext& context, Transpose transpose_a, Transpose transpose_b, double alpha, ConstView a,
          ConstView b, double beta, View c) {
  const std::int64_t m = c.extent(0), n = c.extent(1), k = a.extent(transpose_a == Transpose::yes ? 0 : 1);
  MOESAIC_EXPECT(a.dtype() == b.dtype());
  MOESAIC_EXPECT(k == b.extent(transpose_b == Transpose::yes ? 1 : 0));
  if (m == 0 || n == 0) return;
  if (k == 0 && beta == 0) return clear(context.stream, c);
  const Precision precision = precision_of(a.dtype(), c.dtype());
  const cublasHandle_t handle = handle_of(context.stream);
  const Buffer workspace = context.arena->allocate(workspace_bytes, Label::workspace);
  check_cublas(cublasSetWorkspace(handle, workspace.data(), static_cast<std::size_t>(workspace.bytes())),
               "cublasSetWorkspace");
  const float alpha32 = static_cast<float>(alpha), beta32 = static_cast<float>(beta);
  const bool wide = precision.compute == CUBLAS_COMPUTE_64F;
  const void* const factors[] = {wide ? static_cast<const void*>(&alpha) : &alpha32,
                                 wide ? static_cast<const void*>(&beta) : &beta32};
  // cuBLAS counts by columns, where our row-major matrices are their transposes: c^T = op(b)^T op(a)^T.
  check_cublas(cublasGemmEx_64(handle, operation(transpose_b), operation(transpose_a), n, m, k, factors[0], b.raw(),
                               precision.inputs, leading_dimension(b), a.raw(), precision.inputs, leading_dimension(a),
                               factors[1], c.raw(), precision.output, leading_dimension(c), precision.compute,
                               CUBLAS_GEMM_DEFAULT),
               "cublasGemmEx");
}

}  // namespace moesaic::cuda
