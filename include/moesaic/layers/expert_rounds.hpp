#pragma once
/// The experts' part of a MoE layer where receive buffers do not hold what a micro-batch sends: range after range of tokens.

#include <array>
#include <cstddef>
#include <vector>

#include "moesaic/grid/block.hpp"
#include "moesaic/layers/experts.hpp"

namespace moesaic {

/// Device tensors that wait in host memory.
class ParkedExperts {
 public:
  /// What experts_backward_weight will read. Waits for the device.
  ParkedExperts(const LayerContext&, const ExpertInput& input, ExpertState& state);
  /// Brings it back and adds the weight gradients.
  void backward_weight(const LayerContext&, const ExpertViews& gradients) const;

 private:
  struct Parked {
    DType type = DType::f32;
    Extents extents;
    std::vector<std::byte> bytes;
  };
  static void begin_park(const LayerContext&, ConstView values, Parked& parked);
  static Tensor fetch(const LayerContext&, const Parked& parked);

  std::int64_t slots_ = 0;
  std::array<Parked, 3> input_;  ///< rows, indices, weights
  std::array<Parked, ExpertState::tensors> state_;
};

/// Dispatch, experts and combine of each range in turn, so that no more than a range is on the device at a time: forward keeps
/// nothing, the input gradient computes again and leaves to the weight gradient what waits in host memory. Sums of a token
/// are those of one passage, weight gradients add up over the ranges. No rounds: nothing is carried, outputs and gradients
/// are zeros. All ranks of the expert group do as many rounds, those with few tokens of empty ranges.
class ExpertRounds {
 public:
  /// indices and weights: of all tokens of the micro-batch as ExpertExchange::begin takes them; they and `exchange` must
  /// outlive this.
  ExpertRounds(ExpertExchange& exchange, const ExpertOverflow& overflow, ConstView indices, ConstView weights,
               std::int64_t experts);

  /// hidden: [tokens, hidden]. Returns [tokens, hidden].
  Tensor forward(const LayerContext&, const ExpertViews& weights, const SwigluOptions&, ConstView hidden) const;
  /// hidden as in forward, output_gradient: [tokens, hidden].
  RoutedGradients backward_input(const LayerContext&, const ExpertViews& weights, const SwigluOptions&,
                                 ConstView hidden, ConstView output_gradient);
  /// Adds to `gradients` (accumulator type).
  void backward_weight(const LayerContext&, const ExpertViews& gradients);

 private:
  std::unique_ptr<ExpertPassage> dispatch(const LayerContext&, ConstView hidden, Block range) const;

  ExpertExchange* exchange_;
  ConstView indices_, weights_;
  std::int64_t experts_;
  std::vector<Block> ranges_;  ///< of tokens
  std::vector<ParkedExperts> parked_;
};

}  // namespace moesaic
