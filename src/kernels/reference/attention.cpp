#include "moesaic/kernels/attention.hpp"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "blas.hpp"
#include "exponential.hpp"
#include "scalar_dispatch.hpp"

namespace moesaic::reference {
namespace {

/// Positions of a tile of queries; its rows are these times the query heads that share a key head, heads fastest.
constexpr std::int64_t query_block = 64;
constexpr std::int64_t key_block = 128;
/// Visible scores (queries times keys) from which on a team of threads pays.
constexpr std::int64_t threading_scores = 4096;

/// The shape of one attention, in the paper's terms.
struct Shape {
  Shape(ConstView q, ConstView k, ConstView v)
      : batch(q.extent(0)), queries(q.extent(1)), heads(q.extent(2)), width(q.extent(3)), keys(k.extent(1)),
        key_heads(k.extent(2)), value_width(v.extent(3)) {
    MOESAIC_EXPECT(k.extent(0) == batch && v.extent(0) == batch && v.extent(1) == keys && v.extent(2) == key_heads);
    MOESAIC_EXPECT(k.extent(3) == width && (key_heads == 0 ? heads == 0 : heads % key_heads == 0));
  }
  std::int64_t group() const { return key_heads == 0 ? 0 : heads / key_heads; }
  std::int64_t tile_rows() const { return query_block * group(); }
  std::int64_t query_blocks() const { return (queries + query_block - 1) / query_block; }
  bool pays_for_threads() const { return batch * heads * queries * keys >= threading_scores; }

  std::int64_t batch, queries, heads, width, keys, key_heads, value_width;
};

/// The positions of a query tile or a block of keys: [begin, end).
struct Range {
  std::int64_t begin, end;
  std::int64_t size() const { return end - begin; }
};

/// A matrix with rows `stride` apart.
template <class T> struct Matrix {
  T* data;
  std::int64_t stride;
};

/// The mask as seen by one sequence of the batch.
class SequenceMask {
 public:
  SequenceMask(const AttentionMask& mask, const Shape& shape, std::int64_t sequence)
      : causal_(mask.causal), diagonal_(mask.offset.value_or(shape.keys - shape.queries)), window_(mask.window),
        keys_(shape.keys) {
    if (mask.query_documents.absent()) return;
    query_documents_ = mask.query_documents.data<std::int32_t>() + sequence * mask.query_documents.stride(0);
    key_documents_ = mask.key_documents.data<std::int32_t>() + sequence * mask.key_documents.stride(0);
  }

  bool has_documents() const { return query_documents_ != nullptr; }
  bool same_document(std::int64_t query, std::int64_t key) const {
    return query_documents_[query] == key_documents_[key];
  }
  /// Keys from here on are hidden from the query by causality.
  std::int64_t causal_end(std::int64_t query) const {
    return causal_ ? std::clamp(query + diagonal_ + 1, std::int64_t{0}, keys_) : keys_;
  }
  /// Keys before this one lie outside the query's window.
  std::int64_t window_begin(std::int64_t query) const {
    return window_ == 0 ? 0 : std::clamp(query + diagonal_ - window_ + 1, std::int64_t{0}, keys_);
  }
  /// True when no document of the queries is one of the keys' (judged by their least and greatest numbers).
  bool documents_apart(Range queries, Range keys) const {
    if (!has_documents()) return false;
    const auto [query_min, query_max] =
        std::minmax_element(query_documents_ + queries.begin, query_documents_ + queries.end);
    const auto [key_min, key_max] = std::minmax_element(key_documents_ + keys.begin, key_documents_ + keys.end);
    return *query_max < *key_min || *key_max < *query_min;
  }

