// Where transcripts go: files that appear whole, spools, and several writers into one sink.
#include "daemon/transcribe/sink.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

namespace sidewinder {
namespace {

class StringSink final : public Sink {
 public:
  void write(std::string_view more) override { text += more; }
  void flush() override { ++flushes; }
  std::string text;
  int flushes = 0;
};

class BrokenSink final : public Sink {
 public:
  void write(std::string_view) override { throw OutputError("broken"); }
  void flush() override {}
};

class FileOutputTest : public testing::Test {
 protected:
  FileOutputTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "sink_test.XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~FileOutputTest() override { std::filesystem::remove_all(folder_); }

  static std::string content(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  // Names in the folder.
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder_))
      found.push_back(entry.path().filename().string());
    std::sort(found.begin(), found.end());
    return found;
  }

  using Names = std::vector<std::string>;
  std::filesystem::path folder_;
};

TEST_F(FileOutputTest, AppearsUnderItsNameOnlyWhenFinished) {
  FileOutput file(folder_ / "a.txt");
  file.write("one ");
  file.write("two");
  file.flush();
  EXPECT_EQ(names(), Names{"a.txt.part"});
  EXPECT_EQ(content(folder_ / "a.txt.part"), "one two");
  file.finish();
  EXPECT_EQ(names(), Names{"a.txt"});
  EXPECT_EQ(content(folder_ / "a.txt"), "one two");
}

TEST_F(FileOutputTest, ReplacesTheOldOneAtOnce) {
  std::ofstream(folder_ / "a.txt") << "old";
  FileOutput file(folder_ / "a.txt");
  file.write("new");
  EXPECT_EQ(content(folder_ / "a.txt"), "old");
  file.finish();
  EXPECT_EQ(content(folder_ / "a.txt"), "new");
}

TEST_F(FileOutputTest, LeavesNothingWhenNotFinished) {
  std::ofstream(folder_ / "a.txt") << "old";
  {
    FileOutput file(folder_ / "a.txt");
    file.write("half");
    file.flush();
  }
  EXPECT_EQ(names(), Names{"a.txt"});
  EXPECT_EQ(content(folder_ / "a.txt"), "old");
}

TEST_F(FileOutputTest, NameTakenByAFolder) {
  std::filesystem::create_directory(folder_ / "a.txt");
  {
    FileOutput file(folder_ / "a.txt");
    file.write("text");
    try {
      file.finish();
      FAIL() << "a folder was overwritten";
    } catch (const OutputError& error) {
      EXPECT_NE(std::string(error.what()).find((folder_ / "a.txt").string() + ": Is a directory"),
                std::string::npos)
          << error.what();
    }
  }
  EXPECT_EQ(names(), Names{"a.txt"}) << "the part is gone";
}

TEST_F(FileOutputTest, NoSuchFolder) {
  try {
    FileOutput file(folder_ / "none" / "a.txt");
    FAIL() << "opened";
  } catch (const OutputError& error) {
    EXPECT_NE(std::string(error.what()).find("No such file or directory"), std::string::npos);
  }
}

TEST(SpoolTest, GivesBackWhatWasWritten) {
  Spool spool;
  StringSink target;
  spool.copy_to(target);
  EXPECT_EQ(target.text, "");
  std::string expected;
  for (int i = 0; i < 30'000; ++i) {
    std::string line = std::to_string(i) + std::string(1, '\0') + "\n";
    spool.write(line);
    expected += line;
  }
  spool.copy_to(target);
  EXPECT_EQ(target.text, expected);
  spool.copy_to(target);
  EXPECT_EQ(target.text, expected) << "empty after the first time";
  spool.write("more");
  spool.copy_to(target);
  EXPECT_EQ(target.text, expected + "more");
}

// Three writers take turns and close in every order: the text is each one's whole, in their own order.
TEST(OrderedOutputTest, EveryOrderOfClosing) {
  std::vector<std::size_t> closing{0, 1, 2};
  do {
    StringSink target;
    OrderedOutput ordered(target, 3);
    for (const char* word : {"a", "b", "c"})
      for (std::size_t i = 0; i < 3; ++i) {
        ordered.writer(i).write(word + std::to_string(i));
        ordered.writer(i).flush();
      }
    EXPECT_EQ(target.text, "a0b0c0") << "the first writes through";
    EXPECT_EQ(target.flushes, 3);
    for (std::size_t i : closing) {
      ordered.writer(i).write(".");
      ordered.close(i);
    }
    EXPECT_EQ(target.text, "a0b0c0.a1b1c1.a2b2c2.");
  } while (std::next_permutation(closing.begin(), closing.end()));
}

TEST(OrderedOutputTest, TheNextGoesOnWritingThrough) {
  StringSink target;
  OrderedOutput ordered(target, 2);
  ordered.writer(1).write("held ");
  ordered.close(0);
  EXPECT_EQ(target.text, "held ");
  ordered.writer(1).write("through");
  EXPECT_EQ(target.text, "held through");
}

TEST(OrderedOutputTest, ErrorsOfTheTargetComeThrough) {
  BrokenSink target;
  OrderedOutput ordered(target, 2);
  ordered.writer(1).write("held");
  EXPECT_THROW(ordered.writer(0).write("through"), OutputError);
  EXPECT_THROW(ordered.close(0), OutputError);
}

TEST(PrintMessage, OneLine) {
  testing::internal::CaptureStderr();
  print_message("a\nb\tc\x7F: \xC3\xA4 is wrong");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "sidewinder: a?b?c?: \xC3\xA4 is wrong\n");
}

}  // namespace
}  // namespace sidewinder
