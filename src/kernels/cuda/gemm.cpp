#include "moesaic/kernels/gemm.hpp"

#include "moesaic/tensor/cuda_memory.hpp"
#include "refuse.hpp"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <map>
#include <vector>

namespace moesaic::cuda {
namespace {

/// What cuBLAS recommends for Hopper.
constexpr std::int64_t workspace_bytes = std::int64_t{32} << 20;

void check_cublas(cublasStatus_t status, std::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw RunError(
      fmt::format("{} failed: {} (the device cannot go on); look for the first such error in the output of "
                  "all ranks",
                  what, cublasLtGetStatusString(status)));
}

int current_device() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

/// One handle a device. They live as long as the program: at its end CUDA may be gone before us.
cublasLtHandle_t handle_of(int device) {
  static std::map<int, cublasLtHandle_t> handles;
  cublasLtHandle_t& handle = handles[device];
  if (handle == nullptr) check_cublas(cublasLtCreate(&handle), "cublasLtCreate");
  return handle;
}

/// Storage types, and the type of sums and of alpha and beta.
struct Precision {
  cudaDataType_t inputs, output, sums;
  cublasComputeType_t compute;
};

Precision precision_of(DType inputs, DType output) {
  // CUBLAS_COMPUTE_32F: f32 stays f32 (no TF32), and partial sums of bf16 products are f32.
  constexpr auto f32 = CUBLAS_COMPUTE_32F;
  if (inputs == DType::bf16 && output == DType::bf16) return {CUDA_R_16BF, CUDA_R_16BF, CUDA_R_32F, f32};
  if (inputs == DType::bf16 && output == DType::f32) return {CUDA_R_16BF, CUDA_R_32F, CUDA_R_32F, f32};
  if (inputs == DType::f32 && output == DType::f32) return {CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, f32};
  if (inputs == DType::f64 && output == DType::f64) return {CUDA_R_64F, CUDA_R_64F, CUDA_R_64F, CUBLAS_COMPUTE_64F};
  refuse_types("gemm", inputs, output, "bf16 to bf16 or f32, f32 and f64");
}

/// Elements from one row to the next; cuBLAS wants at least a row's width, and 1.
std::int64_t leading_dimension(ConstView matrix) {
  return std::max({matrix.stride(0), matrix.extent(1), std::int64_t{1}});
}

/// The greatest power of two up to 256 that divides the address: algorithms differ in what they need.
std::uint32_t alignment_of(ConstView matrix) {
  const auto address = reinterpret_cast<std::uintptr_t>(matrix.raw()) | 256u;
  return static_cast<std::uint32_t>(address & -address);
}

template <class T> void set(cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t attribute, T value) {
  check_cublas(cublasLtMatmulDescSetAttribute(description, attribute, &value, sizeof value),
               "cublasLtMatmulDescSetAttribute");
}
template <class T> void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t key, T value) {
  check_cublas(cublasLtMatmulPreferenceSetAttribute(preference, key, &value, sizeof value),
               "cublasLtMatmulPreferenceSetAttribute");
}

/// One product, c = op(a) op(b). cuBLAS counts by columns, where our row-major matrices are their transposes:
/// c^T = op(b)^T op(a)^T.
struct Problem {
  Transpose transpose_a, transpose_b;
  ConstView a, b, c;

