#pragma once
/// Contract checks and the two kinds of error that leave the program.
///
/// Internal mistakes: MOESAIC_EXPECT (precondition), MOESAIC_ASSERT, MOESAIC_ENSURE (postcondition); they vanish
/// without MOESAIC_DEBUG. What a user can get wrong: MOESAIC_VALIDATE, always on. Every message reads
/// "problem (why it matters); what to do".

#ifndef __CUDACC__  // nvcc 13 cannot read fmt 9 as C++20; .cu files leave messages to .cpp files
#include <fmt/format.h>
#endif

#include <stdexcept>
#include <string>

namespace moesaic {

/// Bad command line, deck or input file: said once, exit status 2.
struct InputError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Something broke while running (disk, network, a library): exit status 1.
struct RunError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A broken contract of ours, a defect: exit status 1.
struct ContractError : std::logic_error {
  using std::logic_error::logic_error;
};

namespace detail {
[[noreturn]] void contract_failed(const char* kind, const char* condition, const char* file, int line);
}

}  // namespace moesaic

#ifdef MOESAIC_DEBUG
#define MOESAIC_CONTRACT_(kind, condition) \
  ((condition) ? void(0) : ::moesaic::detail::contract_failed(kind, #condition, __FILE__, __LINE__))
#else
#define MOESAIC_CONTRACT_(kind, condition) ((void)sizeof(!(condition)))
#endif

#define MOESAIC_EXPECT(condition) MOESAIC_CONTRACT_("precondition", condition)
#define MOESAIC_ASSERT(condition) MOESAIC_CONTRACT_("assertion", condition)
#define MOESAIC_ENSURE(condition) MOESAIC_CONTRACT_("postcondition", condition)

/// Throws InputError with an fmt message when `condition` does not hold.
#define MOESAIC_VALIDATE(condition, ...)                                     \
  do {                                                                       \
    if (!(condition)) throw ::moesaic::InputError(fmt::format(__VA_ARGS__)); \
  } while (false)
