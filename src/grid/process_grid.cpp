#include "moesaic/grid/process_grid.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

using Axes = std::array<Axis, 4>;

/// Outermost first: the order of the ranks.
constexpr Axes dense_axes{Axis::pipeline, Axis::replicate, Axis::shard, Axis::context};
constexpr Axes expert_axes{Axis::pipeline, Axis::expert_replicate, Axis::expert_shard, Axis::expert};

bool contains(const auto& axes, Axis axis) { return std::ranges::find(axes, axis) != axes.end(); }

const Axes& grid_of(Axis axis) { return contains(dense_axes, axis) ? dense_axes : expert_axes; }

std::vector<std::int64_t> divisors_of(std::int64_t number) {
  std::vector<std::int64_t> divisors;
  for (std::int64_t i = 1; i * i <= number; ++i) {
    if (number % i != 0) continue;
    divisors.push_back(i);
    if (i * i != number) divisors.push_back(number / i);
  }
  return divisors;
}

/// The six numbers nearest to `wanted`, ascending: "1, 2 or 4"; empty when there are none.
std::string nearest(std::vector<std::int64_t> numbers, std::int64_t wanted) {
  std::ranges::sort(numbers);
  std::ranges::stable_sort(numbers, {}, [wanted](std::int64_t number) { return std::abs(number - wanted); });
  numbers.resize(std::min<std::size_t>(numbers.size(), 6));
  std::ranges::sort(numbers);
  if (numbers.size() < 2) return numbers.empty() ? "" : fmt::format("{}", numbers.front());
  return fmt::format("{} or {}", fmt::join(numbers.begin(), numbers.end() - 1, ", "), numbers.back());
}

struct NamedExtent {
  const char* name;
  std::int64_t value;
};
using DenseRequest = std::array<NamedExtent, 4>;

DenseRequest dense_request(const GridRequest& request) {
  return {{{"pipeline", request.pipeline},
           {"replicate", request.replicate},
           {"shard", request.shard},
           {"context", request.context}}};
}

/// Product of the extents that are set, but for the one named `left_out`.
std::int64_t product(const DenseRequest& axes, std::string_view left_out = {}) {
  std::int64_t result = 1;
  for (const auto& [name, value] : axes)
    if (value != 0 && name != left_out && __builtin_mul_overflow(result, value, &result)) return INT64_MAX;
  return result;
}

/// "pipeline 4 x replicate 1 x context 2 = 8": the extents that are set.
std::string describe_request(const DenseRequest& axes) {
  std::string text;
  for (const auto& [name, value] : axes)
    if (value != 0) text += fmt::format("{}{} {}", text.empty() ? "" : " x ", name, value);
  return fmt::format("{} = {}", text, product(axes));
}

/// Whether the request is a grid of so many ranks.
bool is_legal(const GridRequest& request, std::int64_t ranks, const GridLimits& limits) {
  const std::int64_t unit = product(dense_request(request));
  if (ranks < unit || ranks % unit != 0 || (request.shard != 0 && unit != ranks)) return false;
  if (limits.stages != 0 && request.pipeline > limits.stages) return false;
  return ranks / request.pipeline % request.expert == 0 && limits.experts % request.expert == 0;
}

int& extent_of(GridRequest& request, std::string_view name) {
  if (name == "pipeline") return request.pipeline;
  if (name == "replicate") return request.replicate;
  if (name == "context") return request.context;
  return name == "shard" ? request.shard : request.expert;
}

/// The extents of one axis with which the request would be legal, the others as they are.
std::string legal_extents(GridRequest request, std::string_view name, std::int64_t ranks, const GridLimits& limits) {
  int& extent = extent_of(request, name);
  const int wanted = extent;
  std::vector<std::int64_t> legal;
  for (const std::int64_t divisor : divisors_of(ranks)) {
    extent = static_cast<int>(divisor);
    if (is_legal(request, ranks, limits)) legal.push_back(divisor);
  }
  return nearest(std::move(legal), wanted);
}

/// The numbers of ranks next below and above with which the request would be legal: "8 or 16 ranks".
std::string legal_ranks(const GridRequest& request, std::int64_t ranks, const GridLimits& limits) {
  constexpr std::int64_t most_tries = 1 << 16;
  const std::int64_t unit = product(dense_request(request));
  if (unit > std::int64_t{1} << 31) return "";
  std::vector<std::int64_t> found;
  for (const std::int64_t step : {-unit, unit})
    for (std::int64_t at = ranks / unit * unit + (step > 0 ? unit : 0), tries = 0; at > 0 && tries < most_tries;
         at += step, ++tries) {
      if (!is_legal(request, at, limits)) continue;
      found.push_back(at);
      break;
    }
  if (request.shard != 0) found.resize(std::min<std::size_t>(found.size(), 1));
  const std::string numbers = nearest(found, ranks);
  return numbers.empty() ? "" : numbers + " ranks";
}

/// Single changes that make the request legal: another number of ranks, or another extent of one axis.
std::string nearest_legal(GridRequest request, std::int64_t ranks, const GridLimits& limits) {
  std::string text = legal_ranks(request, ranks, limits);
  for (const char* name : {"pipeline", "replicate", "shard", "context", "expert"}) {
    const int value = extent_of(request, name);
    if (value == 0 || (value == 1 && name != std::string_view("shard"))) continue;
    const std::string extents = legal_extents(request, name, ranks, limits);
    if (!extents.empty()) text += fmt::format("{}grid.{} = {}", text.empty() ? "" : ", or ", name, extents);
  }
  return text.empty() ? "none by one change; begin with grid.pipeline = grid.context = grid.expert = 1" : text;
}

