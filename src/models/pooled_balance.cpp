#include "moesaic/models/pooled_balance.hpp"

#include <vector>

namespace moesaic {

namespace {

/// Sums over the tokens of all layers.
struct Pool {
  std::int64_t tokens = 0;
  std::vector<double> slots, probability;  ///< of each expert
};

template <class Scalar> void add_probabilities(ConstView probabilities, Pool& pool) {
  const Scalar* next = probabilities.data<Scalar>();
  for (std::int64_t t = 0; t < probabilities.extent(0); ++t) {
    for (double& sum : pool.probability) sum += static_cast<double>(*next++);
  }
}

void add(const RecordedRouting& routing, Pool& pool) {
  MOESAIC_EXPECT(routing.probabilities.contiguous() && routing.indices.contiguous());
  MOESAIC_EXPECT(routing.probabilities.extent(1) == static_cast<std::int64_t>(pool.probability.size()));
  pool.tokens += routing.probabilities.extent(0);
  if (routing.probabilities.dtype() == DType::f64) {
    add_probabilities<double>(routing.probabilities, pool);
  } else {
    add_probabilities<float>(routing.probabilities, pool);
  }
  const std::int32_t* index = routing.indices.data<std::int32_t>();
  for (std::int64_t i = 0; i < routing.indices.size(); ++i) pool.slots[static_cast<std::size_t>(index[i])] += 1;
}

}  // namespace

double pooled_auxiliary_loss(std::span<const RecordedRouting> layers) {
  if (layers.empty()) return 0;
  const auto experts = static_cast<std::size_t>(layers[0].probabilities.extent(1));
  Pool pool{0, std::vector<double>(experts), std::vector<double>(experts)};
  for (const RecordedRouting& routing : layers) add(routing, pool);
  if (pool.tokens == 0) return 0;
  const auto tokens = static_cast<double>(pool.tokens);
  double sum = 0;
  for (std::size_t i = 0; i < experts; ++i) sum += pool.slots[i] / tokens * (pool.probability[i] / tokens);
  return static_cast<double>(experts) * sum;
}

}  // namespace moesaic
