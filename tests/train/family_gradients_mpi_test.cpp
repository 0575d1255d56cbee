// Ranks: 1 2 3 4 6
// Every gradient of the first batch of every family against the reference, tensor by tensor, on a few grids each.
#include <fmt/format.h>

#include <cmath>
#include <map>

#include "moesaic/models/family.hpp"
#include "support/golden_run.hpp"
#include "support/local_model.hpp"
#include "support/step_runner.hpp"
#include "support/ways.hpp"

namespace moesaic {
namespace {

/// Of each parameter, in our layout.
std::map<std::string, std::vector<double>> reference_gradients(const GoldenCase& golden, const ModelSpec& spec) {
  std::map<std::string, std::vector<double>> gradients;
  const SafetensorsFile file(golden.gradients());
  for (const HfPiece& piece : hf_pieces(spec)) {
    if (is_state(piece)) continue;
    const std::vector<double> values = file.read<double>(piece.tensor);
    std::vector<double>& whole = gradients[piece.parameter];
    for (std::int64_t i = 0; i < piece.shape.size(); ++i) {
      const auto at = static_cast<std::size_t>(place_in(piece, i));
      whole.resize(std::max(whole.size(), at + 1));
      whole[at] = values[static_cast<std::size_t>(i)];
    }
  }
  return gradients;
}

/// Squares of the difference and of the reference, and how many elements were compared.
struct Distance {
  double difference = 0, reference = 0, elements = 0;
};

void compare(const ShardedUnit& unit, const SlicePiece& piece, const std::vector<double>& expected,
             Distance& distance) {
  const float* values = unit.gradients().data<float>() + piece.at;
  for (std::int64_t i = 0; i < piece.elements.size(); ++i) {
    const double reference = expected.at(static_cast<std::size_t>(piece.elements.begin + i));
    distance.difference += (values[i] - reference) * (values[i] - reference);
    distance.reference += reference * reference;
    distance.elements += 1;
  }
}

/// Of each parameter, over all ranks.
std::map<std::string, Distance> distances(const std::map<std::string, std::vector<double>>& expected,
                                          const FullySharded& sharding) {
  std::map<std::string, Distance> all;
  for (const auto& [name, values] : expected) all[name] = {};
  for (const auto& unit : sharding.units()) {
    if (unit->replicas().rank() != 0) continue;
    for (const SlicePiece& piece : unit->pieces()) {
      const std::string& name = unit->spec().parameters[static_cast<std::size_t>(piece.parameter)].name;
      compare(*unit, piece, expected.at(name), all.at(name));
    }
  }
  for (auto& [name, distance] : all) MPI_Allreduce(MPI_IN_PLACE, &distance, 3, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  return all;
}

class FamilyGradients : public ::testing::TestWithParam<const char*> {
 protected:
  void expect_reference(const Way& way) {
    SCOPED_TRACE(way.name);
    const ScratchFolder scratch("family-gradients");
    write_golden_batch(golden_, scratch.path() / "rows.h5");
    RunSettings run = golden_settings(golden_, scratch.path() / "rows.h5", scratch.path() / "run");
    run.steps = 1;
    run.global_batch = golden_.shape("input_ids")[0];
    go(way, run);
    StepRunner ranks(run);
    EXPECT_LE(std::abs(ranks.step().loss / golden_.number("loss") - 1), 1e-5);
    const auto expected = reference_gradients(golden_, ranks.inputs.spec);
    for (const auto& [name, distance] : distances(expected, ranks.assembly.sharding)) {
      EXPECT_EQ(distance.elements, static_cast<double>(expected.at(name).size())) << name << ": each element once";
      EXPECT_LE(std::sqrt(distance.difference / distance.reference), 1e-5) << name;
    }
  }

 private:
  GoldenCase golden_{GetParam()};
};

TEST_P(FamilyGradients, AreTheReferenceTensorByTensor) {
  int ranks = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  for (const Way& way : family_ways)
    if (way.ranks == ranks) expect_reference(way);
}

INSTANTIATE_TEST_SUITE_P(EveryFamily, FamilyGradients, ::testing::ValuesIn(golden_cases),
                         [](const auto& instance) { return std::string(instance.param); });

}  // namespace
}  // namespace moesaic
