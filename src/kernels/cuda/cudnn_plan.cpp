#include "cudnn_plan.hpp"

#include "moesaic/tensor/cuda_memory.hpp"

#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include <bit>
#include <unordered_map>
#include <utility>

namespace moesaic::cuda {
namespace {

namespace fe = cudnn_frontend;
using Node = std::shared_ptr<fe::graph::Tensor_attributes>;

[[noreturn]] void fail(std::string_view what, std::string_view why) {
  throw RunError(
      fmt::format("{} failed: {} (the device cannot go on); look for the first such error in the output of "
                  "all ranks",
                  what, why));
}

void check_cudnn(cudnnStatus_t status, std::string_view what) {
  if (status != CUDNN_STATUS_SUCCESS) fail(what, cudnnGetErrorString(status));
}

int current_device() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

/// One handle a device and stream. They live as long as the program: at its end CUDA may be gone before us.
cudnnHandle_t handle_of(Stream stream) {
  static std::map<std::pair<int, void*>, cudnnHandle_t> handles;
  cudnnHandle_t& handle = handles[{current_device(), stream.handle}];
  if (handle != nullptr) return handle;
  check_cudnn(cudnnCreate(&handle), "cudnnCreate");
  check_cudnn(cudnnSetStream(handle, cuda_stream(stream)), "cudnnSetStream");
  return handle;
}

/// Operands are known to cuDNN by their number in AttentionProblem::operands.
enum : std::size_t {
  query,
  key,
  value,
  output,
  statistics,
  output_gradient,
  query_gradient,
  key_gradient,
  value_gradient
};

/// cuDNN orders the extents [batch, heads, positions, width]; ours are [batch, positions, heads, width].
void describe(const ConstView& view, std::size_t operand, const Node& node) {
  using Dimensions = std::vector<std::int64_t>;
  const bool logarithms = operand == statistics;
  const Extents &e = view.extents(), &s = view.strides();
  node->set_uid(static_cast<std::int64_t>(operand))
      .set_dim(logarithms ? Dimensions{e[0], e[1], e[2], 1} : Dimensions{e[0], e[2], e[1], e[3]})
      .set_stride(logarithms ? Dimensions{s[0], s[1], s[2], 1} : Dimensions{s[0], s[2], s[1], 1})
      .set_data_type(logarithms ? fe::DataType_t::FLOAT : fe::DataType_t::BFLOAT16);
}

class Plan final : public CudnnPlan {
 public:
  explicit Plan(const AttentionProblem& problem) {
    graph_.set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    problem.backward() ? add_backward(problem) : add_forward(problem);
  }

  /// False where cuDNN cannot run the graph on this device.
  bool build(cudnnHandle_t handle) {
    if (graph_.build(handle, {fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK}).is_bad()) return false;
    return graph_.get_workspace_size(workspace_bytes_).is_good();
  }

  void run(const OperatorContext& context, const AttentionProblem& problem) override {
    std::unordered_map<std::int64_t, void*> pointers;
    for (std::size_t i = 0; i < problem.operands.size(); ++i)
      pointers[static_cast<std::int64_t>(i)] = const_cast<void*>(problem.operands[i].raw());
    const Buffer workspace = context.arena->allocate(workspace_bytes_, Label::workspace);
    auto status = graph_.execute(handle_of(context.stream), pointers, workspace.data());
    if (status.is_bad()) fail("attention through cuDNN", status.get_message());
  }

 private:
  Node input(const AttentionProblem& problem, std::size_t operand) {
    Node node = graph_.tensor(fe::graph::Tensor_attributes());
    describe(problem.operands[operand], operand, node);
    return node;
  }
  static void result(const AttentionProblem& problem, std::size_t operand, const Node& node) {
    node->set_output(true);
    describe(problem.operands[operand], operand, node);
  }

  template <class Attributes> static void set_band(Attributes& attributes, const AttentionProblem& problem) {
    const Band& band = problem.band;
    attributes.set_attn_scale(static_cast<float>(problem.scale));
    if (!band.causal) return;
    attributes.set_diagonal_alignment(band.from_the_end ? fe::DiagonalAlignment_t::BOTTOM_RIGHT
                                                        : fe::DiagonalAlignment_t::TOP_LEFT);
    attributes.set_diagonal_band_right_bound(0);
    if (band.window > 0) attributes.set_diagonal_band_left_bound(static_cast<int>(band.window));
  }

  void add_forward(const AttentionProblem& problem) {
    auto attributes = fe::graph::SDPA_attributes().set_generate_stats(true);
    set_band(attributes, problem);
    const auto [out, logarithms] =
        graph_.sdpa(input(problem, query), input(problem, key), input(problem, value), attributes);
    result(problem, output, out);
    result(problem, statistics, logarithms);
  }

  void add_backward(const AttentionProblem& problem) {
    auto attributes = fe::graph::SDPA_backward_attributes().set_deterministic_algorithm(problem.deterministic);
    set_band(attributes, problem);
    const auto [dq, dk, dv] =
        graph_.sdpa_backward(input(problem, query), input(problem, key), input(problem, value), input(problem, output),
                             input(problem, output_gradient), input(problem, statistics), attributes);
    result(problem, query_gradient, dq);
    result(problem, key_gradient, dk);
    result(problem, value_gradient, dv);
  }

  fe::graph::Graph graph_;
  std::int64_t workspace_bytes_ = 0;
};

/// Equal for two problems when one plan serves both.
std::vector<std::int64_t> key_of(const AttentionProblem& problem) {
  const Band& band = problem.band;
  std::vector<std::int64_t> numbers{current_device(),      band.causal,
                                    band.from_the_end,     band.window,
                                    problem.deterministic, std::bit_cast<std::int64_t>(problem.scale)};
  for (const ConstView& view : problem.operands) {
    for (int i = 0; i < view.rank(); ++i) {
      numbers.push_back(view.extent(i));
      numbers.push_back(view.stride(i));
    }
  }
  return numbers;
}

}  // namespace

CudnnPlan* find_cudnn_plan(const OperatorContext& context, const AttentionProblem& problem) {
  static std::map<std::vector<std::int64_t>, std::unique_ptr<CudnnPlan>> plans;
  const auto [entry, is_new] = plans.try_emplace(key_of(problem));
  if (is_new) {
    auto plan = std::make_unique<Plan>(problem);
    if (plan->build(handle_of(context.stream))) entry->second = std::move(plan);
  }
  return entry->second.get();
}

}  // namespace moesaic::cuda
