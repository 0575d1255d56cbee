#pragma once
/// Context parallelism: each rank of the context group owns two mirrored blocks of every sequence (mirrored_blocks_of), so
/// that causal attention is equal work for all; keys and values travel.
///
/// Both exchanges move the same bytes. With n = elements of a rank's keys and values together, e bytes each and a bytes of
/// the accumulator type, a rank of C sends in forward (C - 1) * n * e and in backward (C - 1) * n * (e + a).

#include "moesaic/comm/communicator.hpp"
#include "moesaic/layers/sequence_exchange.hpp"

namespace moesaic {

enum class ContextExchange : std::uint8_t { ring, gather };

/// Ring attention (Liu et al. 2023, arXiv 2310.01889): in C steps the keys and values of every rank pass by, each while the
/// attention to those before computes; partial results are merged by their log-sum-exp, in the order of the ring. In
/// backward the gradients of keys and values follow them by one step, and the last one ends at their owner.
/// Memory: twice a rank's own keys and values; in backward three times its gradients on top.
class RingExchange : public SequenceExchange {
 public:
  /// `ranks`: the context group; must outlive this.
  explicit RingExchange(Communicator& ranks) : ranks_(&ranks) {}

  void attention_forward(const LayerContext&, const AttentionMask&, double scale, ConstView q, ConstView k, ConstView v,
                         View out, View log_sum_exp) override;
  void attention_backward(const LayerContext&, const AttentionMask&, double scale, ConstView q, ConstView k,
                          ConstView v, ConstView out, ConstView log_sum_exp, ConstView out_gradient, View q_gradient,
                          View k_gradient, View v_gradient) override;

 private:
  Communicator* ranks_;
};

/// All keys and values are gathered, attended to in one piece, and dropped; backward gathers them again, and
/// reduce-scatters their gradients. Fewer and larger operations than the ring, nothing hidden behind them, and memory for
/// the keys and values of whole sequences twice (in backward their gradients twice on top).
class GatherExchange : public SequenceExchange {
 public:
  /// `ranks`: the context group; must outlive this.
  explicit GatherExchange(Communicator& ranks) : ranks_(&ranks) {}

  void attention_forward(const LayerContext&, const AttentionMask&, double scale, ConstView q, ConstView k, ConstView v,
                         View out, View log_sum_exp) override;
  void attention_backward(const LayerContext&, const AttentionMask&, double scale, ConstView q, ConstView k,
                          ConstView v, ConstView out, ConstView log_sum_exp, ConstView out_gradient, View q_gradient,
                          View k_gradient, View v_gradient) override;

 private:
  Communicator* ranks_;
};

/// The operators themselves on one rank, else the exchange of that kind.
std::unique_ptr<SequenceExchange> make_sequence_exchange(Communicator& context_ranks, ContextExchange kind);

}  // namespace moesaic
