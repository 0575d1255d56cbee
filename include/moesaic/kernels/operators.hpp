#pragma once
/// The seam between reference and CUDA: one table of operators, chosen once by device.

#include "moesaic/kernels/adamw.hpp"
#include "moesaic/kernels/attention.hpp"
#include "moesaic/kernels/attention_merge.hpp"
#include "moesaic/kernels/attention_sink.hpp"
#include "moesaic/kernels/bias.hpp"
#include "moesaic/kernels/cross_entropy.hpp"
#include "moesaic/kernels/dispatch.hpp"
#include "moesaic/kernels/elementwise.hpp"
#include "moesaic/kernels/embedding.hpp"
#include "moesaic/kernels/experts.hpp"
#include "moesaic/kernels/fill_normal.hpp"
#include "moesaic/kernels/gemm.hpp"
#include "moesaic/kernels/head_norm_rotary.hpp"
#include "moesaic/kernels/joined_keys.hpp"
#include "moesaic/kernels/permutation.hpp"
#include "moesaic/kernels/rms_norm.hpp"
#include "moesaic/kernels/rotary.hpp"
#include "moesaic/kernels/router.hpp"
#include "moesaic/kernels/swiglu.hpp"

#include <string>

namespace moesaic {

/// One pointer an operator; a device's table may have gaps (null), which `missing_operators` names.
struct Operators {
  Gemm* gemm = nullptr;
  GroupedGemm* grouped_gemm = nullptr;
  GroupedGemmWeightGradient* grouped_gemm_weight_gradient = nullptr;
  RmsNormForward* rms_norm_forward = nullptr;
  RmsNormResidualForward* rms_norm_residual_forward = nullptr;
  RmsNormBackward* rms_norm_backward = nullptr;
  Rotary* rotary = nullptr;
  HeadNormRotaryForward* head_norm_rotary_forward = nullptr;
  HeadNormRotaryBackward* head_norm_rotary_backward = nullptr;
  AttentionForward* attention_forward = nullptr;
  AttentionBackward* attention_backward = nullptr;
  AttentionMerge* attention_merge = nullptr;
  AttentionSink* attention_sink = nullptr;
  AttentionSinkBackward* attention_sink_backward = nullptr;
  JoinKeys* join_keys = nullptr;
  JoinKeysBackward* join_keys_backward = nullptr;
  AddBias* add_bias = nullptr;
  BiasGradient* bias_gradient = nullptr;
  SwigluForward* swiglu_forward = nullptr;
  SwigluBackward* swiglu_backward = nullptr;
  RouterForward* router_forward = nullptr;
  RouterBackward* router_backward = nullptr;
  RouterStatistics* router_statistics = nullptr;
  BalanceLoss* balance_loss = nullptr;
  BalancedRouting* balanced_routing = nullptr;
  SortByKey* sort_by_key = nullptr;
  GatherRows* gather_rows = nullptr;
  CombineRows* combine_rows = nullptr;
  CombineRowsBackward* combine_rows_backward = nullptr;
  ExpertUp* expert_up = nullptr;
  ExpertDownBackward* expert_down_backward = nullptr;
  ExpertWeightGradient* expert_weight_gradient = nullptr;
  DispatchDestinations* dispatch_destinations = nullptr;
  DispatchRouting* dispatch_routing = nullptr;
  DispatchWeightsGradient* dispatch_weights_gradient = nullptr;
  EmbeddingForward* embedding_forward = nullptr;
  EmbeddingBackward* embedding_backward = nullptr;
  CrossEntropyForward* cross_entropy_forward = nullptr;
  CrossEntropyBackward* cross_entropy_backward = nullptr;
  Adamw* adamw = nullptr;
  Fill* fill = nullptr;
  FillNormal* fill_normal = nullptr;
  Copy* copy = nullptr;
  Accumulate* accumulate = nullptr;
  Scale* scale = nullptr;
  SumOfSquares* sum_of_squares = nullptr;
  Sum* sum = nullptr;
};

/// The operators of a device. cuda in a program built without it has none.
const Operators& operators(DeviceKind device);

/// Names of the operators that a device lacks, comma-separated; empty when it can train.
std::string missing_operators(DeviceKind device);

}  // namespace moesaic
