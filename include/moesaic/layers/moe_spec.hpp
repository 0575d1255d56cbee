#pragma once
/// A mixture of experts as data, and what its layer keeps and counts.

#include <cstdint>
#include <optional>

#include "moesaic/kernels/router.hpp"
#include "moesaic/kernels/swiglu.hpp"
#include "moesaic/layers/expert_exchange.hpp"
#include "moesaic/tensor/view.hpp"

namespace moesaic {

enum class Balance : std::uint8_t { none, auxiliary, bias };
enum class BalanceScope : std::uint8_t { sequence, batch };

struct MoeSpec {
  std::int64_t hidden = 0;
  std::int64_t width = 0;    ///< of one expert
  std::int64_t experts = 0;  ///< all of them
  std::int64_t top_k = 0;
  bool renormalise = true;
  bool bias = false;  ///< of the router and of the experts' projections
  SwigluOptions swiglu = {};
  RouterScores scores = RouterScores::softmax;
  std::int64_t groups = 1;        ///< of experts; see RouterOptions
  std::int64_t top_groups = 1;    ///< that a token may choose from
  double scale = 1;               ///< factor of the routing weights
  bool selection_bias = false;    ///< the model has correction biases, whatever balances it
  std::int64_t shared_width = 0;  ///< of a dense feed-forward that every token also goes through; 0: none
  bool balanced_router = false;   ///< the fake router of published benchmarks instead of the learned one
  Balance balance = Balance::none;
  BalanceScope scope = BalanceScope::sequence;

  bool biased() const { return selection_bias || balance == Balance::bias; }
};

/// What a MoE layer keeps between steps and counts within one; owned by the model, views in device memory.
struct MoeAccounts {
  View selection_bias;  ///< accumulator type [experts]; absent unless MoeSpec::biased. State: saved, no gradient.
  View load;            ///< i64 [experts]: slots routed to each expert since it was last zeroed, this rank's tokens
  View auxiliary_loss;  ///< f64 [1]: sum of balance_weight * loss since it was last zeroed, this rank's tokens
  std::optional<ExpertOverflow>* overflow =
      nullptr;  ///< on the host: the fullest since it was last zeroed; null: nobody asks
};

}  // namespace moesaic
