#include "moesaic/io/safetensors.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "io/temporary_folder.hpp"
#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

using test::message_of;
using test::TemporaryFolder;
using test::write_file;
using ::testing::Test;

const std::filesystem::path golden = std::filesystem::path(MOESAIC_GOLDEN) / "qwen3_moe";

bool mentions(const std::string& message, const std::string& part) { return message.find(part) != std::string::npos; }

/// A file's bytes: header length, header, zeros.
std::string file_bytes(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data_bytes, '\0');
}

class Safetensors : public Test {
 protected:
  /// What opening a file of these bytes says.
  std::string refusal(const std::string& bytes) {
    write_file(folder_ / "x.safetensors", bytes);
    return message_of<InputError>([&] { SafetensorsFile file(folder_ / "x.safetensors"); });
  }
  std::string refusal(const std::string& header, std::size_t data_bytes) {
    return refusal(file_bytes(header, data_bytes));
  }

  TemporaryFolder folder_;
};

TEST_F(Safetensors, ReadsTheGoldenModel) {
  const SafetensorsFolder model(golden);
  EXPECT_EQ(model.names().size(), 102u);
  EXPECT_EQ(model.find("lm_head.weight").shape, (Shape{256, 64}));
  EXPECT_EQ(model.find("lm_head.weight").type, StorageType::f32);
  const auto embedding = model.read("model.embed_tokens.weight");
  ASSERT_EQ(embedding.size(), 256u * 64u);
  EXPECT_FLOAT_EQ(embedding[0], -0.5305590033531189f);
  EXPECT_FLOAT_EQ(embedding[1000], 1.2197628021240234f);
  float last = 0;
  model.read_slice("lm_head.weight", 16383, 1, &last);
  EXPECT_FLOAT_EQ(last, -0.1660081297159195f);
}

TEST_F(Safetensors, ReadsIntegersAndDoubles) {
  const SafetensorsFile reference(golden / "reference.safetensors");
  const auto ids = reference.read<std::int64_t>("input_ids");
  ASSERT_EQ(ids.size(), 128u);
  EXPECT_EQ(ids[0], 120);
  EXPECT_EQ(ids[1], 211);
  EXPECT_TRUE(reference.find("loss").shape.empty());
  EXPECT_DOUBLE_EQ(reference.read<double>("loss")[0], 6.465391596661683);
  EXPECT_TRUE(mentions(message_of<InputError>([&] { reference.read<float>("input_ids"); }), "'input_ids' is I32"));
}

TEST_F(Safetensors, WritesWhatItReads) {
  const std::vector<float> floats{1, 2, 3, 4, 5, 6};
  const std::vector<std::uint16_t> brains{0x3f80, 0x4000, 0xc040};
  const std::vector<std::int64_t> integers{-7, 1LL << 40};
  const std::vector<SafetensorsSource> tensors{{"b", StorageType::bf16, {3}, brains.data()},
                                               {"f", StorageType::f32, {2, 3}, floats.data()},
                                               {"i", StorageType::i64, {2}, integers.data()},
                                               {"none", StorageType::f32, {0, 4}, nullptr}};
  write_safetensors(folder_ / "w.safetensors", tensors, {{"format", "pt"}});
  const SafetensorsFile file(folder_ / "w.safetensors");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.read("f"), floats);
  EXPECT_EQ(file.read("b"), (std::vector<float>{1, 2, -3}));
  EXPECT_EQ(file.read<std::int64_t>("i"), integers);
  EXPECT_TRUE(file.read("none").empty());
  EXPECT_EQ(file.find("i").begin % 8, 0);
  std::vector<std::uint16_t> stored_brains(2);
  file.read_stored("b", 1, 2, stored_brains.data());
  EXPECT_EQ(stored_brains, (std::vector<std::uint16_t>{0x4000, 0xc040}));
}

