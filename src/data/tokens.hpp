#pragma once
/// What every source does with the tokens it reads.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace moesaic {

/// How many tokens at the beginning of a file are looked at when it is opened, so that a wrong vocabulary is refused
/// before training begins.
constexpr std::int64_t tokens_checked_at_opening = std::int64_t{1} << 20;

/// Index of the first id outside [0, vocabulary); ids.size() when there is none.
std::int64_t first_outside(std::span<const std::int64_t> ids, std::int64_t vocabulary);

/// Throws the InputError of an id outside the vocabulary; `place` is e.g. "row 3, column 5".
[[noreturn]] void refuse_id(const std::string& path, const std::string& place, std::int64_t id,
                            std::int64_t vocabulary);

/// documents[i] = number of separators among tokens [0, i): a separator belongs to the document that it ends.
/// Example, separator 0: tokens 5 0 7 8 0 9 are documents 0 0 1 1 1 2.
void number_documents(std::span<const std::int32_t> tokens, std::int64_t separator,
                      std::vector<std::int32_t>& documents);

}  // namespace moesaic
