#include "moesaic/parallel/unit_layout.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

UnitLayout::UnitLayout(const UnitSpec& spec, const UnitPlacement& placement) : spec_(&spec), placement_(placement) {
  std::int64_t end = 0;
  for (const ParameterSpec& parameter : spec.parameters) {
    Extents shape = parameter.shape;
    std::int64_t first = 0;
    if (spec.expert) {
      const Block experts = block_of(shape[0], placement.expert_parts, placement.expert_part);
      first = experts.begin * (shape.size() / shape[0]);
      shape[0] = experts.size();
    }
    shapes_.push_back(shape);
    first_.push_back(first);
    offsets_.push_back(round_up(end, alignment));
    end = offsets_.back() + shape.size();
  }
  slice_ = round_up((end + placement.shards - 1) / placement.shards, alignment);
}

std::vector<SlicePiece> UnitLayout::pieces(int shard) const {
  const Block mine{shard * slice_, (shard + 1) * slice_};
  std::vector<SlicePiece> pieces;
  for (std::size_t i = 0; i < shapes_.size(); ++i) {
    const Block held = intersection({offsets_[i], offsets_[i] + shapes_[i].size()}, mine);
    if (held.empty()) continue;
    const std::int64_t to_global = first_[i] - offsets_[i];
    pieces.push_back({static_cast<int>(i), {held.begin + to_global, held.end + to_global}, held.begin - mine.begin});
  }
  return pieces;
}

ParameterViews UnitLayout::views(View whole) const {
  MOESAIC_EXPECT(whole.size() == this->whole());
  ParameterViews views;
  for (std::size_t i = 0; i < shapes_.size(); ++i)
    views.push_back(whole.rows(offsets_[i], offsets_[i] + shapes_[i].size()).reshape(shapes_[i]));
  return views;
}

}  // namespace moesaic
