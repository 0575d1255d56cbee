#include "moesaic/base/hash.hpp"

#include <gtest/gtest.h>

#include <string>

namespace moesaic {
namespace {

/// Bytes 0, 1, 2, ...
std::string counted(int size) {
  std::string bytes;
  for (int i = 0; i < size; ++i) bytes += static_cast<char>(i);
  return bytes;
}

// Values of the reference implementation; together they take every branch: no, one and several stripes of 32
// bytes, and tails of words of eight, four and one.
TEST(Hash64, GivesTheKnownAnswers) {
  EXPECT_EQ(hash64(""), 0xef46db3751d8e999u);
  EXPECT_EQ(hash64("", 1), 0xd5afba1336a3be4bu);
  EXPECT_EQ(hash64("abc"), 0x44bc2cf5ad770999u);
  EXPECT_EQ(hash64("Nobody inspects the spammish repetition"), 0xfbcea83c8a378bf1u);
  EXPECT_EQ(hash64(counted(12)), 0x424af23f1f08dca5u);
  EXPECT_EQ(hash64(counted(31), 7), 0x0bdbbcaead6c6e56u);
  EXPECT_EQ(hash64(counted(32)), 0xcbf59c5116ff32b4u);
  EXPECT_EQ(hash64(counted(64), 7), 0x3c65d1809a38a9bfu);
  EXPECT_EQ(hash64(counted(101), 2654435761u), 0xa1c6d4174c37136du);
}

TEST(Hash64, DoesNotDependOnAlignment) {
  const std::string bytes = counted(70);
  for (std::size_t shift = 1; shift < 8; ++shift) {
    const std::string shifted = std::string(shift, 'x') + bytes;
    EXPECT_EQ(hash64(std::string_view(shifted).substr(shift)), hash64(bytes));
  }
}

}  // namespace
}  // namespace moesaic
