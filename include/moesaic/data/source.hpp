#pragma once
/// Where samples come from, as plain data.

#include <cstdint>
#include <optional>
#include <string>

namespace moesaic {

/// rows: HDF5 files with an integer array `/tokens` [rows, sequence + 1]; `/loss_mask` and `/document` of that shape
///   may stand beside it. Contiguous arrays are read fastest; chunked or compressed ones are read through HDF5.
/// text: any file; a token is a byte (0 to 255), row r is bytes [r * sequence, r * sequence + sequence].
/// synthetic: random tokens, each a pure function of seed, row and column; needs no path.
enum class DataFormat : std::uint8_t { rows, text, synthetic };

struct DataSettings {
  /// One file; several, "a.h5,b.h5": their rows one after the other; or several with weights, "a.h5:0.7,b.h5:0.3":
  /// a mixture that draws their rows in these proportions (rounded to 1/10000 of their sum) in a fixed pattern. A pass
  /// over a mixture ends when each row of each file has been read at least once.
  std::string path;
  DataFormat format = DataFormat::rows;
  std::int64_t sequence = 0;  ///< tokens a sample is trained on; a row holds one more
  bool shuffle = true;
  /// Token id that ends a document and belongs to it; attention stays within documents. It overrules `/document`.
  std::optional<std::int64_t> separator;
  /// Paths of the same format, or a share in (0, 1) held out at the end of each file of `path`: of its rows (rounded
  /// up), or of its bytes for text. Synthetic: anything; the rows are other ones. Empty: no validation.
  std::string validation;
};

}  // namespace moesaic
