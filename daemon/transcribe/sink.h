// Where transcripts are written: a file or standard output, or one behind the other into either; and where
// messages are.
#pragma once

#include <cstdio>
#include <deque>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace sidewinder {

// Output that can't be written. what() names it, says why and what to do.
struct OutputError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// "sidewinder: MESSAGE" as one line on standard error: control characters in it (of file names, say) are
// shown as ?.
void print_message(std::string message);

struct CloseStdio {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using FilePointer = std::unique_ptr<std::FILE, CloseStdio>;

// Thread rule for all sinks: one thread.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual void write(std::string_view text) = 0;  // throws OutputError
  virtual void flush() = 0;                       // throws OutputError
};

// Standard output.
class StandardOutput final : public Sink {
 public:
  void write(std::string_view text) override;
  void flush() override;
};

// A file that appears under its name only when finished: until then it is NAME.part beside it.
class FileOutput final : public Sink {
 public:
  explicit FileOutput(std::filesystem::path file);  // throws OutputError
  ~FileOutput() override;                           // removes NAME.part, if it is still there
  void write(std::string_view text) override;
  void flush() override;
  void finish();  // throws OutputError

 private:
  std::filesystem::path path_;
  std::filesystem::path part_;
  FilePointer file_;
};

// Text held in an unnamed temporary file, so that it costs no memory however long it grows.
class Spool final : public Sink {
 public:
  void write(std::string_view text) override;
  void flush() override {}
  void copy_to(Sink& target);  // everything written so far; then the spool is empty

 private:
  FilePointer file_;  // made at the first write
};

// Several writers into one sink, in order: the first that is not closed writes through, later ones spool.
class OrderedOutput {
 public:
  OrderedOutput(Sink& target, std::size_t writers);
  Sink& writer(std::size_t i) { return writers_[i]; }
  void close(std::size_t i);  // this writer is done; throws OutputError

 private:
  class Writer final : public Sink {
   public:
    explicit Writer(OrderedOutput& owner) : owner_(owner) {}
    void write(std::string_view text) override { current().write(text); }
    void flush() override { current().flush(); }

   private:
    friend class OrderedOutput;
    Sink& current() { return this == &owner_.writers_[owner_.head_] ? owner_.target_ : spool_; }
    OrderedOutput& owner_;
    Spool spool_;
    bool closed_ = false;
  };

  Sink& target_;
  std::deque<Writer> writers_;
  std::size_t head_ = 0;  // first writer that is not closed
};

}  // namespace sidewinder
