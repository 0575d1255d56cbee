#include "moesaic/kernels/router.hpp"

#include "parallel.hpp"
#include "scalar_dispatch.hpp"
#include "softmax_row.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

namespace moesaic::reference {
namespace {

template <class T, class Void> auto* row_of(const BasicView<Void>& view, std::int64_t row) {
  return view.template data<T>() + row * view.stride(0);
}

template <class T> void softmax(const T* logits, std::int64_t width, T* probabilities) {
  scaled_exponentials(logits, row_max(logits, width), T(1), width, probabilities);
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t e = 0; e < width; ++e) sum += probabilities[e];
#pragma omp simd
  for (std::int64_t e = 0; e < width; ++e) probabilities[e] /= sum;
}

template <class T> void sigmoid(const T* logits, std::int64_t width, T* scores) {
  for (std::int64_t e = 0; e < width; ++e) scores[e] = 1 / (1 + std::exp(-logits[e]));
}

/// The score that experts are chosen by; NaN ranks last, so that indices stay within range whatever the logits were.
template <class T> T selection_score(const T* probabilities, const T* bias, std::int64_t expert) {
  const T score = probabilities[expert] + (bias == nullptr ? T(0) : bias[expert]);
  return std::isnan(score) ? -std::numeric_limits<T>::infinity() : score;
}

/// The largest scores seen so far, in order, by insertion: an equal one goes behind.
template <class T> struct Best {
  std::int64_t most;  ///< how many are kept
  std::int32_t* indices;
  T* scores;
  std::int64_t count = 0;

  void offer(std::int64_t index, T score) {
    if (count == most && !(score > scores[most - 1])) return;
    if (count < most) ++count;
    std::int64_t place = count - 1;
    for (; place > 0 && score > scores[place - 1]; --place) {
      scores[place] = scores[place - 1];
      indices[place] = indices[place - 1];
    }
    scores[place] = score;
    indices[place] = static_cast<std::int32_t>(index);
  }
};

template <class T>
void offer_experts(const T* probabilities, const T* bias, std::int64_t begin, std::int64_t end, Best<T>& best) {
  for (std::int64_t expert = begin; expert < end; ++expert)
    best.offer(expert, selection_score(probabilities, bias, expert));
}

/// Sum of the two best scores among experts [begin, end), or the only one.
template <class T> T group_score(const T* probabilities, const T* bias, std::int64_t begin, std::int64_t end) {
  std::int32_t indices[2];
  T scores[2];
  Best<T> best{2, indices, scores};
  offer_experts(probabilities, bias, begin, end, best);
  return best.count == 2 ? scores[0] + scores[1] : scores[0];
}

/// The groups that may be chosen from, in ascending order.
template <class T>
std::vector<std::int32_t> best_groups(const RouterOptions& options, const T* probabilities, const T* bias,
                                      std::int64_t experts) {
  const std::int64_t size = experts / options.groups;
  std::vector<std::int32_t> indices(static_cast<std::size_t>(options.top_groups));
  std::vector<T> scores(indices.size());
  Best<T> best{options.top_groups, indices.data(), scores.data()};
  for (std::int64_t g = 0; g < options.groups; ++g)
    best.offer(g, group_score(probabilities, bias, g * size, (g + 1) * size));
  std::sort(indices.begin(), indices.end());
  return indices;
}

/// indices = the top_k experts by score, of the best groups. scores [top_k]: theirs.
template <class T>
void select_experts(const RouterOptions& options, const T* probabilities, const T* bias, std::int64_t experts,
                    std::int32_t* indices, T* scores) {
  Best<T> best{options.top_k, indices, scores};
  if (options.top_groups == options.groups) return offer_experts(probabilities, bias, 0, experts, best);
  const std::int64_t size = experts / options.groups;
  for (const std::int32_t g : best_groups(options, probabilities, bias, experts))
    offer_experts(probabilities, bias, g * size, (g + 1) * size, best);
}

/// sum of the chosen probabilities, at least the smallest number: a bias can choose experts whose probability underflowed.
template <class T> T chosen_sum(const T* probabilities, const std::int32_t* indices, std::int64_t top_k) {
  T sum = 0;
  for (std::int64_t j = 0; j < top_k; ++j) sum += probabilities[indices[j]];
  return std::max(sum, std::numeric_limits<T>::min());
}

template <class T>
void route_token(const RouterOptions& options, const T* logits, const T* bias, std::int64_t experts, T* probabilities,
                 std::int32_t* indices, T* weights) {
  const auto scores_of = options.scores == RouterScores::softmax ? softmax<T> : sigmoid<T>;
  scores_of(logits, experts, probabilities);
  select_experts(options, probabilities, bias, experts, indices, /*scores=*/weights);
  const T divisor = options.renormalise ? chosen_sum(probabilities, indices, options.top_k) : T(1);
  const T scale = static_cast<T>(options.scale);
  for (std::int64_t j = 0; j < options.top_k; ++j) weights[j] = scale * (probabilities[indices[j]] / divisor);
}

/// Adds d loss / d probability of the chosen experts. With w_j = c p_j / S: dp_j = c (g_j - sum_l g_l p_l / S) / S.
template <class T>
void add_weights_gradient(const RouterOptions& options, const T* probabilities, const std::int32_t* indices,
                          const T* weights_gradient, T* gradient) {
  T divisor = 1, mean = 0;
  if (options.renormalise) {
    divisor = chosen_sum(probabilities, indices, options.top_k);
    for (std::int64_t j = 0; j < options.top_k; ++j)
      mean += weights_gradient[j] * (probabilities[indices[j]] / divisor);
  }
  const T scale = static_cast<T>(options.scale);
  for (std::int64_t j = 0; j < options.top_k; ++j)
    gradient[indices[j]] += scale * ((weights_gradient[j] - mean) / divisor);
}

/// In place, from the gradient of the probabilities to that of the logits: g_e = p_e (g_e - sum_f p_f g_f).
template <class T> void softmax_backward(const T* probabilities, std::int64_t width, T* gradient) {
  T mean = 0;
#pragma omp simd reduction(+ : mean)
  for (std::int64_t e = 0; e < width; ++e) mean += probabilities[e] * gradient[e];
#pragma omp simd
  for (std::int64_t e = 0; e < width; ++e) gradient[e] = probabilities[e] * (gradient[e] - mean);
}

/// The same for sigmoid: g_e = s_e (1 - s_e) g_e.
template <class T> void sigmoid_backward(const T* scores, std::int64_t width, T* gradient) {
#pragma omp simd
  for (std::int64_t e = 0; e < width; ++e) gradient[e] *= scores[e] * (1 - scores[e]);
}

template <class T> T sum_of(const T* scores, std::int64_t width) {
  return std::max(std::accumulate(scores, scores + width, T(0)), std::numeric_limits<T>::min());
}

/// In place, from the gradient of the shares s_e / S, S = sum s, to that of the scores: g_e = (g_e - sum_f g_f s_f / S) / S.
template <class T> void share_backward(const T* scores, std::int64_t width, T* gradient) {
  const T sum = sum_of(scores, width);
  T mean = 0;
  for (std::int64_t e = 0; e < width; ++e) mean += gradient[e] * (scores[e] / sum);
  for (std::int64_t e = 0; e < width; ++e) gradient[e] = (gradient[e] - mean) / sum;
}

/// The gradient of one token's logits; balance_gradient: null without.
template <class T>
void token_backward(const RouterOptions& options, const T* probabilities, std::int64_t experts,
                    const std::int32_t* indices, const T* weights_gradient, const T* balance_gradient, T* gradient) {
  const bool softmax = options.scores == RouterScores::softmax;
  if (balance_gradient == nullptr) {
    std::fill_n(gradient, experts, T(0));
  } else {
    std::copy_n(balance_gradient, experts, gradient);
    if (!softmax) share_backward(probabilities, experts, gradient);
  }
  add_weights_gradient(options, probabilities, indices, weights_gradient, gradient);
  if (softmax) {
    softmax_backward(probabilities, experts, gradient);
  } else {
    sigmoid_backward(probabilities, experts, gradient);
  }
}

template <class T>
void group_statistics(RouterScores scores, ConstView probabilities, ConstView indices, std::int64_t begin,
                      std::int64_t end, std::int64_t* counts, T* sums) {
  const std::int64_t experts = probabilities.extent(1);
  std::fill_n(counts, experts, 0);
  std::fill_n(sums, experts, T(0));
  for (std::int64_t token = begin; token < end; ++token) {
    const T* row = row_of<T>(probabilities, token);
    const T whole = scores == RouterScores::softmax ? T(1) : sum_of(row, experts);
#pragma omp simd
    for (std::int64_t e = 0; e < experts; ++e) sums[e] += row[e] / whole;
    for (std::int64_t j = 0; j < indices.extent(1); ++j) ++counts[row_of<std::int32_t>(indices, token)[j]];
  }
}

}  // namespace

