#include "moesaic/kernels/attention.hpp"
#include "moesaic/kernels/attention_workspace.hpp"

#include "support/gpu.hpp"
#include "support/random.hpp"

#include <optional>

namespace moesaic {
namespace {

struct Shape {
  std::int64_t batch, queries, keys, heads, key_heads, width, value_width;
};

struct Mask {
  bool causal = true;
  std::optional<std::int64_t> offset = std::nullopt;
  std::int64_t window = 0;
  std::int64_t document = 0;   ///< 0: none; else every so many positions a new one begins
  std::int64_t recurs = 1000;  ///< after so many documents the first goes on
};

HostTensor documents(std::int64_t batch, std::int64_t length, const Mask& m) {
  HostTensor numbers(DType::i32, {batch, length});
  for (std::int64_t i = 0; i < batch * length; ++i)
    set_element(numbers, i, static_cast<double>(i % length / m.document % m.recurs));
  return numbers;
}

/// Results of one forward and backward.
struct Results {
  HostTensor out, log_sum_exp, q_gradient, k_gradient, v_gradient;
};

class AttentionGpu : public GpuTest {
 protected:
  /// All outputs agree with the reference in double on the same inputs, and a second run gives the same bits.
  void check(DType type, const Shape& s, const Mask& m = {}) {
    SCOPED_TRACE(fmt::format("{} {}x{}->{} heads {}/{} width {}/{} causal {} window {} documents {}", name_of(type),
                             s.batch, s.queries, s.keys, s.heads, s.key_heads, s.width, s.value_width, m.causal,
                             m.window, m.document));
    q = random_tensor(type, {s.batch, s.queries, s.heads, s.width}, 1, 2);
    k = random_tensor(type, {s.batch, s.keys, s.key_heads, s.width}, 2, 2);
    v = random_tensor(type, {s.batch, s.keys, s.key_heads, s.value_width}, 3);
    out_gradient = random_tensor(type, {s.batch, s.queries, s.heads, s.value_width}, 4);
    scale = 1 / std::sqrt(static_cast<double>(s.width));
    const Results first = run(m), second = run(m), expected = reference_of(m);
    compare(first.out, second.out, expected.out, tolerance_of(type));
    compare(first.log_sum_exp, second.log_sum_exp, expected.log_sum_exp, 1e-5);
    compare(first.q_gradient, second.q_gradient, expected.q_gradient, gradient_tolerance(type));
    compare(first.k_gradient, second.k_gradient, expected.k_gradient, gradient_tolerance(type));
    compare(first.v_gradient, second.v_gradient, expected.v_gradient, gradient_tolerance(type));
  }

  /// Gradients see probabilities and their derivatives rounded to bf16 on the way, and an output rounded to bf16.
  static double gradient_tolerance(DType type) { return type == DType::bf16 ? 1e-2 : tolerance_of(type); }

  static void compare(const HostTensor& first, const HostTensor& second, const HostTensor& expected, double tolerance) {
    EXPECT_EQ(max_difference(without_infinity(first), without_infinity(second)), 0);
    EXPECT_LT(relative_error(without_infinity(first), without_infinity(expected)), tolerance);
    for (std::int64_t i = 0; i < expected.view().size(); ++i)
      ASSERT_EQ(std::isinf(element(first, i)), std::isinf(element(expected, i)));
  }

  /// -inf - -inf is no number.
  static HostTensor without_infinity(const HostTensor& values) {
    HostTensor result = values;
    for (std::int64_t i = 0; i < values.view().size(); ++i)
      if (std::isinf(element(values, i))) set_element(result, i, 0);
    return result;
  }

  Results run(const Mask& m) {
    const auto [batch, queries, heads, width] = sizes_of(q);
    const std::int64_t keys = k.view().extent(1);
    const AttentionMask host = mask_of(m);
    AttentionMask mask = host;
    Tensor query_documents, key_documents;
    if (m.document > 0) {
      mask.query_documents = query_documents = to_device(documents(batch, queries, m));
      mask.key_documents = key_documents = to_device(documents(batch, keys, m));
    }
    const Tensor dq = to_device(q), dk = to_device(k), dv = to_device(v), dout = to_device(out_gradient);
    const Tensor out = poisoned(q.view().dtype(), out_gradient.view().extents());
    const Tensor lse = poisoned(DType::f32, {batch, heads, queries});
    const Tensor gq = poisoned(q.view().dtype(), q.view().extents()),
                 gk = poisoned(q.view().dtype(), k.view().extents()),
                 gv = poisoned(q.view().dtype(), v.view().extents());
    cuda::attention_forward(context, mask, scale, dq, dk, dv, out, lse);
    cuda::attention_backward(context, mask, scale, dq, dk, dv, out, lse, dout, gq, gk, gv);
    return {to_host(out), to_host(lse), to_host(gq), to_host(gk), to_host(gv)};
  }

