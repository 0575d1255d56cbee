#include "moesaic/data/batch.hpp"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace moesaic {
namespace {

using Tokens = std::vector<std::int32_t>;

/// Rows given as samples.
class Fixed : public Dataset {
 public:
  explicit Fixed(std::vector<Sample> samples) : samples_(std::move(samples)) {}
  std::int64_t rows() const override { return std::ssize(samples_); }
  void read(std::int64_t row, Sample& sample) const override { sample = samples_.at(static_cast<std::size_t>(row)); }

 private:
  std::vector<Sample> samples_;
};

void expect_tiles(const BatchCut& cut) {
  std::int64_t next = 0;
  for (int rank = 0; rank < cut.data_ranks; ++rank) {
    const Block mine = block_of(cut.global_batch, cut.data_ranks, rank);
    EXPECT_EQ(next, mine.begin);
    for (std::int64_t m = 0; m < cut.micro_batches(); ++m) {
      const BatchCut::Range range = cut.sequences(rank, m);
      EXPECT_EQ(range.begin, next);
      EXPECT_LE(range.size(), cut.micro_batch);
      EXPECT_TRUE(range.size() == cut.micro_batch || range.end == mine.end) << "short before the end";
      next = range.end;
    }
    EXPECT_EQ(next, mine.end);
  }
  EXPECT_EQ(next, cut.global_batch);
}

/// No data rank could do with fewer.
bool last_is_needed(const BatchCut& cut) {
  for (int rank = 0; rank < cut.data_ranks; ++rank) {
    if (!cut.sequences(rank, cut.micro_batches() - 1).empty()) return true;
  }
  return false;
}

TEST(BatchCut, TilesEveryBatchExactly) {
  for (std::int64_t global_batch = 1; global_batch <= 20; ++global_batch) {
    for (std::int64_t micro_batch = 1; micro_batch <= 5; ++micro_batch) {
      for (int data_ranks = 1; data_ranks <= 9; ++data_ranks) {
        SCOPED_TRACE(std::to_string(global_batch) + " " + std::to_string(micro_batch) + " " +
                     std::to_string(data_ranks));
        const BatchCut cut{global_batch, micro_batch, data_ranks};
        expect_tiles(cut);
        EXPECT_TRUE(last_is_needed(cut));
      }
    }
  }
}

TEST(BatchCut, UnevenExample) {
  const BatchCut cut{10, 2, 4};
  ASSERT_EQ(cut.micro_batches(), 2);
  EXPECT_EQ(cut.sequences(0, 0), (Block{0, 2}));
  EXPECT_EQ(cut.sequences(0, 1), (Block{2, 3}));
  EXPECT_EQ(cut.sequences(1, 1), (Block{5, 6}));
  EXPECT_EQ(cut.sequences(3, 0), (Block{8, 10}));
  EXPECT_EQ(cut.sequences(3, 1), (Block{10, 10}));
}

TEST(BatchCut, RanksBeyondTheBatchGetNone) {
  const BatchCut cut{2, 1, 3};
  EXPECT_EQ(cut.micro_batches(), 1);
  EXPECT_TRUE(cut.sequences(2, 0).empty());
}

TEST(ReadBatch, ShiftsLabelsByOne) {
  const Fixed data({{{1, 2, 3, 4}, {}, {}}, {{5, 6, 7, 8}, {}, {}}});
  const HostBatch batch = read_batch(data, Sampler(2, false, 1), 1, {0, 2}, 3);
  EXPECT_EQ(batch.sequences, 2);
  EXPECT_EQ(batch.length, 3);
  EXPECT_EQ(batch.ids, (Tokens{5, 6, 7, 1, 2, 3}));
  EXPECT_EQ(batch.labels, (Tokens{6, 7, 8, 2, 3, 4}));
  EXPECT_EQ(batch.positions, (Tokens{0, 1, 2, 0, 1, 2}));
  EXPECT_TRUE(batch.documents.empty());
  EXPECT_EQ(batch.counted, 6);
}

TEST(ReadBatch, TheMaskMarksLabels) {
  const Fixed data({{{1, 2, 3, 4}, {1, 0, 1, 0}, {}}});
  const HostBatch batch = read_batch(data, Sampler(1, false, 1), 0, {0, 1}, 3);
  EXPECT_EQ(batch.labels, (Tokens{-1, 3, -1}));
  EXPECT_EQ(batch.counted, 1);
}

TEST(ReadBatch, NoLabelCrossesDocuments) {
  const Fixed data({{{1, 2, 3, 4}, {}, {0, 0, 7, 7}}});
  const HostBatch batch = read_batch(data, Sampler(1, false, 1), 0, {0, 1}, 3);
  EXPECT_EQ(batch.labels, (Tokens{2, -1, 4}));
  EXPECT_EQ(batch.documents, (Tokens{0, 0, 7}));
  EXPECT_EQ(batch.positions, (Tokens{0, 1, 2}));
  EXPECT_EQ(batch.counted, 2);
}

TEST(ReadBatch, RowsWithoutDocumentsBesideOthersAreOneDocument) {
  const Fixed data({{{1, 2, 3}, {}, {}}, {{4, 5, 6}, {}, {3, 4, 4}}, {{7, 8, 9}, {}, {}}});
  const HostBatch batch = read_batch(data, Sampler(3, false, 1), 0, {0, 3}, 2);
  EXPECT_EQ(batch.documents, (Tokens{0, 0, 3, 4, 0, 0}));
  EXPECT_EQ(batch.labels, (Tokens{2, 3, -1, 6, 8, 9}));
}

TEST(ReadBatch, LooksTwoTokensAheadWhenAsked) {
  const Fixed data({{{1, 2, 3, 4}, {}, {}}, {{5, 6, 7, 8}, {1, 1, 1, 0}, {}}});
  const Sampler sampler(2, false, 1);
  const HostBatch batch = read_batch(data, sampler, 0, {0, 2}, 3, Lookahead::two_tokens);
  EXPECT_TRUE(batch.predicts);
  EXPECT_EQ(batch.labels, (Tokens{2, 3, 4, 6, 7, -1}));
  EXPECT_EQ(batch.next_ids, (Tokens{2, 3, 4, 6, 7, 8}));        // whatever the mask says
  EXPECT_EQ(batch.next_labels, (Tokens{3, 4, -1, 7, -1, -1}));  // the last position has none
  EXPECT_EQ(batch.next_counted, 3);
  const HostBatch plain = read_batch(data, sampler, 0, {0, 2}, 3);
  EXPECT_FALSE(plain.predicts);
  EXPECT_TRUE(plain.next_ids.empty() && plain.next_labels.empty());
}

/// Neither from t to t + 1 nor from there to t + 2; the mask of t + 1 does not matter.
TEST(ReadBatch, NoNextLabelCrossesDocuments) {
  const Fixed data({{{1, 2, 3, 4, 5, 6, 7, 8}, {1, 0, 1, 1, 1, 1, 1, 1}, {0, 0, 0, 4, 5, 5, 5, 5}}});
  const HostBatch batch = read_batch(data, Sampler(1, false, 1), 0, {0, 1}, 7, Lookahead::two_tokens);
  EXPECT_EQ(batch.labels, (Tokens{-1, 3, -1, -1, 6, 7, 8}));
  EXPECT_EQ(batch.next_labels, (Tokens{3, -1, -1, -1, 7, 8, -1}));
  EXPECT_EQ(batch.next_counted, 3);
}

TEST(ReadBatch, NoSequencesMakeAnEmptyBatch) {
  const Fixed data({{{1, 2, 3}, {}, {}}});
  const HostBatch batch = read_batch(data, Sampler(1, false, 1), 5, {2, 2}, 2);
  EXPECT_EQ(batch.sequences, 0);
  EXPECT_EQ(batch.length, 2);
  EXPECT_TRUE(batch.ids.empty());
  EXPECT_EQ(batch.counted, 0);
}

/// Sequences whose token, label, position and document are told apart by their number in the batch.
HostBatch numbered_batch(std::int64_t sequences, std::int64_t length) {
  HostBatch batch;
  batch.sequences = sequences;
  batch.length = length;
  for (std::int32_t t = 0; t < sequences * length; ++t) {
    batch.ids.push_back(t);
    batch.labels.push_back(t % 5 == 0 ? -1 : 1000 + t);
    batch.positions.push_back(t % static_cast<std::int32_t>(length));
    batch.documents.push_back(2000 + t);
    batch.counted += t % 5 == 0 ? 0 : 1;
  }
  return batch;
}

/// Checks one part, and counts where each token of the whole went.
void expect_part(const HostBatch& whole, int parts, int part, std::vector<int>& owners) {
  const HostBatch mine = part_of(whole, parts, part);
  EXPECT_EQ(mine.parts, parts);
  EXPECT_EQ(mine.length * parts, whole.length);
  EXPECT_EQ(mine.key_documents, parts > 1 ? whole.documents : Tokens());
  ASSERT_EQ(std::ssize(mine.ids), mine.sequences * mine.length);
  for (std::size_t t = 0; t < mine.ids.size(); ++t) {
    const auto from = static_cast<std::size_t>(mine.ids[t]);
    ++owners[from];
    EXPECT_EQ(mine.labels[t], whole.labels[from]);
    EXPECT_EQ(mine.positions[t], whole.positions[from]);
    EXPECT_EQ(mine.documents[t], whole.documents[from]);
    EXPECT_EQ(from / static_cast<std::size_t>(whole.length), t / static_cast<std::size_t>(mine.length)) << "sequence";
  }
}

TEST(PartOf, PartsTileEverySequence) {
  for (int parts = 1; parts <= 6; ++parts) {
    for (std::int64_t sequences = 0; sequences <= 3; ++sequences) {
      for (std::int64_t block = 1; block <= 4; ++block) {
        SCOPED_TRACE(std::to_string(parts) + " " + std::to_string(sequences) + " " + std::to_string(block));
        const HostBatch whole = numbered_batch(sequences, 2 * parts * block);
        std::vector<int> owners(whole.ids.size(), 0);
        std::int64_t counted = 0;
        for (int part = 0; part < parts; ++part) {
          expect_part(whole, parts, part, owners);
          counted += part_of(whole, parts, part).counted;
        }
        EXPECT_EQ(owners, std::vector<int>(whole.ids.size(), 1));
        EXPECT_EQ(counted, whole.counted);
      }
    }
  }
}

TEST(PartOf, LabelsAndDocumentsAtTheEdgesAreThoseOfTheRow) {
  const Fixed data({{{1, 2, 3, 4, 5, 6, 7, 8, 9}, {}, {0, 0, 0, 0, 0, 0, 1, 1, 1}}});
  const HostBatch whole = read_batch(data, Sampler(1, false, 1), 0, {0, 1}, 8);
  const HostBatch first = part_of(whole, 2, 0), second = part_of(whole, 2, 1);
  EXPECT_EQ(first.ids, (Tokens{1, 2, 7, 8}));
  EXPECT_EQ(first.labels, (Tokens{2, 3, 8, 9}));
  EXPECT_EQ(first.positions, (Tokens{0, 1, 6, 7}));
  EXPECT_EQ(first.documents, (Tokens{0, 0, 1, 1}));
  EXPECT_EQ(first.key_documents, (Tokens{0, 0, 0, 0, 0, 0, 1, 1}));
  EXPECT_EQ(first.counted, 4);
  EXPECT_EQ(second.ids, (Tokens{3, 4, 5, 6}));
  EXPECT_EQ(second.labels, (Tokens{4, 5, 6, -1}));
  EXPECT_EQ(second.counted, 3);
}

TEST(PartOf, NextTokensAtTheEdgesAreThoseOfTheRow) {
  const Fixed data({{{1, 2, 3, 4, 5, 6, 7, 8, 9}, {}, {0, 0, 0, 0, 0, 0, 1, 1, 1}}});
  const HostBatch whole = read_batch(data, Sampler(1, false, 1), 0, {0, 1}, 8, Lookahead::two_tokens);
  const HostBatch first = part_of(whole, 2, 0), second = part_of(whole, 2, 1);
  EXPECT_TRUE(first.predicts);
  EXPECT_EQ(first.ids, (Tokens{1, 2, 7, 8}));
  EXPECT_EQ(first.next_ids, (Tokens{2, 3, 8, 9}));
  EXPECT_EQ(first.next_labels, (Tokens{3, 4, 9, -1}));
  EXPECT_EQ(first.next_counted, 3);
  EXPECT_EQ(second.next_ids, (Tokens{4, 5, 6, 7}));
  EXPECT_EQ(second.next_labels, (Tokens{5, 6, -1, -1}));
  EXPECT_EQ(second.next_counted, 2);
}

}  // namespace
}  // namespace moesaic
