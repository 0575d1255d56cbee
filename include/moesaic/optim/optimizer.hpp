#pragma once
/// AdamW over this rank's slices, with clipping by the global gradient norm.

#include "moesaic/kernels/operators.hpp"
#include "moesaic/optim/settings.hpp"
#include "moesaic/parallel/fully_sharded.hpp"
#include "moesaic/tensor/readings.hpp"

namespace moesaic {

/// Keeps the two moments of every slice. Units that share another's values have none.
class Optimizer {
 public:
  /// `names`: of all parameters of the whole model, in any order. `units` and `world` must outlive this. The moments
  /// start at zero.
  Optimizer(const OptimizerSettings& settings, const Operators& ops, const OperatorContext& on,
            const std::vector<std::unique_ptr<ShardedUnit>>& units, std::vector<std::string> names,
            Communicator& world);

  /// Computes the squares of this rank's gradients and adds them to `readings`.
  void add_squares(Readings& readings);
  /// After these were read: the norm of the summed gradients of the whole model before clipping: sum of squares a tensor in
  /// f64 (a sharded tensor's parts added in rank order), then over tensors in name order. The same on every rank. Collective.
  double gradient_norm();

  /// One update: clip to settings.clip, then AdamW. `step` counts from 1.
  void update(std::int64_t step, double lr, double gradient_norm);

  const OperatorContext& context() const { return on_; }
  /// Storage type of the moments.
  DType moments() const { return settings_.moments; }
  /// Flat slices of the moments of unit `unit`, as `units` orders them; absent for tied units.
  View first_moment(std::size_t unit) const { return moments_[unit].first; }
  View second_moment(std::size_t unit) const { return moments_[unit].second; }

 private:
  struct Moments {
    Tensor first, second;
  };
  /// One run of one parameter in a slice of ours whose square this rank counts.
  struct Part {
    View gradients;
    std::size_t name;
  };
  void allocate_moments();
  void collect_parts();
  void update_unit(const AdamwStep& step, std::size_t unit);

  OptimizerSettings settings_;
  const Operators* ops_;
  OperatorContext on_;
  const std::vector<std::unique_ptr<ShardedUnit>>* units_;
  std::vector<std::string> names_;
  Communicator* world_;
  std::vector<Moments> moments_;
  std::vector<Part> parts_;
  Tensor part_sums_;             ///< f64 [parts]
  std::vector<double> squares_;  ///< the same as they were read last
};

}  // namespace moesaic
