#include "moesaic/kernels/gemm.hpp"

#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

struct Product {
  std::int64_t m, n, k;
  DType inputs, output;
  Transpose transpose_a = Transpose::no, transpose_b = Transpose::no;
  double alpha = 1, beta = 0;
};

Extents extents_of(std::int64_t rows, std::int64_t columns, Transpose transpose) {
  return transpose == Transpose::yes ? Extents{columns, rows} : Extents{rows, columns};
}

class GemmGpu : public GpuTest {
 protected:
  /// The product on the device agrees with the reference in double, and a second run gives the same bits.
  void check(const Product& p) {
    SCOPED_TRACE(fmt::format("{}x{}x{} {} to {} transposed {}{} beta {}", p.m, p.n, p.k, name_of(p.inputs),
                             name_of(p.output), static_cast<int>(p.transpose_a), static_cast<int>(p.transpose_b),
                             p.beta));
    const HostTensor a = random_tensor(p.inputs, extents_of(p.m, p.k, p.transpose_a), 1);
    const HostTensor b = random_tensor(p.inputs, extents_of(p.k, p.n, p.transpose_b), 2);
    const HostTensor c = random_tensor(p.output, {p.m, p.n}, 3);
    HostTensor expected = converted(c, DType::f64);
    reference::gemm(on_host, p.transpose_a, p.transpose_b, p.alpha, converted(a, DType::f64), converted(b, DType::f64),
                    p.beta, expected);
    const HostTensor first = run(p, a, b, c), second = run(p, a, b, c);
    EXPECT_LT(relative_error(first, expected), tolerance_of(p.output));
    EXPECT_EQ(max_difference(first, second), 0);
  }

 private:
  HostTensor run(const Product& p, ConstView a, ConstView b, ConstView c) {
    const Tensor out = p.beta == 0 ? poisoned(p.output, c.extents()) : to_device(c);
    cuda::gemm(context, p.transpose_a, p.transpose_b, p.alpha, to_device(a), to_device(b), p.beta, out);
    return to_host(out);
  }
};

constexpr std::pair<DType, DType> types[] = {
    {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}, {DType::f32, DType::f32}, {DType::f64, DType::f64}};

TEST_F(GemmGpu, EverySizeAndType) {
  for (const auto& [inputs, output] : types) {
    check({1, 1, 1, inputs, output});
    check({131, 1, 131, inputs, output});
    check({1, 131, 17, inputs, output});
    check({131, 131, 131, inputs, output});
    check({1025, 515, 771, inputs, output});
    check({512, 384, 1536, inputs, output});
  }
}

TEST_F(GemmGpu, EveryTransposition) {
  for (const auto& [inputs, output] : types) {
    for (const Transpose a : {Transpose::no, Transpose::yes}) {
      for (const Transpose b : {Transpose::no, Transpose::yes}) check({131, 67, 33, inputs, output, a, b});
    }
  }
}

TEST_F(GemmGpu, ScalesAndAdds) {
  for (const auto& [inputs, output] : types) {
    check({131, 65, 96, inputs, output, Transpose::yes, Transpose::no, 1, 1});
    check({131, 65, 96, inputs, output, Transpose::no, Transpose::yes, 0.5, 0.25});
  }
}

TEST_F(GemmGpu, EmptyExtents) {
  for (const auto& [inputs, output] : types) {
    check({0, 131, 5, inputs, output});
    check({131, 0, 5, inputs, output});
    check({131, 7, 0, inputs, output});
    check({131, 7, 0, inputs, output, Transpose::no, Transpose::no, 1, 1});
  }
}

TEST_F(GemmGpu, RowsMayBeStrided) {
  const HostTensor a = random_tensor(DType::f32, {131, 80}, 1), b = random_tensor(DType::f32, {40, 90}, 2);
  HostTensor expected(DType::f32, {131, 30});
  const Tensor device_a = to_device(a), device_b = to_device(b), out = poisoned(DType::f32, {131, 50});
  const auto window = [](auto view, std::int64_t begin, std::int64_t end) { return view.slice(1, begin, end); };
  reference::gemm(on_host, Transpose::no, Transpose::no, 1, window(a.view(), 7, 47), window(b.view(), 11, 41), 0,
                  expected);
  cuda::gemm(context, Transpose::no, Transpose::no, 1, window(device_a.view(), 7, 47), window(device_b.view(), 11, 41),
             0, window(out.view(), 3, 33));
  const HostTensor result = to_host(out);
  EXPECT_LT(relative_error(window(result.view(), 3, 33), expected), 1e-5);
  EXPECT_TRUE(std::isnan(element(result, 2)) && std::isnan(element(result, 33)))
      << "beside the window nothing is written";
}

TEST_F(GemmGpu, FloatIsNotTruncated) {
  // 1 + 2^-20 needs more than TF32's 10 bits.
  const HostTensor a = make_tensor(DType::f32, {1, 1}, {1 + 0x1p-20}), b = make_tensor(DType::f32, {1, 1}, {1});
  const Tensor out = poisoned(DType::f32, {1, 1});
  cuda::gemm(context, Transpose::no, Transpose::no, 1, to_device(a), to_device(b), 0, out);
  EXPECT_EQ(element(to_host(out), 0), 1 + 0x1p-20);
}

TEST_F(GemmGpu, GivesItsWorkspaceBack) {
  check({131, 131, 16384, DType::bf16, DType::bf16, Transpose::yes, Transpose::no});  // worth cutting along k
  EXPECT_EQ(arena->used(Label::workspace), 0);
}

}  // namespace
}  // namespace moesaic
