#include "grouped_gemm_variants.hpp"

namespace moesaic::cuda {

void grouped_gemm(const OperatorContext& context, Transpose transpose_weights, ConstView in, ConstView weights,
                  ConstView offsets, View out) {
  MOESAIC_EXPECT(offsets.size() == weights.extent(0) + 1);
  MOESAIC_EXPECT(in.extent(1) == weights.extent(transpose_weights == Transpose::yes ? 2 : 1));
  MOESAIC_EXPECT(out.extent(1) == weights.extent(transpose_weights == Transpose::yes ? 1 : 2));
  MOESAIC_EXPECT(in.dtype() == weights.dtype() && in.dtype() == out.dtype());
  if (in.extent(0) == 0 || weights.extent(0) == 0 || out.extent(1) == 0) return;
  const bool fast = in.dtype() == DType::bf16 && hopper_grouped_gemm_fits({in, weights, out}, weights.extent(0));
  const auto variant = fast ? hopper_grouped_gemm : plain_grouped_gemm;
  variant(context, transpose_weights, in, weights, offsets, out);
}

void grouped_gemm_weight_gradient(const OperatorContext& context, ConstView output_gradient, ConstView in,
                                  ConstView offsets, double beta, View gradient) {
  MOESAIC_EXPECT(offsets.size() == gradient.extent(0) + 1);
  MOESAIC_EXPECT(gradient.extent(1) == output_gradient.extent(1) && gradient.extent(2) == in.extent(1));
  MOESAIC_EXPECT(beta == 0 || beta == 1);
  if (gradient.size() == 0) return;
  const bool fast =
      in.dtype() == DType::bf16 && hopper_grouped_gemm_fits({output_gradient, in, gradient}, gradient.extent(0));
  const auto variant = fast ? hopper_grouped_gemm_weight_gradient : plain_grouped_gemm_weight_gradient;
  variant(context, output_gradient, in, offsets, beta, gradient);
}

}  // namespace moesaic::cuda
