// Import and export: the same bits back, whatever is in the folder, and one sentence for what cannot be.
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <numeric>

#include "io/temporary_folder.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/checkpoint/hf_copies.hpp"
#include "moesaic/checkpoint/hf_export.hpp"
#include "moesaic/checkpoint/hf_extras.hpp"
#include "moesaic/checkpoint/hf_import.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/io/hdf5_file.hpp"
#include "moesaic/io/hf_config.hpp"
#include "moesaic/io/hf_tensor.hpp"
#include "moesaic/io/input_file.hpp"
#include "moesaic/models/family.hpp"
#include "support/golden.hpp"
#include "support/scratch_folder.hpp"

namespace moesaic {
namespace {

namespace fs = std::filesystem;

/// A tensor of a folder, as it is stored.
struct Stored {
  StorageType type;
  Shape shape;
  std::vector<std::uint8_t> bytes;
  friend bool operator==(const Stored&, const Stored&) = default;
};

std::map<std::string, Stored> tensors_in(const fs::path& path) {
  const SafetensorsFolder folder(path);
  std::map<std::string, Stored> tensors;
  for (const std::string& name : folder.names()) {
    const SafetensorsInfo& info = folder.find(name);
    Stored& tensor = tensors[name];
    tensor = {info.type, info.shape, std::vector<std::uint8_t>(static_cast<std::size_t>(info.end - info.begin))};
    folder.read_stored(name, 0, info.size(), tensor.bytes.data());
  }
  return tensors;
}

void write_tensors(const fs::path& path, const std::map<std::string, Stored>& tensors) {
  std::vector<SafetensorsSource> sources;
  for (const auto& [name, tensor] : tensors) sources.push_back({name, tensor.type, tensor.shape, tensor.bytes.data()});
  write_safetensors(path, sources);
}

Stored as_type(const Stored& tensor, StorageType type) {
  const std::int64_t count = element_count(tensor.shape).value_or(0);
  std::vector<float> numbers(static_cast<std::size_t>(count));
  convert(tensor.type, tensor.bytes.data(), count, numbers.data());
  Stored other{type, tensor.shape, std::vector<std::uint8_t>(static_cast<std::size_t>(count * size_of(type)))};
  convert_back(type, numbers.data(), count, other.bytes.data());
  return other;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

class Exchange : public ::testing::Test {
 protected:
  /// Rank 0 makes `folder` from the golden case of `family`, changed by `change`.
  void make_folder(const std::string& family,
                   const std::function<void(std::map<std::string, Stored>&, std::string& config)>& change) {
    if (world.rank() == 0) {
      const GoldenCase golden(family);
      auto tensors = tensors_in(golden.folder());
      std::string config = read_text(golden.config());
      change(tensors, config);
      fs::create_directories(folder());
      write_tensors(folder() / "model.safetensors", tensors);
      test::write_file(folder() / "config.json", config);
      test::write_file(folder() / "tokenizer.json", std::string("{\"a\0b\": 1}", 10));
      test::write_file(folder() / "notes.bin", "weights in another format");
      test::write_file(folder() / ".hidden", "x");
    }
    world.barrier();
  }
  void import_folder(const fs::path& from) { import_hf_folder(from, checkpoint(), "test", world); }
  void export_folder(const ExportRequest& request = {}) { export_hf_folder(checkpoint(), exported(), request, world); }

  void expect_same_tensors(const fs::path& theirs) const {
    const auto before = tensors_in(theirs), after = tensors_in(exported());
    ASSERT_EQ(before.size(), after.size());
    for (const auto& [name, tensor] : before) {
      ASSERT_TRUE(after.contains(name)) << name;
      EXPECT_TRUE(after.at(name) == tensor) << name;
    }
  }
  template <class Action> std::string complaint(const Action& action) {
    const std::string message = test::message_of<AgreedInputError>(action);
    world.barrier();
    return message;
  }

  fs::path folder() const { return scratch.path() / "folder"; }
  fs::path checkpoint() const { return scratch.path() / "imported.h5"; }
  fs::path exported() const { return scratch.path() / "exported"; }

  ScratchFolder scratch{"exchange"};
  Arena arena{host_memory()};
  MpiCommunicator world{MpiHandle::duplicate(MPI_COMM_WORLD), arena};
};

TEST_F(Exchange, EveryFamilyComesBackBitForBit) {
  for (const char* family : {"qwen3_moe", "deepseek_v3", "kimi_k2", "gpt_oss", "mixtral"}) {
    SCOPED_TRACE(family);
    const GoldenCase golden(family);
    import_folder(golden.folder());
    export_folder();
    expect_same_tensors(golden.folder());
    EXPECT_EQ(read_text(exported() / "config.json"), read_text(golden.config()));
    world.barrier();
    if (world.rank() == 0) fs::remove_all(exported()), fs::remove(checkpoint());
    world.barrier();
  }
}

/// Carried along, or as a part of the model whose table and head are written twice.
TEST_F(Exchange, MultiTokenPredictionComesBackBitForBit) {
  const GoldenCase golden("multi_token_prediction");
  for (const bool prediction : {false, true}) {
    SCOPED_TRACE(prediction);
    import_hf_folder(golden.folder(), checkpoint(), "test", world, prediction);
    EXPECT_EQ(Hdf5File::open_serial(checkpoint()).contains("/parameters/prediction"), prediction);
    EXPECT_NE(Hdf5File::open_serial(checkpoint()).contains("/extra/tensors"), prediction);
    ExportRequest request;
    request.overrides.prediction = prediction;
    export_folder(request);
    expect_same_tensors(golden.folder());
    EXPECT_EQ(read_text(exported() / "config.json"), read_text(golden.config()));
    world.barrier();
    if (world.rank() == 0) fs::remove_all(exported()), fs::remove(checkpoint());
    world.barrier();
  }
}

/// A folder that leaves the copies out, in bf16, comes back without them.
TEST_F(Exchange, CopiesThatAFolderDoesNotHaveAreNotWritten) {
  make_folder("multi_token_prediction", [](auto& tensors, std::string&) {
    for (auto& [name, tensor] : tensors) tensor = as_type(tensor, StorageType::bf16);
    EXPECT_EQ(tensors.erase("model.layers.2.embed_tokens.weight"), 1u);
    EXPECT_EQ(tensors.erase("model.layers.2.shared_head.head.weight"), 1u);
  });
  import_hf_folder(folder(), checkpoint(), "test", world, true);
  ExportRequest request;
  request.overrides.prediction = true;
  export_folder(request);
  expect_same_tensors(folder());
}

/// The last number of a table lies with the last rank, and all hear of it.
TEST_F(Exchange, CopiesThatDifferAreNamed) {
  const std::string embedding = "model.layers.2.embed_tokens.weight", head = "model.layers.2.shared_head.head.weight";
  make_folder("multi_token_prediction", [&](auto& tensors, std::string&) {
    tensors.at(embedding) = as_type(tensors.at(embedding), StorageType::f64);  // the same numbers
    tensors.at(head).bytes.back() ^= 1;
  });
  const auto copies = [&](const fs::path& path, bool prediction) {
    const ModelSpec spec = model_spec(HfConfig::load(path / "config.json"), {.prediction = prediction});
    return differing_copies(SafetensorsFolder(path), hf_pieces(spec), world);
  };
  EXPECT_EQ(copies(folder(), true), std::vector<std::string>{head});
  EXPECT_TRUE(copies(folder(), false).empty());
  EXPECT_TRUE(copies(GoldenCase("multi_token_prediction").folder(), true).empty());

  testing::internal::CaptureStderr();
  import_hf_folder(folder(), checkpoint(), "test", world, true);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(said.find("warning: "), world.rank() == 0 ? 0u : std::string::npos) << said;
  EXPECT_EQ(said.find(head + " is not the model's own embedding or head") != std::string::npos, world.rank() == 0);
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), world.rank() == 0 ? 1 : 0);
}

TEST_F(Exchange, BrainFloatsAndUnusedTensorsComeBackBitForBit) {
  make_folder("qwen3_moe", [](auto& tensors, std::string& config) {
    for (auto& [name, tensor] : tensors) tensor = as_type(tensor, StorageType::bf16);
    tensors["model.norm.weight"] = as_type(tensors["model.norm.weight"], StorageType::f32);
    tensors["model.layers.9.unused/odd name"] = {StorageType::f16, {2, 1, 2, 1, 3}, std::vector<std::uint8_t>(24, 7)};
    tensors["model.layers.9.bias"] = {StorageType::bf16, {5}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};
    tensors["flags"] = {StorageType::boolean, {3}, {0, 1, 1}};
    tensors["nothing"] = {StorageType::f32, {0, 2}, {}};
    tensors["one"] = {StorageType::i64, {}, {1, 0, 0, 0, 0, 0, 0, 128}};
    config = replaced(config, "\"float32\"", "\"bfloat16\"") + "\n\n";
  });
  import_folder(folder());
  export_folder();
  expect_same_tensors(folder());
  EXPECT_EQ(read_text(exported() / "config.json"), read_text(folder() / "config.json"));
  EXPECT_EQ(read_text(exported() / "tokenizer.json"), read_text(folder() / "tokenizer.json"));
  EXPECT_FALSE(fs::exists(exported() / "notes.bin"));
  EXPECT_FALSE(fs::exists(exported() / ".hidden"));
  EXPECT_FALSE(fs::exists(scratch.path() / "exported.partial"));
}

TEST_F(Exchange, AnImportIsACheckpointAtStepZero) {
  import_folder(GoldenCase("qwen3_moe").folder());
  const Hdf5File file = Hdf5File::open_serial(checkpoint());
  const CheckpointInfo info = checkpoint_info(file);
  EXPECT_EQ(info.step, 0);
  EXPECT_EQ(info.config, read_text(GoldenCase("qwen3_moe").config()));
  const Hdf5Array array = file.array("/parameters/embedding/weight");
  EXPECT_EQ(array.type, StorageType::f32);
  EXPECT_EQ(array.shape, (Shape{256, 64}));
  EXPECT_EQ(hf_manifest(file).type, StorageType::f32);
}

TEST_F(Exchange, ManyFilesHaveAnIndex) {
  const GoldenCase golden("qwen3_moe");
  import_folder(golden.folder());
  export_folder({.type = std::nullopt, .overrides = {}, .file_bytes = 300'000});
  EXPECT_TRUE(fs::exists(exported() / "model-00002-of-00003.safetensors"));
  EXPECT_TRUE(fs::exists(exported() / "model.safetensors.index.json"));
  expect_same_tensors(golden.folder());
}

TEST_F(Exchange, AnotherTypeRoundsAndIsSaid) {
  const GoldenCase golden("deepseek_v3");
  import_folder(golden.folder());
  export_folder({.type = StorageType::bf16, .overrides = {}});
  const auto before = tensors_in(golden.folder()), after = tensors_in(exported());
  const std::string norm = "model.norm.weight", bias = "model.layers.1.mlp.gate.e_score_correction_bias";
  EXPECT_TRUE(after.at(norm) == as_type(before.at(norm), StorageType::bf16));
  EXPECT_TRUE(after.at(bias) == before.at(bias));  // small steps would be lost
  EXPECT_EQ(read_text(exported() / "config.json"), replaced(read_text(golden.config()), "\"float32\"", "\"bfloat16\""));
}

TEST_F(Exchange, QuantisedTensorsBecomeBrainFloats) {
  const std::string used = "model.layers.1.mlp.experts.0.up_proj.weight", unused = "model.layers.9.weight";
  make_folder("deepseek_v3", [&](auto& tensors, std::string& config) {
    for (const std::string& name : {used, unused}) {
      tensors[name] = {StorageType::f8_e4m3, {32, 64}, std::vector<std::uint8_t>(32 * 64, 0x3c)};  // 1.5
      tensors[name + "_scale_inv"] = {StorageType::f32, {1, 1}, {0, 0, 0x40, 0x3f}};               // 0.75
    }
    config =
        replaced(config, "\"hidden_act\"", "\"quantization_config\": {\"quant_method\": \"fp8\"},\n  \"hidden_act\"");
  });
  import_folder(folder());
  export_folder();
  const auto after = tensors_in(exported());
  for (const std::string& name : {used, unused}) {
    EXPECT_FALSE(after.contains(name + "_scale_inv"));
    ASSERT_TRUE(after.contains(name)) << name;
    EXPECT_EQ(after.at(name).type, StorageType::bf16);
    EXPECT_EQ(as_type(after.at(name), StorageType::f32).bytes[0 + 4 * 5 + 3], 0x3f);
    EXPECT_EQ(as_type(after.at(name), StorageType::f32).bytes[0 + 4 * 5 + 2], 0x90);  // 1.125
  }
  EXPECT_FALSE(HfConfig::load(exported() / "config.json").has("quantization_config"));
}

TEST_F(Exchange, Mxfp4ExpertsBecomeBrainFloats) {
  const std::string name = "model.layers.1.mlp.experts.gate_up_proj";
  make_folder("gpt_oss", [&](auto& tensors, std::string&) {
    ASSERT_EQ(tensors.at(name).shape, (Shape{8, 64, 128}));
    tensors.erase(name);
    Stored blocks{StorageType::u8, {8, 128, 2, 16}, std::vector<std::uint8_t>(8 * 128 * 32, 0x22)};  // ones
    blocks.bytes[(3 * 2 + 1) * 16] = 0x42;  // expert 0, row 3, number 33 is 2
    tensors[name + "_blocks"] = blocks;
    tensors[name + "_scales"] = {StorageType::u8, {8, 128, 2}, std::vector<std::uint8_t>(8 * 128 * 2, 128)};  // twice
  });
  import_folder(folder());
  export_folder();
  const auto after = tensors_in(exported());
  EXPECT_FALSE(after.contains(name + "_blocks"));
  EXPECT_FALSE(after.contains(name + "_scales"));
  ASSERT_TRUE(after.contains(name));
  ASSERT_EQ(after.at(name).shape, (Shape{8, 64, 128}));
  ASSERT_EQ(after.at(name).type, StorageType::bf16);
  for (std::size_t i = 0; i < 8 * 64 * 128; ++i)
    ASSERT_EQ(after.at(name).bytes[2 * i] + 256 * after.at(name).bytes[2 * i + 1], i == 33 * 128 + 3 ? 0x4080 : 0x4000)
        << i;
}

TEST_F(Exchange, ASliceIsExportedAsOne) {
  const GoldenCase golden("qwen3_moe");
  import_folder(golden.folder());
  // A deck with these overrides would train the first two layers and 100 ids; the arrays of the others are left out.
  const ModelOverrides cut{.layers = 2, .vocabulary = 0, .experts = 0, .dense_layers = -1};
  export_folder({.type = std::nullopt, .overrides = cut});
  const auto after = tensors_in(exported());
  EXPECT_TRUE(after.contains("model.layers.1.mlp.gate.weight"));
  EXPECT_FALSE(after.contains("model.layers.2.mlp.gate.weight"));
  EXPECT_EQ(HfConfig::load(exported() / "config.json").integer("num_hidden_layers"), 2);
}

TEST_F(Exchange, NothingIsOverwritten) {
  const GoldenCase golden("qwen3_moe");
  import_folder(golden.folder());
  EXPECT_NE(complaint([&] { import_folder(golden.folder()); }).find("imported.h5 is there already"), std::string::npos);
  export_folder();
  EXPECT_NE(complaint([&] { export_folder(); }).find("exported is there already"), std::string::npos);
}

TEST_F(Exchange, ADamagedCheckpointIsNotExported) {
  import_folder(GoldenCase("qwen3_moe").folder());
  if (world.rank() == 0) {
    const std::int64_t at = *Hdf5File::open_serial(checkpoint()).array("/parameters/embedding/weight").offset;
    std::fstream file(checkpoint(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(at + 40);
    file.put('!');
  }
  world.barrier();
  EXPECT_NE(complaint([&] { export_folder(); }).find("/parameters/embedding/weight: elements"), std::string::npos);
  EXPECT_FALSE(fs::exists(exported()));
}

TEST_F(Exchange, ParentsMustBeThere) {
  const GoldenCase golden("qwen3_moe");
  EXPECT_NE(complaint([&] {
              import_hf_folder(golden.folder(), scratch.path() / "no" / "x.h5", "test", world);
            }).find("is no folder"),
            std::string::npos);
  EXPECT_NE(complaint([&] { export_hf_folder(checkpoint(), exported(), {}, world); }).find("imported.h5"),
            std::string::npos);
}

}  // namespace
}  // namespace moesaic
