#pragma once
/// What a restart may change of its deck.

#include <string>
#include <vector>

namespace moesaic {

/// One key whose value is another one now; a key that is left out has the empty value.
struct DeckChange {
  std::string key;  ///< "section.key"
  std::string before, now;
  bool allowed = false;  ///< it does not change what is computed, or it says for how long
};

/// Compares two resolved decks (sections of "key = value" lines), in the order of keys. A key that `before` lacks, as the
/// program that wrote it did not know it, has its value in `defaults`.
std::vector<DeckChange> deck_changes(const std::string& before, const std::string& now, const std::string& defaults);

/// InputError that names every key that may not change; none when all may.
void refuse_changes(const std::vector<DeckChange>& changes, const std::string& directory);

}  // namespace moesaic
