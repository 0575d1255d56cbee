#pragma once
/// Training as it is defined: one process, the global batch as one, everything in double.

#include <cmath>
#include <vector>

#include "moesaic/base/random.hpp"
#include "moesaic/data/batch.hpp"
#include "moesaic/optim/learning_rate.hpp"
#include "support/local_model.hpp"

namespace moesaic {

/// No balancing loss, all parameters decay or matrices alone as the settings say. Starts from random weights.
class LocalTrainer {
 public:
  struct Result {
    double loss = 0, gradient_norm = 0;
  };

  LocalTrainer(const ModelSpec& spec, const OptimizerSettings& optimizer, std::uint64_t seed)
      : spec_(spec), optimizer_(optimizer) {
    LocalModel local(spec_, DType::f64, 1);
    for (const UnitSpec& unit : local.model().units())
      for (const ParameterSpec& parameter : unit.parameters)
        if (unit.tied_to.empty()) parameters_.emplace_back(parameter, seed, spec.initializer_range);
  }

  Result step(const HostBatch& host, std::int64_t steps) {
    LocalModel local(spec_, DType::f64, host.length);
    for (const Parameter& p : parameters_)
      std::copy(p.value.begin(), p.value.end(), local.value(p.spec.name).data<double>());
    LocalBatch batch(host.sequences, host.ids, host.labels);
    LocalModel::Pass pass = local.forward(*batch);
    const double loss = element(pass.head().loss_sum, 0) / static_cast<double>(host.counted);
    local.backward(*batch, pass);
    const double norm = gradient_norm(local);
    update(local, steps, norm);
    return {loss, norm};
  }

 private:
  struct Parameter {
    Parameter(const ParameterSpec& declared, std::uint64_t seed, double range)
        : spec(declared), value(static_cast<std::size_t>(declared.shape.size())), first(value.size()),
          second(value.size()) {
      if (spec.initialisation == Initialisation::ones) value.assign(value.size(), 1);
      if (spec.initialisation != Initialisation::normal) return;
      std::vector<float> drawn(value.size());
      fill_normal(random_key(seed, spec.name), 0, drawn, range);
      value.assign(drawn.begin(), drawn.end());
    }
    ParameterSpec spec;
    std::vector<double> value, first, second;
  };

  double gradient_norm(const LocalModel& local) const {
    double squares = 0;
    for (const Parameter& p : parameters_) {
      const View gradient = local.gradient(p.spec.name);
      for (std::int64_t i = 0; i < gradient.size(); ++i) squares += std::pow(gradient.data<double>()[i], 2);
    }
    return std::sqrt(squares);
  }

  /// AdamW (Loshchilov and Hutter 2019), clipped by the norm.
  void update(const LocalModel& local, std::int64_t steps, double norm) {
    const auto s = static_cast<double>(++finished_);
    const double rate = learning_rate(optimizer_, finished_, steps);
    const double scale = optimizer_.clip > 0 ? std::min(1.0, optimizer_.clip / (norm + 1e-6)) : 1;
    for (Parameter& p : parameters_) {
      const bool decays = optimizer_.decay == Decay::all || p.spec.matrix;
      const double* gradient = local.gradient(p.spec.name).data<double>();
      for (std::size_t i = 0; i < p.value.size(); ++i) {
        const double g = scale * gradient[i];
        p.first[i] = optimizer_.beta1 * p.first[i] + (1 - optimizer_.beta1) * g;
        p.second[i] = optimizer_.beta2 * p.second[i] + (1 - optimizer_.beta2) * g * g;
        const double first = p.first[i] / (1 - std::pow(optimizer_.beta1, s));
        const double second = p.second[i] / (1 - std::pow(optimizer_.beta2, s));
        if (decays) p.value[i] *= 1 - rate * optimizer_.weight_decay;
        p.value[i] -= rate * first / (std::sqrt(second) + optimizer_.eps);
      }
    }
  }

  ModelSpec spec_;
  OptimizerSettings optimizer_;
  std::vector<Parameter> parameters_;
  std::int64_t finished_ = 0;
};

}  // namespace moesaic
