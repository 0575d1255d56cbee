#pragma once
/// Non-owning views of tensors of up to four dimensions, row-major, with strides on all but the last dimension.

#include <array>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "moesaic/base/contract.hpp"
#include "moesaic/tensor/dtype.hpp"

namespace moesaic {

/// The shape of a tensor: up to four extents, counted in elements.
class Extents {
 public:
  static constexpr int max_rank = 4;

  constexpr Extents() = default;
  constexpr Extents(std::initializer_list<std::int64_t> extents) {
    MOESAIC_EXPECT(extents.size() <= max_rank);
    for (std::int64_t extent : extents) extents_[rank_++] = extent;
  }

  constexpr int rank() const { return static_cast<int>(rank_); }
  constexpr std::int64_t operator[](int dimension) const { return extents_[static_cast<std::size_t>(dimension)]; }
  constexpr std::int64_t& operator[](int dimension) { return extents_[static_cast<std::size_t>(dimension)]; }

  /// Number of elements; 1 for rank 0.
  constexpr std::int64_t size() const {
    std::int64_t product = 1;
    for (std::size_t i = 0; i < rank_; ++i) product *= extents_[i];
    return product;
  }

  friend constexpr bool operator==(const Extents&, const Extents&) = default;

 private:
  std::array<std::int64_t, max_rank> extents_{};
  std::size_t rank_ = 0;
};

/// A view of memory on one device. `Void` is void (may write) or const void. Copying copies the view, not the data.
template <class Void> class BasicView {
 public:
  static constexpr bool is_const = std::is_const_v<Void>;
  template <class T> using pointer = std::conditional_t<is_const, const T*, T*>;

  constexpr BasicView() = default;

  /// A contiguous view of `extents` elements of `type` at `data`.
  constexpr BasicView(Void* data, DType type, DeviceKind device, Extents extents)
      : data_(data), type_(type), device_(device), extents_(extents), strides_(extents) {
    std::int64_t stride = 1;
    for (int i = extents.rank() - 1; i >= 0; --i) {
      strides_[i] = stride;
      stride *= extents[i];
    }
  }

  /// A view with explicit strides (in elements; the last must be 1).
  constexpr BasicView(Void* data, DType type, DeviceKind device, Extents extents, Extents strides)
      : data_(data), type_(type), device_(device), extents_(extents), strides_(strides) {
    MOESAIC_EXPECT(extents.rank() == strides.rank());
    MOESAIC_EXPECT(extents.rank() == 0 || strides[strides.rank() - 1] == 1);
  }

  /// A writable view converts to a constant one.
  template <class Other>
  requires(is_const&& std::is_same_v<Other, void>) constexpr BasicView(const BasicView<Other>& other)
      : data_(other.raw()), type_(other.dtype()), device_(other.device()), extents_(other.extents()),
        strides_(other.strides()) {}

  constexpr bool empty() const { return data_ == nullptr || size() == 0; }
  /// True when no memory is attached (an optional argument left out).
  constexpr bool absent() const { return data_ == nullptr; }

  constexpr Void* raw() const { return data_; }
  constexpr DType dtype() const { return type_; }
  constexpr DeviceKind device() const { return device_; }
  constexpr const Extents& extents() const { return extents_; }
  constexpr const Extents& strides() const { return strides_; }
  constexpr int rank() const { return extents_.rank(); }
  constexpr std::int64_t extent(int dimension) const { return extents_[dimension]; }
  constexpr std::int64_t stride(int dimension) const { return strides_[dimension]; }
  constexpr std::int64_t size() const { return extents_.size(); }
  constexpr std::int64_t bytes() const { return size() * size_of(type_); }

  constexpr bool contiguous() const {
    std::int64_t stride = 1;
    for (int i = rank() - 1; i >= 0; --i) {
      if (extents_[i] > 1 && strides_[i] != stride) return false;
      stride *= extents_[i];
    }
    return true;
  }

  /// Typed pointer to the first element; T must be the storage type.
  template <class T> pointer<T> data() const {
    MOESAIC_EXPECT(dtype_of<T>::value == type_);
    return static_cast<pointer<T>>(data_);
  }

  /// Elements [begin, end) of dimension `dimension`, all of the others.
  constexpr BasicView slice(int dimension, std::int64_t begin, std::int64_t end) const {
    MOESAIC_EXPECT(0 <= begin && begin <= end && end <= extents_[dimension]);
    BasicView result = *this;
    result.data_ = advance(begin * strides_[dimension]);
    result.extents_[dimension] = end - begin;
    return result;
  }
  /// Slice of the first dimension.
  constexpr BasicView rows(std::int64_t begin, std::int64_t end) const { return slice(0, begin, end); }

  /// The same elements with another shape; the view must be contiguous and the sizes equal.
  constexpr BasicView reshape(Extents extents) const {
    MOESAIC_EXPECT(contiguous());
    MOESAIC_EXPECT(extents.size() == size());
    return BasicView(data_, type_, device_, extents);
  }

  /// Splits the last dimension into [count, width]; works on strided views.
  constexpr BasicView split_last(std::int64_t count, std::int64_t width) const {
    MOESAIC_EXPECT(extents_[rank() - 1] == count * width && rank() < Extents::max_rank);
    Extents extents, strides;
    extents = with_rank(rank() + 1);
    strides = with_rank(rank() + 1);
    for (int i = 0; i + 1 < rank(); ++i) {
      extents[i] = extents_[i];
      strides[i] = strides_[i];
    }
    extents[rank() - 1] = count;
    strides[rank() - 1] = width;
    extents[rank()] = width;
    strides[rank()] = 1;
    return BasicView(data_, type_, device_, extents, strides);
  }

  /// Splits the first dimension into [count, length]; works on strided views.
  constexpr BasicView split_first(std::int64_t count, std::int64_t length) const {
    MOESAIC_EXPECT(extents_[0] == count * length && rank() < Extents::max_rank);
    Extents extents = with_rank(rank() + 1), strides = with_rank(rank() + 1);
    extents[0] = count;
    strides[0] = strides_[0] * length;
    for (int i = 0; i < rank(); ++i) {
      extents[i + 1] = i == 0 ? length : extents_[i];
      strides[i + 1] = strides_[i];
    }
    return BasicView(data_, type_, device_, extents, strides);
  }

 private:
  static constexpr Extents with_rank(int rank) {
    switch (rank) {
      case 1: return {0};
      case 2: return {0, 0};
      case 3: return {0, 0, 0};
      default: return {0, 0, 0, 0};
    }
  }
  constexpr Void* advance(std::int64_t elements) const {
    using Byte = std::conditional_t<is_const, const char, char>;
    return static_cast<Byte*>(data_) + elements * size_of(type_);
  }

  Void* data_ = nullptr;
  DType type_ = DType::f32;
  DeviceKind device_ = DeviceKind::cpu;
  Extents extents_;
  Extents strides_;
};

using View = BasicView<void>;
using ConstView = BasicView<const void>;

/// A view of host memory that a caller owns, e.g. a std::vector<float>.
template <class T> View host_view(T* data, Extents extents) {
  return View(data, dtype_of<T>::value, DeviceKind::cpu, extents);
}
template <class T> ConstView host_view(const T* data, Extents extents) {
  return ConstView(data, dtype_of<T>::value, DeviceKind::cpu, extents);
}

}  // namespace moesaic