void router_forward(const OperatorContext& context, const RouterOptions& options, ConstView logits,
                    ConstView selection_bias, View probabilities, View indices, View weights, View counts,
                    View probability_sums) {
  MOESAIC_EXPECT(options.groups > 0 && logits.extent(1) % options.groups == 0);
  MOESAIC_EXPECT(0 < options.top_groups && options.top_groups <= options.groups);
  MOESAIC_EXPECT(options.top_k <= options.top_groups * (logits.extent(1) / options.groups));
  with_scalar("router_forward", logits.dtype(), [&]<class T>(std::type_identity<T>) {
    const std::int64_t tokens = logits.extent(0), experts = logits.extent(1);
    const T* bias = selection_bias.absent() ? nullptr : selection_bias.data<T>();
    parallel_for(tokens, 2 * experts, [&](std::int64_t t) {
      route_token(options, row_of<T>(logits, t), bias, experts, row_of<T>(probabilities, t),
                  row_of<std::int32_t>(indices, t), row_of<T>(weights, t));
    });
  });
  if (!counts.absent()) router_statistics(context, options.scores, probabilities, indices, counts, probability_sums);
}

void router_backward(const OperatorContext&, const RouterOptions& options, ConstView probabilities, ConstView indices,
                     ConstView weights_gradient, ConstView balance_gradient, View logits_gradient) {
  with_scalar("router_backward", probabilities.dtype(), [&]<class T>(std::type_identity<T>) {
    const std::int64_t tokens = probabilities.extent(0), experts = probabilities.extent(1);
    const std::int64_t group_tokens = balance_gradient.empty() ? 0 : tokens / balance_gradient.extent(0);
    parallel_for(tokens, experts, [&](std::int64_t t) {
      const T* balance = group_tokens > 0 ? row_of<T>(balance_gradient, t / group_tokens) : nullptr;
      token_backward(options, row_of<T>(probabilities, t), experts, row_of<std::int32_t>(indices, t),
                     row_of<T>(weights_gradient, t), balance, row_of<T>(logits_gradient, t));
    });
  });
}