 private:
  bool causal_;
  std::int64_t diagonal_, window_, keys_;
  const std::int32_t* query_documents_ = nullptr;
  const std::int32_t* key_documents_ = nullptr;
};

/// Calls body(keys) for the blocks of keys of which the query tile may see some, in order.
template <class Body> void for_visible_key_blocks(const SequenceMask& mask, Range queries, const Body& body) {
  const std::int64_t end = mask.causal_end(queries.end - 1);
  for (std::int64_t begin = mask.window_begin(queries.begin); begin < end; begin += key_block) {
    const Range keys{begin, std::min(end, begin + key_block)};
    if (!mask.documents_apart(queries, keys)) body(keys);
  }
}

/// Sets the scores of hidden keys to -inf.
template <class T> void hide_keys(const SequenceMask& mask, Range queries, Range keys, std::int64_t group, T* scores) {
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  for (std::int64_t row = 0; row < queries.size() * group; ++row) {
    const std::int64_t query = queries.begin + row / group;
    T* score = scores + row * keys.size();
    const std::int64_t visible = std::clamp(mask.causal_end(query) - keys.begin, std::int64_t{0}, keys.size());
    const std::int64_t outside = std::clamp(mask.window_begin(query) - keys.begin, std::int64_t{0}, visible);
    std::fill(score, score + outside, hidden);
    std::fill(score + visible, score + keys.size(), hidden);
    if (!mask.has_documents()) continue;
    for (std::int64_t j = outside; j < visible; ++j)
      if (!mask.same_document(query, keys.begin + j)) score[j] = hidden;
  }
}

/// Rows of the query heads of one key head, of a [batch, queries, heads, width] tensor, to and from a dense tile.
template <class T> struct HeadGroup {
  T* data;
  std::int64_t position_stride, head_stride, group, width;

  template <class Void>
  HeadGroup(const BasicView<Void>& tensor, std::int64_t sequence, std::int64_t key_head, std::int64_t group_size)
      : data(tensor.template data<std::remove_const_t<T>>() + sequence * tensor.stride(0) +
             key_head * group_size * tensor.stride(2)),
        position_stride(tensor.stride(1)), head_stride(tensor.stride(2)), group(group_size), width(tensor.extent(3)) {}

  T* row(std::int64_t position, std::int64_t head) const {
    return data + position * position_stride + head * head_stride;
  }
  void load(Range positions, std::remove_const_t<T>* tile) const {
    for (std::int64_t position = positions.begin; position < positions.end; ++position)
      for (std::int64_t head = 0; head < group; ++head, tile += width) std::copy_n(row(position, head), width, tile);
  }
  void store(Range positions, const T* tile) const {
    for (std::int64_t position = positions.begin; position < positions.end; ++position)
      for (std::int64_t head = 0; head < group; ++head, tile += width) std::copy_n(tile, width, row(position, head));
  }
};

/// The keys or values of one key head: rows `stride` apart.
template <class T, class Void>
Matrix<T> key_head_matrix(const BasicView<Void>& tensor, std::int64_t sequence, std::int64_t key_head) {
  return {tensor.template data<std::remove_const_t<T>>() + sequence * tensor.stride(0) + key_head * tensor.stride(2),
          tensor.stride(1)};
}

template <class T> T row_maximum(const T* x, std::int64_t size, T at_least) {
  T largest = at_least;
#pragma omp simd reduction(max : largest)
  for (std::int64_t i = 0; i < size; ++i) largest = x[i] > largest ? x[i] : largest;  // std::max is not vectorised
  return largest;
}

/// x = exp(x - shift); returns the sum.
template <class T> T exponentiate(T* x, std::int64_t size, T shift) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < size; ++i) {
    const T e = exponential(x[i] - shift);
    x[i] = e;
    sum += e;
  }
  return sum;
}

template <class T> void scale_row(T* x, std::int64_t size, T factor) {
#pragma omp simd
  for (std::int64_t i = 0; i < size; ++i) x[i] *= factor;
}

