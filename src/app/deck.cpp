#include "moesaic/app/deck.hpp"

#include <boost/program_options.hpp>
#include <algorithm>
#include <fstream>
#include <map>

#include "moesaic/app/option_table.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/base/text.hpp"

namespace moesaic {
namespace po = boost::program_options;
namespace {

/// The implicit value lets "key=" give the empty one.
po::options_description descriptions() {
  po::options_description all;
  for (const Option& option : option_table())
    all.add_options()(option.name.c_str(), po::value<std::string>()->implicit_value(""));
  return all;
}

/// "key=value" or "--key=value", with any value.
std::pair<std::string, std::string> assignment(const std::string& word) {
  const std::size_t begin = word.starts_with("--") ? 2 : 0, equals = word.find('=');
  return {word.substr(begin, equals - begin), word.substr(equals + 1)};
}

/// The option that `key` was meant to be; a key without its section is looked for in all sections.
std::string nearest_option(const std::string& key) {
  std::vector<std::string> names;
  for (const Option& option : option_table()) {
    if (option.key() == key) return option.name;
    names.push_back(option.name);
  }
  return nearest_name(key, names);
}

[[noreturn]] void refuse_unknown(const std::string& key, const std::string& where) {
  throw InputError(
      fmt::format("unknown key {} in {} (nothing would read it); did you mean {}?", key, where, nearest_option(key)));
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

/// A word must survive in the dumped deck, where # begins a comment and a line ends a value.
void check_override(const std::string& word) {
  const bool one_dash = word.starts_with("-") && !word.starts_with("--");
  MOESAIC_VALIDATE(
      word.find('=') != std::string::npos && !one_dash && !word.starts_with("=") && !word.starts_with("--="),
      "{} on the command line is not an option; write key=value, such as train.steps=100", word);
  MOESAIC_VALIDATE(word.find_first_of("#\n") == std::string::npos,
                   "{} holds a # or a line break (a deck would end the value there); use another name", word);
}

po::parsed_options parse_overrides(const std::vector<std::string>& overrides, const po::options_description& known) {
  for (const std::string& word : overrides) check_override(word);
  const po::positional_options_description none;
  namespace style = po::command_line_style;
  constexpr int whole_keys = style::unix_style & ~style::allow_guessing;
  return parsed("the command line", [&] {
    return po::command_line_parser(overrides)
        .options(known)
        .positional(none)
        .style(whole_keys)
        .extra_parser(assignment)
        .run();
  });
}

po::parsed_options parse_file(const std::filesystem::path& deck, const po::options_description& known) {
  std::ifstream file(deck);
  MOESAIC_VALIDATE(file && !std::filesystem::is_directory(deck), "deck {} cannot be read; check the path",
                   deck.string());
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

/// A key with an empty value is as good as left out: a command line can undo what the deck sets.
Values all_values(const std::filesystem::path& deck, const std::vector<std::string>& overrides) {
  const po::options_description known = descriptions();
  Values values;
  add(values, parse_overrides(overrides, known), "the command line");
  add(values, parse_file(deck, known), deck.string());
  std::erase_if(values, [](const auto& entry) { return entry.second.empty(); });
  return values;
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

/// "integer, steps (default 1)"
std::string value_help(const Option& option) {
  std::string notes = option.required ? "required" : option.fallback.empty() ? "" : "default " + option.fallback;
  if (option.fixed) notes += notes.empty() ? "not built yet" : ", nothing else is built yet";
  const std::string unit = option.unit.empty() ? "" : ", " + option.unit;
  return option.type + unit + (notes.empty() ? "" : " (" + notes + ")");
}

/// "run, model, ..."
std::string sections() {
  std::string text, last;
  for (const Option& option : option_table()) {
    if (option.section() != last) text += (text.empty() ? "" : ", ") + option.section();
    last = option.section();
  }
  return text;
}

}  // namespace

RunSettings read_deck(const std::filesystem::path& deck, const std::vector<std::string>& overrides) {
  const Values values = all_values(deck, overrides);
  RunSettings settings;
  set_all(values, settings);
  check_combinations(settings);
  settings.deck = resolved_deck(values);
  settings.default_deck = resolved_deck({});
  return settings;
}

std::string options_help(const std::string& section) {
  std::string text, shown;
  for (const Option& option : option_table()) {
    if (!section.empty() && option.section() != section) continue;
    if (option.section() != shown) text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", option.section());
    shown = option.section();
    text += fmt::format("  {:<22} {}\n  {:<22} {}\n", option.key(), option.sentence, "", value_help(option));
  }
  MOESAIC_VALIDATE(!text.empty(), "there is no section {}; name one of {}", section, sections());
  return text;
}

}  // namespace moesaic
