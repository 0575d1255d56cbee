#include "moesaic/kernels/rotary.hpp"

#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

class RotaryGpu : public GpuTest {
 protected:
  /// Heads within wider rows turn as the reference turns them, and what lies beside them stays.
  void check(DType type, std::int64_t tokens, std::int64_t width, RotaryPairs pairs, RotaryDirection direction) {
    SCOPED_TRACE(
        fmt::format("{} {} tokens, width {}, pairs {}", name_of(type), tokens, width, static_cast<int>(pairs)));
    const auto heads = [&](auto view) { return view.slice(1, width, 4 * width).split_last(3, width); };
    const HostTensor rows = random_tensor(type, {tokens, 5 * width}, 1);
    const HostTensor cosine = random_tensor(DType::f32, {50, width / 2}, 2),
                     sine = random_tensor(DType::f32, {50, width / 2}, 3);
    HostTensor positions(DType::i32, {tokens});
    fill_random_integers(positions, 4, 0, 49);
    HostTensor expected = converted(rows, DType::f64);
    reference::rotary(on_host, heads(expected.view()), converted(cosine, DType::f64), converted(sine, DType::f64),
                      positions, pairs, direction);
    const auto run = [&] {
      const Tensor x = to_device(rows);
      cuda::rotary(context, heads(x.view()), to_device(cosine), to_device(sine), to_device(positions), pairs,
                   direction);
      return to_host(x);
    };
    const HostTensor first = run(), second = run();
    EXPECT_LT(relative_error(first, expected), tolerance_of(type));
    EXPECT_EQ(max_difference(first, second), 0);
  }
};

TEST_F(RotaryGpu, EverySizeTypeAndPairing) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const RotaryPairs pairs : {RotaryPairs::halves, RotaryPairs::interleaved}) {
      for (const std::int64_t tokens : {0, 1, 131, 4099}) check(type, tokens, 128, pairs, RotaryDirection::forward);
      for (const std::int64_t width : {2, 6, 20, 64}) check(type, 131, width, pairs, RotaryDirection::backward);
    }
  }
}

}  // namespace
}  // namespace moesaic
