#pragma once
/// The kernels behind cuda::grouped_gemm and cuda::grouped_gemm_weight_gradient (gemm.hpp says what they compute).

#include "moesaic/kernels/gemm.hpp"

namespace moesaic::cuda {

/// f32 and bf16, any extents and strides; arithmetic in f32 proper (no TF32). Right, not fast.
GroupedGemm plain_grouped_gemm;
GroupedGemmWeightGradient plain_grouped_gemm_weight_gradient;

/// bf16 on Hopper's tensor cores, for what `hopper_grouped_gemm_fits`. The gradient may be bf16 or f32.
GroupedGemm hopper_grouped_gemm;
GroupedGemmWeightGradient hopper_grouped_gemm_weight_gradient;

/// The gradient in f32.
GroupedGemmWeightGradient hopper_gradient_sums;

/// True when the bulk copy engine can address all operands and the result: matrices whose widths are multiples of 64
/// elements and whose rows start at multiples of 16 bytes; and the kernel's table of tiles has room for the experts.
bool hopper_grouped_gemm_fits(std::initializer_list<ConstView> operands, std::int64_t experts);

}  // namespace moesaic::cuda
