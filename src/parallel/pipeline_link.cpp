#include "moesaic/parallel/pipeline_link.hpp"

#include <algorithm>

namespace moesaic {

bool PipelineLink::receives(const ScheduleStep& step) const {
  return source_of(step, place_.stages, place_.stage, place_.chunks).has_value();
}

void PipelineLink::initiate_receive(const ScheduleStep& step, std::int64_t tokens) {
  const auto source = source_of(step, place_.stages, place_.stage, place_.chunks);
  if (!source) return;
  Arrival& arrival = arrivals_.emplace_back();
  arrival.step = step;
  arrival.input = context_.activation({tokens, hidden_});
  arrival.pending = channel(step).initiate_receive(arrival.input, source->stage);
}

Tensor PipelineLink::complete_receive(const ScheduleStep& step) {
  const auto found =
      std::find_if(arrivals_.begin(), arrivals_.end(), [&](const Arrival& arrival) { return arrival.step == step; });
  if (found == arrivals_.end()) return {};
  found->pending.complete();
  Tensor input = std::move(found->input);
  arrivals_.erase(found);
  return input;
}

void PipelineLink::initiate_send(const ScheduleStep& step, Tensor made) {
  const auto destination = destination_of(step, place_.stages, place_.stage, place_.chunks);
  if (!destination) return;
  Departure& departure = departures_.emplace_back();
  departure.made = std::move(made);
  departure.pending = channel(step).initiate_send(departure.made, destination->stage);
}

void PipelineLink::sweep() {
  departures_.remove_if([](Departure& departure) {
    if (!departure.pending.done()) return false;
    departure.pending.complete();
    return true;
  });
}

void PipelineLink::complete_sends() {
  for (Departure& departure : departures_) departure.pending.complete();
  departures_.clear();
}

}  // namespace moesaic