/// Forward of one tile of queries, with the running maximum and sum of each of its rows.
template <class T> class ForwardTile {
 public:
  static std::int64_t scratch_size(const Shape& shape) {
    return shape.tile_rows() * (shape.width + shape.value_width + key_block + 2);
  }
  ForwardTile(const Shape& shape, T* scratch)
      : shape_(shape), q_(scratch), out_(q_ + shape.tile_rows() * shape.width),
        scores_(out_ + shape.tile_rows() * shape.value_width), maximum_(scores_ + shape.tile_rows() * key_block),
        sum_(maximum_ + shape.tile_rows()) {}

  void run(const SequenceMask& mask, T scale, Range queries, const HeadGroup<const T>& q, Matrix<const T> k,
           Matrix<const T> v) {
    rows_ = queries.size() * shape_.group();
    std::fill_n(maximum_, rows_, -std::numeric_limits<T>::infinity());
    std::fill_n(sum_, rows_, T(0));
    std::fill_n(out_, rows_ * shape_.value_width, T(0));
    q.load(queries, q_);
    for_visible_key_blocks(mask, queries, [&](Range keys) {
      blas_gemm<T>(Transpose::no, Transpose::yes, rows_, keys.size(), shape_.width, scale, q_, shape_.width,
                   k.data + keys.begin * k.stride, k.stride, 0, scores_, keys.size());
      hide_keys(mask, queries, keys, shape_.group(), scores_);
      for (std::int64_t row = 0; row < rows_; ++row) update_row(row, keys.size());
      blas_gemm<T>(Transpose::no, Transpose::no, rows_, shape_.value_width, keys.size(), 1, scores_, keys.size(),
                   v.data + keys.begin * v.stride, v.stride, 1, out_, shape_.value_width);
    });
  }

  /// Divides by the sums and writes out and log_sum_exp (rows of heads, `head_stride` apart).
  void finish(Range queries, const HeadGroup<T>& out, T* log_sum_exp, std::int64_t head_stride) {
    for (std::int64_t row = 0; row < rows_; ++row) {
      const std::int64_t query = queries.begin + row / shape_.group(), head = row % shape_.group();
      if (sum_[row] > 0) scale_row(out_ + row * shape_.value_width, shape_.value_width, T(1) / sum_[row]);
      log_sum_exp[head * head_stride + query] = maximum_[row] + std::log(sum_[row]);
    }
    out.store(queries, out_);
  }

 private:
  /// Turns scores into exponentials relative to the new maximum, and brings what is summed so far to it.
  void update_row(std::int64_t row, std::int64_t size) {
    T* score = scores_ + row * size;
    const T maximum = row_maximum(score, size, maximum_[row]);
    // Where nothing is visible yet all scores are -inf: any finite shift makes their exponentials 0.
    const T shift = maximum == -std::numeric_limits<T>::infinity() ? T(0) : maximum;
    const T correction = exponential(maximum_[row] - shift);
    sum_[row] = sum_[row] * correction + exponentiate(score, size, shift);
    if (correction != T(1)) scale_row(out_ + row * shape_.value_width, shape_.value_width, correction);
    maximum_[row] = maximum;
  }

  const Shape& shape_;
  std::int64_t rows_ = 0;
  T *q_, *out_, *scores_, *maximum_, *sum_;
};

/// What backward reads and writes for one key head of one sequence.
template <class T> struct BackwardHead {
  HeadGroup<const T> q, out, out_gradient;
  HeadGroup<T> q_gradient;
  Matrix<const T> k, v;
  Matrix<T> k_gradient, v_gradient;
  const T* log_sum_exp;  ///< rows of heads, `queries` apart
};

