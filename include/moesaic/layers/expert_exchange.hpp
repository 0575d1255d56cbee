#pragma once
/// The seam between a MoE layer and wherever its experts are. Layers know no ranks: on one rank it is the identity.

#include <algorithm>
#include <memory>
#include <optional>

#include "moesaic/layers/context.hpp"

namespace moesaic {

/// What this rank's experts have to serve.
struct ExpertInput {
  ConstView rows;          ///< [rows, hidden]
  ConstView indices;       ///< i32 [rows, top_k]: this rank's expert, counted from its first; -1 for experts elsewhere
  ConstView weights;       ///< accumulator type [rows, top_k], 0 where -1
  std::int64_t slots = 0;  ///< entries of indices that are not -1
};

/// Gradients that come back to the tokens' rank.
struct RoutedGradients {
  Tensor hidden;   ///< [tokens, hidden]
  Tensor weights;  ///< accumulator type [tokens, top_k]
};

/// Tokens chose experts so unevenly that what would arrive at some rank of the group exceeds its receive buffers.
struct ExpertOverflow {
  std::int64_t rows = 0, slots = 0;            ///< that would arrive at this rank
  std::int64_t most_rows = 0, most_slots = 0;  ///< that its buffers hold
  std::int64_t range = 0;                      ///< as many tokens of each rank fit, whatever they choose
  std::int64_t rounds = 0;  ///< of such ranges, in which all tokens of each rank are carried; 0: they are not carried

  /// How full the buffers would be: above 1 on some rank of the group.
  double fullness() const {
    const auto of = [](std::int64_t all, std::int64_t most) {
      return most == 0 ? 0 : static_cast<double>(all) / static_cast<double>(most);
    };
    return std::max(of(rows, most_rows), of(slots, most_slots));
  }
};

/// One micro-batch of one layer on its way: dispatch, combine, and both again for the gradients, in this order. A passage
/// that is made again for the backward alone leaves out the first combine.
/// Each initiate starts an exchange and returns; the matching complete ends it. All ranks of an expert group
/// must do the same in the same order.
class ExpertPassage {
 public:
  virtual ~ExpertPassage() = default;

  /// Known from the beginning, the same on all ranks of the group but for what arrives. Where there is one, nothing else may
  /// be asked of this passage.
  virtual std::optional<ExpertOverflow> overflow() const { return std::nullopt; }

  /// hidden: [tokens, hidden], must stay alive until the passage is destroyed.
  virtual void initiate_dispatch(ConstView hidden) = 0;
  /// Valid until the passage is destroyed (the weight gradients read the rows).
  virtual const ExpertInput& complete_dispatch() = 0;

  /// partial: [rows, hidden], each row the weighted sum over this rank's experts.
  virtual void initiate_combine(Tensor partial) = 0;
  /// [tokens, hidden]: the partial sums of each token, added in rank order.
  virtual Tensor complete_combine() = 0;

  /// output_gradient: [tokens, hidden], must stay alive until completed.
  virtual void initiate_combine_backward(ConstView output_gradient) = 0;
  /// [rows, hidden], valid until the dispatch backward is initiated.
  virtual ConstView complete_combine_backward() = 0;

  virtual void initiate_dispatch_backward(Tensor row_gradient, Tensor weights_gradient) = 0;
  virtual RoutedGradients complete_dispatch_backward() = 0;
};

class ExpertExchange {
 public:
  virtual ~ExpertExchange() = default;
  /// indices: i32 [tokens, top_k] over all experts; weights: accumulator type [tokens, top_k]; both outlive the passage.
  virtual std::unique_ptr<ExpertPassage> begin(const LayerContext&, ConstView indices, ConstView weights,
                                               std::int64_t experts) = 0;
};

/// All experts are here: rows are the tokens, nothing is copied.
class LocalExperts : public ExpertExchange {
 public:
  std::unique_ptr<ExpertPassage> begin(const LayerContext&, ConstView indices, ConstView weights,
                                       std::int64_t experts) override;
};

/// Sums router statistics over the ranks that share what they are taken of: a sequence, or in batch scope a
/// micro-batch. On one rank: nothing to do.
class StatisticsExchange {
 public:
  virtual ~StatisticsExchange() = default;
  virtual void sum(View counts, View probability_sums) = 0;
};

}  // namespace moesaic
