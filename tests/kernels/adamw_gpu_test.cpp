#include "moesaic/kernels/adamw.hpp"
#include "moesaic/kernels/elementwise.hpp"

#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

struct State {
  HostTensor parameters, first_moment, second_moment, copy;
};

AdamwStep step_number(std::int64_t step) {
  return {
      .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .gradient_scale = 0.5, .step = step};
}

/// Parameters and moments as earlier steps could have left them (the second moment is a square).
State earlier(std::int64_t size, DType moments) {
  State state{random_tensor(DType::f32, {size}, 1), random_tensor(moments, {size}, 2, 0.25),
              random_tensor(moments, {size}, 3, 0.25), random_tensor(DType::bf16, {size}, 4)};
  for (std::int64_t i = 0; i < size; ++i) {
    set_element(state.second_moment, i, std::abs(element(state.second_moment, i)));
  }
  return state;
}

class AdamwGpu : public GpuTest {
 protected:
  /// Three steps on the elements [skip, size) agree with the reference; a second run gives the same bits.
  void check(std::int64_t size, DType moments, std::int64_t skip = 0) {
    SCOPED_TRACE(fmt::format("{} elements from {}, moments {}", size, skip, name_of(moments)));
    State expected = earlier(size, moments);
    for (const std::int64_t step : {1, 2, 3}) {
      reference::adamw(on_host, step_number(step), gradient(size, step).view().rows(skip, size),
                       expected.parameters.view().rows(skip, size), expected.first_moment.view().rows(skip, size),
                       expected.second_moment.view().rows(skip, size),
                       step == 2 ? View() : expected.copy.view().rows(skip, size));
    }
    const State first = run(size, moments, skip), second = run(size, moments, skip);
    EXPECT_LT(relative_error(first.parameters, expected.parameters), moments == DType::f32 ? 1e-6 : 1e-4);
    EXPECT_LT(relative_error(first.first_moment, expected.first_moment), tolerance_of(moments));
    EXPECT_LT(relative_error(first.second_moment, expected.second_moment), tolerance_of(moments));
    EXPECT_LT(relative_error(first.copy, expected.copy), tolerance_of(DType::bf16));
    EXPECT_EQ(max_difference(first.copy, rounded(first.parameters, skip, first.copy)), 0);
    EXPECT_EQ(max_difference(first.parameters, second.parameters), 0);
    EXPECT_EQ(max_difference(first.first_moment, second.first_moment), 0);
    EXPECT_EQ(max_difference(first.second_moment, second.second_moment), 0);
  }

 private:
  /// The parameters rounded, but for what was skipped, which `copy` still has.
  HostTensor rounded(const HostTensor& parameters, std::int64_t skip, HostTensor copy) {
    const std::int64_t size = copy.view().size();
    reference::copy(on_host, parameters.view().rows(skip, size), copy.view().rows(skip, size));
    return copy;
  }
  static HostTensor gradient(std::int64_t size, std::int64_t step) {
    return random_tensor(DType::f32, {size}, static_cast<std::uint32_t>(10 + step));
  }

  State run(std::int64_t size, DType moments, std::int64_t skip) {
    const State before = earlier(size, moments);
    const Tensor p = to_device(before.parameters), m = to_device(before.first_moment);
    const Tensor v = to_device(before.second_moment), copy = to_device(before.copy);
    for (const std::int64_t step : {1, 2, 3}) {
      const Tensor g = to_device(gradient(size, step));
      cuda::adamw(context, step_number(step), g.view().rows(skip, size), p.view().rows(skip, size),
                  m.view().rows(skip, size), v.view().rows(skip, size),
                  step == 2 ? View() : copy.view().rows(skip, size));
    }
    return {to_host(p), to_host(m), to_host(v), to_host(copy)};
  }
};

TEST_F(AdamwGpu, EverySizeAndType) {
  for (const DType moments : {DType::f32, DType::bf16}) {
    for (const std::int64_t size : {0, 1, 3, 131, 1000003}) check(size, moments);
  }
}

TEST_F(AdamwGpu, SlicesNeedNoAlignment) {
  for (const DType moments : {DType::f32, DType::bf16}) {
    check(131, moments, 1);
    check(4099, moments, 2);
    check(4099, moments, 4);
  }
}

}  // namespace
}  // namespace moesaic
