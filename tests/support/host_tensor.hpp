#pragma once
/// Tensors in host memory for tests, and access to single elements of any view.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "moesaic/tensor/view.hpp"

namespace moesaic {

/// Owns host memory of one shape, zero at first.
class HostTensor {
 public:
  HostTensor(DType type, Extents extents)
      : type_(type), extents_(extents), words_(static_cast<std::size_t>((extents.size() * size_of(type) + 7) / 8 + 1)) {
  }

  View view() { return View(words_.data(), type_, DeviceKind::cpu, extents_); }
  ConstView view() const { return ConstView(words_.data(), type_, DeviceKind::cpu, extents_); }
  operator View() { return view(); }
  operator ConstView() const { return view(); }

  template <class T> T* data() { return view().data<T>(); }
  template <class T> const T* data() const { return view().data<T>(); }

 private:
  DType type_;
  Extents extents_;
  std::vector<std::uint64_t> words_;
};

/// Distance (in elements) of element number `index` (row-major) from the start of a view.
template <class Void> std::int64_t offset_of(const BasicView<Void>& view, std::int64_t index) {
  std::int64_t offset = 0;
  for (int i = view.rank() - 1; i >= 0; --i) {
    offset += index % view.extent(i) * view.stride(i);
    index /= view.extent(i);
  }
  return offset;
}

/// Element number `index` (row-major) of a view of any type and strides.
inline double element(ConstView view, std::int64_t index) {
  const std::int64_t offset = offset_of(view, index);
  switch (view.dtype()) {
    case DType::f32: return static_cast<double>(view.data<float>()[offset]);
    case DType::f64: return view.data<double>()[offset];
    case DType::bf16: return static_cast<double>(to_float(view.data<bf16>()[offset]));
    case DType::i32: return view.data<std::int32_t>()[offset];
    case DType::i64: return static_cast<double>(view.data<std::int64_t>()[offset]);
    case DType::u8: return view.data<std::uint8_t>()[offset];
  }
  return 0;
}

inline void set_element(View view, std::int64_t index, double value) {
  const std::int64_t offset = offset_of(view, index);
  switch (view.dtype()) {
    case DType::f32: view.data<float>()[offset] = static_cast<float>(value); break;
    case DType::f64: view.data<double>()[offset] = value; break;
    case DType::bf16: view.data<bf16>()[offset] = to_bf16(static_cast<float>(value)); break;
    case DType::i32: view.data<std::int32_t>()[offset] = static_cast<std::int32_t>(value); break;
    case DType::i64: view.data<std::int64_t>()[offset] = static_cast<std::int64_t>(value); break;
    case DType::u8: view.data<std::uint8_t>()[offset] = static_cast<std::uint8_t>(value); break;
  }
}

/// Sets the elements, in row-major order.
inline void assign(View view, const std::vector<double>& values) {
  for (std::int64_t i = 0; i < view.size(); ++i) set_element(view, i, values[static_cast<std::size_t>(i)]);
}

inline HostTensor make_tensor(DType type, Extents extents, const std::vector<double>& values) {
  HostTensor tensor(type, extents);
  assign(tensor.view(), values);
  return tensor;
}

inline std::vector<double> elements(ConstView view) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < view.size(); ++i) values.push_back(element(view, i));
  return values;
}

/// Fills a floating-point view with NaN, so that a test sees what an operator forgets to write (or reads).
inline void poison(View view) {
  for (std::int64_t i = 0; i < view.size(); ++i) set_element(view, i, std::numeric_limits<double>::quiet_NaN());
}

/// max |a - b| over all elements; NaN where one of them is.
inline double max_difference(ConstView a, ConstView b) {
  double largest = 0;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(element(a, i) - element(b, i));
    if (std::isnan(difference)) return difference;
    largest = std::max(largest, difference);
  }
  return largest;
}

}  // namespace moesaic