void validate_positive(const GridRequest& request, int ranks) {
  MOESAIC_VALIDATE(ranks >= 1, "{} ranks (a grid needs at least one); use 1 or more", ranks);
  MOESAIC_VALIDATE(
      request.shard >= 0,
      "grid.shard = {} is no number of ranks (an axis has at least one); use 1 or more, or leave it out to "
      "take what is left",
      request.shard);
  for (const auto& [name, value] : {NamedExtent{"pipeline", request.pipeline},
                                    {"replicate", request.replicate},
                                    {"context", request.context},
                                    {"expert", request.expert}})
    MOESAIC_VALIDATE(value >= 1, "grid.{} = {} is no number of ranks (an axis has at least one); use 1 or more", name,
                     value);
}

/// The extent of the shard axis, set or left over.
int resolve_shard(const GridRequest& request, int ranks, const GridLimits& limits) {
  const DenseRequest axes = dense_request(request);
  const bool is_set = request.shard != 0;
  const std::int64_t unit = product(axes);
  const bool fits = is_set ? unit == ranks : ranks % unit == 0;
  MOESAIC_VALIDATE(fits, "{} ranks cannot be {} ({}); nearest legal: {}", ranks,
                   describe_request(axes) + (is_set ? "" : ", times a shard"),
                   is_set ? "every rank needs exactly one place in the grid"
                          : fmt::format("grid.shard takes what is left, and {} is not a multiple of {}", ranks, unit),
                   nearest_legal(request, ranks, limits));
  return is_set ? request.shard : static_cast<int>(ranks / unit);
}

}  // namespace

const char* name_of(Axis axis) {
  static constexpr std::array<const char*, num_axes> names{"pipeline",         "replicate",    "shard", "context",
                                                           "expert_replicate", "expert_shard", "expert"};
  return names[static_cast<std::size_t>(axis)];
}

ProcessGrid ProcessGrid::make(const GridRequest& request, int ranks, const GridLimits& limits) {
  validate_positive(request, ranks);
  MOESAIC_VALIDATE(
      limits.stages == 0 || request.pipeline <= limits.stages,
      "grid.pipeline = {} is more than the model can be cut into (a stage owns a block at least, embedding and "
      "head count as one each, of each of its chunks); at most {}, nearest legal: {}",
      request.pipeline, limits.stages, nearest_legal(request, ranks, limits));
  const int shard = resolve_shard(request, ranks, limits);
  const int slices = shard * request.context, stage = request.replicate * slices;
  MOESAIC_VALIDATE(stage % request.expert == 0,
                   "grid.expert = {} does not divide replicate x shard x context = {} x {} x {} = {} (the expert grid "
                   "factors the same ranks); use {}",
                   request.expert, request.replicate, shard, request.context, stage,
                   legal_extents(request, "expert", ranks, limits));
  MOESAIC_VALIDATE(limits.experts % request.expert == 0,
                   "grid.expert = {} does not divide the {} experts of a layer (each rank holds as many); use {}",
                   request.expert, limits.experts, legal_extents(request, "expert", ranks, limits));
  const int expert_replicate = slices % request.expert == 0 ? request.replicate : 1;
  const int expert_shard = stage / (expert_replicate * request.expert);

  ProcessGrid grid;
  grid.ranks_ = ranks;
  grid.extents_ = {request.pipeline, request.replicate, shard,         request.context,
                   expert_replicate, expert_shard,      request.expert};
  return grid;
}

int ProcessGrid::coordinate(int rank, Axis axis) const {
  MOESAIC_EXPECT(0 <= rank && rank < ranks_);
  const Axes& grid = grid_of(axis);
  int rest = rank;
  for (auto at = grid.rbegin(); *at != axis; ++at) rest /= extent(*at);
  return rest % extent(axis);
}

std::vector<int> ProcessGrid::group(int rank, std::initializer_list<Axis> axes) const {
  const bool is_dense = std::ranges::all_of(axes, [](Axis axis) { return contains(dense_axes, axis); });
  const Axes& grid = is_dense ? dense_axes : expert_axes;
  MOESAIC_EXPECT(std::ranges::all_of(axes, [&grid](Axis axis) { return contains(grid, axis); }));

  int first = rank;  // the member at coordinate 0 of every named axis
  std::vector<int> members{0};
  int stride = ranks_;
  for (Axis axis : grid) {
    stride /= extent(axis);
    if (!contains(axes, axis)) continue;
    first -= coordinate(rank, axis) * stride;
    std::vector<int> wider;
    for (int member : members)
      for (int i = 0; i < extent(axis); ++i) wider.push_back(member + i * stride);
    members = std::move(wider);
  }
  for (int& member : members) member += first;
  return members;
}

int ProcessGrid::data_rank(int rank) const {
  return coordinate(rank, Axis::replicate) * extent(Axis::shard) + coordinate(rank, Axis::shard);
}

std::string ProcessGrid::describe() const {
  std::string text = fmt::format("{} ranks", ranks_);
  for (const Axes& grid : {dense_axes, expert_axes})
    for (Axis axis : grid)
      text += fmt::format("{}{} {}", axis == Axis::pipeline ? " = " : " x ", name_of(axis), extent(axis));
  return text;
}

}  // namespace moesaic
