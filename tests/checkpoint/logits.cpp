// logits CHECKPOINT.h5 REFERENCE.safetensors OUT.safetensors: runs the checkpoint's model on the input_ids [sequences, length]
// of a reference case and writes its logits, f32 [sequences, length, vocabulary]. For transformers_test.sh.
#include <mpi.h>

#include <vector>

#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/io/hdf5_file.hpp"
#include "support/local_model.hpp"

namespace moesaic {
namespace {

void load(const Hdf5File& file, const ModelSpec& spec, const LocalModel& model) {
  const auto read = [&](const std::string& array, const View& values) {
    const Block all{0, values.size()};
    file.read_flat(array, {&all, 1}, View(values.raw(), values.dtype(), DeviceKind::cpu, {values.size()}));
  };
  for (const std::string& name : model.names()) read("/parameters/" + name, model.value(name));
  for (const HfPiece& piece : hf_pieces(spec))
    if (is_state(piece)) read(piece.parameter, model.value(piece.parameter));
}

void write_logits(const char* checkpoint, const char* reference, const char* out) {
  const Hdf5File file = Hdf5File::open_serial(checkpoint);
  const ModelSpec spec = model_spec(HfConfig::parse(checkpoint_info(file).config, checkpoint));
  const SafetensorsFile inputs(reference);
  const Shape shape = inputs.find("input_ids").shape;
  std::vector<std::int32_t> ids;
  for (const std::int64_t id : inputs.read<std::int64_t>("input_ids")) ids.push_back(static_cast<std::int32_t>(id));
  const LocalModel model(spec, DType::f32, shape[1]);
  load(file, spec, model);
  LocalBatch batch(shape[0], ids, ids);
  const LocalModel::Pass pass = model.forward(*batch);
  const SafetensorsSource logits{
      "logits", StorageType::f32, {shape[0], shape[1], spec.vocabulary}, pass.head().logits.view().raw()};
  write_safetensors(out, {&logits, 1});
}

}  // namespace
}  // namespace moesaic

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  MPI_Init(&argc, &argv);
  moesaic::write_logits(argv[1], argv[2], argv[3]);
  MPI_Finalize();
  return 0;
}
