#include "moesaic/app/deck.hpp"

#include <algorithm>
#include <boost/program_options.hpp>
#include <fstream>
#include <map>

#include "moesaic/app/option_table.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/base/text.hpp"

namespace moesaic {
namespace po = boost::program_options;
namespace {

po::options_description descriptions() {
  po::options_description all;
  for (const Option& option : option_table()) all.add_options()(option.name.c_str(), po::value<std::string>());
  return all;
}

/// "key=value" without dashes is an option too.
std::pair<std::string, std::string> bare_assignment(const std::string& word) {
  const auto equals = word.find('=');
  if (word.starts_with("-") || equals == std::string::npos) return {};
  return {word.substr(0, equals), word.substr(equals + 1)};
}

[[noreturn]] void refuse_unknown(const std::string& key, const std::string& where) {
  std::vector<std::string> names;
  for (const Option& option : option_table()) names.push_back(option.name);
  throw InputError(fmt::format("unknown key {} in {} (nothing would read it); did you mean {}?", key, where,
                               nearest_name(key, names)));
}

/// Parses with `parse`, turning Boost's complaints into ours.
template <class Parse> po::parsed_options parsed(const std::string& where, Parse parse) {
  try {
    return parse();
  } catch (const po::unknown_option& error) {
    std::string key = error.get_option_name();
    refuse_unknown(key.substr(std::min(key.find_first_not_of('-'), key.size())), where);
  } catch (const po::error& error) {
    throw InputError(fmt::format("{}: {}; write key = value (deck) or key=value (command line)", where, error.what()));
  }
}

po::parsed_options parse_overrides(const std::vector<std::string>& overrides, const po::options_description& known) {
  for (const std::string& word : overrides)
    MOESAIC_VALIDATE(word.find('=') != std::string::npos, "{} on the command line is not an option; write key=value", word);
  const po::positional_options_description none;
  return parsed("the command line", [&] {
    using namespace po::command_line_style;
    return po::command_line_parser(overrides).options(known).positional(none).extra_parser(bare_assignment)
        .style(allow_long | long_allow_adjacent).run();
  });
}

po::parsed_options parse_file(const std::filesystem::path& deck, const po::options_description& known) {
  std::ifstream file(deck);
  MOESAIC_VALIDATE(file && !std::filesystem::is_directory(deck), "deck {} cannot be read; check the path", deck.string());
  return parsed(deck.string(), [&] { return po::parse_config_file(file, known); });
}

using Values = std::map<std::string, std::string>;

/// Adds what is not in `values` yet; a key twice within one source is a mistake.
void add(Values& values, const po::parsed_options& source, const std::string& where) {
  Values mine;
  for (const auto& option : source.options) {
    const bool fresh = mine.emplace(option.string_key, option.value.empty() ? "" : option.value.front()).second;
    MOESAIC_VALIDATE(fresh, "{} is given twice in {} (which one counts?); remove one", option.string_key, where);
  }
  values.merge(mine);
}

void set_all(const Values& values, RunSettings& settings) {
  for (const Option& option : option_table()) {
    const auto given = values.find(option.name);
    MOESAIC_VALIDATE(!option.required || given != values.end(), "{} is missing ({}); set it in the deck", option.name,
                     option.sentence);
    if (given != values.end())
      option.set(settings, given->second);
    else if (!option.fallback.empty())
      option.set(settings, option.fallback);
  }
}

/// Every key with its value, as a deck that gives the same settings again.
std::string resolved_deck(const Values& values) {
  std::string text, section;
  for (const Option& option : option_table()) {
    if (option.section() != section) text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", option.section());
    section = option.section();
    const auto given = values.find(option.name);
    const std::string& value = given == values.end() ? option.fallback : given->second;
    if (!value.empty()) text += fmt::format("{} = {}\n", option.key(), value);
  }
  return text;
}

}  // namespace

RunSettings read_deck(const std::filesystem::path& deck, const std::vector<std::string>& overrides) {
  const po::options_description known = descriptions();
  Values values;
  add(values, parse_overrides(overrides, known), "the command line");
  add(values, parse_file(deck, known), deck.string());
  RunSettings settings;
  set_all(values, settings);
  check_combinations(settings);
  settings.deck = resolved_deck(values);
  return settings;
}

std::string options_help(const std::string& section) {
  std::string text, shown;
  for (const Option& option : option_table()) {
    if (!section.empty() && option.section() != section) continue;
    if (option.section() != shown) text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", option.section());
    shown = option.section();
    const std::string fallback = option.required ? "required" : option.fallback.empty() ? "" : option.fallback;
    text += fmt::format("  {:<22} {}{}\n", option.key(), option.sentence, option.unit.empty() ? "" : ", in " + option.unit);
    text += fmt::format("  {:<22} {}{}\n", "", option.type, fallback.empty() ? "" : " (" + fallback + ")");
  }
  MOESAIC_VALIDATE(!text.empty(), "there is no section {} (the deck has run, model, grid, data, train, optimizer, moe, "
                   "checkpoint and log); name one of these", section);
  return text;
}

}  // namespace moesaic
