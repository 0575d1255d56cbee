#include "safetensors_header.hpp"

#include <nlohmann/json.hpp>
#include <algorithm>
#include <limits>
#include <set>
#include <tuple>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

/// Takes the header's events as they come: no tree is built, so a hostile header costs no more than its own size.
/// Levels: 1 the header, 2 one tensor or the metadata, 3 a list of a tensor.
class HeaderEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderEvents(const std::string& path, SafetensorsHeader& header) : path_(path), header_(header) {}

  bool key(string_t& name) override {
    if (level_ == 1) {
      if (!names_.insert(name).second) refuse_safetensors(path_, name, "is described twice");
      tensor_ = name;
    } else {
      field_ = name;
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (level_ >= 2) refuse("holds an object where a value belongs");
    if (++level_ == 2) begin_tensor();
    return true;
  }

  bool end_object() override {
    if (level_-- == 2 && !in_metadata()) end_tensor();
    return true;
  }

  bool start_array(std::size_t) override {
    if (level_ != 2 || in_metadata() || (field_ != "shape" && field_ != "data_offsets"))
      refuse("holds an unknown list");
    if (!fields_.insert(field_).second) refuse("gives " + field_ + " twice");
    ++level_;
    return true;
  }

  bool end_array() override {
    --level_;
    return true;
  }

  bool string(string_t& value) override {
    if (level_ != 2) refuse("holds text where a number or object belongs");
    if (in_metadata()) {
      header_.metadata[field_] = value;
      return true;
    }
    if (field_ != "dtype" || !fields_.insert(field_).second) refuse("has an unknown or repeated text field");
    const auto type = storage_type_named(value);
    if (!type) refuse(fmt::format("has the unknown dtype '{:.20}'", value));
    info_.type = *type;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (level_ != 3) refuse("holds a number where none belongs");
    if (value > static_cast<number_unsigned_t>(std::numeric_limits<std::int64_t>::max())) {
      refuse(fmt::format("has {} in {}, beyond 63 bits", value, field_));
    }
    auto& list = field_ == "shape" ? info_.shape : offsets_;
    if (list.size() == 32) refuse(fmt::format("has more than 32 numbers in {}", field_));
    list.push_back(static_cast<std::int64_t>(value));
    return true;
  }

  bool null() override {
    if (level_ != 1 || tensor_ != metadata_key) refuse("holds null where a value belongs");
    return true;
  }
  bool boolean(bool) override { refuse("holds true or false where a number belongs"); }
  bool number_integer(number_integer_t value) override { refuse(fmt::format("holds the negative number {}", value)); }
  bool number_float(number_float_t, const string_t& text) override {
    refuse(fmt::format("holds the fraction {:.20}", text));
  }
  bool binary(binary_t&) override { refuse("holds binary data"); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& error) override {
    refuse_safetensors(path_, "", fmt::format("the header is not valid JSON: {:.200}", error.what()));
  }

 private:
  static constexpr std::string_view metadata_key = "__metadata__";

  bool in_metadata() const { return tensor_ == metadata_key; }
  [[noreturn]] void refuse(const std::string& problem) const { refuse_safetensors(path_, tensor_, problem); }

  void begin_tensor() {
    info_ = {};
    info_.name = tensor_;
    offsets_.clear();
    fields_.clear();
  }

  void end_tensor() {
    if (fields_.size() != 3) refuse("lacks one of dtype, shape and data_offsets");
    if (offsets_.size() != 2) refuse(fmt::format("has {} data_offsets instead of 2", offsets_.size()));
    info_.begin = offsets_[0];
    info_.end = offsets_[1];
    header_.tensors.push_back(info_);
  }

  const std::string& path_;
  SafetensorsHeader& header_;
  std::set<std::string> names_, fields_;
  int level_ = 0;
  std::string tensor_, field_;
  SafetensorsInfo info_;
  Shape offsets_;
};

void check_bytes(const SafetensorsInfo& tensor, const std::string& path, std::int64_t data_bytes) {
  const std::int64_t bytes = tensor.end - tensor.begin;
  if (bytes < 0 || tensor.end > data_bytes) {
    refuse_safetensors(path, tensor.name,
                       fmt::format("has the bytes [{}, {}) of {} (truncated?)", tensor.begin, tensor.end, data_bytes));
  }
  const auto count = element_count(tensor.shape);
  std::int64_t expected = 0;
  if (!count || __builtin_mul_overflow(*count, size_of(tensor.type), &expected) || expected != bytes) {
    refuse_safetensors(path, tensor.name,
                       fmt::format("has {} bytes, but {} of shape {} does not take that many", bytes,
                                   name_of(tensor.type), to_text(tensor.shape)));
  }
}

/// Sorted by place, each tensor must begin where the one before ends, and the last must end with the file.
void check_cover(std::vector<SafetensorsInfo>& tensors, const std::string& path, std::int64_t data_bytes) {
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  std::int64_t end = 0;
  for (const SafetensorsInfo& tensor : tensors) {
    if (tensor.begin != end) {
      refuse_safetensors(path, tensor.name,
                         fmt::format("begins at byte {} of the data, {} the tensor before it, which ends at {}",
                                     tensor.begin, tensor.begin < end ? "overlapping" : "behind a hole after", end));
    }
    end = tensor.end;
  }
  if (end != data_bytes) {
    refuse_safetensors(path, "",
                       fmt::format("the tensors end at byte {} of the data, the file at {}", end, data_bytes));
  }
}

}  // namespace

void refuse_safetensors(const std::string& path, std::string_view tensor, const std::string& problem) {
  const std::string subject = tensor.empty() ? "" : fmt::format("tensor '{:.200}' ", tensor);
  throw InputError(fmt::format("{}: {}{} (the file is damaged or no safetensors file); download or write it again",
                               path, subject, problem));
}

SafetensorsHeader parse_safetensors_header(const std::string& text, const std::string& path, std::int64_t file_bytes) {
  if (text.empty() || text.front() != '{') refuse_safetensors(path, "", "the header does not begin with '{'");
  // The parser takes a NUL for the end and what follows for nothing.
  if (text.find('\0') != std::string::npos) refuse_safetensors(path, "", "there is a NUL byte in the header");
  SafetensorsHeader header;
  HeaderEvents events(path, header);
  nlohmann::json::sax_parse(text, &events);
  const std::int64_t data_begin = 8 + static_cast<std::int64_t>(text.size());
  for (const SafetensorsInfo& tensor : header.tensors) check_bytes(tensor, path, file_bytes - data_begin);
  check_cover(header.tensors, path, file_bytes - data_begin);
  for (SafetensorsInfo& tensor : header.tensors) {
    tensor.begin += data_begin;
    tensor.end += data_begin;
  }
  std::sort(header.tensors.begin(), header.tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return header;
}

}  // namespace moesaic