void router_statistics(const OperatorContext&, RouterScores scores, ConstView probabilities, ConstView indices,
                       View counts, View probability_sums) {
  with_scalar("router_statistics", probabilities.dtype(), [&]<class T>(std::type_identity<T>) {
    const std::int64_t groups = counts.extent(0);
    const std::int64_t group_tokens = groups > 0 ? probabilities.extent(0) / groups : 0;
    MOESAIC_EXPECT(group_tokens * groups == probabilities.extent(0));
    parallel_for(groups, group_tokens * probabilities.extent(1), [&](std::int64_t g) {
      group_statistics(scores, probabilities, indices, g * group_tokens, (g + 1) * group_tokens,
                       row_of<std::int64_t>(counts, g), row_of<T>(probability_sums, g));
    });
  });
}

void balance_loss(const OperatorContext&, ConstView counts, ConstView probability_sums, std::int64_t tokens_per_group,
                  std::int64_t top_k, double gradient_scale, View loss, View gradient) {
  with_scalar("balance_loss", probability_sums.dtype(), [&]<class T>(std::type_identity<T>) {
    const std::int64_t experts = counts.extent(1);
    const auto tokens = static_cast<double>(std::max<std::int64_t>(tokens_per_group, 1));
    double total = 0;
    for (std::int64_t g = 0; g < counts.extent(0); ++g) {
      for (std::int64_t e = 0; e < experts; ++e) {
        const double share =
            static_cast<double>(row_of<std::int64_t>(counts, g)[e]) / (tokens * static_cast<double>(top_k));
        const double slope = static_cast<double>(experts) * share / tokens;
        total += slope * static_cast<double>(row_of<T>(probability_sums, g)[e]);
        row_of<T>(gradient, g)[e] = static_cast<T>(gradient_scale * slope);
      }
    }
    loss.data<T>()[0] = static_cast<T>(total);
  });
}

void balanced_routing(const OperatorContext&, ConstView positions, std::int64_t experts, View indices, View weights) {
  with_scalar("balanced_routing", weights.dtype(), [&]<class T>(std::type_identity<T>) {
    const std::int64_t top_k = indices.extent(1);
    for (std::int64_t t = 0; t < indices.extent(0); ++t) {
      const std::int64_t first = positions.data<std::int32_t>()[t] * top_k;
      for (std::int64_t j = 0; j < top_k; ++j) {
        row_of<std::int32_t>(indices, t)[j] = static_cast<std::int32_t>((first + j) % experts);
        row_of<T>(weights, t)[j] = T(1) / static_cast<T>(top_k);
      }
    }
  });
}

}  // namespace moesaic::reference
