#pragma once
/// Context parallelism of windowed attention: as in a stencil code, a block of queries needs the block of keys before it
/// and of that the last ones only, its halo.

#include <memory>

#include "moesaic/comm/communicator.hpp"
#include "moesaic/layers/sequence_exchange.hpp"

namespace moesaic {

/// Where a causal window reaches no farther than one block back, window - 1 keys and values of each block go to the rank that
/// owns the next block, and in backward their gradients come back. Any other mask is handed to another exchange.
/// With n elements of a token's keys and values together, e bytes each and a bytes of the accumulator type, a rank sends
/// at most 2 * sequences * (window - 1) * n * e in forward, and as much with e + a in backward.
class HaloExchange : public SequenceExchange {
 public:
  /// `ranks`: the context group; must outlive this. `whole`: the exchange for masks without such a window.
  HaloExchange(Communicator& ranks, std::unique_ptr<SequenceExchange> whole)
      : ranks_(&ranks), whole_(std::move(whole)) {}

  void attention_forward(const LayerContext&, const AttentionMask&, double scale, ConstView q, ConstView k, ConstView v,
                         View out, View log_sum_exp) override;
  void attention_backward(const LayerContext&, const AttentionMask&, double scale, ConstView q, ConstView k,
                          ConstView v, ConstView out, ConstView log_sum_exp, ConstView out_gradient, View q_gradient,
                          View k_gradient, View v_gradient) override;

 private:
  Communicator* ranks_;
  std::unique_ptr<SequenceExchange> whole_;
};

}  // namespace moesaic
