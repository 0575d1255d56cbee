#include "moesaic/checkpoint/hf_copies.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "moesaic/base/log.hpp"
#include "moesaic/comm/agreement.hpp"
#include "moesaic/io/hf_tensor.hpp"

namespace moesaic {
namespace {

/// A copy that is there, and what it copies.
struct Pair {
  HfTensor copy, original;
};

std::vector<Pair> pairs_in(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces) {
  std::vector<Pair> pairs;
  for (const HfPiece& piece : pieces) {
    const auto copy = piece.copy ? find_hf_tensor(folder, piece.tensor) : std::nullopt;
    const auto original = std::find_if(pieces.begin(), pieces.end(), [&piece](const HfPiece& other) {
      return !other.copy && other.parameter == piece.parameter;
    });
    if (copy && original != pieces.end()) pairs.push_back({*copy, *find_hf_tensor(folder, original->tensor)});
  }
  return pairs;
}

/// Bit by bit, of the elements of a block.
bool differ(const SafetensorsFolder& folder, const Pair& pair, Block elements) {
  constexpr std::int64_t at_once = std::int64_t{1} << 20;
  std::vector<float> copy(static_cast<std::size_t>(std::min(at_once, elements.size()))), original(copy.size());
  for (std::int64_t begin = elements.begin; begin < elements.end; begin += at_once) {
    const Block now{begin, std::min(begin + at_once, elements.end)};
    read_hf_tensor(folder, pair.copy, now, copy.data());
    read_hf_tensor(folder, pair.original, now, original.data());
    if (std::memcmp(copy.data(), original.data(), static_cast<std::size_t>(now.size()) * sizeof(float)) != 0)
      return true;
  }
  return false;
}

}  // namespace

std::vector<std::string> differing_copies(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces,
                                          Communicator& ranks) {
  std::vector<Pair> pairs;
  std::vector<std::int64_t> apart;
  together(ranks, [&] {
    pairs = pairs_in(folder, pieces);
    for (const Pair& pair : pairs) {
      const Block mine = block_of(pair.copy.size(), ranks.size(), ranks.rank());
      apart.push_back(pair.copy.shape != pair.original.shape || differ(folder, pair, mine) ? 1 : 0);
    }
  });
  if (!apart.empty()) ranks.all_reduce(host_view(apart.data(), {std::ssize(apart)}));
  std::vector<std::string> names;
  for (std::size_t i = 0; i < apart.size(); ++i)
    if (apart[i] > 0) names.push_back(pairs[i].copy.name);
  return names;
}

void warn_of_differing_copies(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces,
                              Communicator& ranks) {
  const std::vector<std::string> names = differing_copies(folder, pieces, ranks);
  if (names.empty() || ranks.rank() != 0) return;
  log_warn(
      "{}: {} {} not the model's own embedding or head (multi-token prediction shares them); what the folder holds "
      "there is not read, and an export writes the model's own",
      folder.path().string(), fmt::join(names, " and "), names.size() == 1 ? "is" : "are");
}

}  // namespace moesaic
