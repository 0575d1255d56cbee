// The rooms' rules: who includes whom, and who must not see MPI, CUDA, NCCL or HDF5.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace moesaic {
namespace {

using Names = std::vector<std::string_view>;

/// A foreign library, by how the names of its headers begin.
struct Library {
  std::string_view name;
  Names headers;
};
const std::vector<Library> libraries{
    {"MPI", {"mpi.h"}},
    {"CUDA", {"cuda", "cublas", "cudnn", "cub/", "cooperative_groups", "cute/", "cutlass/"}},
    {"NCCL", {"nccl"}},
    {"HDF5", {"hdf5", "H5"}},
};

/// From the ground up. A room includes itself, rooms before it that `hidden` does not name, and the libraries
/// of `may_use`.
struct Room {
  std::string_view name;
  Names hidden;
  Names may_use;
};
const std::vector<Room> rooms{
    {"base", {}, {}},
    {"tensor", {}, {"CUDA"}},
    {"grid", {"tensor"}, {}},
    {"comm", {}, {"MPI", "CUDA", "NCCL"}},
    {"io", {}, {"MPI", "HDF5"}},
    {"kernels", {"grid", "comm", "io"}, {"CUDA"}},
    {"layers", {"comm", "io"}, {}},
    {"models", {}, {}},
    {"parallel", {"io"}, {}},
    {"optim", {"layers"}, {}},
    {"data", {"layers"}, {"MPI"}},
    {"checkpoint", {}, {"MPI"}},
    {"train", {}, {"MPI"}},
    {"app", {}, {"MPI"}},
};

bool contains(const Names& names, std::string_view name) { return std::ranges::find(names, name) != names.end(); }

const Room* find_room(std::string_view name) {
  const auto room = std::ranges::find(rooms, name, &Room::name);
  return room == rooms.end() ? nullptr : &*room;
}

const Library* library_of(std::string_view header) {
  for (const Library& library : libraries)
    for (std::string_view beginning : library.headers)
      if (header.starts_with(beginning)) return &library;
  return nullptr;
}

/// Kernels see CUDA in their cuda/ folder only: the operators' headers are the same for both devices.
bool may_use(const Room& room, const std::string& path, std::string_view library) {
  if (room.name == "kernels" && path.find("/cuda/") == std::string::npos) return false;
  return contains(room.may_use, library);
}

/// Why `path` of `room` must not include `header`; empty when it may.
std::string offence(const Room& room, const std::string& path, const std::string& header) {
  constexpr std::string_view ours = "moesaic/";
  if (header.find("..") != std::string::npos) return "climbs out of its folder";
  if (const Library* library = library_of(header); library != nullptr && !may_use(room, path, library->name))
    return std::string(room.name) + " must not know " + std::string(library->name);
  if (!header.starts_with(ours)) return {};
  const std::string other_name = header.substr(ours.size(), header.find('/', ours.size()) - ours.size());
  const Room* other = find_room(other_name);
  if (other == nullptr) return "no such room: " + other_name;
  if (other > &room) return std::string(room.name) + " lies below " + other_name + " and must not include it";
  if (contains(room.hidden, other_name)) return std::string(room.name) + " must not know " + other_name;
  return {};
}

/// The header of an #include line; empty for any other line.
std::string included_header(std::string_view line) {
  for (std::string_view word : {"#", "include"}) {
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    if (!line.starts_with(word)) return {};
    line.remove_prefix(word.size());
  }
  const std::size_t begin = line.find_first_of("<\""), end = line.find_first_of(">\"", begin + 1);
  if (begin == std::string_view::npos || end == std::string_view::npos) return {};
  return std::string(line.substr(begin + 1, end - begin - 1));
}

/// "path:line: #include <header>: why", one an offence.
std::vector<std::string> offences(const Room& room, const std::string& path, std::istream& text) {
  std::vector<std::string> found;
  std::string line;
  for (int number = 1; std::getline(text, line); ++number) {
    const std::string why = offence(room, path, included_header(line));
    if (!why.empty()) found.push_back(path + ":" + std::to_string(number) + ": " + line + ": " + why);
  }
  return found;
}

std::vector<std::string> offences(std::string_view room, const std::string& text,
                                  const std::string& path = "planted.hpp") {
  std::istringstream stream(text);
  return offences(*find_room(room), path, stream);
}

bool is_source(const std::filesystem::path& path) {
  return contains({".hpp", ".cpp", ".cu", ".cuh"}, path.extension().string());
}

/// Checks all files of root/<room>/...; returns how many there are.
int check_tree(const std::filesystem::path& root) {
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (!entry.is_regular_file() || !is_source(entry.path())) continue;
    const auto relative = std::filesystem::relative(entry.path(), root);
    const Room* room = find_room(relative.begin()->string());
    ++files;
    if (room == nullptr) {
      ADD_FAILURE() << entry.path().string() << ": lies in no room";
      continue;
    }
    std::ifstream text(entry.path());
    for (const std::string& found : offences(*room, entry.path().string(), text)) ADD_FAILURE() << found;
  }
  return files;
}

