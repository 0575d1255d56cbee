#pragma once
/// What a piece of the program asks of CUDA, libraries' calls included, through the profiling interface CUPTI.

#include <cupti.h>
#include <execinfo.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "moesaic/base/contract.hpp"

namespace moesaic {

/// While one lives, it notes calls that allocate or free memory, or that make the host wait for the device. Asynchronous copies
/// to pageable memory, which wait as well, are not told apart from others.
class CudaCalls {
 public:
  struct Call {
    std::string name;
    std::string from;  ///< the functions around it, innermost first, a line each
  };

  CudaCalls() {
    check(cuptiSubscribe(&subscriber_, reinterpret_cast<CUpti_CallbackFunc>(&CudaCalls::on_call), this));
    check(cuptiEnableDomain(1, subscriber_, CUPTI_CB_DOMAIN_RUNTIME_API));
    check(cuptiEnableDomain(1, subscriber_, CUPTI_CB_DOMAIN_DRIVER_API));
  }
  CudaCalls(const CudaCalls&) = delete;
  ~CudaCalls() { cuptiUnsubscribe(subscriber_); }

  std::vector<Call> allocations, waits;
  int launches = 0;  ///< of kernels

 private:
  static void check(CUptiResult result) {
    const char* text = "";
    if (result != CUPTI_SUCCESS) cuptiGetResultString(result, &text);
    if (result != CUPTI_SUCCESS) throw RunError(std::string("CUPTI: ") + text);
  }

  static bool allocates(std::string_view name) {
    static constexpr std::array names{"cudaMalloc",         "cudaFree",    "cudaHostAlloc", "cudaHostRegister",
                                      "cudaHostUnregister", "cuMemAlloc",  "cuMemFree",     "cuMemHostAlloc",
                                      "cuMemHostRegister",  "cuMemCreate", "cuMemMap"};
    return std::any_of(names.begin(), names.end(), [&](const char* begin) { return name.starts_with(begin); });
  }

  /// Copies that are not asynchronous wait too.
  static bool waits_for_device(std::string_view name) {
    if (name.find("Synchronize") != name.npos) return true;
    const bool copies = name.starts_with("cudaMemcpy") || name.starts_with("cuMemcpy");
    return copies && name.find("Async") == name.npos;
  }

  /// What the driver does for the runtime's call counts as that call.
  static void on_call(void* self, CUpti_CallbackDomain domain, CUpti_CallbackId, const CUpti_CallbackData* data) {
    auto& calls = *static_cast<CudaCalls*>(self);
    const bool enters = data->callbackSite == CUPTI_API_ENTER;
    if (domain == CUPTI_CB_DOMAIN_RUNTIME_API && !enters) --calls.depth_;
    if (enters && calls.depth_ == 0) calls.note(data->functionName);
    if (domain == CUPTI_CB_DOMAIN_RUNTIME_API && enters) ++calls.depth_;
  }

  void note(const std::string& name) {
    if (allocates(name)) allocations.push_back({name, around()});
    if (waits_for_device(name)) waits.push_back({name, around()});
    launches += name.find("LaunchKernel") != name.npos;
  }

  static std::string around() {
    std::array<void*, 40> frames{};
    const int depth = backtrace(frames.data(), static_cast<int>(frames.size()));
    char** symbols = backtrace_symbols(frames.data(), depth);
    std::string text;
    for (int i = 0; i < depth; ++i) {
      const std::string_view symbol = symbols[i];
      if (symbol.find("moesaic") != symbol.npos) text += "    " + std::string(symbol) + '\n';
    }
    std::free(symbols);
    return text;
  }

  CUpti_SubscriberHandle subscriber_ = nullptr;
  int depth_ = 0;  ///< of the runtime's calls under way
};

}  // namespace moesaic
