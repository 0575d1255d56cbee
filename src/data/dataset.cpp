#include "moesaic/data/dataset.hpp"

#include <cmath>
#include <limits>
#include <utility>

#include "combined.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/base/random.hpp"
#include "paths.hpp"
#include "rows_file.hpp"
#include "synthetic.hpp"
#include "text_file.hpp"

namespace moesaic {
namespace {

using Parts = std::vector<std::unique_ptr<Dataset>>;

void check_settings(const DataSettings& settings, std::int64_t vocabulary) {
  MOESAIC_EXPECT(0 < vocabulary && vocabulary <= std::numeric_limits<std::int32_t>::max());
  MOESAIC_VALIDATE(settings.sequence > 0, "data.sequence = {} (a sample needs tokens); set it to 1 or more",
                   settings.sequence);
  if (!settings.separator) return;
  MOESAIC_VALIDATE(
      0 <= *settings.separator && *settings.separator < vocabulary,
      "data.separator = {} lies outside the model's vocabulary of {} (it would never be met); set it to the "
      "token that ends a document, or leave it out",
      *settings.separator, vocabulary);
}

/// Where the held-out end of `extent` begins. The product is lowered by its rounding error, so that 0.07 of 100 is 7.
std::int64_t held_out_begin(std::int64_t extent, std::optional<double> share) {
  if (!share) return extent;
  return extent - static_cast<std::int64_t>(std::ceil(*share * static_cast<double>(extent) * (1 - 1e-14)));
}

Datasets open_text(const std::string& path, std::optional<double> share, const DataSettings& settings,
                   std::int64_t vocabulary) {
  InputFile file(path);
  const std::int64_t size = file.size(), split = held_out_begin(size, share);
  Datasets result;
  result.training = std::make_unique<TextFile>(std::move(file), Block{0, split}, settings, vocabulary);
  if (share) {
    result.validation = std::make_unique<TextFile>(InputFile(path), Block{split, size}, settings, vocabulary);
  }
  return result;
}

Datasets open_rows(const std::string& path, std::optional<double> share, const DataSettings& settings,
                   std::int64_t vocabulary) {
  auto file = std::make_unique<RowsFile>(path, settings, vocabulary);
  if (!share) return {std::move(file), nullptr};
  const std::int64_t rows = file->rows(), split = held_out_begin(rows, share);
  MOESAIC_VALIDATE(split > 0,
                   "{}: data.validation = {} holds out {} of {} rows (none is left to train on); lower it, or "
                   "name a larger file",
                   path, *share, rows - split, rows);
  const std::shared_ptr<const Dataset> whole = std::move(file);
  return {std::make_unique<RowRange>(whole, Block{0, split}), std::make_unique<RowRange>(whole, Block{split, rows})};
}

std::unique_ptr<Dataset> combine(Parts parts, const std::vector<double>& weights) {
  if (parts.size() == 1) return std::move(parts.front());
  if (weights.empty()) return std::make_unique<Concatenation>(std::move(parts));
  return std::make_unique<Mixture>(std::move(parts), weights);
}

/// Held-out parts are read one after the other, whatever the weights: each row once.
Datasets open_files(const std::vector<DataPath>& paths, std::optional<double> share, const DataSettings& settings,
                    std::int64_t vocabulary) {
  Parts training, validation;
  std::vector<double> weights;
  const auto open = settings.format == DataFormat::text ? open_text : open_rows;
  for (const DataPath& path : paths) {
    Datasets opened = open(path.path, share, settings, vocabulary);
    training.push_back(std::move(opened.training));
    if (share) validation.push_back(std::move(opened.validation));
    if (path.weight) weights.push_back(*path.weight);
  }
  return {combine(std::move(training), weights), share ? combine(std::move(validation), {}) : nullptr};
}

/// More rows than any run reads; few to validate on, since validation reads them all.
Datasets make_synthetic(const DataSettings& settings, std::int64_t vocabulary, std::uint64_t seed) {
  constexpr std::int64_t training_rows = std::int64_t{1} << 30, validation_rows = 256;
  Datasets result;
  result.training =
      std::make_unique<Synthetic>(training_rows, settings, vocabulary, random_key(seed, "data.synthetic.training"));
  if (settings.validation.empty()) return result;
  result.validation =
      std::make_unique<Synthetic>(validation_rows, settings, vocabulary, random_key(seed, "data.synthetic.validation"));
  return result;
}

}  // namespace

Datasets open_datasets(const DataSettings& settings, std::int64_t vocabulary, std::uint64_t seed) {
  check_settings(settings, vocabulary);
  if (settings.format == DataFormat::synthetic) return make_synthetic(settings, vocabulary, seed);
  const auto share = parse_share(settings.validation);
  Datasets result = open_files(parse_paths(settings.path, "data.path"), share, settings, vocabulary);
  if (share || settings.validation.empty()) return result;
  const auto paths = parse_paths(settings.validation, "data.validation");
  result.validation = open_files(paths, std::nullopt, settings, vocabulary).training;
  return result;
}

}  // namespace moesaic
