// events.jsonl and the status file.
#include "moesaic/train/events.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <cctype>
#include <vector>

#include "io/temporary_folder.hpp"
#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::string digits_as_zero(std::string text) {
  for (char& letter : text)
    if (std::isdigit(static_cast<unsigned char>(letter)) != 0) letter = '0';
  return text;
}

TEST(RunRecord, AnEventIsTimeNameStepAndFacts) {
  const test::TemporaryFolder folder;
  RunRecord(folder.path()).event("checkpoint", 20, {{"path", "a \"b\".h5"}, {"bytes", "12"}});
  const auto lines = lines_of(folder / "events.jsonl");
  ASSERT_EQ(lines.size(), 1u);
  const auto event = nlohmann::json::parse(lines[0]);
  EXPECT_EQ(digits_as_zero(event.at("time")), "0000-00-00T00:00:00Z");
  EXPECT_EQ(event.at("event"), "checkpoint");
  EXPECT_EQ(event.at("step"), 20);
  EXPECT_EQ(event.at("path"), "a \"b\".h5");
  EXPECT_EQ(event.at("bytes"), "12");
  EXPECT_EQ(lines[0].find("{\"time\":"), 0u);
}

TEST(RunRecord, AnotherProcessAppends) {
  const test::TemporaryFolder folder;
  RunRecord(folder.path()).event("start", 0);
  RunRecord(folder.path()).event("start", 20);
  const auto lines = lines_of(folder / "events.jsonl");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(nlohmann::json::parse(lines[1]).at("step"), 20);
}

TEST(RunRecord, ATornLineDoesNotSwallowTheNextEvent) {
  const test::TemporaryFolder folder;
  test::write_file(folder / "events.jsonl", "{\"time\": \"20");
  RunRecord(folder.path()).event("start", 7);
  const auto lines = lines_of(folder / "events.jsonl");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(nlohmann::json::parse(lines[1]).at("step"), 7);
}

TEST(RunRecord, BytesThatAreNoUtf8DoNotEndTheRun) {
  const test::TemporaryFolder folder;
  RunRecord(folder.path()).event("checkpoint", 1, {{"path", "caf\xe9"}});
  EXPECT_EQ(nlohmann::json::parse(lines_of(folder / "events.jsonl").at(0)).at("path"), "caf\xef\xbf\xbd");
}

TEST(RunRecord, StatusIsOneLineThatIsReplaced) {
  const test::TemporaryFolder folder;
  RunRecord record(folder.path());
  EXPECT_EQ(record.status(), "");
  record.status("running", 120);
  EXPECT_EQ(lines_of(folder / "status"), std::vector<std::string>{"running 120"});
  record.status("complete", 9);
  EXPECT_EQ(lines_of(folder / "status"), std::vector<std::string>{"complete 9"});
  EXPECT_EQ(record.status(), "complete 9");
  EXPECT_FALSE(std::filesystem::exists(folder / "status.next"));
}

TEST(RunRecord, NoFolderIsARunError) {
  const test::TemporaryFolder folder;
  RunRecord record(folder / "none");
  EXPECT_THROW(record.event("start", 0), RunError);
  EXPECT_THROW(record.status("running", 0), RunError);
}

}  // namespace
}  // namespace moesaic
