#include "moesaic/comm/agreement.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace moesaic {
namespace {

enum Outcome : std::int32_t { fine, bad_input, broken };

Outcome attempt(const std::function<void()>& work, std::string& message) {
  try {
    work();
    return fine;
  } catch (const InputError& error) {
    message = error.what();
    return bad_input;
  } catch (const std::exception& error) {
    message = error.what();
    return broken;
  }
}

}  // namespace

std::string broadcast_text(Communicator& ranks, std::string text, int root) {
  auto length = static_cast<std::int64_t>(text.size());
  ranks.broadcast(host_view(&length, {1}), root);
  std::vector<std::uint8_t> bytes(text.begin(), text.end());
  bytes.resize(static_cast<std::size_t>(length));
  ranks.broadcast(host_view(bytes.data(), {length}), root);
  return {bytes.begin(), bytes.end()};
}

void together(Communicator& ranks, const std::function<void()>& work) {
  std::string message;
  const std::int32_t mine = attempt(work, message);
  std::vector<std::int32_t> outcomes(static_cast<std::size_t>(ranks.size()));
  ranks.all_gather(host_view(&mine, {1}), host_view(outcomes.data(), {ranks.size()}));
  const auto failed = std::find_if(outcomes.begin(), outcomes.end(), [](std::int32_t o) { return o != fine; });
  if (failed == outcomes.end()) return;
  message = broadcast_text(ranks, std::move(message), static_cast<int>(failed - outcomes.begin()));
  if (*failed == bad_input) throw AgreedInputError(message);
  throw AgreedRunError(message);
}

}  // namespace moesaic
