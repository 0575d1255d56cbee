#pragma once
/// A mixture of experts as data, and what its layer keeps and counts.

#include <cstdint>

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
  bool balanced_router = false;  ///< the fake router of published benchmarks instead of the learned one
  Balance balance = Balance::none;
  BalanceScope scope = BalanceScope::sequence;
};

/// What a MoE layer keeps between steps and counts within one; owned by the model, in device memory.
struct MoeAccounts {
  View selection_bias;  ///< accumulator type [experts]; absent unless balanced by bias. State: saved, no gradient.
  View load;            ///< i64 [experts]: slots routed to each expert since it was last zeroed, this rank's tokens
  View auxiliary_loss;  ///< f64 [1]: sum of balance_weight * loss since it was last zeroed, this rank's tokens
};

}  // namespace moesaic