  Results reference_of(const Mask& m) {
    const auto [batch, queries, heads, width] = sizes_of(q);
    AttentionMask mask = mask_of(m);
    HostTensor query_documents(DType::i32, {1, 1}), key_documents(DType::i32, {1, 1});
    if (m.document > 0) {
      query_documents = documents(batch, queries, m);
      key_documents = documents(batch, k.view().extent(1), m);
      mask.query_documents = query_documents;
      mask.key_documents = key_documents;
    }
    const HostTensor q64 = converted(q, DType::f64), k64 = converted(k, DType::f64), v64 = converted(v, DType::f64);
    Results r{HostTensor(DType::f64, out_gradient.view().extents()), HostTensor(DType::f64, {batch, heads, queries}),
              HostTensor(DType::f64, q.view().extents()), HostTensor(DType::f64, k.view().extents()),
              HostTensor(DType::f64, v.view().extents())};
    reference::attention_forward(on_host, mask, scale, q64, k64, v64, r.out, r.log_sum_exp);
    reference::attention_backward(on_host, mask, scale, q64, k64, v64, r.out, r.log_sum_exp,
                                  converted(out_gradient, DType::f64), r.q_gradient, r.k_gradient, r.v_gradient);
    return r;
  }

  static AttentionMask mask_of(const Mask& m) { return {.causal = m.causal, .offset = m.offset, .window = m.window}; }
  static std::array<std::int64_t, 4> sizes_of(const HostTensor& x) {
    const Extents e = x.view().extents();
    return {e[0], e[1], e[2], e[3]};
  }

