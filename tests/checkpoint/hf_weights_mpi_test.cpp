// Weights of a Hugging Face folder in the slices of every grid: the values of the file, and only this rank's bytes read.
#include "moesaic/checkpoint/hf_weights.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "io/temporary_folder.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/models/family.hpp"
#include "moesaic/parallel/fully_sharded.hpp"
#include "support/every_grid.hpp"
#include "support/golden.hpp"
#include "support/local_model.hpp"

namespace moesaic {
namespace {

/// Bytes that this process has read from files so far; none where the system does not say.
std::optional<std::int64_t> bytes_read() {
  std::ifstream io("/proc/self/io");
  std::string key;
  std::int64_t value = 0;
  if (io >> key >> value && key == "rchar:") return value;
  return std::nullopt;
}

/// A model over all ranks as `grid` says, its values not set.
class ShardedModel {
 public:
  ShardedModel(const ModelSpec& spec, const ProcessGrid& grid)
      : communicators_(make_communicators(grid, MPI_COMM_WORLD, arena_)), layers_(spec, DType::f32, 8),
        sharding_(layers_.model().blocks(), layers_.context(), grid, communicators_.world->rank(), communicators_) {}

  const std::vector<std::unique_ptr<ShardedUnit>>& units() const { return sharding_.units(); }

 private:
  Arena arena_{host_memory()};
  Communicators communicators_;
  LocalModel layers_;
  FullySharded sharding_;
};

/// Every parameter whole, as the file has it.
std::map<std::string, std::vector<float>> whole_parameters(const SafetensorsFolder& folder,
                                                           const std::vector<HfPiece>& pieces) {
  std::map<std::string, std::vector<float>> parameters;
  for (const HfPiece& piece : pieces) {
    auto& values = parameters[piece.parameter];
    values.resize(std::max(values.size(), static_cast<std::size_t>(piece.offset + piece.shape.size())));
    folder.read_slice(piece.tensor, 0, piece.shape.size(), values.data() + piece.offset);
  }
  return parameters;
}

class HfWeights : public ::testing::Test {
 protected:
  void expect_values(const ShardedUnit& unit, const std::map<std::string, std::vector<float>>& whole) const {
    std::vector<float> expected(static_cast<std::size_t>(unit.values().size()), 0.0f);  // padding is zero
    for (const SlicePiece& piece : unit.pieces()) {
      const auto& values = whole.at(unit.spec().parameters[static_cast<std::size_t>(piece.parameter)].name);
      std::copy(values.begin() + piece.elements.begin, values.begin() + piece.elements.end,
                expected.begin() + piece.at);
    }
    for (std::int64_t i = 0; i < unit.values().size(); ++i)
      ASSERT_EQ(unit.values().data<float>()[i], expected[static_cast<std::size_t>(i)]) << unit.spec().name << ", " << i;
  }

  /// Pieces with one changed.
  std::vector<HfPiece> with_piece(std::size_t index, HfPiece piece) const {
    std::vector<HfPiece> changed = pieces;
    changed[index] = std::move(piece);
    return changed;
  }
  std::string complaint(const std::vector<HfPiece>& wanted, bool first_rows) const {
    return test::message_of<InputError>([&] { check_hf_weights(folder, wanted, first_rows); });
  }

  GoldenCase golden{"qwen3_moe"};
  SafetensorsFolder folder{golden.folder()};
  ModelSpec spec = model_spec(HfConfig::load(golden.config()));
  std::vector<HfPiece> pieces = hf_pieces(spec);
};

TEST_F(HfWeights, ValuesAreTheFilesOnEveryGrid) {
  const auto whole = whole_parameters(folder, pieces);
  for (const ProcessGrid& grid : every_grid()) {
    if (8 % grid.extent(Axis::expert) != 0) continue;
    SCOPED_TRACE(grid.describe());
    const ShardedModel model(spec, grid);
    for (const auto& unit : model.units()) {
      load_hf_weights(folder, pieces, *unit);
      expect_values(*unit, whole);
    }
  }
}

TEST_F(HfWeights, ASliceOfTheModelIsTheFirstOfEach) {
  const ModelSpec cut =
      model_spec(HfConfig::load(golden.config()), {.layers = 2, .vocabulary = 100, .experts = 4, .dense_layers = -1});
  const auto cut_pieces = hf_pieces(cut);
  check_hf_weights(folder, cut_pieces, true);
  const auto whole = whole_parameters(folder, cut_pieces);
  EXPECT_EQ(whole.at("embedding/weight").size(), 100u * 64);
  const ShardedModel model(cut, every_grid()[0]);
  for (const auto& unit : model.units()) {
    load_hf_weights(folder, cut_pieces, *unit);
    expect_values(*unit, whole);
  }
}

TEST_F(HfWeights, ARankReadsItsSlicesAndNothingElse) {
  if (!bytes_read()) GTEST_SKIP() << "/proc/self/io is not there";
  const ShardedModel model(spec, every_grid()[0]);
  std::int64_t slices = 0;
  for (const auto& unit : model.units())
    for (const SlicePiece& piece : unit->pieces()) slices += piece.elements.size() * 4;
  const std::int64_t before = *bytes_read();
  for (const auto& unit : model.units()) load_hf_weights(folder, pieces, *unit);
  const std::int64_t read = *bytes_read() - before;
  EXPECT_GE(read, slices);
  EXPECT_LE(read, slices + 16 * 1024);  // the counter itself is read, too
}

TEST_F(HfWeights, TheFolderOfTheModelIsFine) {
  EXPECT_EQ(complaint(pieces, false), "");
  EXPECT_EQ(complaint(pieces, true), "");
}

TEST_F(HfWeights, AMissingTensorIsNamed) {
  HfPiece piece = pieces[3];
  piece.tensor = "model.layers.7.nothing.weight";
  const std::string message = complaint(with_piece(3, piece), false);
  EXPECT_NE(message.find("qwen3_moe has no tensor model.layers.7.nothing.weight"), std::string::npos) << message;
}

TEST_F(HfWeights, AnotherShapeIsQuotedWithOurs) {
  ASSERT_EQ(pieces[0].shape, (Extents{256, 64}));
  HfPiece piece = pieces[0];
  piece.shape = {256, 128};
  const std::string message = complaint(with_piece(0, piece), false);
  EXPECT_NE(message.find(pieces[0].tensor + " has shape [256, 64] where the model of this deck has [256, 128]"),
            std::string::npos)
      << message;
  EXPECT_NE(complaint(with_piece(0, piece), true), "");  // fewer columns are never a slice
  piece.shape = {256 * 64};
  EXPECT_NE(complaint(with_piece(0, piece), true), "");  // nor is another rank
}

TEST_F(HfWeights, MoreRowsPassOnlyForASlice) {
  HfPiece piece = pieces[0];
  piece.shape = {100, 64};
  EXPECT_NE(complaint(with_piece(0, piece), false), "");
  EXPECT_EQ(complaint(with_piece(0, piece), true), "");
  piece.shape = {257, 64};
  EXPECT_NE(complaint(with_piece(0, piece), true), "");
}

}  // namespace
}  // namespace moesaic
