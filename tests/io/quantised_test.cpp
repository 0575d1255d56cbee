// Eight and four bits with scales: literals, and what PyTorch and Transformers read (data/README.md).
#include "moesaic/io/quantised.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "moesaic/io/hf_tensor.hpp"
#include "temporary_folder.hpp"

namespace moesaic {
namespace {

using test::message_of;
using test::TemporaryFolder;

TEST(Fp8, LiteralsByHand) {
  EXPECT_EQ(decode_f8_e4m3(0x00), 0.0f);
  EXPECT_EQ(decode_f8_e4m3(0x38), 1.0f);
  EXPECT_EQ(decode_f8_e4m3(0xb9), -1.125f);
  EXPECT_EQ(decode_f8_e4m3(0x7e), 448.0f);
  EXPECT_EQ(decode_f8_e4m3(0x01), std::ldexp(1.0f, -9));
  EXPECT_TRUE(std::isnan(decode_f8_e4m3(0xff)));
}

TEST(Fp8, AScaleForEachBlock) {
  // The last element of row 127, and the first of row 128, of 130 columns.
  const std::vector<std::uint8_t> codes{0x38, 0x38};
  const std::vector<float> scales{1, 2, 3, 4};
  std::vector<float> out(2);
  dequantise_fp8_blocks(codes.data(), {128 * 130 - 1, 128 * 130 + 1}, 130, scales.data(), 0, out.data());
  EXPECT_EQ(out, (std::vector<float>{2, 3}));
}

TEST(Mxfp4, LiteralsByHand) {
  // Two rows of one group: byte i of row r holds the codes 2 i and 2 i + 1 (mod 16).
  std::vector<std::uint8_t> blocks(32), scales{127, 128};
  for (std::size_t i = 0; i < 32; ++i) blocks[i] = static_cast<std::uint8_t>((2 * i) % 16 + ((2 * i + 1) % 16) * 16);
  std::vector<float> out(8);
  dequantise_mxfp4(blocks.data(), scales.data(), 2, 1, {2, 10}, out.data());  // numbers 1 to 4, of both rows
  EXPECT_EQ(out, (std::vector<float>{0.5, 1, 1, 2, 1.5, 3, 2, 4}));
  dequantise_mxfp4(blocks.data(), scales.data(), 2, 1, {30, 34}, out.data());  // numbers 15 and 16
  EXPECT_EQ(std::vector<float>(out.begin(), out.begin() + 4), (std::vector<float>{-6, -12, 0, 0}));
}

class HfTensors : public ::testing::Test {
 protected:
  HfTensors() {
    std::filesystem::copy(std::filesystem::path(MOESAIC_SOURCE_DIR) / "tests/io/data/quantised.safetensors",
                          scratch / "model.safetensors");
  }
  /// Elements as they are read in one go, and in parts.
  void expect_numbers(const std::string& name, const std::string& expected) const {
    const SafetensorsFolder folder(scratch.path());
    const auto tensor = find_hf_tensor(folder, name);
    ASSERT_TRUE(tensor) << name;
    EXPECT_EQ(tensor->type, StorageType::bf16);
    EXPECT_EQ(tensor->shape, folder.find(expected).shape);
    const std::vector<float> numbers = folder.read(expected);
    for (const std::int64_t part : {tensor->size(), std::int64_t{77}}) {
      std::vector<float> read(numbers.size());
      for (std::int64_t at = 0; at < tensor->size(); at += part)
        read_hf_tensor(folder, *tensor, {at, std::min(at + part, tensor->size())}, read.data() + at);
      EXPECT_EQ(read, numbers) << "in parts of " << part;
    }
  }
  std::string refusal(const std::vector<SafetensorsSource>& tensors, const std::string& name) const {
    write_safetensors(scratch / "model.safetensors", tensors);
    const SafetensorsFolder folder(scratch.path());
    return message_of<InputError>([&] { find_hf_tensor(folder, name); });
  }

  TemporaryFolder scratch;
};

TEST_F(HfTensors, EveryCodeIsWhatPyTorchReads) {
  const SafetensorsFile file(scratch / "model.safetensors");
  const std::vector<float> expected = file.read("codes.numbers");
  for (int code = 0; code < 256; ++code) {
    const float mine = decode_f8_e4m3(static_cast<std::uint8_t>(code)),
                theirs = expected[static_cast<std::size_t>(code)];
    if (std::isnan(theirs))
      EXPECT_TRUE(std::isnan(mine)) << code;
    else
      EXPECT_EQ(mine, theirs) << code;
  }
}

TEST_F(HfTensors, BlocksOfFp8AreWhatPyTorchReads) { expect_numbers("fp8.weight", "numbers.fp8.weight"); }

TEST_F(HfTensors, Mxfp4IsWhatTransformersReads) { expect_numbers("mxfp4", "numbers.mxfp4"); }

TEST_F(HfTensors, ScalesAreNoTensorsOfTheirOwn) {
  std::vector<std::string> names;
  for (const HfTensor& tensor : hf_tensors(SafetensorsFolder(scratch.path()))) names.push_back(tensor.name);
  EXPECT_EQ(names, (std::vector<std::string>{"codes", "codes.numbers", "fp8.weight", "mxfp4", "numbers.fp8.weight",
                                             "numbers.mxfp4"}));
}

TEST_F(HfTensors, ScalesThatDoNotFitAreRefused) {
  const std::vector<std::uint8_t> bytes(4096);
  const auto entry = [&](const char* name, StorageType type, Shape shape) {
    return SafetensorsSource{name, type, std::move(shape), bytes.data()};
  };
  const std::string fp8 =
      refusal({entry("w", StorageType::f8_e4m3, {2, 129}), entry("w_scale_inv", StorageType::f32, {1, 1})}, "w");
  EXPECT_NE(fp8.find("w_scale_inv is F32 [1, 1] for w of shape [2, 129]"), std::string::npos) << fp8;
  const std::string mxfp4 =
      refusal({entry("w_blocks", StorageType::u8, {2, 3, 4, 15}), entry("w_scales", StorageType::u8, {2, 3, 4})}, "w");
  EXPECT_NE(mxfp4.find("w_blocks is U8 [2, 3, 4, 15] and w_scales is U8 [2, 3, 4]"), std::string::npos) << mxfp4;
}

TEST_F(HfTensors, Fp8WithoutScalesIsLeftAsItIs) {
  const std::vector<std::uint8_t> bytes(6);
  write_safetensors(scratch / "model.safetensors",
                    std::vector<SafetensorsSource>{{"w", StorageType::f8_e4m3, {2, 3}, bytes.data()}});
  const auto tensor = find_hf_tensor(SafetensorsFolder(scratch.path()), "w");
  ASSERT_TRUE(tensor);
  EXPECT_EQ(tensor->type, StorageType::f8_e4m3);
  EXPECT_FALSE(find_hf_tensor(SafetensorsFolder(scratch.path()), "v"));
}

}  // namespace
}  // namespace moesaic