  /// Equal for problems that one plan serves.
  std::vector<std::int64_t> key() const {
    std::vector<std::int64_t> numbers{static_cast<std::int64_t>(transpose_a), static_cast<std::int64_t>(transpose_b)};
    for (const ConstView& matrix : {a, b, c}) {
      numbers.insert(numbers.end(), {static_cast<std::int64_t>(matrix.dtype()), matrix.extent(0), matrix.extent(1),
                                     leading_dimension(matrix), alignment_of(matrix)});
    }
    return numbers;
  }
};

cublasLtMatrixLayout_t layout_of(ConstView matrix, cudaDataType_t type) {
  cublasLtMatrixLayout_t layout = nullptr;
  check_cublas(cublasLtMatrixLayoutCreate(&layout, type, static_cast<std::uint64_t>(matrix.extent(1)),
                                          static_cast<std::uint64_t>(matrix.extent(0)), leading_dimension(matrix)),
               "cublasLtMatrixLayoutCreate");
  return layout;
}

/// A product's descriptions and the algorithm that cuBLAS's heuristics chose for it. Lives as long as the program.
struct Plan {
  explicit Plan(const Problem& problem) : precision(precision_of(problem.a.dtype(), problem.c.dtype())) {
    const auto operation = [](Transpose t) { return t == Transpose::yes ? CUBLAS_OP_T : CUBLAS_OP_N; };
    check_cublas(cublasLtMatmulDescCreate(&description, precision.compute, precision.sums), "cublasLtMatmulDescCreate");
    set(description, CUBLASLT_MATMUL_DESC_TRANSA, operation(problem.transpose_b));
    set(description, CUBLASLT_MATMUL_DESC_TRANSB, operation(problem.transpose_a));
    first = layout_of(problem.b, precision.inputs);
    second = layout_of(problem.a, precision.inputs);
    result = layout_of(problem.c, precision.output);
  }

  void choose(cublasLtHandle_t handle, const Problem& problem) {
    cublasLtMatmulPreference_t preference = nullptr;
    check_cublas(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
    set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(workspace_bytes));
    // Sums cut along k meet in the workspace, in their own type and in order: the bits repeat.
    set<std::uint32_t>(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(problem.b));
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(problem.a));
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(problem.c));
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(problem.c));
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    check_cublas(cublasLtMatmulAlgoGetHeuristic(handle, description, first, second, result, result, preference, 1,
                                                &best, &found),
                 "cublasLtMatmulAlgoGetHeuristic");
    check_cublas(found > 0 ? best.state : CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic");
    cublasLtMatmulPreferenceDestroy(preference);
    algorithm = best.algo;
    workspace = static_cast<std::int64_t>(best.workspaceSize);
  }

  Precision precision;
  cublasLtMatmulDesc_t description = nullptr;
  cublasLtMatrixLayout_t first = nullptr, second = nullptr, result = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
  std::int64_t workspace = 0;
};

const Plan& plan_of(int device, const Problem& problem) {
  static std::map<std::pair<int, std::vector<std::int64_t>>, Plan> plans;
  const auto [entry, is_new] = plans.try_emplace({device, problem.key()}, problem);
  if (is_new) entry->second.choose(handle_of(device), problem);
  return entry->second;
}

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
  if (m == 0 || n == 0 || (k == 0 && beta == 1)) return;
  if (k == 0 && beta == 0) return clear(context.stream, c);
  const int device = current_device();
  const Plan& plan = plan_of(device, {transpose_a, transpose_b, a, b, c});
  const Buffer workspace = context.arena->allocate(plan.workspace, Label::workspace);
  const std::array<float, 2> narrow{static_cast<float>(alpha), static_cast<float>(beta)};
  const std::array<double, 2> wide{alpha, beta};
  const bool is_wide = plan.precision.sums == CUDA_R_64F;
  const void* const alpha_as_sum = is_wide ? static_cast<const void*>(&wide[0]) : &narrow[0];
  const void* const beta_as_sum = is_wide ? static_cast<const void*>(&wide[1]) : &narrow[1];
  check_cublas(cublasLtMatmul(handle_of(device), plan.description, alpha_as_sum, b.raw(), plan.first, a.raw(),
                              plan.second, beta_as_sum, c.raw(), plan.result, c.raw(), plan.result, &plan.algorithm,
                              workspace.data(), static_cast<std::size_t>(plan.workspace), cuda_stream(context.stream)),
               "cublasLtMatmul");
}

}  // namespace moesaic::cuda
