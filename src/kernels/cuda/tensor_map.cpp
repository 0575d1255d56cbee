#include "tensor_map.hpp"

#include "moesaic/tensor/cuda_driver.hpp"

namespace moesaic::cuda {
namespace {

decltype(&cuTensorMapEncodeTiled) encoder() {
  static const auto function =
      driver_function<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled", "a matrix product for Hopper");
  return function;
}

}  // namespace

CUtensorMap make_tensor_map(ConstView matrices, Box box) {
  const bool f32 = matrices.dtype() == DType::f32;
  const cuuint64_t element = f32 ? 4 : 2, piece = 128 / element;
  const int rank = matrices.rank();
  const auto extent = [&](int dimension) { return static_cast<cuuint64_t>(matrices.extent(dimension)); };
  const auto bytes = [&](int dimension) { return static_cast<cuuint64_t>(matrices.stride(dimension)) * element; };
  const cuuint64_t extents[] = {piece, extent(rank - 2), extent(rank - 1) / piece, rank == 3 ? extent(0) : 1};
  const cuuint64_t strides[] = {bytes(rank - 2), piece * element, rank == 3 ? bytes(0) : piece * element};
  const cuuint32_t boxes[] = {static_cast<cuuint32_t>(piece), static_cast<cuuint32_t>(box.rows),
                              static_cast<cuuint32_t>(box.pieces), 1};
  const cuuint32_t steps[] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUtensorMapDataType type = f32 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const CUresult status = encoder()(&map, type, 4, const_cast<void*>(matrices.raw()), extents, strides, boxes, steps,
                                    CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                    CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS)
    throw RunError(
        fmt::format("cuTensorMapEncodeTiled failed with error {} for {} rows of {} elements (the device "
                    "cannot go on); this is a defect in moesaic, please report it",
                    static_cast<int>(status), matrices.extent(rank - 2), matrices.extent(rank - 1)));
  return map;
}

}  // namespace moesaic::cuda
