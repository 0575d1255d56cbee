// Changes that leave the rest of a config.json as it was written.
#include "moesaic/io/hf_config_text.hpp"

#include <gtest/gtest.h>

#include "moesaic/base/contract.hpp"
#include "temporary_folder.hpp"

namespace moesaic {
namespace {

const std::string text = "{\"z\":  1, \"eps\": 1e-06,\n \"a\": [1, 2, 3], \"name\": \"x\", \"odd\": {\"k\": null}}";

TEST(HfConfigText, WithoutAChangeItIsTheSameText) {
  HfConfigText config(text, "there");
  config.set("z", 1);
  config.set("absent", 7);
  config.shorten("a", 3);
  config.erase("absent");
  EXPECT_EQ(config.text(), text);
  EXPECT_TRUE(config.has("odd"));
  EXPECT_FALSE(config.has("absent"));
}

TEST(HfConfigText, OrderAndUnknownKeysStay) {
  HfConfigText config(text, "there");
  config.set("z", 2);
  config.set("name", "y");
  config.shorten("a", 1);
  EXPECT_EQ(config.text(),
            "{\n  \"z\": 2,\n  \"eps\": 1e-06,\n  \"a\": [\n    1\n  ],\n  \"name\": \"y\",\n  \"odd\": {\n    "
            "\"k\": null\n  }\n}\n");
  config.erase("odd");
  config.set("a", std::vector<std::int64_t>{});
  EXPECT_EQ(config.text(), "{\n  \"z\": 2,\n  \"eps\": 1e-06,\n  \"a\": [],\n  \"name\": \"y\"\n}\n");
}

TEST(HfConfigText, WhatIsNoObjectIsRefused) {
  EXPECT_NE(test::message_of<InputError>([] { HfConfigText("[1]", "there"); }).find("there"), std::string::npos);
  EXPECT_NE(test::message_of<InputError>([] { HfConfigText("{", "there"); }).find("there"), std::string::npos);
}

}  // namespace
}  // namespace moesaic