TEST(Rooms, IncludeOnlyWhatTheyMayKnow) {
  const std::filesystem::path source(MOESAIC_SOURCE_DIR);
  EXPECT_GT(check_tree(source / "include" / "moesaic"), 10);
  EXPECT_GT(check_tree(source / "src"), 5);
}

TEST(RoomsScanner, FindsAPlantedOffence) {
  const auto found = offences("grid", "#pragma once\n#include <vector>\n  # include \"moesaic/models/spec.hpp\"\n");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0],
            "planted.hpp:3:   # include \"moesaic/models/spec.hpp\": grid lies below models and must not "
            "include it");
}

TEST(RoomsScanner, FindsForeignLibraries) {
  EXPECT_EQ(offences("grid", "#include <mpi.h>").size(), 1u);
  EXPECT_EQ(offences("tensor", "#include <mpi.h>").size(), 1u);
  EXPECT_EQ(offences("layers", "#include <cuda_runtime.h>").size(), 1u);
  EXPECT_EQ(offences("kernels", "#include <nccl.h>").size(), 1u);
  EXPECT_EQ(offences("checkpoint", "#include <hdf5.h>").size(), 1u);
  EXPECT_EQ(offences("checkpoint", "#include <H5public.h>").size(), 1u);
  EXPECT_TRUE(offences("comm", "#include <mpi.h>\n#include <nccl.h>\n#include <cuda_runtime.h>").empty());
  EXPECT_EQ(offences("kernels", "#include <cublas_v2.h>", "kernels/gemm.cpp").size(), 1u);
  EXPECT_TRUE(offences("kernels", "#include <cublas_v2.h>", "kernels/cuda/gemm.cpp").empty());
  EXPECT_TRUE(offences("io", "#include <hdf5.h>").empty());
}

TEST(RoomsScanner, FindsHiddenAndUnknownRooms) {
  EXPECT_EQ(offences("kernels", "#include \"moesaic/comm/communicator.hpp\"").size(), 1u);
  EXPECT_EQ(offences("optim", "#include \"moesaic/layers/norm.hpp\"").size(), 1u);
  EXPECT_EQ(offences("parallel", "#include \"moesaic/io/safetensors.hpp\"").size(), 1u);
  EXPECT_EQ(offences("train", "#include \"moesaic/app/options.hpp\"").size(), 1u);
  EXPECT_EQ(offences("app", "#include \"moesaic/cellar/wine.hpp\"").size(), 1u);
  EXPECT_EQ(offences("app", "#include \"../train/step.hpp\"").size(), 1u);
  EXPECT_TRUE(offences("optim", "#include \"moesaic/parallel/unit.hpp\"").empty());
  EXPECT_TRUE(offences("grid", "// #include <mpi.h>\n#include \"moesaic/grid/block.hpp\"").empty());
}

}  // namespace
}  // namespace moesaic
