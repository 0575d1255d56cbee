// Checkpoints of a state that lies on a GPU: what is saved is the moment of saving, though the device's memory changes at
// once; the file is that of the same state on the CPU, and either device reads what the other wrote.
#include "moesaic/checkpoint/background_writer.hpp"

#include <mpi.h>

#include "moesaic/checkpoint/integrity.hpp"
#include "moesaic/tensor/transfer_memory.hpp"
#include "support/gpu.hpp"
#include "support/random.hpp"
#include "support/scratch_folder.hpp"

namespace moesaic {
namespace {

namespace fs = std::filesystem;

class WriterOnGpu : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    store.prepare();
  }

  /// Two arrays of the same values, in `first` and `second`.
  static std::vector<StateArray> state(View first, View second) {
    const auto array = [](const char* name, View values) {
      return StateArray{.name = name,
                        .type = values.dtype(),
                        .shape = {values.size()},
                        .elements = {0, values.size()},
                        .values = values};
    };
    return {array("/parameters/a", first), array("/optimizer/first_moment/a", second)};
  }
  void save(CheckpointWriter& writer, std::int64_t step, const std::vector<StateArray>& arrays, Stream stream) {
    writer.save({.step = step, .grid = "", .version = "", .deck = "", .config = ""}, arrays, stream, [] {});
  }

  /// The first array ends in the second piece of pinned memory.
  static constexpr std::int64_t size = transfer_granule / 4 + 3000017;
  HostTensor masters = random_tensor(DType::f32, {size}, 1), moments = random_tensor(DType::bf16, {size}, 2);
  ScratchFolder scratch{"writer-gpu"};
  CheckpointStore store{scratch.path(), 9};
};

TEST_F(WriterOnGpu, WhatIsSavedIsTheMomentOfSaving) {
  for (bool background : {true, false}) {
    Tensor first = to_device(masters), second = to_device(moments);
    const auto arrays = state(first, second);
    CheckpointWriter writer(store, MPI_COMM_WORLD, background);
    writer.prepare(arrays, context.stream);
    save(writer, 1, arrays, context.stream);
    // Training goes on: the next step's values, on the same stream.
    for (const View& view : {first.view(), second.view()})
      check_cuda(cudaMemsetAsync(view.raw(), 0xff, static_cast<std::size_t>(view.bytes()), cuda_stream(context.stream)),
                 "cudaMemsetAsync");
    writer.wait([] {});
    EXPECT_TRUE(verify_checkpoint(store.path_of(1)).intact());
    HostTensor a(DType::f32, {size}), b(DType::bf16, {size});
    load_checkpoint(store.path_of(1), MPI_COMM_WORLD, state(a, b), host_stream);
    EXPECT_EQ(max_difference(a, masters), 0);
    EXPECT_EQ(max_difference(b, moments), 0);
  }
}

TEST_F(WriterOnGpu, TheFileIsThatOfTheCpu) {
  CheckpointWriter writer(store, MPI_COMM_WORLD, true);
  const Tensor first = to_device(masters), second = to_device(moments);
  save(writer, 1, state(first, second), context.stream);
  writer.wait([] {});
  CheckpointWriter host_writer(store, MPI_COMM_WORLD, true);
  save(host_writer, 2, state(masters, moments), host_stream);
  host_writer.wait([] {});
  for (std::int64_t step : {1, 2}) {
    const Tensor a = poisoned(DType::f32, {size}), b = poisoned(DType::bf16, {size});
    load_checkpoint(store.path_of(step), MPI_COMM_WORLD, state(a, b), context.stream);
    EXPECT_EQ(max_difference(to_host(a), masters), 0) << step;
    EXPECT_EQ(max_difference(to_host(b), moments), 0) << step;
  }
}

}  // namespace
}  // namespace moesaic
