#pragma once
/// Routing of tokens to experts, and the statistics and loss that balance it.
/// All floating-point arguments are of the accumulator type.

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// What logits become: softmax over the experts, or of each expert its own sigmoid (DeepSeek-V3, arXiv 2412.19437).
enum class RouterScores : bool { softmax, sigmoid };

struct RouterOptions {
  std::int64_t top_k = 1;
  /// Divide the chosen weights by their sum.
  bool renormalise = true;
  RouterScores scores = RouterScores::softmax;
  /// Experts lie in `groups` equal groups, of which only the top_groups with the largest sum of their two best
  /// (score + selection_bias) can be chosen from; 1: all.
  std::int64_t groups = 1;
  std::int64_t top_groups = 1;
  /// Factor of the weights.
  double scale = 1;
};

/// scores [tokens, experts] = softmax or sigmoid of logits; indices (i32) [tokens, top_k] = the experts with the largest
/// score + selection_bias within the best groups, largest first, the lower index first among equals; weights
/// [tokens, top_k] = scale * the scores of these (bias left out), divided by their sum when renormalised;
/// probabilities [tokens, experts] = softmax, or for sigmoid the scores themselves.
/// counts and probability_sums as RouterStatistics gives them for these, in the same pass.
/// selection_bias: [experts] or absent. probabilities may be logits. counts and probability_sums may both be absent.
using RouterForward = void(const OperatorContext&, const RouterOptions&, ConstView logits, ConstView selection_bias,
                           View probabilities, View indices, View weights, View counts, View probability_sums);

/// logits_gradient [tokens, experts] from weights_gradient [tokens, top_k] and the gradient of the balancing loss with
/// respect to the probabilities: balance_gradient [groups, experts], the same for the tokens / groups consecutive
/// tokens of a group; absent: none.
using RouterBackward = void(const OperatorContext&, const RouterOptions&, ConstView probabilities, ConstView indices,
                            ConstView weights_gradient, ConstView balance_gradient, View logits_gradient);

/// Per group of tokens / groups consecutive tokens: counts (i64) [groups, experts] = slots routed to each expert,
/// probability_sums [groups, experts] = sum of its probability, tokens in order; for sigmoid scores the probability is
/// the score over the sum of the token's scores.
using RouterStatistics = void(const OperatorContext&, RouterScores, ConstView probabilities, ConstView indices,
                              View counts, View probability_sums);

/// The auxiliary loss (Fedus et al. 2021, arXiv 2101.03961, for K slots): with f_i = counts / (tokens * top_k),
/// P_i = probability_sums / tokens: loss [1] = sum over groups of experts * sum_i f_i P_i (1 a group when balanced),
/// gradient [groups, experts] = gradient_scale * experts * f_i / tokens = d(gradient_scale * loss) / d(probability of one token).
/// tokens_per_group: tokens that the statistics of one group count.
using BalanceLoss = void(const OperatorContext&, ConstView counts, ConstView probability_sums,
                         std::int64_t tokens_per_group, std::int64_t top_k, double gradient_scale, View loss,
                         View gradient);

/// The fake router of published benchmarks: slot j of a token at position p of its sequence goes to expert
/// (p * top_k + j) mod experts with weight 1 / top_k. positions: i32 [tokens].
using BalancedRouting = void(const OperatorContext&, ConstView positions, std::int64_t experts, View indices,
                             View weights);

namespace reference {
RouterForward router_forward;
RouterBackward router_backward;
RouterStatistics router_statistics;
BalanceLoss balance_loss;
BalancedRouting balanced_routing;
}  // namespace reference

namespace cuda {
RouterForward router_forward;
RouterBackward router_backward;
RouterStatistics router_statistics;
BalanceLoss balance_loss;
BalancedRouting balanced_routing;
}  // namespace cuda

}  // namespace moesaic
