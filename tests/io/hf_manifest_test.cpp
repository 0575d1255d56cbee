// What is remembered of a folder survives as text.
#include "moesaic/io/hf_manifest.hpp"

#include <gtest/gtest.h>

#include "moesaic/base/contract.hpp"
#include "temporary_folder.hpp"

namespace moesaic {
namespace {

HfManifest example() {
  HfManifest manifest;
  manifest.type = StorageType::bf16;
  manifest.types["gate.bias"] = StorageType::f32;
  manifest.extra = {{"layers.61.\"odd\"/name", StorageType::f8_e4m3, {2, 3}, "tensors/#0"},
                    {"empty", StorageType::f32, {0}, ""},
                    {"scalar", StorageType::i64, {}, "tensors/scalar"}};
  return manifest;
}

TEST(HfManifest, ComesBackFromText) { EXPECT_EQ(HfManifest::parse(example().to_text(), "there"), example()); }

TEST(HfManifest, KnowsTheTypeOfEachTensor) {
  EXPECT_EQ(example().type_of("gate.bias"), StorageType::f32);
  EXPECT_EQ(example().type_of("gate.weight"), StorageType::bf16);
}

TEST(HfManifest, DamageIsRefused) {
  for (const char* text : {"", "{}", R"({"type":"BF17","types":{},"extra":[]})",
                           R"({"type":"BF16","types":{},"extra":[{}]})", R"({"type":"BF16","types":[1],"extra":[]})"})
    EXPECT_NE(test::message_of<InputError>([&] { HfManifest::parse(text, "there"); }).find("there"), std::string::npos)
        << text;
}

}  // namespace
}  // namespace moesaic
