#include "moesaic/grid/process_grid.hpp"

#include <gtest/gtest.h>

#include <regex>

#include <algorithm>
#include <functional>

#include "moesaic/base/contract.hpp"
#include "moesaic/grid/block.hpp"

namespace moesaic {
namespace {

using Axes = std::array<Axis, 4>;
constexpr Axes dense{Axis::pipeline, Axis::replicate, Axis::shard, Axis::context};
constexpr Axes expert{Axis::pipeline, Axis::expert_replicate, Axis::expert_shard, Axis::expert};
constexpr int most_ranks = 64;

std::string refusal(const GridRequest& request, int ranks) {
  try {
    ProcessGrid::make(request, ranks);
  } catch (const InputError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

/// Calls `visit(request, ranks)` for every factorisation pipeline x replicate x shard x context of 1..64
/// ranks and every expert that divides replicate x shard x context.
void for_every_factorisation(const std::function<void(const GridRequest&, int)>& visit) {
  for (int ranks = 1; ranks <= most_ranks; ++ranks)
    for (int pipeline = 1; pipeline <= ranks; ++pipeline)
      for (int replicate = 1; pipeline * replicate <= ranks; ++replicate)
        for (int shard = 1; pipeline * replicate * shard <= ranks; ++shard) {
          const int outer = pipeline * replicate * shard;
          if (ranks % outer != 0) continue;
          const int stage = ranks / pipeline;
          for (int experts = 1; experts <= stage; ++experts)
            if (stage % experts == 0) visit({pipeline, replicate, shard, ranks / outer, experts}, ranks);
        }
}

int rank_at(const ProcessGrid& grid, const Axes& axes, const std::array<int, 4>& coordinates) {
  int rank = 0;
  for (std::size_t i = 0; i < 4; ++i) rank = rank * grid.extent(axes[i]) + coordinates[i];
  return rank;
}

std::array<int, 4> coordinates(const ProcessGrid& grid, const Axes& axes, int rank) {
  std::array<int, 4> result;
  for (std::size_t i = 0; i < 4; ++i) result[i] = grid.coordinate(rank, axes[i]);
  return result;
}

int size_of_grid(const ProcessGrid& grid, const Axes& axes) {
  int product = 1;
  for (Axis axis : axes) product *= grid.extent(axis);
  return product;
}

// Each rank has coordinates within the extents, and they lead back to it: with as many places as ranks, a
// bijection.
void check_coordinates(const ProcessGrid& grid, const Axes& axes) {
  ASSERT_EQ(size_of_grid(grid, axes), grid.ranks());
  for (int rank = 0; rank < grid.ranks(); ++rank) {
    const auto at = coordinates(grid, axes, rank);
    for (std::size_t i = 0; i < 4; ++i) ASSERT_TRUE(0 <= at[i] && at[i] < grid.extent(axes[i]));
    ASSERT_EQ(rank_at(grid, axes, at), rank);
  }
}

// Groups partition the ranks: each has the product of its extents, holds its rank, is ascending, differs in
// the named axes only, and every member sees the same group.
void check_groups(const ProcessGrid& grid, const Axes& axes, std::initializer_list<Axis> named) {
  std::vector<int> visits(static_cast<std::size_t>(grid.ranks()), 0);
  std::size_t size = 1;
  for (Axis axis : named) size *= static_cast<std::size_t>(grid.extent(axis));
  for (int rank = 0; rank < grid.ranks(); ++rank) {
    const std::vector<int> members = grid.group(rank, named);
    ASSERT_EQ(members.size(), size);
    ASSERT_TRUE(std::ranges::is_sorted(members, std::ranges::less_equal{}));
    ASSERT_TRUE(std::ranges::binary_search(members, rank));
    if (members.front() != rank) {
      ASSERT_EQ(members, grid.group(members.front(), named));
      continue;
    }
    for (int member : members) {
      ++visits[static_cast<std::size_t>(member)];
      for (Axis axis : axes) {
        const bool same = grid.coordinate(member, axis) == grid.coordinate(rank, axis);
        ASSERT_TRUE(same || std::ranges::find(named, axis) != named.end());
      }
    }
  }
  ASSERT_TRUE(std::ranges::all_of(visits, [](int count) { return count == 1; }));
}

// The blocks of a group's members, in rank order, tile an extent.
void check_tiles(const ProcessGrid& grid, Axis axis, std::int64_t extent) {
  for (int rank = 0; rank < grid.ranks(); ++rank) {
    if (grid.coordinate(rank, axis) != 0) continue;
    std::int64_t end = 0;
    for (int member : grid.group(rank, {axis})) {
      const Block block = block_of(extent, grid.extent(axis), grid.coordinate(member, axis));
      ASSERT_EQ(block.begin, end);
      end = block.end;
    }
    ASSERT_EQ(end, extent);
  }
}

// A parameter cut by two axes at once: place in the group is the part.
void check_sliced_by_group(const ProcessGrid& grid, std::initializer_list<Axis> axes, std::int64_t extent) {
  for (int rank = 0; rank < grid.ranks(); ++rank) {
    const std::vector<int> members = grid.group(rank, axes);
    if (members.front() != rank) continue;
    std::int64_t end = 0;
    const auto parts = static_cast<std::int64_t>(members.size());
    for (std::int64_t part = 0; part < parts; ++part) {
      ASSERT_EQ(block_of(extent, parts, part).begin, end);
      end = block_of(extent, parts, part).end;
    }
    ASSERT_EQ(end, extent);
  }
}

TEST(ProcessGrid, EveryFactorisationIsABijectionBothWays) {
  int grids = 0;
  for_every_factorisation([&grids](const GridRequest& request, int ranks) {
    const ProcessGrid grid = ProcessGrid::make(request, ranks);
    ASSERT_EQ(grid.extent(Axis::pipeline), request.pipeline);
    ASSERT_EQ(grid.extent(Axis::replicate), request.replicate);
    ASSERT_EQ(grid.extent(Axis::shard), request.shard);
    ASSERT_EQ(grid.extent(Axis::context), request.context);
    ASSERT_EQ(grid.extent(Axis::expert), request.expert);
    const bool keeps_replicas = request.shard * request.context % request.expert == 0;
    ASSERT_EQ(grid.extent(Axis::expert_replicate), keeps_replicas ? request.replicate : 1);
    check_coordinates(grid, dense);
    check_coordinates(grid, expert);
    ++grids;
  });
  EXPECT_GT(grids, 5000);
}

TEST(ProcessGrid, GroupsPartitionTheRanks) {
  for_every_factorisation([](const GridRequest& request, int ranks) {
    const ProcessGrid grid = ProcessGrid::make(request, ranks);
    for (Axis axis : dense) check_groups(grid, dense, {axis});
    for (Axis axis : expert) check_groups(grid, expert, {axis});
    check_groups(grid, dense, {Axis::shard, Axis::context});
    check_groups(grid, dense, {Axis::replicate, Axis::shard, Axis::context});
    check_groups(grid, expert, {Axis::expert_replicate, Axis::expert_shard, Axis::expert});
    ASSERT_EQ(grid.group(0, {Axis::pipeline, Axis::replicate, Axis::shard, Axis::context}).size(),
              static_cast<std::size_t>(ranks));
  });
}

TEST(ProcessGrid, BlocksTileEveryExtent) {
  for_every_factorisation([](const GridRequest& request, int ranks) {
    const ProcessGrid grid = ProcessGrid::make(request, ranks);
    for (std::int64_t extent : {0, 1, 5, 48, 131}) {
      for (Axis axis : dense) check_tiles(grid, axis, extent);
      for (Axis axis : expert) check_tiles(grid, axis, extent);
      check_sliced_by_group(grid, {Axis::shard, Axis::context}, extent);
    }
  });
}

TEST(ProcessGrid, DataRanksCountReplicasOfShards) {
  for_every_factorisation([](const GridRequest& request, int ranks) {
    const ProcessGrid grid = ProcessGrid::make(request, ranks);
    ASSERT_EQ(grid.data_ranks(), request.replicate * request.shard);
    std::vector<int> ranks_of(static_cast<std::size_t>(grid.data_ranks()), 0);
    for (int rank = 0; rank < ranks; ++rank) ++ranks_of[static_cast<std::size_t>(grid.data_rank(rank))];
    for (int count : ranks_of) ASSERT_EQ(count, request.pipeline * request.context);
  });
}

TEST(ProcessGrid, AnExpertGroupStaysWithinItsStageAndReplica) {
  for_every_factorisation([](const GridRequest& request, int ranks) {
    const ProcessGrid grid = ProcessGrid::make(request, ranks);
    const bool keeps_replicas = grid.extent(Axis::expert_replicate) == request.replicate;
    for (int rank = 0; rank < ranks; ++rank)
      for (int member : grid.group(rank, {Axis::expert})) {
        ASSERT_EQ(grid.coordinate(member, Axis::pipeline), grid.coordinate(rank, Axis::pipeline));
        if (keeps_replicas) {
          ASSERT_EQ(grid.coordinate(member, Axis::replicate), grid.coordinate(rank, Axis::replicate));
          ASSERT_EQ(grid.coordinate(rank, Axis::expert_replicate), grid.coordinate(rank, Axis::replicate));
        }
      }
  });
}

// 24 ranks = pipeline 2 x replicate 1 x shard 6 x context 2: rank 19 = (1 * 6 + 3) * 2 + 1.
TEST(ProcessGrid, LiteralCoordinatesAndGroups) {
  const ProcessGrid grid = ProcessGrid::make({.pipeline = 2, .context = 2, .expert = 4}, 24);
  EXPECT_EQ(coordinates(grid, dense, 19), (std::array{1, 0, 3, 1}));
  EXPECT_EQ(coordinates(grid, expert, 19), (std::array{1, 0, 1, 3}));  // 19 = (1 * 3 + 1) * 4 + 3
  EXPECT_EQ(grid.group(19, {Axis::context}), (std::vector{18, 19}));
  EXPECT_EQ(grid.group(19, {Axis::pipeline}), (std::vector{7, 19}));
  EXPECT_EQ(grid.group(19, {Axis::shard}), (std::vector{13, 15, 17, 19, 21, 23}));
  EXPECT_EQ(grid.group(19, {Axis::expert}), (std::vector{16, 17, 18, 19}));
  EXPECT_EQ(grid.group(19, {Axis::expert_shard}), (std::vector{15, 19, 23}));
  EXPECT_EQ(grid.group(19, {}), (std::vector{19}));
  EXPECT_EQ(grid.describe(),
            "24 ranks = pipeline 2 x replicate 1 x shard 6 x context 2 = pipeline 2 x expert_replicate 1 x "
            "expert_shard 3 x expert 4");
}

TEST(ProcessGrid, ExpertsWiderThanAReplicaGiveUpTheReplicas) {
  const ProcessGrid grid = ProcessGrid::make({.replicate = 2, .expert = 8}, 8);
  EXPECT_EQ(grid.extent(Axis::shard), 4);
  EXPECT_EQ(grid.extent(Axis::expert_replicate), 1);
  EXPECT_EQ(grid.extent(Axis::expert_shard), 1);
}

TEST(ProcessGrid, EveryOtherRequestIsRefusedWithLegalAdvice) {
  for (int ranks = 1; ranks <= 24; ++ranks)
    for (int pipeline = 1; pipeline <= 5; ++pipeline)
      for (int shard = 0; shard <= 5; ++shard)
        for (int context = 1; context <= 3; ++context) {
          const GridRequest request{.pipeline = pipeline, .shard = shard, .context = context};
          const int product = pipeline * std::max(shard, 1) * context;
          const bool legal = shard == 0 ? ranks % product == 0 : ranks == product;
          const std::string text = refusal(request, ranks);
          ASSERT_EQ(text == "nothing was thrown", legal) << ranks << " ranks: " << text;
          ASSERT_EQ(text.find("nearest legal: ") == std::string::npos, legal) << text;
        }
}

/// The requests and numbers of ranks that a refusal advises: "8 or 16 ranks, or grid.expert = 1, 2 or 4".
std::vector<std::pair<GridRequest, int>> advice(const std::string& text, const GridRequest& request, int ranks) {
  const std::size_t nearest = text.find("nearest legal: "), use = text.rfind("; use ");
  const std::string tail =
      nearest != std::string::npos ? text.substr(nearest + 15) : "grid.expert = " + text.substr(use + 6);
  std::vector<std::pair<GridRequest, int>> advised;
  const std::regex part(R"(grid\.(\w+) = ([0-9]+(?:(?:, | or )[0-9]+)*)|([0-9]+(?: or [0-9]+)*) ranks)"),
      number("[0-9]+");
  for (std::sregex_iterator at(tail.begin(), tail.end(), part), end; at != end; ++at) {
    const std::string axis = (*at)[1], numbers = axis.empty() ? (*at)[3] : (*at)[2];
    for (std::sregex_iterator n(numbers.begin(), numbers.end(), number); n != end; ++n) {
      auto& [changed, of_ranks] = advised.emplace_back(request, ranks);
      const int value = std::stoi(n->str());
      if (axis.empty()) of_ranks = value;
      if (axis == "pipeline") changed.pipeline = value;
      if (axis == "replicate") changed.replicate = value;
      if (axis == "shard") changed.shard = value;
      if (axis == "context") changed.context = value;
      if (axis == "expert") changed.expert = value;
    }
  }
  return advised;
}

TEST(ProcessGrid, AdviceIsLegalAsItStands) {
  const GridLimits limits{.experts = 8, .stages = 4};
  int followed = 0;
  for (int ranks : {1, 2, 3, 5, 6, 7, 8, 12, 16, 24})
    for (int pipeline : {1, 2, 3, 4, 5, 8})
      for (int shard : {0, 2, 3})
        for (int context : {1, 2, 3})
          for (int experts : {1, 2, 3, 4, 8, 16}) {
            const GridRequest request{.pipeline = pipeline, .shard = shard, .context = context, .expert = experts};
            std::string text;
            try {
              ProcessGrid::make(request, ranks, limits);
              continue;
            } catch (const InputError& error) {
              text = error.what();
            }
            if (text.find("none by one change") != std::string::npos) continue;
            for (const auto& [changed, of_ranks] : advice(text, request, ranks)) {
              ASSERT_NO_THROW(ProcessGrid::make(changed, of_ranks, limits)) << text;
              ++followed;
            }
          }
  EXPECT_GT(followed, 1000);
}

TEST(ProcessGrid, AdviceKeepsToTheModel) {
  const auto refused = [](const GridRequest& request, int ranks) -> std::string {
    try {
      ProcessGrid::make(request, ranks, {.experts = 8, .stages = 6});
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(refused({.expert = 4}, 3).find("; use 1"), std::string::npos) << refused({.expert = 4}, 3);
  EXPECT_EQ(refused({.expert = 7}, 7),
            "grid.expert = 7 does not divide the 8 experts of a layer (each rank holds as many); use 1");
  EXPECT_NE(refused({.pipeline = 64}, 64).find("at most 6, nearest legal: grid.pipeline = 1, 2 or 4"),
            std::string::npos)
      << refused({.pipeline = 64}, 64);
}

TEST(ProcessGrid, RefusalsNameTheNearestLegalGrids) {
  EXPECT_EQ(refusal({.expert = 3}, 4),
            "grid.expert = 3 does not divide replicate x shard x context = 1 x 4 x 1 = 4 (the expert grid "
            "factors the "
            "same ranks); use 1, 2 or 4");
  EXPECT_EQ(refusal({.pipeline = 4, .context = 2}, 12),
            "12 ranks cannot be pipeline 4 x replicate 1 x context 2 = 8, times a shard (grid.shard takes what is "
            "left, "
            "and 12 is not a multiple of 8); nearest legal: 8 or 16 ranks, or grid.pipeline = 1, 2, 3 or 6, or "
            "grid.context = 1 or 3");
  EXPECT_EQ(refusal({.shard = 4}, 5),
            "5 ranks cannot be pipeline 1 x replicate 1 x shard 4 x context 1 = 4 (every rank needs exactly "
            "one place in "
            "the grid); nearest legal: 4 ranks, or grid.shard = 5");
  EXPECT_EQ(refusal({.pipeline = 8}, 5),
            "5 ranks cannot be pipeline 8 x replicate 1 x context 1 = 8, times a shard (grid.shard takes "
            "what is left, "
            "and 5 is not a multiple of 8); nearest legal: 8 ranks, or grid.pipeline = 1 or 5");
}

TEST(ProcessGrid, OfManyLegalExtentsTheSixNearestAreNamed) {
  const std::string text = refusal({.expert = 7}, 960);
  EXPECT_NE(text.find("; use 3, 4, 5, 6, 8 or 10"), std::string::npos) << text;
}

TEST(ProcessGrid, RefusesExtentsThatAreNoNumberOfRanks) {
  EXPECT_EQ(refusal({.pipeline = 0}, 4),
            "grid.pipeline = 0 is no number of ranks (an axis has at least one); use 1 or more");
  EXPECT_EQ(refusal({.shard = -1}, 4),
            "grid.shard = -1 is no number of ranks (an axis has at least one); use 1 or more, or leave it "
            "out to take "
            "what is left");
  EXPECT_EQ(refusal({.expert = -2}, 4),
            "grid.expert = -2 is no number of ranks (an axis has at least one); use 1 or more");
  EXPECT_EQ(refusal({}, 0), "0 ranks (a grid needs at least one); use 1 or more");
}

TEST(ProcessGrid, HugeExtentsDoNotOverflow) {
  const int huge = 2'000'000'000;
  EXPECT_NE(refusal({.pipeline = huge, .replicate = huge, .shard = huge, .context = huge}, 4).find("4 ranks cannot be"),
            std::string::npos);
}

}  // namespace
}  // namespace moesaic
