#include "moesaic/kernels/embedding.hpp"

#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

class EmbeddingGpu : public GpuTest {
 protected:
  /// ids up to `most`: few for many rows of one id.
  void check(DType type, std::int64_t tokens, std::int64_t hidden, std::int64_t vocabulary, std::int64_t most) {
    SCOPED_TRACE(fmt::format("{} [{}, {}] of {}", name_of(type), tokens, hidden, vocabulary));
    const HostTensor table = random_tensor(type, {vocabulary, hidden}, 1),
                     gradient = random_tensor(type, {tokens, hidden}, 2);
    HostTensor ids(DType::i32, {tokens}), expected(type == DType::f32 ? DType::f32 : DType::f64, {tokens, hidden});
    fill_random_integers(ids, 3, 0, most);
    reference::embedding_forward(on_host, converted(table, expected.view().dtype()), ids, expected);
    HostTensor expected_gradient = random_tensor(DType::f32, {vocabulary, hidden}, 4);
    reference::embedding_backward(on_host, ids, converted(gradient, DType::f32), expected_gradient);
    const Tensor y = poisoned(type, {tokens, hidden}), device_ids = to_device(ids);
    const Tensor table_gradient = to_device(random_tensor(DType::f32, {vocabulary, hidden}, 4));
    cuda::embedding_forward(context, to_device(table), device_ids, y);
    cuda::embedding_backward(context, device_ids, to_device(gradient), table_gradient);
    EXPECT_EQ(max_difference(to_host(y), expected), 0);
    // Tokens are added in the reference's order: the same bits.
    EXPECT_EQ(max_difference(to_host(table_gradient), expected_gradient), 0);
    EXPECT_EQ(arena->used(Label::workspace), 0);
  }
};

TEST_F(EmbeddingGpu, EverySizeAndType) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t tokens : {0, 1, 131, 4099}) check(type, tokens, 64, 1031, 1030);
    for (const std::int64_t hidden : {1, 33, 2048}) check(type, 131, hidden, 70, 69);
    check(type, 4099, 8, 70000, 69999);
    check(type, 4099, 64, 5, 1);
    check(type, 131, 64, 1, 0);
  }
}

}  // namespace
}  // namespace moesaic
