#include "moesaic/kernels/fill_normal.hpp"

#include <algorithm>
#include <span>

#include "moesaic/base/random.hpp"
#include "parallel.hpp"

namespace moesaic::reference {

void fill_normal(const OperatorContext&, std::uint64_t key, std::int64_t first, double stddev, View values) {
  constexpr std::int64_t chunk = 4096, cost = 64;
  MOESAIC_EXPECT(values.contiguous());
  float* out = values.data<float>();
  parallel_for((values.size() + chunk - 1) / chunk, chunk * cost, [&](std::int64_t c) {
    const std::int64_t begin = c * chunk, count = std::min(chunk, values.size() - begin);
    moesaic::fill_normal(key, static_cast<std::uint64_t>(first + begin),
                         std::span(out + begin, static_cast<std::size_t>(count)), stddev);
  });
}

}  // namespace moesaic::reference
