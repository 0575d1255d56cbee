// Ranks: 1 2 3 4 6
// The reference curve of every family on a few grids each; tests/train/golden_curve_mpi_test.cpp tries all grids on one.
#include <fmt/format.h>

#include "support/golden_run.hpp"
#include "support/ways.hpp"

namespace moesaic {
namespace {

class FamilyCurve : public ::testing::TestWithParam<const char*> {};

void expect_reference(const GoldenCase& golden, const Way& way) {
  SCOPED_TRACE(way.name);
  const ScratchFolder scratch("family-curves");
  write_golden_rows(golden, scratch.path() / "rows.h5");
  RunSettings run = golden_settings(golden, scratch.path() / "rows.h5", scratch.path() / "run");
  go(way, run);
  expect_golden_curve(golden, trained_metrics(run));
}

TEST_P(FamilyCurve, IsTheReference) {
  int ranks = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  for (const Way& way : family_ways)
    if (way.ranks == ranks) expect_reference(GoldenCase(GetParam()), way);
}

class FamilyBalance : public ::testing::TestWithParam<const char*> {};

/// The auxiliary loss of any router is defined over sequences of the global batch: cuts change rounding only.
TEST_P(FamilyBalance, AuxiliaryLossIsTheSameOnEveryGrid) {
  int ranks = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (ranks % 2 != 0) return;  // nothing to compare with
  const GoldenCase golden(GetParam());
  const ScratchFolder scratch("family-balance");
  write_golden_rows(golden, scratch.path() / "rows.h5");
  std::vector<nlohmann::json> whole;
  for (const GridRequest& grid : {GridRequest{}, GridRequest{.context = 2, .expert = 2}}) {
    RunSettings run =
        golden_settings(golden, scratch.path() / "rows.h5", scratch.path() / fmt::format("context{}", grid.context));
    run.grid = grid;
    run.steps = 5;
    run.balance = Balance::auxiliary;
    run.auxiliary_coefficient = 0.1;
    const auto metrics = trained_metrics(run);
    ASSERT_EQ(metrics.size(), 5u);
    if (whole.empty()) whole = metrics;
    for (std::size_t i = 0; i < 5; ++i) {
      for (const char* key : {"loss", "auxiliary_loss"})
        EXPECT_NEAR(metrics[i][key].get<double>() / whole[i][key].get<double>(), 1, 5e-6) << key << " " << i + 1;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryFamily, FamilyBalance, ::testing::ValuesIn(golden_cases),
                         [](const auto& instance) { return std::string(instance.param); });

INSTANTIATE_TEST_SUITE_P(EveryFamily, FamilyCurve, ::testing::ValuesIn(golden_cases),
                         [](const auto& instance) { return std::string(instance.param); });

}  // namespace
}  // namespace moesaic
