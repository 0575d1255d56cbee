#include "moesaic/layers/rotary_table.hpp"

#include <cmath>

#include "support/host_tensor.hpp"

#include <gtest/gtest.h>

namespace moesaic {
namespace {

// Width 4, theta 100: inverse frequencies 1 and 1/10, so position p turns by p and p / 10.
TEST(RotaryTable, TurnsByPositionTimesInverseFrequency) {
  Arena arena(host_memory());
  for (DType type : {DType::f32, DType::f64}) {
    const RotaryTable table(arena, type, 3, 4, 100);
    EXPECT_EQ(table.positions(), 3);
    EXPECT_EQ(table.cosine().extents(), (Extents{3, 2}));
    const double tolerance = type == DType::f32 ? 1e-7 : 1e-15;
    for (std::int64_t p = 0; p < 3; ++p) {
      const auto angle = static_cast<double>(p);
      EXPECT_NEAR(element(table.cosine(), 2 * p), std::cos(angle), tolerance);
      EXPECT_NEAR(element(table.sine(), 2 * p), std::sin(angle), tolerance);
      EXPECT_NEAR(element(table.cosine(), 2 * p + 1), std::cos(angle / 10), tolerance);
      EXPECT_NEAR(element(table.sine(), 2 * p + 1), std::sin(angle / 10), tolerance);
    }
  }
  EXPECT_EQ(arena.used(), 0);
}

TEST(RotaryTable, IsMultipliedByTheFactorOfYarn) {
  Arena arena(host_memory());
  const YarnSpec yarn{.factor = 2, .original_positions = 2, .attention_factor = 3};
  const RotaryTable table(arena, DType::f64, 2, 4, {.theta = 100, .yarn = yarn});
  EXPECT_EQ(elements(table.cosine()), (std::vector<double>{3, 3, 3 * std::cos(1.0), 3 * std::cos(0.05)}));
  EXPECT_EQ(elements(table.sine()), (std::vector<double>{0, 0, 3 * std::sin(1.0), 3 * std::sin(0.05)}));
}

}  // namespace
}  // namespace moesaic
