#include "combined.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace moesaic {
namespace {

/// Slots of each part in the shortest pattern.
std::vector<std::int64_t> apportion(const std::vector<double>& weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<std::int64_t> slots;
  for (double weight : weights) slots.push_back(std::max<std::int64_t>(std::llround(weight / sum * 10'000), 1));
  std::int64_t divisor = 0;
  for (std::int64_t count : slots) divisor = std::gcd(divisor, count);
  for (std::int64_t& count : slots) count /= divisor;
  return slots;
}

}  // namespace

Concatenation::Concatenation(std::vector<std::unique_ptr<Dataset>> parts) : parts_(std::move(parts)) {
  std::int64_t end = 0;
  for (const auto& part : parts_) ends_.push_back(end += part->rows());
}

void Concatenation::read(std::int64_t row, Sample& sample) const {
  const auto end = std::ranges::upper_bound(ends_, row);
  const auto part = static_cast<std::size_t>(end - ends_.begin());
  parts_[part]->read(row - (*end - parts_[part]->rows()), sample);
}

Mixture::Mixture(std::vector<std::unique_ptr<Dataset>> parts, const std::vector<double>& weights)
    : parts_(std::move(parts)), slots_of_(apportion(weights)) {
  lay_pattern();
  for (std::size_t part = 0; part < parts_.size(); ++part) rows_ = std::max(rows_, rows_to_exhaust(part));
}

/// Each slot: every part gains its number of slots, the richest takes the slot and pays the pattern's length. After
/// one pattern all accounts are at zero again.
void Mixture::lay_pattern() {
  const std::int64_t length = std::accumulate(slots_of_.begin(), slots_of_.end(), std::int64_t{0});
  std::vector<std::int64_t> account(parts_.size()), taken(parts_.size());
  for (std::int64_t slot = 0; slot < length; ++slot) {
    for (std::size_t part = 0; part < account.size(); ++part) account[part] += slots_of_[part];
    const auto richest = static_cast<std::size_t>(std::ranges::max_element(account) - account.begin());
    account[richest] -= length;
    pattern_.push_back({richest, taken[richest]++});
  }
}

std::int64_t Mixture::rows_to_exhaust(std::size_t part) const {
  const std::int64_t last = parts_[part]->rows() - 1;
  const std::int64_t pattern = last / slots_of_[part], ordinal = last % slots_of_[part];
  const auto slot = std::ranges::find_if(
      pattern_, [=](const Slot& candidate) { return candidate.part == part && candidate.ordinal == ordinal; });
  return pattern * std::ssize(pattern_) + (slot - pattern_.begin()) + 1;
}

void Mixture::read(std::int64_t row, Sample& sample) const {
  const std::int64_t length = std::ssize(pattern_);
  const Slot& slot = pattern_[static_cast<std::size_t>(row % length)];
  const Dataset& part = *parts_[slot.part];
  part.read((row / length * slots_of_[slot.part] + slot.ordinal) % part.rows(), sample);
}

}  // namespace moesaic
