#pragma once
/// From recorded spans to what people look at: a table, and a timeline in the trace format of Chrome and Perfetto.

#include <string>
#include <vector>

#include "moesaic/kernels/device_rates.hpp"
#include "moesaic/tensor/timeline.hpp"

namespace moesaic {

/// Operators (or transfers, or exchanges) of one name and shape, summed over the recorded steps.
struct OperatorSum {
  std::string name, shape = {};
  std::int64_t calls = 0;
  double seconds = 0;
  WorkAmount amount = {};
};

/// Those within steps, on the stream that the steps are on. The longest first.
std::vector<OperatorSum> sum_operators(const std::vector<Span>& spans);

/// Where the time of phases goes: all of it, and what no operator or transfer of the compute stream takes.
struct PhaseSum {
  std::string name;
  double seconds = 0, between = 0;
};
/// In the order in which phases first began; the last is the step as a whole.
std::vector<PhaseSum> sum_phases(const std::vector<Span>& spans);

/// The least time for `amount`: its FLOPs and its bytes at the device's rates, whichever takes longer.
double floor_seconds(const WorkAmount& amount, const DeviceRates& rates);

/// For each operator calls and milliseconds a step, share of the step, achieved TFLOP/s and GB/s, the floor in milliseconds and
/// how many times it was taken; then what lies between operators, phase by phase. Empty without steps.
std::string profile_table(const std::vector<Span>& spans, const DeviceRates& rates);

/// An array of complete events ("ph": "X"), a line each, in microseconds since `zero` (seconds since 1970): pid is the rank,
/// tid the stream, 0 the compute stream; args say the place, and an operator's shape, FLOPs and bytes.
std::string trace_json(const std::vector<Span>& spans, int rank, double zero);

}  // namespace moesaic
