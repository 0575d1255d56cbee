#include "agreement.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/io/output_file.hpp"

namespace moesaic {
namespace {

struct Attempt {
  std::exception_ptr error;
  std::optional<std::string> no_space;
};

Attempt attempt(const std::function<void()>& work) {
  try {
    work();
    return {};
  } catch (const DiskFullError& error) {
    return {.error = std::current_exception(), .no_space = error.what()};
  } catch (...) {
    return {.error = std::current_exception(), .no_space = std::nullopt};
  }
}

}  // namespace

void meet_quietly(MpiCommunicator& ranks) {
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Ibarrier(ranks.mpi(), &request), "MPI_Ibarrier");
  for (int met = 0; check_mpi(MPI_Test(&request, &met, MPI_STATUS_IGNORE), "MPI_Test"), met == 0;)
    std::this_thread::sleep_for(std::chrono::microseconds(500));
}

void save_together(MpiCommunicator& ranks, const std::function<void()>& work) {
  const Attempt mine = attempt(work);
  meet_quietly(ranks);
  const std::int32_t full = mine.no_space ? 1 : 0;
  std::vector<std::int32_t> all(static_cast<std::size_t>(ranks.size()));
  ranks.all_gather(host_view(&full, {1}), host_view(all.data(), {ranks.size()}));
  const auto first = std::find(all.begin(), all.end(), 1);
  if (first != all.end())
    throw NoSpaceError(broadcast_text(ranks, mine.no_space.value_or(""), static_cast<int>(first - all.begin())));
  together(ranks, [&] {
    if (mine.error) std::rethrow_exception(mine.error);
  });
}

}  // namespace moesaic
