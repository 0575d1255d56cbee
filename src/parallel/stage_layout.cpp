#include "moesaic/parallel/stage_layout.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

namespace moesaic {
namespace {

constexpr double impossible = std::numeric_limits<double>::infinity();

/// The cheapest cut by dynamic programming over how many stages take how many of the first blocks.
/// add(sum, cost) is the objective of a cut that gains a run of that cost; it must not fall.
class Cut {
 public:
  template <typename Add>
  Cut(std::span<const double> costs, int stages, const Add& add) : blocks_(std::ssize(costs)), stages_(stages) {
    std::vector<double> best(blocks_ + 1, impossible);
    best[0] = 0;
    for (int stage = 0; stage < stages; ++stage) best = with_one_more(costs, best, add);
    objective_ = best[blocks_];
  }

  double objective() const { return objective_; }

  std::vector<Block> runs() const {
    std::vector<Block> runs(stages_);
    std::int64_t end = blocks_;
    for (int stage = stages_ - 1; stage >= 0; --stage) {
      runs[stage] = {begins_[stage * (blocks_ + 1) + end], end};
      end = runs[stage].begin;
    }
    return runs;
  }

 private:
  /// The objectives of cuts with one more run, and where that run best begins: at the first of equals.
  template <typename Add>
  std::vector<double> with_one_more(std::span<const double> costs, const std::vector<double>& best, const Add& add) {
    std::vector<double> next(blocks_ + 1, impossible);
    for (std::int64_t end = 0; end <= blocks_; ++end) {
      std::int64_t chosen = 0;
      double cost = 0;
      for (std::int64_t begin = end - 1; begin >= 0; --begin) {
        cost += costs[begin];
        const double objective = best[begin] == impossible ? impossible : add(best[begin], cost);
        if (objective > next[end] || objective == impossible) continue;
        next[end] = objective;
        chosen = begin;
      }
      begins_.push_back(chosen);
    }
    return next;
  }

  std::int64_t blocks_;
  int stages_;
  double objective_ = impossible;
  std::vector<std::int64_t> begins_;  ///< [stages, blocks + 1]: of the last run
};

std::int64_t parse_run(std::string_view layout, std::string_view field, std::size_t stage) {
  std::int64_t size = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), size);
  MOESAIC_VALIDATE(error == std::errc() && end == field.data() + field.size(),
                   "grid.layout = {}: \"{}\" is no number of blocks (each stage's share is a whole number); write one "
                   "number a stage, as in 5,4,4,3",
                   layout, field);
  MOESAIC_VALIDATE(size > 0,
                   "grid.layout = {} gives stage {} {} blocks (a stage without a block would only pass data on); give "
                   "every stage at least one, embedding and head counted as one each",
                   layout, stage, size);
  return size;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = std::min(text.find_first_not_of(' '), text.size());
  return text.substr(begin, text.find_last_not_of(' ') + 1 - begin);
}

std::vector<std::int64_t> parse_runs(std::string_view layout) {
  std::vector<std::int64_t> sizes;
  for (std::size_t begin = 0; begin <= layout.size();) {
    const std::size_t end = std::min(layout.find(',', begin), layout.size());
    sizes.push_back(parse_run(layout, trimmed(layout.substr(begin, end - begin)), sizes.size()));
    begin = end + 1;
  }
  return sizes;
}

}  // namespace

std::vector<Block> balance_stages(std::span<const double> costs, int stages) {
  MOESAIC_EXPECT(stages > 0);
  MOESAIC_VALIDATE(stages <= std::ssize(costs),
                   "grid.pipeline x grid.chunks = {} stages for {} blocks (each owns at least one; embedding and head "
                   "count as one each); use at most {}",
                   stages, costs.size(), costs.size());
  const double largest = Cut(costs, stages, [](double sum, double cost) { return std::max(sum, cost); }).objective();
  const auto sum_of_squares = [largest](double sum, double cost) {
    return cost <= largest ? sum + cost * cost : impossible;
  };
  return Cut(costs, stages, sum_of_squares).runs();
}

std::vector<Block> parse_stage_layout(std::string_view layout, std::int64_t blocks, int stages) {
  const std::vector<std::int64_t> sizes = parse_runs(layout);
  MOESAIC_VALIDATE(std::ssize(sizes) == stages,
                   "grid.layout = {} names {} stages, grid.pipeline x grid.chunks makes {} (each takes one number); "
                   "write {} numbers, or set pipeline and chunks to match",
                   layout, sizes.size(), stages, stages);
  std::vector<Block> runs;
  std::int64_t end = 0;
  for (const std::int64_t size : sizes) {
    MOESAIC_VALIDATE(size <= blocks,
                     "grid.layout = {} gives a stage {} blocks, the model has {} (embedding and head count as one "
                     "each); make the numbers add up to {}",
                     layout, size, blocks, blocks);
    runs.push_back({end, end + size});
    end += size;
  }
  MOESAIC_VALIDATE(
      end == blocks,
      "grid.layout = {} holds {} blocks, the model has {} (embedding and head count as one each); make the "
      "numbers add up to {}",
      layout, end, blocks, blocks);
  return runs;
}

}  // namespace moesaic