/// Backward of one tile of queries: its rows of q_gradient, and its share of the keys' and values' gradients.
template <class T> class BackwardTile {
 public:
  static std::int64_t scratch_size(const Shape& shape) {
    return shape.tile_rows() * (2 * shape.width + shape.value_width + 2 * key_block + 2);
  }
  BackwardTile(const Shape& shape, T* scratch)
      : shape_(shape), q_(scratch), q_gradient_(q_ + shape.tile_rows() * shape.width),
        out_gradient_(q_gradient_ + shape.tile_rows() * shape.width),
        probabilities_(out_gradient_ + shape.tile_rows() * shape.value_width),
        score_gradients_(probabilities_ + shape.tile_rows() * key_block),
        shift_(score_gradients_ + shape.tile_rows() * key_block), mean_(shift_ + shape.tile_rows()) {}

  void run(const SequenceMask& mask, T scale, Range queries, const BackwardHead<T>& head) {
    load(queries, head);
    for_visible_key_blocks(mask, queries, [&](Range keys) {
      blas_gemm<T>(Transpose::no, Transpose::yes, rows_, keys.size(), shape_.width, scale, q_, shape_.width,
                   at(head.k, keys), head.k.stride, 0, probabilities_, keys.size());
      hide_keys(mask, queries, keys, shape_.group(), probabilities_);
      blas_gemm<T>(Transpose::no, Transpose::yes, rows_, keys.size(), shape_.value_width, 1, out_gradient_,
                   shape_.value_width, at(head.v, keys), head.v.stride, 0, score_gradients_, keys.size());
      for (std::int64_t row = 0; row < rows_; ++row) differentiate_row(row, keys.size());
      accumulate(scale, keys, head);
    });
    head.q_gradient.store(queries, q_gradient_);
  }

 private:
  template <class U> static U* at(const Matrix<U>& matrix, Range keys) {
    return matrix.data + keys.begin * matrix.stride;
  }

  /// Tiles of q and out_gradient; mean_ = <out, out_gradient>, the probabilities' mean of d loss / d probability.
  void load(Range queries, const BackwardHead<T>& head) {
    rows_ = queries.size() * shape_.group();
    head.q.load(queries, q_);
    head.out_gradient.load(queries, out_gradient_);
    std::fill_n(q_gradient_, rows_ * shape_.width, T(0));
    for (std::int64_t row = 0; row < rows_; ++row) {
      const std::int64_t query = queries.begin + row / shape_.group(), member = row % shape_.group();
      const T* out = head.out.row(query, member);
      const T* gradient = out_gradient_ + row * shape_.value_width;
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t i = 0; i < shape_.value_width; ++i) sum += out[i] * gradient[i];
      mean_[row] = sum;
      const T log_sum_exp = head.log_sum_exp[member * shape_.queries + query];
      // Where nothing is visible all scores are -inf: any finite shift makes the probabilities 0.
      shift_[row] = log_sum_exp == -std::numeric_limits<T>::infinity() ? T(0) : log_sum_exp;
    }
  }

  /// p = exp(score - log_sum_exp); score gradient = p (d loss / d p - mean).
  void differentiate_row(std::int64_t row, std::int64_t size) {
    T* p = probabilities_ + row * size;
    T* gradient = score_gradients_ + row * size;
    const T shift = shift_[row], mean = mean_[row];
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i) {
      const T e = exponential(p[i] - shift);
      p[i] = e;
      gradient[i] = e * (gradient[i] - mean);
    }
  }

  /// dV += P^T dO;  dQ += scale dS K;  dK += scale dS^T Q.
  void accumulate(T scale, Range keys, const BackwardHead<T>& head) {
    const std::int64_t size = keys.size();
    blas_gemm<T>(Transpose::yes, Transpose::no, size, shape_.value_width, rows_, 1, probabilities_, size, out_gradient_,
                 shape_.value_width, 1, at(head.v_gradient, keys), head.v_gradient.stride);
    blas_gemm<T>(Transpose::no, Transpose::no, rows_, shape_.width, size, scale, score_gradients_, size,
                 at(head.k, keys), head.k.stride, 1, q_gradient_, shape_.width);
    blas_gemm<T>(Transpose::yes, Transpose::no, size, shape_.width, rows_, scale, score_gradients_, size, q_,
                 shape_.width, 1, at(head.k_gradient, keys), head.k_gradient.stride);
  }

  const Shape& shape_;
  std::int64_t rows_ = 0;
  T *q_, *q_gradient_, *out_gradient_, *probabilities_, *score_gradients_, *shift_, *mean_;
};

template <class T> void set_rows_to_zero(Matrix<T> matrix, std::int64_t rows, std::int64_t width) {
  for (std::int64_t row = 0; row < rows; ++row) std::fill_n(matrix.data + row * matrix.stride, width, T(0));
}

Range query_range(const Shape& shape, std::int64_t block) {
  return {block * query_block, std::min(shape.queries, (block + 1) * query_block)};
}

/// Scratch of `size` elements for each thread of a team.
template <class T> Tensor thread_scratch(const OperatorContext& context, std::int64_t size) {
  return context.arena->tensor(dtype_of<T>::value, {omp_get_max_threads(), size}, Label::workspace);
}
template <class T> T* scratch_of_this_thread(const Tensor& scratch) {
  return scratch.view().data<T>() + omp_get_thread_num() * scratch.view().stride(0);
}

