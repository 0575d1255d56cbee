#include "moesaic/optim/optimizer.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace moesaic {

Optimizer::Optimizer(const OptimizerSettings& settings, const Operators& ops, const OperatorContext& on,
                     const std::vector<std::unique_ptr<ShardedUnit>>& units, std::vector<std::string> names,
                     Communicator& world)
    : settings_(settings), ops_(&ops), on_(on), units_(&units), names_(std::move(names)), world_(&world) {
  std::sort(names_.begin(), names_.end());
  names_.erase(std::unique(names_.begin(), names_.end()), names_.end());
  allocate_moments();
  collect_parts();
}

void Optimizer::allocate_moments() {
  for (const auto& unit : *units_) {
    Moments& moments = moments_.emplace_back();
    if (unit->tied()) continue;
    const DType type = settings_.moments == DType::f32 ? unit->values().dtype() : settings_.moments;
    for (Tensor* moment : {&moments.first, &moments.second}) {
      *moment = on_.arena->tensor(type, unit->values().extents(), Label::moments);
      ops_->fill(on_, 0, *moment);
    }
  }
}

void Optimizer::collect_parts() {
  for (const auto& unit : *units_) {
    // A tied table is counted where the unit that owns it is, perhaps on another stage.
    if (!unit->spec().tied_to.empty() || unit->replicas().rank() != 0) continue;
    for (const SlicePiece& piece : unit->pieces()) {
      const std::string& name = unit->spec().parameters[static_cast<std::size_t>(piece.parameter)].name;
      const auto found = std::lower_bound(names_.begin(), names_.end(), name);
      MOESAIC_ASSERT(found != names_.end() && *found == name);
      parts_.push_back({unit->gradients().rows(piece.at, piece.at + piece.elements.size()),
                        static_cast<std::size_t>(found - names_.begin())});
    }
  }
  part_sums_ = on_.arena->tensor(DType::f64, {static_cast<std::int64_t>(parts_.size())}, Label::workspace);
}

void Optimizer::add_squares(Readings& readings) {
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    ops_->sum_of_squares(on_, parts_[i].gradients, part_sums_.view().rows(at, at + 1));
  }
  squares_.resize(parts_.size());
  readings.add(part_sums_, host_view(squares_.data(), {std::ssize(squares_)}));
}

double Optimizer::gradient_norm() {
  std::vector<double> sums(names_.size(), 0);
  for (std::size_t i = 0; i < parts_.size(); ++i) sums[parts_[i].name] += squares_[i];
  world_->all_reduce(host_view(sums.data(), {std::ssize(sums)}));
  return std::sqrt(std::accumulate(sums.begin(), sums.end(), 0.0));
}

void Optimizer::update(std::int64_t step, double lr, double gradient_norm) {
  AdamwStep adamw{.lr = lr,
                  .beta1 = settings_.beta1,
                  .beta2 = settings_.beta2,
                  .eps = settings_.eps,
                  .weight_decay = settings_.weight_decay,
                  .gradient_scale = 1,
                  .step = step};
  if (settings_.clip > 0) adamw.gradient_scale = std::min(1.0, settings_.clip / (gradient_norm + 1e-6));
  for (std::size_t unit = 0; unit < units_->size(); ++unit)
    if (!(*units_)[unit]->tied()) update_unit(adamw, unit);
}

void Optimizer::update_unit(const AdamwStep& step, std::size_t unit) {
  ShardedUnit& sharded = *(*units_)[unit];
  for (const SlicePiece& piece : sharded.pieces()) {
    const ParameterSpec& parameter = sharded.spec().parameters[static_cast<std::size_t>(piece.parameter)];
    AdamwStep mine = step;
    if (settings_.decay == Decay::matrices && !parameter.matrix) mine.weight_decay = 0;
    const auto run = [&](View slice) { return slice.rows(piece.at, piece.at + piece.elements.size()); };
    const View copy = sharded.copy();
    ops_->adamw(on_, mine, run(sharded.gradients()), run(sharded.values()), run(first_moment(unit)),
                run(second_moment(unit)), copy.absent() ? copy : run(copy));
  }
  sharded.copy_written();
}

}  // namespace moesaic
