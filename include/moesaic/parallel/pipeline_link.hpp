#pragma once
/// Pipeline parallelism: activations travel down the stages, gradients up. What is sent to whom follows from the schedule.

#include <list>

#include "moesaic/comm/communicator.hpp"
#include "moesaic/layers/context.hpp"
#include "moesaic/parallel/pipeline_schedule.hpp"

namespace moesaic {

/// Where this rank stands in the pipeline.
struct PipelinePlace {
  int stage = 0;
  int stages = 1;
  int chunks = 1;
};

/// The transfers of one stage. Receives are started before the step that needs them; what was sent is kept until MPI is
/// done with it. Pairs of stages agree on the order of their messages because schedules keep micro-batches in order.
/// With one stage nothing travels.
class PipelineLink {
 public:
  /// `down`, `up`: two communicators over the stages, rank = stage; activations and gradients must not meet. Both outlive
  /// this. hidden: width of a row.
  PipelineLink(const PipelinePlace& place, const LayerContext& context, Communicator& down, Communicator& up,
               std::int64_t hidden)
      : place_(place), context_(context), down_(&down), up_(&up), hidden_(hidden) {}

  const PipelinePlace& place() const { return place_; }
  /// Whether the step reads what another stage makes.
  bool receives(const ScheduleStep& step) const;

  /// Starts to receive the step's input, [tokens, hidden]; no effect where there is none.
  void initiate_receive(const ScheduleStep& step, std::int64_t tokens);
  /// The step's input; absent where there is none (tokens, or the loss).
  Tensor complete_receive(const ScheduleStep& step);

  /// Starts to send what the step made; frees it at once where nobody reads it.
  void initiate_send(const ScheduleStep& step, Tensor made);
  /// Frees what has been sent.
  void sweep();
  /// Waits until everything has been sent.
  void complete_sends();

 private:
  struct Arrival {
    ScheduleStep step;
    Tensor input;
    Pending pending;
  };
  struct Departure {
    Tensor made;
    Pending pending;
  };
  Communicator& channel(const ScheduleStep& step) const { return step.work == Work::forward ? *down_ : *up_; }

  PipelinePlace place_;
  LayerContext context_;
  Communicator* down_;
  Communicator* up_;
  std::int64_t hidden_;
  std::list<Arrival> arrivals_;
  std::list<Departure> departures_;
};

}  // namespace moesaic
