#include "daemon/transcribe/sink.h"

#include <array>
#include <cerrno>
#include <cstring>

namespace sidewinder {
namespace {

[[noreturn]] void fail(const std::string& name) {
  const int error = errno;
  const char* way_out = error == ENOSPC || error == EDQUOT ? "free space or choose another place"
                                                           : "check its permissions or choose another place";
  throw OutputError(name + ": " +
                    (error == EPIPE ? "its reader has closed the pipe; nothing more can be written"
                                    : std::string(std::strerror(error)) + "; " + way_out));
}

void write_all(std::FILE* file, std::string_view text, const std::string& name) {
  if (std::fwrite(text.data(), 1, text.size(), file) != text.size()) fail(name);
}

void flush_all(std::FILE* file, const std::string& name) {
  if (std::fflush(file) != 0) fail(name);
}

constexpr char kStandardOutput[] = "standard output";
constexpr char kSpool[] = "temporary file in " P_tmpdir;

}  // namespace

void print_message(std::string message) {
  for (char& c : message)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  std::fprintf(stderr, "sidewinder: %s\n", message.c_str());
}

void StandardOutput::write(std::string_view text) {
  write_all(stdout, text, kStandardOutput);
}
void StandardOutput::flush() {
  flush_all(stdout, kStandardOutput);
}

FileOutput::FileOutput(std::filesystem::path file) : path_(std::move(file)), part_(path_.string() + ".part") {
  file_.reset(std::fopen(part_.c_str(), "w"));
  if (!file_) fail(path_.string());
}

FileOutput::~FileOutput() {
  file_.reset();
  std::error_code ignored;
  std::filesystem::remove(part_, ignored);
}

void FileOutput::write(std::string_view text) {
  write_all(file_.get(), text, path_.string());
}
void FileOutput::flush() {
  flush_all(file_.get(), path_.string());
}

void FileOutput::finish() {
  flush();
  if (std::fclose(file_.release()) != 0) fail(path_.string());
  if (std::rename(part_.c_str(), path_.c_str()) != 0) fail(path_.string());
}

void Spool::write(std::string_view text) {
  if (!file_) file_.reset(std::tmpfile());
  if (!file_) fail(kSpool);
  write_all(file_.get(), text, kSpool);
}

void Spool::copy_to(Sink& target) {
  if (!file_) return;
  flush_all(file_.get(), kSpool);
  std::rewind(file_.get());
  std::array<char, 65536> block;
  while (std::size_t count = std::fread(block.data(), 1, block.size(), file_.get()))
    target.write({block.data(), count});
  if (std::ferror(file_.get())) fail(kSpool);
  file_.reset();
}

OrderedOutput::OrderedOutput(Sink& target, std::size_t writers) : target_(target) {
  for (std::size_t i = 0; i < writers; ++i) writers_.emplace_back(*this);
}

void OrderedOutput::close(std::size_t i) {
  writers_[i].closed_ = true;
  while (head_ < writers_.size() && writers_[head_].closed_) {
    ++head_;
    if (head_ < writers_.size()) writers_[head_].spool_.copy_to(target_);
  }
}

}  // namespace sidewinder
