#pragma once
/// Rows of an HDF5 file.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "moesaic/data/dataset.hpp"
#include "moesaic/grid/block.hpp"
#include "moesaic/io/hdf5_file.hpp"
#include "moesaic/io/input_file.hpp"

namespace moesaic {

/// HDF5 is asked where the arrays lie; contiguous ones are then read as bytes, which any thread may do. Arrays of
/// another layout are read through HDF5, by one thread at a time.
class RowsFile : public Dataset {
 public:
  RowsFile(const std::string& path, const DataSettings& settings, std::int64_t vocabulary);

  std::int64_t rows() const override { return tokens_.shape[0]; }
  void read(std::int64_t row, Sample& sample) const override;

 private:
  const std::string& path() const { return bytes_.path().native(); }
  std::int64_t columns() const { return tokens_.shape[1]; }
  void check_tokens(std::int64_t sequence) const;
  std::optional<Hdf5Array> find_beside(const std::string& name) const;
  void check_first_rows() const;
  /// Elements of the flattened array.
  std::vector<std::int64_t> elements(const Hdf5Array& array, Block range) const;
  /// Tokens of whole rows, from row `first` on.
  void check_ids(std::span<const std::int64_t> ids, std::int64_t first) const;
  void read_counted(Block range, Sample& sample) const;
  void read_documents(Block range, Sample& sample) const;

  InputFile bytes_;
  std::optional<Hdf5File> hdf5_;  ///< only while an array needs it
  Hdf5Array tokens_;
  std::optional<Hdf5Array> loss_mask_, document_;
  std::optional<std::int64_t> separator_;
  std::int64_t vocabulary_;
};

}  // namespace moesaic
