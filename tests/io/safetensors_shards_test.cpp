// A sharded folder that is written in any order reads back whole.
#include "moesaic/io/safetensors_shards.hpp"

#include <gtest/gtest.h>

#include "moesaic/io/output_file.hpp"
#include "moesaic/io/safetensors.hpp"
#include "temporary_folder.hpp"

namespace moesaic {
namespace {

using test::TemporaryFolder;

const std::vector<SafetensorsEntry> tensors{{"a", StorageType::u8, {3}},
                                            {"b", StorageType::f32, {2, 2}},
                                            {"c", StorageType::f32, {10}},
                                            {"d", StorageType::bf16, {0, 4}},
                                            {"e", StorageType::i64, {}}};

/// Byte k of tensor t is 16 t + k.
std::vector<std::uint8_t> bytes_of(std::size_t t) {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(tensors[t].bytes()));
  for (std::size_t k = 0; k < bytes.size(); ++k) bytes[k] = static_cast<std::uint8_t>(16 * t + k);
  return bytes;
}

void write(const SafetensorsShards& shards, const std::filesystem::path& folder) {
  for (std::size_t t = tensors.size(); t-- > 0;) {
    const auto bytes = bytes_of(t);
    OutputFile(folder / shards.files()[shards.places()[t].file].name)
        .write_at(shards.places()[t].begin, bytes.data(), std::ssize(bytes));
  }
  for (const auto& file : shards.files())
    OutputFile(folder / file.name).write_at(0, file.head.data(), std::ssize(file.head));
  if (!shards.index().empty()) test::write_file(folder / "model.safetensors.index.json", shards.index());
}

void expect_whole(const std::filesystem::path& path) {
  const SafetensorsFolder folder(path);
  EXPECT_EQ(folder.names().size(), tensors.size());
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const SafetensorsInfo& info = folder.find(tensors[t].name);
    EXPECT_EQ(info.type, tensors[t].type);
    EXPECT_EQ(info.shape, tensors[t].shape);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(tensors[t].bytes()));
    folder.read_stored(tensors[t].name, 0, info.size(), bytes.data());
    EXPECT_EQ(bytes, bytes_of(t)) << tensors[t].name;
  }
}

TEST(SafetensorsShards, OneFileNeedsNoIndex) {
  const SafetensorsShards shards(tensors, 1000);
  ASSERT_EQ(shards.files().size(), 1u);
  EXPECT_EQ(shards.files()[0].name, "model.safetensors");
  EXPECT_EQ(shards.index(), "");
  EXPECT_NE(shards.files()[0].head.find(R"("__metadata__":{"format":"pt"})"), std::string::npos);
  const TemporaryFolder scratch;
  write(shards, scratch.path());
  EXPECT_EQ(std::filesystem::file_size(scratch / "model.safetensors"),
            static_cast<std::size_t>(shards.files()[0].bytes));
  expect_whole(scratch.path());
}

TEST(SafetensorsShards, FilesAreFilledInOrder) {
  const SafetensorsShards shards(tensors, 20);  // a and b, c alone, d and e
  std::vector<std::size_t> files;
  for (const auto& place : shards.places()) files.push_back(place.file);
  EXPECT_EQ(files, (std::vector<std::size_t>{0, 0, 1, 2, 2}));
  EXPECT_EQ(shards.files()[1].name, "model-00002-of-00003.safetensors");
  EXPECT_NE(shards.index().find(R"("total_size": 67)"), std::string::npos) << shards.index();
  const TemporaryFolder scratch;
  write(shards, scratch.path());
  expect_whole(scratch.path());
}

TEST(SafetensorsShards, ANameTwiceIsRefused) {
  const std::vector<SafetensorsEntry> twice{{"a", StorageType::u8, {3}}, {"a", StorageType::f32, {3}}};
  EXPECT_NE(test::message_of<InputError>([&] { SafetensorsShards(twice, 1000); }).find("'a' is given twice"),
            std::string::npos);
}

}  // namespace
}  // namespace moesaic
