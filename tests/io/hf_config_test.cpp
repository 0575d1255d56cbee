#include "moesaic/io/hf_config.hpp"

#include <gtest/gtest.h>

#include "io/temporary_folder.hpp"
#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

using test::message_of;

bool mentions(const std::string& message, const std::string& part) { return message.find(part) != std::string::npos; }

HfConfig config_of(const std::string& text) { return HfConfig::parse(text, "config.json"); }

template <class Action> std::string refusal(Action action) { return message_of<InputError>(action); }

TEST(HfConfig, ReadsTheGoldenConfiguration) {
  const HfConfig config = HfConfig::load(MOESAIC_GOLDEN "/qwen3_moe/config.json");
  EXPECT_EQ(config.model_type(), "qwen3_moe");
  EXPECT_EQ(config.integer("hidden_size"), 64);
  EXPECT_EQ(config.either("num_experts", "num_local_experts"), 8);
  EXPECT_DOUBLE_EQ(config.number("rms_norm_eps"), 1e-6);
  EXPECT_TRUE(config.flag("norm_topk_prob"));
  EXPECT_TRUE(config.integers("mlp_only_layers").empty());
  EXPECT_EQ(config.texts("architectures"), (std::vector<std::string>{"Qwen3MoeForCausalLM"}));
  EXPECT_TRUE(mentions(config.source(), "\"use_cache\": true"));
  EXPECT_EQ(config.rope().type, "default");
  EXPECT_DOUBLE_EQ(config.rope().theta, 1e6);
}

TEST(HfConfig, RopeInThePresentForm) {
  const Rope rope =
      config_of(R"({"rope_parameters":{"rope_theta":150000,"rope_type":"yarn","factor":32.0,"truncate":false},
                                  "rope_scaling":null})")
          .rope();
  EXPECT_EQ(rope.type, "yarn");
  EXPECT_DOUBLE_EQ(rope.theta, 150000);
  EXPECT_DOUBLE_EQ(rope.parameters.number("factor"), 32);
  EXPECT_FALSE(rope.parameters.flag("truncate"));
  EXPECT_DOUBLE_EQ(config_of(R"({"rope_parameters":{"rope_type":"default"},"rope_theta":5})").rope().theta, 5);
}

TEST(HfConfig, RopeInTheOlderForm) {
  const Rope plain = config_of(R"({"rope_theta":1000000.0,"rope_scaling":null})").rope();
  EXPECT_EQ(plain.type, "default");
  EXPECT_DOUBLE_EQ(plain.theta, 1e6);
  EXPECT_FALSE(plain.parameters.has("factor"));
  const Rope scaled = config_of(R"({"rope_theta":50000,"rope_scaling":{"type":"yarn","factor":4}})").rope();
  EXPECT_EQ(scaled.type, "yarn");
  EXPECT_EQ(scaled.parameters.integer("factor"), 4);
  EXPECT_EQ(config_of(R"({"rope_theta":1,"rope_scaling":{"type":"x","rope_type":"linear"}})").rope().type, "linear");
}

TEST(HfConfig, BrokenRopesAreRefused) {
  EXPECT_THROW(config_of(R"({"rope_parameters":{"rope_theta":5},"rope_scaling":{"type":"linear"}})").rope(),
               InputError);
  EXPECT_TRUE(mentions(refusal([] { config_of("{}").rope(); }), "'rope_theta' is missing"));
  EXPECT_TRUE(mentions(refusal([] { config_of(R"({"rope_theta":0})").rope(); }), "positive"));
  EXPECT_TRUE(mentions(refusal([] { config_of(R"({"rope_theta":1,"rope_scaling":"yarn"})").rope(); }), "an object"));
  EXPECT_TRUE(mentions(refusal([] { config_of(R"({"rope_parameters":{"rope_theta":"1"}})").rope(); }),
                       "config.json: rope_parameters: 'rope_theta' is \"1\", not a number"));
}

TEST(HfConfig, NullCountsAsAbsent) {
  const HfConfig config = config_of(R"({"sliding_window":null,"n":3})");
  EXPECT_FALSE(config.has("sliding_window"));
  EXPECT_EQ(config.integer("sliding_window", -1), -1);
  EXPECT_EQ(config.integer("n", -1), 3);
  EXPECT_TRUE(
      mentions(refusal([&] { config.integer("sliding_window"); }), "config.json: 'sliding_window' is missing or null"));
  EXPECT_DOUBLE_EQ(config.number("absent", 0.5), 0.5);
  EXPECT_TRUE(config.flag("absent", true));
  EXPECT_EQ(config.text("absent", "silu"), "silu");
  EXPECT_EQ(config.integers("absent", {1, 2}), (std::vector<std::int64_t>{1, 2}));
  EXPECT_TRUE(config.texts("absent", {}).empty());
}

TEST(HfConfig, WrongTypesAreRefusedEvenWithAFallback) {
  const HfConfig config = config_of(R"({"t":"text","h":1.5,"w":2.0,"big":18446744073709551615,"l":[1,"2"],"b":1})");
  EXPECT_EQ(config.integer("w"), 2);
  EXPECT_TRUE(mentions(refusal([&] { config.integer("t", 1); }), "'t' is \"text\", not an integer"));
  EXPECT_TRUE(mentions(refusal([&] { config.integer("h"); }), "'h' is 1.5"));
  EXPECT_TRUE(mentions(refusal([&] { config.integer("big"); }), "'big'"));
  EXPECT_TRUE(mentions(refusal([&] { config.number("t", 1); }), "a number"));
  EXPECT_TRUE(mentions(refusal([&] { config.flag("b", true); }), "true or false"));
  EXPECT_TRUE(mentions(refusal([&] { config.text("b", ""); }), "a text"));
  EXPECT_TRUE(mentions(refusal([&] { config.integers("l"); }), "a list of integers"));
  EXPECT_TRUE(mentions(refusal([&] { config.texts("l"); }), "a list of texts"));
  EXPECT_TRUE(mentions(refusal([&] { config.section("l"); }), "an object"));
}

TEST(HfConfig, TwoSpellingsMustAgree) {
  EXPECT_EQ(config_of(R"({"num_experts":128})").either("num_experts", "num_local_experts"), 128);
  EXPECT_EQ(config_of(R"({"num_experts":8,"num_local_experts":8})").either("num_experts", "num_local_experts"), 8);
  EXPECT_TRUE(mentions(refusal([] { config_of(R"({"a":1,"b":2})").either("a", "b"); }), "'a' is 1, but 'b' is 2"));
  EXPECT_TRUE(mentions(refusal([] { config_of("{}").either("a", "b"); }), "neither 'a' nor 'b'"));
}

TEST(HfConfig, BrokenFilesAreRefused) {
  const test::TemporaryFolder folder;
  EXPECT_TRUE(mentions(refusal([&] { HfConfig::load(folder / "config.json"); }), "cannot be opened"));
  EXPECT_TRUE(mentions(refusal([&] { HfConfig::load(folder.path()); }), "not a regular file"));
  test::write_file(folder / "config.json", "{\"hidden_size\": 64,");
  EXPECT_TRUE(mentions(refusal([&] { HfConfig::load(folder / "config.json"); }), "not valid JSON"));
  test::write_file(folder / "config.json", "[1]");
  EXPECT_TRUE(mentions(refusal([&] { HfConfig::load(folder / "config.json"); }), "not an object but array"));
}

}  // namespace
}  // namespace moesaic
