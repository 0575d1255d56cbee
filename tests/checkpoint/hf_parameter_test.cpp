// Pieces whose elements lie apart in the parameter: any run of it, and memory and reads that stay small.
#include <gtest/gtest.h>

#include <numeric>

#include "io/temporary_folder.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/checkpoint/hf_weights.hpp"
#include "moesaic/checkpoint/piece_groups.hpp"

namespace moesaic {
namespace {

/// gate_up as GPT-OSS stores it, [experts 2, hidden 3, 2 x width 2] with gate and up in turn, where the parameter has
/// [experts, gate rows then up rows, hidden].
HfPiece interleaved() {
  return {.tensor = "gate_up",
          .parameter = "p",
          .offset = 0,
          .shape = {2, 3, 2, 2},
          .strides = {12, 1, 3, 6},
          .whole = {2, 3, 4}};
}

class Strided : public ::testing::Test {
 protected:
  Strided() {
    std::vector<float> values(24);
    std::iota(values.begin(), values.end(), 0.0f);
    write_safetensors(scratch / "model.safetensors",
                      std::vector<SafetensorsSource>{{"gate_up", StorageType::f32, {2, 3, 4}, values.data()}});
  }
  std::string complaint(HfPiece piece, bool first_rows = false) const {
    const SafetensorsFolder folder(scratch.path());
    return test::message_of<InputError>([&] { check_hf_weights(folder, {std::move(piece)}, first_rows); });
  }
  test::TemporaryFolder scratch;
};

TEST_F(Strided, GateAndUpComeApart) {
  const SafetensorsFolder folder(scratch.path());
  const std::vector<HfPiece> pieces{interleaved()};
  check_hf_weights(folder, pieces, false);
  // Expert 0 is {{0 1 2 3} {4 5 6 7} {8 9 10 11}} by hidden: gate row 0 is 0 4 8, gate row 1 is 2 6 10, up row 0 is 1 5 9.
  const std::vector<float> expected{0,  4,  8,  2,  6,  10, 1,  5,  9,  3,  7,  11,
                                    12, 16, 20, 14, 18, 22, 13, 17, 21, 15, 19, 23};
  for (std::int64_t begin = 0; begin <= 24; ++begin)
    for (std::int64_t end = begin; end <= 24; ++end) {
      std::vector<float> run(static_cast<std::size_t>(end - begin), -1);
      read_hf_parameter(folder, pieces, "p", {begin, end}, run.data());
      ASSERT_EQ(run, std::vector<float>(expected.begin() + begin, expected.begin() + end)) << begin << " to " << end;
    }
}

TEST_F(Strided, ShapesMayBeSplitButNotOtherwise) {
  EXPECT_EQ(complaint(interleaved()), "");
  HfPiece other = interleaved();
  other.shape = {2, 3, 2, 3};
  EXPECT_NE(complaint(other).find("has shape [2, 3, 4] where the model of this deck has [2, 3, 2, 3]"),
            std::string::npos);
  other.shape = {2, 6, 2};
  EXPECT_NE(complaint(other), "");
  other.shape = {1, 3, 2, 2};
  EXPECT_NE(complaint(other), "");
  EXPECT_EQ(complaint(other, true), "");  // the first expert alone
}

TEST(PieceGroups, RowsThatFitAreTakenTogether) {
  const HfPiece piece = interleaved();  // a row has 12 elements
  ASSERT_EQ(groups_of(piece, 1000).size(), 1u);
  EXPECT_EQ(groups_of(piece, 1000)[0].covered, (Block{0, 24}));
  const HfPiece many{.tensor = "t", .parameter = "p", .offset = 5, .shape = {10, 4, 2}, .strides = {8, 1, 4}};
  const auto groups = groups_of(many, 24);  // rows of 8
  ASSERT_EQ(groups.size(), 4u);
  EXPECT_EQ(groups[1].rows, (Block{3, 6}));
  EXPECT_EQ(groups[1].covered, (Block{29, 53}));
  EXPECT_EQ(groups[3].rows, (Block{9, 10}));
}

TEST(PieceGroups, ATransposedMatrixIsOneGroup) {
  const HfPiece piece{.tensor = "t", .parameter = "p", .offset = 0, .shape = {100, 50}, .strides = {1, 100}};
  ASSERT_EQ(groups_of(piece, 10).size(), 1u);
  EXPECT_EQ(groups_of(piece, 10)[0].covered, (Block{0, 5000}));
}

TEST(PieceGroups, EveryElementIsVisitedOnce) {
  const HfPiece piece{.tensor = "t", .parameter = "p", .offset = 0, .shape = {6}, .strides = {2}};
  std::vector<std::int64_t> places;
  for_each_element(piece, {1, 4}, [&](std::int64_t i, std::int64_t at) {
    EXPECT_EQ(i, std::ssize(places));
    places.push_back(at);
  });
  EXPECT_EQ(places, (std::vector<std::int64_t>{2, 4, 6}));
}

}  // namespace
}  // namespace moesaic
