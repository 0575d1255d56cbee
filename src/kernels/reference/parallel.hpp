#pragma once
/// Threads for loops over independent items. Which thread runs an item never changes its result.

#include <algorithm>
#include <cstdint>

namespace moesaic::reference {

/// Below this many elementary operations (about 10 microseconds) a team of threads costs more than it saves.
inline constexpr std::int64_t parallel_threshold = 32768;

/// body(i) for i in [0, count), by threads when count * cost_per_item pays for them.
template <class Body> void parallel_for(std::int64_t count, std::int64_t cost_per_item, const Body& body) {
#pragma omp parallel for schedule(static) if (count > 1 && count * cost_per_item >= parallel_threshold)
  for (std::int64_t i = 0; i < count; ++i) body(i);
}

/// body(chunk, begin, end) for the chunks [begin, end) of `chunk_size` that tile [0, size).
template <class Body>
void parallel_chunks(std::int64_t size, std::int64_t chunk_size, std::int64_t cost_per_item, const Body& body) {
  parallel_for((size + chunk_size - 1) / chunk_size, chunk_size * cost_per_item, [&](std::int64_t chunk) {
    const std::int64_t begin = chunk * chunk_size;
    body(chunk, begin, std::min(size, begin + chunk_size));
  });
}

}  // namespace moesaic::reference
