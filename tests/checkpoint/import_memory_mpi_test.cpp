// What an import holds at once: a rank's share and one tensor, however large the folder. Every allocation by operator new is
// counted; what MPI and HDF5 take for themselves is not.
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <new>

#include "io/temporary_folder.hpp"
#include "moesaic/checkpoint/hf_import.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/io/hf_config.hpp"
#include "moesaic/io/safetensors.hpp"
#include "moesaic/models/family.hpp"
#include "support/scratch_folder.hpp"

namespace {

std::atomic<std::int64_t> held{0}, most_held{0};

void* counted(void* memory) {
  if (memory == nullptr) throw std::bad_alloc();
  const std::int64_t now = held += static_cast<std::int64_t>(malloc_usable_size(memory));
  std::int64_t most = most_held;
  while (now > most && !most_held.compare_exchange_weak(most, now)) continue;
  return memory;
}

void release(void* memory) {
  held -= static_cast<std::int64_t>(malloc_usable_size(memory));
  std::free(memory);
}

std::size_t rounded_up(std::size_t size, std::align_val_t alignment) {
  const auto unit = static_cast<std::size_t>(alignment);
  return (size + unit - 1) / unit * unit;
}

}  // namespace

void* operator new(std::size_t size) { return counted(std::malloc(size)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted(std::aligned_alloc(static_cast<std::size_t>(alignment), rounded_up(size, alignment)));
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }

namespace moesaic {
namespace {

namespace fs = std::filesystem;

/// A megabyte through which tensors are read, and half a megabyte for tables of names, places and hashes.
constexpr std::int64_t tables = std::int64_t{3} << 19;

/// A tensor an expert: 4 million numbers, the largest tensors a million each.
constexpr std::string_view many_small = R"({"model_type": "qwen3_moe", "hidden_size": 64, "vocab_size": 16384,
    "max_position_embeddings": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 160,
    "rope_theta": 10000, "norm_topk_prob": true, "dtype": "bfloat16"})";

/// All experts of a block in a tensor whose order is another than ours: 5 million numbers, the largest tensors a million.
constexpr std::string_view few_large = R"({"model_type": "gpt_oss", "hidden_size": 64, "vocab_size": 1024,
    "max_position_embeddings": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "num_local_experts": 32, "num_experts_per_tok": 2, "intermediate_size": 256, "sliding_window": 16,
    "rope_theta": 10000, "dtype": "bfloat16"})";

/// A folder in bf16, and a tensor of no model beside the weights.
struct Folder {
  explicit Folder(std::string_view config) {
    for (const HfPiece& piece : hf_pieces(model_spec(HfConfig::parse(std::string(config), "config.json"))))
      shapes[piece.tensor] = shape_of(piece.whole.rank() > 0 ? piece.whole : piece.shape);
    shapes["unknown"] = {500, 1000};
    for (const auto& [name, shape] : shapes) {
      elements += *element_count(shape);
      largest = std::max(largest, *element_count(shape));
    }
  }

  void write(const fs::path& path, std::string_view config) const {
    const std::vector<std::uint16_t> ones(static_cast<std::size_t>(largest), 0x3f80);
    std::vector<SafetensorsSource> sources;
    for (const auto& [name, shape] : shapes) sources.push_back({name, StorageType::bf16, shape, ones.data()});
    fs::create_directories(path);
    write_safetensors(path / "model.safetensors", sources);
    test::write_file(path / "config.json", std::string(config));
  }

  std::map<std::string, Shape> shapes;
  std::int64_t elements = 0, largest = 0;
};

void expect_bounded(std::string_view config) {
  const ScratchFolder scratch("import-memory");
  Arena arena(host_memory());
  MpiCommunicator world(MpiHandle::duplicate(MPI_COMM_WORLD), arena);
  const Folder folder(config);
  ASSERT_GT(folder.elements, 4 * folder.largest) << "a whole model would go unnoticed";
  if (world.rank() == 0) folder.write(scratch.path() / "folder", config);
  world.barrier();
  const std::int64_t before = held;
  most_held = before;
  import_hf_folder(scratch.path() / "folder", scratch.path() / "imported.h5", "test", world);
  const std::int64_t most = most_held - before, share = 4 * folder.elements / world.size();
  EXPECT_LE(most, share + 4 * folder.largest + tables) << "of which the share is " << share;
  EXPECT_GE(most, share - 2 * 500 * 1000) << "not all is counted";  // what is carried along stays in bf16
  world.barrier();
}

TEST(ImportMemory, IsTheShareAndATensor) { expect_bounded(many_small); }

TEST(ImportMemory, IsTheShareAndATensorOfAnotherOrder) { expect_bounded(few_large); }

}  // namespace
}  // namespace moesaic