TEST_F(Safetensors, ConvertsSlicesLongerThanItsBuffer) {
  std::vector<double> doubles(300'000);
  std::iota(doubles.begin(), doubles.end(), 0.0);
  const std::vector<SafetensorsSource> tensors{{"d", StorageType::f64, {300'000}, doubles.data()}};
  write_safetensors(folder_ / "d.safetensors", tensors);
  std::vector<float> slice(280'000);
  SafetensorsFile(folder_ / "d.safetensors").read_slice("d", 5, 280'000, slice.data());
  for (std::size_t i = 0; i < slice.size(); ++i) ASSERT_EQ(slice[i], static_cast<float>(i + 5));
}

TEST_F(Safetensors, SlicesOutsideATensorAreRefused) {
  const SafetensorsFile file(golden / "model.safetensors");
  float value = 0;
  EXPECT_TRUE(mentions(message_of<InputError>([&] { file.read_slice("model.norm.weight", 60, 5, &value); }), "[64]"));
  EXPECT_THROW(file.read_slice("model.norm.weight", -1, 1, &value), InputError);
  EXPECT_THROW(file.read_slice("model.norm.weight", 1, INT64_MAX, &value), InputError);
  EXPECT_TRUE(mentions(message_of<InputError>([&] { file.find("absent"); }), "no tensor 'absent'"));
}

TEST_F(Safetensors, EveryTruncationIsRefused) {
  const std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const std::string whole = file_bytes(header, 8);
  EXPECT_EQ(refusal(whole), "");
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_TRUE(mentions(refusal(whole.substr(0, length)), "x.safetensors")) << length;
  }
  EXPECT_TRUE(mentions(refusal(whole + "x"), "the file at 9"));
}

TEST_F(Safetensors, HeaderLengthsBeyondTheFileOrTheFormatAreRefused) {
  const std::uint64_t huge = 1ULL << 63;
  EXPECT_TRUE(mentions(refusal(std::string(reinterpret_cast<const char*>(&huge), 8) + "{}"), "header length"));
  const std::uint64_t above = 100'000'001;
  write_file(folder_ / "x.safetensors", std::string(reinterpret_cast<const char*>(&above), 8) + "{}");
  std::filesystem::resize_file(folder_ / "x.safetensors", 100'000'100);
  EXPECT_THROW(SafetensorsFile(folder_ / "x.safetensors"), InputError);
}

TEST_F(Safetensors, WrongPlacesAreRefused) {
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
  };
  EXPECT_EQ(refusal(two("[0,4]", "[4,8]"), 8), "");
  EXPECT_EQ(refusal(two("[4,8]", "[0,4]"), 8), "");
  EXPECT_TRUE(mentions(refusal(two("[0,4]", "[2,6]"), 6), "overlapping"));
  EXPECT_TRUE(mentions(refusal(two("[0,4]", "[0,4]"), 4), "overlapping"));
  EXPECT_TRUE(mentions(refusal(two("[0,4]", "[6,10]"), 10), "hole"));
  EXPECT_TRUE(mentions(refusal(two("[1,5]", "[5,9]"), 9), "hole"));
  EXPECT_TRUE(mentions(refusal(two("[0,4]", "[8,4]"), 8), "tensor 'b'"));
  EXPECT_TRUE(mentions(refusal(two("[0,4]", "[4,8]"), 9), "the file at 9"));
  EXPECT_TRUE(mentions(refusal(two("[0,4]", "[4,9]"), 9), "shape [4]"));
}

TEST_F(Safetensors, WrongTensorsAreRefused) {
  const auto one = [&](const std::string& fields, std::size_t bytes) {
    return refusal("{\"a\":{" + fields + "}}", bytes);
  };
  EXPECT_EQ(one(R"("dtype":"F32","shape":[],"data_offsets":[0,4])", 4), "");
  const std::string offsets = R"(,"data_offsets":[0,4])";
  EXPECT_TRUE(mentions(one(R"("dtype":"F16","shape":[1])" + offsets, 4), "F16 of shape [1]"));
  EXPECT_TRUE(mentions(one(R"("dtype":"X9","shape":[4])" + offsets, 4), "unknown dtype 'X9'"));
  EXPECT_TRUE(mentions(one(R"("dtype":"U8","shape":[-4])" + offsets, 4), "negative number -4"));
  EXPECT_TRUE(mentions(one(R"("dtype":"U8","shape":[4.5])" + offsets, 4), "fraction 4.5"));
  EXPECT_TRUE(mentions(one(R"("dtype":"U8","shape":4)" + offsets, 4), "tensor 'a'"));
  EXPECT_TRUE(mentions(one(R"("dtype":"U8","shape":[[4]])" + offsets, 4), "tensor 'a'"));
  EXPECT_TRUE(mentions(one(R"("dtype":"U8","shape":[4],"shape":[4])" + offsets, 4), "shape twice"));
  EXPECT_TRUE(mentions(one(R"("dtype":"U8","shape":[4])", 4), "lacks"));
  EXPECT_TRUE(mentions(one(R"("dtype":"U8","shape":[4],"data_offsets":[0,4,4])", 4), "3 data_offsets"));
  EXPECT_TRUE(mentions(one(R"("dtype":"U8","shape":[18446744073709551615])" + offsets, 4), "63 bits"));
  // 2^32 * 2^32 is 0 in 64 bits, 2^62 * 8 bytes too
  EXPECT_TRUE(mentions(one(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])", 0), "4294967296"));
  EXPECT_TRUE(mentions(one(R"("dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,0])", 0), "tensor 'a'"));
}

TEST_F(Safetensors, WrongJsonIsRefused) {
  EXPECT_EQ(refusal("{}", 0), "");
  EXPECT_EQ(refusal(R"({"__metadata__":{"k":"v"}}   )", 0), "");
  const std::string tensor = R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  EXPECT_TRUE(mentions(refusal("{" + tensor + "," + tensor + "}", 1), "twice"));
  EXPECT_TRUE(mentions(refusal(R"({"__metadata__":{"k":1}})", 0), "__metadata__"));
  EXPECT_TRUE(mentions(refusal(R"({"__metadata__":{"k":{}}})", 0), "__metadata__"));
  EXPECT_TRUE(mentions(refusal(R"({"a":1})", 0), "number"));
  EXPECT_TRUE(mentions(refusal(R"({"a":null})", 0), "null"));
  EXPECT_TRUE(mentions(refusal(R"({"a":[]})", 0), "list"));
  EXPECT_TRUE(mentions(refusal("{\"\xff\":{}}", 0), "JSON"));
  EXPECT_TRUE(mentions(refusal("{\"a\"", 0), "JSON"));
  EXPECT_TRUE(mentions(refusal("{} x", 0), "JSON"));
  EXPECT_TRUE(mentions(refusal(" {}", 0), "begin with"));
  EXPECT_TRUE(mentions(refusal("[]", 0), "begin with"));
  EXPECT_TRUE(mentions(refusal("", 0), "begin with"));
}

class ShardedFolder : public Test {
 protected:
  ShardedFolder() {
    write("one.safetensors", {{"a", StorageType::f32, {2}, values_}, {"both", StorageType::f32, {1}, values_ + 2}});
    write("two.safetensors", {{"b", StorageType::f32, {1}, values_ + 3}, {"both", StorageType::f32, {1}, values_ + 4}});
    write_file(folder_ / "other.safetensors", "not one that the index names");
  }
  void write(const std::string& name, const std::vector<SafetensorsSource>& tensors) {
    write_safetensors(folder_ / name, tensors);
  }
  void write_index(const std::string& weight_map) {
    write_file(folder_ / "model.safetensors.index.json", "{\"metadata\":{},\"weight_map\":" + weight_map + "}");
  }
  std::string refusal() const {
    return message_of<InputError>([&] { SafetensorsFolder opened(folder_.path()); });
  }

  const float values_[5] = {1, 2, 3, 4, 5};
  TemporaryFolder folder_;
};

TEST_F(ShardedFolder, OpensTheFilesOfItsIndex) {
  write_index(R"({"a":"one.safetensors","b":"two.safetensors","both":"two.safetensors"})");
  const SafetensorsFolder sharded(folder_.path());
  EXPECT_EQ(sharded.names(), (std::vector<std::string>{"a", "b", "both"}));
  EXPECT_EQ(sharded.read("a"), (std::vector<float>{1, 2}));
  EXPECT_EQ(sharded.read("b"), (std::vector<float>{4}));
  EXPECT_EQ(sharded.read("both"), (std::vector<float>{5}));
  EXPECT_TRUE(sharded.contains("a"));
  EXPECT_FALSE(sharded.contains("c"));
  EXPECT_TRUE(mentions(message_of<InputError>([&] { sharded.find("c"); }), "no tensor 'c'"));
}

TEST_F(ShardedFolder, KeepsWhatItsIndexForgets) {
  write_index(R"({"a":"one.safetensors","both":"two.safetensors"})");
  EXPECT_EQ(SafetensorsFolder(folder_.path()).names(), (std::vector<std::string>{"a", "b", "both"}));
}

TEST_F(ShardedFolder, BrokenIndicesAreRefused) {
  EXPECT_TRUE(mentions(refusal(), "neither model.safetensors nor"));
  write_index(R"({"a":"one.safetensors","b":"three.safetensors"})");
  EXPECT_TRUE(mentions(refusal(), "three.safetensors, which is not there"));
  write_index(R"({"a":"one.safetensors","c":"two.safetensors","both":"one.safetensors"})");
  EXPECT_TRUE(mentions(refusal(), "'c' is in two.safetensors, but it is not"));
  write_index(R"({"a":"one.safetensors","b":"two.safetensors"})");
  EXPECT_TRUE(mentions(refusal(), "'both' is also in another file"));
  write_index(R"({"a":"../one.safetensors"})");
  EXPECT_TRUE(mentions(refusal(), "plain file name"));
  write_index(R"({"a":7})");
  EXPECT_TRUE(mentions(refusal(), "plain file name"));
  write_index("[]");
  EXPECT_TRUE(mentions(refusal(), "weight_map"));
  write_file(folder_ / "model.safetensors.index.json", "{\"weight_map\":");
  EXPECT_TRUE(mentions(refusal(), "not valid JSON"));
  write_file(folder_ / "model.safetensors.index.json", std::string(100'000, '['));
  EXPECT_TRUE(mentions(refusal(), "deeper than 32"));
}

}  // namespace
}  // namespace moesaic
