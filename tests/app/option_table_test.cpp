#include "moesaic/app/option_table.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "moesaic/app/deck.hpp"
#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

const Option& option(const std::string& name) {
  const auto& all = option_table();
  return *std::find_if(all.begin(), all.end(), [&](const Option& o) { return o.name == name; });
}

/// What a setting must at least hold to pass check_combinations.
RunSettings small_settings() {
  RunSettings settings;
  settings.data.format = DataFormat::synthetic;
  settings.data.sequence = 64;
  settings.steps = 100;
  settings.optimizer.lr = 1e-3;
  return settings;
}

TEST(OptionTable, NamesTheKeysThatScriptsHoldOnTo) {
  const std::map<std::string, std::string> published{
      {"run", "name directory seed device device_memory wall_limit watchdog"},
      {"model", "config init layers vocabulary experts dense_layers multi_token_prediction"},
      {"grid", "pipeline context expert replicate shard schedule chunks layout context_exchange"},
      {"data", "path format sequence shuffle separator validation validate_every"},
      {"train",
       "steps global_batch micro_batch precision recompute reduce prediction_weight deterministic max_skipped "
       "profile_steps"},
      {"optimizer", "name lr schedule warmup min_lr beta1 beta2 eps weight_decay decay clip moments"},
      {"moe", "balance auxiliary_coefficient auxiliary_scope bias_rate router receive_bound"},
      {"checkpoint", "every keep keep_every resume background"},
      {"log", "every"}};
  std::set<std::string> names, sections;
  for (const Option& o : option_table()) {
    EXPECT_TRUE(names.insert(o.name).second) << o.name << " is there twice";
    sections.insert(o.section());
  }
  for (const auto& [section, keys] : published) {
    EXPECT_EQ(sections.count(section), 1u) << section;
    std::istringstream words(keys);
    for (std::string key; words >> key;) EXPECT_EQ(names.count(section + "." + key), 1u) << section << "." << key;
  }
  EXPECT_EQ(sections.size(), published.size());
}

TEST(OptionTable, SectionsAreContiguous) {
  std::vector<std::string> order;
  for (const Option& o : option_table())
    if (order.empty() || order.back() != o.section()) order.push_back(o.section());
  EXPECT_EQ(order, (std::vector<std::string>{"run", "model", "grid", "data", "train", "optimizer", "moe", "checkpoint",
                                             "log"}));
}

TEST(OptionTable, EveryOptionHasATypeAndASentence) {
  for (const Option& o : option_table()) {
    EXPECT_FALSE(o.type.empty()) << o.name;
    EXPECT_FALSE(o.sentence.empty()) << o.name;
    EXPECT_FALSE(o.required && !o.fallback.empty()) << o.name;
  }
}

TEST(OptionTable, EveryDefaultIsAccepted) {
  for (const Option& o : option_table()) {
    RunSettings settings;
    if (o.fallback.empty()) continue;
    EXPECT_NO_THROW(o.set(settings, o.fallback)) << o.name;
  }
}

TEST(OptionTable, EveryChoiceIsAcceptedOrSaidNotToBeBuilt) {
  for (const Option& o : option_table()) {
    if (o.type.find(" | ") == std::string::npos || o.name == "checkpoint.resume" || o.name == "run.watchdog") continue;
    std::istringstream words(o.type);
    for (std::string word; words >> word;) {
      RunSettings settings;
      if (word == "|") continue;
      try {
        o.set(settings, word);
      } catch (const InputError& error) {
        EXPECT_EQ(std::string(error.what()),
                  fmt::format("{} = {} is not built yet; leave it out or write {}", o.name, word, o.fallback));
      }
    }
  }
}

TEST(OptionTable, SetsWhatItSays) {
  RunSettings s;
  option("run.wall_limit").set(s, "1:00:00");
  option("grid.shard").set(s, "3");
  option("data.separator").set(s, "17");
  option("train.reduce").set(s, "step");
  option("moe.auxiliary_coefficient").set(s, "0.25");
  option("checkpoint.resume").set(s, "/some/step-00000002.h5");
  EXPECT_EQ(s.wall_limit, 3600);
  EXPECT_EQ(s.grid.shard, 3);
  EXPECT_EQ(s.data.separator, 17);
  EXPECT_FALSE(s.reduce_every_micro_batch);
  EXPECT_EQ(s.auxiliary_coefficient, 0.25);
  EXPECT_EQ(s.resume, Resume::path);
  EXPECT_EQ(s.resume_path, "/some/step-00000002.h5");
}

TEST(OptionTable, RefusesWhatIsOutOfRange) {
  RunSettings s;
  for (const auto& [name, text] : std::vector<std::pair<std::string, std::string>>{{"train.steps", "0"},
                                                                                   {"train.global_batch", "0"},
                                                                                   {"train.micro_batch", "0"},
                                                                                   {"data.sequence", "1"},
                                                                                   {"optimizer.lr", "-1"},
                                                                                   {"optimizer.beta1", "1"},
                                                                                   {"optimizer.beta2", "1"},
                                                                                   {"checkpoint.keep", "0"},
                                                                                   {"log.every", "0"},
                                                                                   {"grid.expert", "0"},
                                                                                   {"moe.receive_bound", "0.9"},
                                                                                   {"run.seed", "-1"},
                                                                                   {"data.separator", "-1"},
                                                                                   {"grid.shard", "2000000"}})
    EXPECT_THROW(option(name).set(s, text), InputError) << name << " = " << text;
}

TEST(CheckCombinations, AcceptsWhatMakesSense) { EXPECT_NO_THROW(check_combinations(small_settings())); }

TEST(CheckCombinations, RefusesWhatNoSingleOptionSees) {
  const auto refused = [](auto change) {
    RunSettings settings = small_settings();
    change(settings);
    EXPECT_THROW(check_combinations(settings), InputError);
  };
  refused([](RunSettings& s) { s.data.format = DataFormat::rows; });
  refused([](RunSettings& s) { s.chunks = 2; });
  refused([](RunSettings& s) { s.optimizer.min_lr = 2e-3; });
  refused([](RunSettings& s) { s.optimizer.warmup = 101; });
  refused([](RunSettings& s) { s.validate_every = 1; });
}

TEST(OptionsHelp, NamesEveryOptionOfItsSectionAndFitsTheScreen) {
  std::istringstream lines(options_help(""));
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
  const std::string help = options_help("optimizer");
  for (const Option& o : option_table())
    EXPECT_EQ(help.find("  " + o.key() + " ") != std::string::npos && help.find(o.sentence) != std::string::npos,
              o.section() == "optimizer")
        << o.name;
}

TEST(OptionsHelp, RefusesAWrongSection) {
  try {
    options_help("optimiser");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(),
                 "there is no section optimiser; name one of run, model, grid, data, train, optimizer, moe, "
                 "checkpoint, log");
  }
}

}  // namespace
}  // namespace moesaic
