// Ranks: 1 2 3 4 6
// Hidden states of every layer and the logits of the first batch of every family against the reference, on a few grids each.
#include <fmt/format.h>

#include <cmath>
#include <map>

#include "support/golden_run.hpp"
#include "support/host_tensor.hpp"
#include "support/step_runner.hpp"
#include "support/ways.hpp"

namespace moesaic {
namespace {

/// What an operator was given or made, rows of one micro-batch.
using Rows = std::vector<double>;

/// In the order of the calls on this rank: of the norms over whole hidden states what they read and wrote, and logits.
std::vector<Rows> norm_inputs, norm_outputs, logits;
std::int64_t hidden = 0;

void recording_norm(const OperatorContext& on, ConstView x, ConstView weight, double eps, View y, View inverse_rms) {
  operators(DeviceKind::cpu).rms_norm_forward(on, x, weight, eps, y, inverse_rms);
  if (x.rank() != 2 || x.extent(1) != hidden) return;
  norm_inputs.push_back(elements(x));
  norm_outputs.push_back(elements(y));
}

void recording_loss(const OperatorContext& on, ConstView all, ConstView labels, View losses, View log_sum_exp) {
  operators(DeviceKind::cpu).cross_entropy_forward(on, all, labels, losses, log_sum_exp);
  logits.push_back(elements(all));
}

Operators recording_operators() {
  Operators ops = operators(DeviceKind::cpu);
  ops.rms_norm_forward = recording_norm;
  ops.cross_entropy_forward = recording_loss;
  return ops;
}

/// Squares of the difference and of the reference, and how many elements were compared.
struct Distance {
  double difference = 0, reference = 0, elements = 0;
};

class FamilyStates : public ::testing::TestWithParam<const char*> {
 protected:
  void expect_reference(const Way& way) {
    SCOPED_TRACE(way.name);
    const ScratchFolder scratch("family-states");
    write_golden_batch(golden_, scratch.path() / "rows.h5");
    RunSettings run = golden_settings(golden_, scratch.path() / "rows.h5", scratch.path() / "run");
    run.steps = 1;
    run.global_batch = golden_.shape("input_ids")[0];
    go(way, run);
    run.recompute = Recompute::none;  // else backward calls the same operators
    norm_inputs.clear(), norm_outputs.clear(), logits.clear();
    StepRunner ranks(run, &ops_);
    hidden = ranks.inputs.spec.hidden;
    ranks.step();
    for (auto& [name, distance] : distances(ranks, run)) {
      MPI_Allreduce(MPI_IN_PLACE, &distance, 3, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
      EXPECT_EQ(distance.elements, static_cast<double>(golden_.numbers(name).size())) << name << ": each element once";
      EXPECT_LE(std::sqrt(distance.difference / distance.reference), 1e-5) << name;
    }
  }

 private:
  /// Of what this rank's stage computed; a norm reads what the block before it made, and the last one makes the last state.
  std::map<std::string, Distance> distances(const StepRunner& ranks, const RunSettings& run) const {
    const Inputs& inputs = ranks.inputs;
    const std::int64_t layers = inputs.spec.layers();
    std::map<std::string, Distance> all;
    for (std::int64_t i = 0; i <= layers; ++i) all[fmt::format("hidden.{}", i)] = {};
    all["logits"] = {};
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    const BlockRange stage = inputs.ranges_of(rank).front();
    const std::int64_t first = std::max<std::int64_t>(stage.first, 1), norms = stage.last - first;
    const BatchCut cut{run.global_batch, run.micro_batch, inputs.grid.data_ranks()};
    for (std::int64_t m = 0; m < cut.micro_batches(); ++m) {
      const Block rows = cut.sequences(inputs.grid.data_rank(rank), m);
      for (std::int64_t i = 0; i < norms; ++i) {
        const std::int64_t state = first - 1 + i;
        const auto call = static_cast<std::size_t>(m * norms + i);
        const std::string name = fmt::format("hidden.{}", state);
        compare(ranks, rows, name, (state == layers ? norm_outputs : norm_inputs).at(call), all.at(name));
      }
      if (stage.last == layers + 2)
        compare(ranks, rows, "logits", logits.at(static_cast<std::size_t>(m)), all.at("logits"));
    }
    return all;
  }

  /// This rank's tokens of the sequences `rows`, with those of the reference.
  void compare(const StepRunner& ranks, Block rows, const std::string& name, const Rows& values,
               Distance& distance) const {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    const ProcessGrid& grid = ranks.inputs.grid;
    const HostBatch part =
        part_of(ranks.global_batch(), grid.extent(Axis::context), grid.coordinate(rank, Axis::context));
    const std::vector<double> expected = golden_.numbers(name);
    const std::int64_t length = golden_.shape(name)[1], width = golden_.shape(name)[2];
    ASSERT_EQ(std::ssize(values), rows.size() * part.length * width) << name;
    for (std::int64_t i = 0; i < std::ssize(values); ++i) {
      const std::int64_t token = i / width, row = rows.begin + token / part.length;
      const std::int64_t position = part.positions[static_cast<std::size_t>(token % part.length)];
      const double reference = expected.at(static_cast<std::size_t>((row * length + position) * width + i % width));
      distance.difference +=
          (values[static_cast<std::size_t>(i)] - reference) * (values[static_cast<std::size_t>(i)] - reference);
      distance.reference += reference * reference;
      distance.elements += 1;
    }
  }

  GoldenCase golden_{GetParam()};
  Operators ops_ = recording_operators();
};

TEST_P(FamilyStates, AreTheReference) {
  int ranks = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  for (const Way& way : family_ways)
    if (way.ranks == ranks) expect_reference(way);
}

INSTANTIATE_TEST_SUITE_P(EveryFamily, FamilyStates, ::testing::ValuesIn(golden_cases),
                         [](const auto& instance) { return std::string(instance.param); });

}  // namespace
}  // namespace moesaic