template <class T>
void forward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q, ConstView k,
             ConstView v, View out, View log_sum_exp) {
  const Shape shape(q, k, v);
  const Tensor scratch = thread_scratch<T>(context, ForwardTile<T>::scratch_size(shape));
  const std::int64_t blocks = shape.query_blocks(), tiles = shape.batch * shape.key_heads * blocks;
#pragma omp parallel for schedule(dynamic) if (shape.pays_for_threads())
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    // The last queries see most keys: they go first, so that threads end together.
    const Range queries = query_range(shape, blocks - 1 - tile % blocks);
    const std::int64_t sequence = tile / blocks / shape.key_heads, key_head = tile / blocks % shape.key_heads;
    ForwardTile<T> work(shape, scratch_of_this_thread<T>(scratch));
    work.run(SequenceMask(mask, shape, sequence), static_cast<T>(scale), queries,
             HeadGroup<const T>(q, sequence, key_head, shape.group()), key_head_matrix<const T>(k, sequence, key_head),
             key_head_matrix<const T>(v, sequence, key_head));
    const std::int64_t first_head = sequence * shape.heads + key_head * shape.group();
    work.finish(queries, HeadGroup<T>(out, sequence, key_head, shape.group()),
                log_sum_exp.data<T>() + first_head * shape.queries, shape.queries);
  }
}

template <class T>
void backward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q, ConstView k,
              ConstView v, ConstView out, ConstView log_sum_exp, ConstView out_gradient, View q_gradient,
              View k_gradient, View v_gradient) {
  const Shape shape(q, k, v);
  const Tensor scratch = thread_scratch<T>(context, BackwardTile<T>::scratch_size(shape));
  // One thread a key head of a sequence: it alone adds to that head's gradients, query tiles in order.
#pragma omp parallel for schedule(dynamic) if (shape.pays_for_threads())
  for (std::int64_t item = 0; item < shape.batch * shape.key_heads; ++item) {
    const std::int64_t sequence = item / shape.key_heads, key_head = item % shape.key_heads, group = shape.group();
    const std::int64_t first_head = sequence * shape.heads + key_head * group;
    const BackwardHead<T> head{HeadGroup<const T>(q, sequence, key_head, group),
                               HeadGroup<const T>(out, sequence, key_head, group),
                               HeadGroup<const T>(out_gradient, sequence, key_head, group),
                               HeadGroup<T>(q_gradient, sequence, key_head, group),
                               key_head_matrix<const T>(k, sequence, key_head),
                               key_head_matrix<const T>(v, sequence, key_head),
                               key_head_matrix<T>(k_gradient, sequence, key_head),
                               key_head_matrix<T>(v_gradient, sequence, key_head),
                               log_sum_exp.data<T>() + first_head * shape.queries};
    set_rows_to_zero(head.k_gradient, shape.keys, shape.width);
    set_rows_to_zero(head.v_gradient, shape.keys, shape.value_width);
    BackwardTile<T> tile(shape, scratch_of_this_thread<T>(scratch));
    const SequenceMask sequence_mask(mask, shape, sequence);
    for (std::int64_t block = 0; block < shape.query_blocks(); ++block)
      tile.run(sequence_mask, static_cast<T>(scale), query_range(shape, block), head);
  }
}

}  // namespace

void attention_forward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q,
                       ConstView k, ConstView v, View out, View log_sum_exp) {
  with_scalar("attention_forward", q.dtype(),
              [&]<class T>(std::type_identity<T>) { forward<T>(context, mask, scale, q, k, v, out, log_sum_exp); });
}

void attention_backward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q,
                        ConstView k, ConstView v, ConstView out, ConstView log_sum_exp, ConstView out_gradient,
                        View q_gradient, View k_gradient, View v_gradient) {
  with_scalar("attention_backward", q.dtype(), [&]<class T>(std::type_identity<T>) {
    backward<T>(context, mask, scale, q, k, v, out, log_sum_exp, out_gradient, q_gradient, k_gradient, v_gradient);
  });
}

}  // namespace moesaic::reference
