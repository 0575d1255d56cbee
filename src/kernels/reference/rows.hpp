#pragma once
/// The rows (last dimension) of a view of rank 1 to 3, numbered through its leading dimensions.

#include "moesaic/tensor/view.hpp"

namespace moesaic::reference {

template <class T> class Rows {
 public:
  template <class Void>
  explicit Rows(const BasicView<Void>& view)
      : data_(view.template data<std::remove_const_t<T>>()), width_(view.extent(view.rank() - 1)) {
    MOESAIC_EXPECT(1 <= view.rank() && view.rank() <= 3);
    if (view.rank() == 1) return;
    outer_stride_ = view.stride(0);
    count_ = view.extent(0);
    if (view.rank() == 2) return;
    inner_ = view.extent(1);
    inner_stride_ = view.stride(1);
    count_ *= inner_;
  }

  std::int64_t count() const { return count_; }
  std::int64_t width() const { return width_; }
  T* operator[](std::int64_t row) const {
    if (inner_ == 1) return data_ + row * outer_stride_;
    return data_ + row / inner_ * outer_stride_ + row % inner_ * inner_stride_;
  }

 private:
  T* data_;
  std::int64_t width_;
  std::int64_t count_ = 1, inner_ = 1;
  std::int64_t outer_stride_ = 0, inner_stride_ = 0;
};

}  // namespace moesaic::reference