  HostTensor q{DType::f32, {0}}, k{DType::f32, {0}}, v{DType::f32, {0}}, out_gradient{DType::f32, {0}};
  double scale = 1;
};

TEST_F(AttentionGpu, Causal) {
  for (const DType type : {DType::bf16, DType::f32}) {
    check(type, {2, 256, 256, 4, 2, 128, 128});
    check(type, {2, 256, 256, 8, 1, 64, 64});
    check(type, {1, 131, 131, 2, 2, 128, 128});
    check(type, {1, 1, 1, 2, 1, 64, 64});
    check(type, {1, 77, 77, 2, 1, 32, 32});
    check(type, {1, 33, 33, 3, 3, 20, 12});  // no width of cuDNN's
    check(type, {1, 40, 40, 2, 1, 300, 260});
  }
}

TEST_F(AttentionGpu, Latent) {
  for (const DType type : {DType::bf16, DType::f32}) check(type, {2, 192, 192, 4, 4, 192, 128});
}

TEST_F(AttentionGpu, Windows) {
  for (const DType type : {DType::bf16, DType::f32}) {
    check(type, {1, 384, 384, 4, 2, 64, 64}, {.window = 128});
    check(type, {1, 200, 200, 4, 2, 64, 64}, {.window = 2});  // of one key alone the gradients are nothing but rounding
    check(type, {1, 200, 200, 2, 2, 128, 128}, {.window = 37});
    check(type, {1, 64, 64, 2, 2, 128, 128}, {.window = 1000});
  }
}

/// All positions are of one document: cuDNN has no such mask, so that flash attention runs whatever the window.
Mask by_flash(Mask m) {
  m.document = 1 << 20;
  return m;
}

TEST_F(AttentionGpu, WindowsByFlash) {
  for (const std::int64_t window : {0, 2, 7, 64, 128, 129, 500}) {
    check(DType::bf16, {2, 323, 323, 8, 1, 64, 64}, by_flash({.window = window}));
    check(DType::bf16, {1, 301, 301, 2, 2, 128, 128}, by_flash({.window = window}));
  }
  check(DType::bf16, {1, 300, 300, 2, 2, 192, 128}, by_flash({.window = 100}));
  check(DType::bf16, {1, 64, 191, 16, 2, 64, 64}, by_flash({.offset = 127, .window = 128}));    // a block of a halo
  check(DType::bf16, {3, 1, 300, 4, 2, 64, 64}, by_flash({.window = 128}));                     // the next token
  check(DType::bf16, {1, 300, 300, 2, 1, 64, 64}, by_flash({.offset = -40, .window = 128}));    // the first see nothing
  check(DType::bf16, {1, 300, 300, 2, 1, 128, 128}, by_flash({.offset = 250, .window = 128}));  // nor do the last
  check(DType::bf16, {1, 300, 300, 2, 1, 64, 64}, by_flash({.causal = false, .window = 33}));   // all later keys too
  check(DType::bf16, {1, 300, 300, 2, 1, 64, 64}, by_flash({.offset = 1000, .window = 33}));    // nothing at all
  check(DType::bf16, {2, 131, 300, 4, 2, 128, 128}, by_flash({.causal = false}));
}

TEST_F(AttentionGpu, WindowsOfLongSequences) {
  for (const bool deterministic : {true, false}) {
    context.deterministic = deterministic;
    const AttentionSizes sizes{1, 531, 531, 8, 2, 64, 64, 128};
    ASSERT_TRUE(prefer_flash_backward(sizes, deterministic));
    arena->reset_peaks();
    check(DType::bf16, {1, 531, 531, 8, 2, 64, 64}, {.window = 128});
    // What cuDNN's forward takes is less than this.
    EXPECT_LE(arena->peak(Label::workspace), attention_backward_workspace(sizes, deterministic) + (1 << 16));
    check(DType::bf16, {1, 519, 519, 2, 2, 128, 128}, {.window = 129});
  }
}

TEST_F(AttentionGpu, WindowOfOneKeyCopiesValues) {
  // out = v, so that dV = dO and the other gradients are zero but for rounding.
  const Tensor x = to_device(random_tensor(DType::bf16, {1, 300, 2, 64}, 1));  // queries and keys
  const HostTensor values = random_tensor(DType::bf16, {1, 300, 2, 64}, 2),
                   dout = random_tensor(DType::bf16, {1, 300, 2, 64}, 3);
  const Tensor out = poisoned(DType::bf16, {1, 300, 2, 64}), lse = poisoned(DType::f32, {1, 2, 300});
  const Tensor dq = poisoned(DType::bf16, {1, 300, 2, 64}), dk = poisoned(DType::bf16, {1, 300, 2, 64}),
               dv = poisoned(DType::bf16, {1, 300, 2, 64});
  const AttentionMask mask{.window = 1};
  cuda::attention_forward(context, mask, 0.125, x, x, to_device(values), out, lse);
  cuda::attention_backward(context, mask, 0.125, x, x, to_device(values), out, lse, to_device(dout), dq, dk, dv);
  EXPECT_EQ(max_difference(to_host(out), values), 0);
  EXPECT_LT(relative_error(to_host(dv), dout), 1e-5);
  const HostTensor zero(DType::f32, {1, 300, 2, 64});
  EXPECT_LT(max_difference(to_host(dq), zero), 1e-4);
  EXPECT_LT(max_difference(to_host(dk), zero), 1e-4);
}

TEST_F(AttentionGpu, BlocksOfARing) {
  for (const DType type : {DType::bf16, DType::f32}) {
    check(type, {2, 128, 128, 4, 2, 128, 128}, {.causal = false});
    check(type, {2, 96, 160, 4, 2, 128, 128}, {.causal = false});
    check(type, {2, 128, 128, 4, 2, 128, 128}, {.offset = 128});  // all of them earlier
    check(type, {2, 64, 192, 4, 2, 64, 64});                      // ends together
    check(type, {2, 128, 256, 4, 2, 64, 64}, {.offset = 0});      // begins together
    check(type, {1, 128, 128, 4, 2, 64, 64}, {.offset = 64});     // between
    check(type, {1, 128, 128, 4, 2, 64, 64}, {.offset = -40});    // the first see nothing
    check(type, {1, 128, 128, 4, 2, 64, 64}, {.offset = 100, .window = 120});
  }
}

TEST_F(AttentionGpu, Documents) {
  for (const DType type : {DType::bf16, DType::f32}) {
    check(type, {2, 192, 192, 4, 2, 64, 64}, {.document = 50});
    check(type, {1, 150, 150, 2, 1, 128, 128}, {.window = 20, .document = 64});
    check(type, {1, 70, 70, 2, 1, 32, 32}, {.document = 16});
    check(type, {2, 500, 500, 8, 2, 64, 64}, {.document = 150});
    check(type, {1, 500, 500, 2, 2, 128, 128}, {.document = 37, .recurs = 3});
    check(type, {1, 300, 300, 2, 2, 192, 128}, {.document = 100});
    check(type, {1, 131, 300, 2, 1, 64, 64}, {.causal = false, .document = 100});
    check(type, {1, 300, 131, 2, 1, 128, 128}, {.offset = 5, .document = 64});
  }
}

TEST_F(AttentionGpu, StridedOperands) {
  // Query, key and value side by side, as one projection leaves them; their gradients too.
  const std::int64_t length = 192, heads = 4, key_heads = 2, width = 64, all = heads + 2 * key_heads;
  const HostTensor fused = random_tensor(DType::bf16, {2, length, all, width}, 1);
  const HostTensor dout = random_tensor(DType::bf16, {2, length, heads, width}, 2);
  const auto part = [&](auto view, std::int64_t begin, std::int64_t count) {
    return view.slice(2, begin, begin + count);
  };
  const Tensor x = to_device(fused), gradient = poisoned(DType::bf16, fused.view().extents());
  const Tensor out = poisoned(DType::bf16, dout.view().extents()), lse = poisoned(DType::f32, {2, heads, length});
  cuda::attention_forward(context, {}, 0.125, part(x.view(), 0, heads), part(x.view(), heads, key_heads),
                          part(x.view(), heads + key_heads, key_heads), out, lse);
  cuda::attention_backward(context, {}, 0.125, part(x.view(), 0, heads), part(x.view(), heads, key_heads),
                           part(x.view(), heads + key_heads, key_heads), out, lse, to_device(dout),
                           part(gradient.view(), 0, heads), part(gradient.view(), heads, key_heads),
                           part(gradient.view(), heads + key_heads, key_heads));
  const HostTensor x64 = converted(fused, DType::f64), dout64 = converted(dout, DType::f64);
  HostTensor out64(DType::f64, dout.view().extents()), lse64(DType::f64, {2, heads, length});
  HostTensor gradient64(DType::f64, fused.view().extents());
  reference::attention_forward(on_host, {}, 0.125, part(x64.view(), 0, heads), part(x64.view(), heads, key_heads),
                               part(x64.view(), heads + key_heads, key_heads), out64, lse64);
  reference::attention_backward(on_host, {}, 0.125, part(x64.view(), 0, heads), part(x64.view(), heads, key_heads),
                                part(x64.view(), heads + key_heads, key_heads), out64, lse64, dout64,
                                part(gradient64.view(), 0, heads), part(gradient64.view(), heads, key_heads),
                                part(gradient64.view(), heads + key_heads, key_heads));
  EXPECT_LT(relative_error(to_host(out), out64), tolerance_of(DType::bf16));
  EXPECT_LT(relative_error(to_host(lse), lse64), 1e-5);
  EXPECT_LT(relative_error(to_host(gradient), gradient64), gradient_tolerance(DType::bf16));
}

TEST_F(AttentionGpu, NothingToDo) {
  for (const DType type : {DType::bf16, DType::f32}) {
    check(type, {0, 8, 8, 2, 1, 64, 64});
    check(type, {1, 0, 8, 2, 1, 64, 64}, {.offset = 0});
    check(type, {1, 8, 0, 2, 1, 64, 64}, {.causal = false});
  }
}

TEST_F(AttentionGpu, DeterministicBackwardOverGroupsOfHeads) {
  // 16384^2 x 2 bytes a head are 512 MiB, 12 heads more than the bound of 4 GiB: a run for each key head.
  const std::int64_t length = 16384, heads = 12, key_heads = 3, width = 64;
  arena = std::make_unique<Arena>(device_memory(0), std::int64_t{6} << 30, false);
  context.arena = arena.get();
  const auto tensor = [&](std::int64_t count, std::uint32_t seed) {
    return to_device(random_tensor(DType::bf16, {1, length, count, width}, seed));
  };
  const Tensor q_ = tensor(heads, 1), k_ = tensor(key_heads, 2), v_ = tensor(key_heads, 3), dout = tensor(heads, 4);
  const Tensor out = poisoned(DType::bf16, q_.view().extents()), lse = poisoned(DType::f32, {1, heads, length});
  cuda::attention_forward(context, {}, 0.125, q_, k_, v_, out, lse);
  const AttentionSizes sizes{1, length, length, heads, key_heads, width, width};
  const auto backward = [&](bool deterministic) {
    context.deterministic = deterministic;
    arena->reset_peaks();
    const Tensor dq = poisoned(DType::bf16, q_.view().extents()), dk = poisoned(DType::bf16, k_.view().extents()),
                 dv = poisoned(DType::bf16, v_.view().extents());
    cuda::attention_backward(context, {}, 0.125, q_, k_, v_, out, lse, dout, dq, dk, dv);
    const auto planned = static_cast<double>(attention_backward_workspace(sizes, deterministic));
    EXPECT_NEAR(static_cast<double>(arena->peak(Label::workspace)), planned, 0.01 * planned + 0x1p20);
    return std::array{to_host(dq), to_host(dk), to_host(dv)};
  };
  const auto first = backward(true), second = backward(true);
  const auto other = backward(false);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(max_difference(first[i], second[i]), 0);
    EXPECT_LT(relative_error(first[i], other[i]), 1e-2);
  }
}

}  // namespace
}  // namespace moesaic
