#pragma once
/// What the optimizer is told, as plain data.

#include <cstdint>

#include "moesaic/tensor/dtype.hpp"

namespace moesaic {

enum class LrSchedule : std::uint8_t { constant, cosine, wsd };
enum class Decay : std::uint8_t { matrices, all };

struct OptimizerSettings {
  double lr = 1e-3;
  LrSchedule schedule = LrSchedule::constant;
  std::int64_t warmup = 0;   ///< updates
  double min_lr = 0;         ///< where cosine and wsd end
  double decay_share = 0.2;  ///< wsd: share of the steps that the final linear decay takes
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  Decay decay = Decay::matrices;
  double clip = 1.0;           ///< global gradient norm; 0: no clipping
  DType moments = DType::f32;  ///< or bf16
};

}  // namespace moesaic
