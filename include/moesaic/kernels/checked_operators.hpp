#pragma once
/// Operators that look at what they computed, to find where a step first stops being finite.

#include <optional>
#include <string>
#include <string_view>

#include "moesaic/kernels/operators.hpp"

namespace moesaic {

/// The first operator that gave NaN or plus infinity (minus infinity is how attention says that no key is visible).
struct NonFinite {
  std::string_view operation;
  std::string place;           ///< what OperatorCheck::enter was last told
  bool finite_inputs = false;  ///< it had none but finite numbers to read
};

template <class Function> struct CheckedOperator;

/// While one lives, operators of table() do what those of `base` do, wait for the device, and look at every output that is of
/// a floating type. For a diagnosis: slow. One at a time in a thread.
class OperatorCheck {
 public:
  explicit OperatorCheck(const Operators& base);
  OperatorCheck(const OperatorCheck&) = delete;
  ~OperatorCheck();

  const Operators& table() const;
  void enter(std::string place) { place_ = std::move(place); }
  const std::optional<NonFinite>& first() const { return first_; }

 private:
  template <class Function> friend struct CheckedOperator;

  const Operators* base_;
  std::string place_;
  std::optional<NonFinite> first_;
};

}  // namespace moesaic
