#include "tokens.hpp"

#include <algorithm>

#include "moesaic/base/contract.hpp"

namespace moesaic {

std::int64_t first_outside(std::span<const std::int64_t> ids, std::int64_t vocabulary) {
  return std::ranges::find_if(ids, [=](std::int64_t id) { return id < 0 || id >= vocabulary; }) - ids.begin();
}

void refuse_id(const std::string& path, const std::string& place, std::int64_t id, std::int64_t vocabulary) {
  throw InputError(fmt::format(
      "{}: token {} in {} lies outside the model's vocabulary of {} (it has no embedding); encode the data with the "
      "model's tokenizer, or raise model.vocabulary",
      path, id, place, vocabulary));
}

void number_documents(std::span<const std::int32_t> tokens, std::int64_t separator,
                      std::vector<std::int32_t>& documents) {
  documents.clear();
  std::int32_t document = 0;
  for (std::int32_t token : tokens) {
    documents.push_back(document);
    document += token == separator ? 1 : 0;
  }
}

}  // namespace moesaic
