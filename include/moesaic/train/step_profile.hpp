#pragma once
/// train.profile_steps: the timeline of a few steps, on disk and as a table.

#include <filesystem>
#include <functional>
#include <optional>

#include "moesaic/comm/communicator.hpp"
#include "moesaic/kernels/device_rates.hpp"
#include "moesaic/tensor/timeline.hpp"
#include "moesaic/train/phases.hpp"
#include "moesaic/train/settings.hpp"

namespace moesaic {

/// Records the steps that the settings name, on every rank. Costs nothing in other steps.
class StepProfile {
 public:
  /// `first_step`: the first that this process takes. `folder` is made when there is something to write. `measure`: how fast the
  /// device is; called once, on rank 0, after the last recorded step. Collective: ranks agree on a zero of time.
  StepProfile(const ProfileSteps& steps, std::int64_t first_step, Stream compute, std::filesystem::path folder,
              Communicator& world, std::function<DeviceRates()> measure);

  /// Around a step; `phase` is where its time goes at its beginning. The end of the last one to record waits for the device,
  /// writes the timeline and prints the table on rank 0.
  void begin_step(std::int64_t step, Phase phase);
  void enter(Phase phase);
  void end_step();
  /// The same for what was recorded when the run ends before that step.
  void finish();

 private:
  void write();
  DeviceRates measured() const;

  std::int64_t first_, last_;
  Stream compute_;
  std::filesystem::path folder_;
  int rank_;
  std::function<DeviceRates()> measure_;
  double zero_ = 0;
  Timeline timeline_;
  std::optional<std::int64_t> step_;  ///< being recorded
  std::int64_t recorded_ = 0;
};

}  // namespace moesaic
