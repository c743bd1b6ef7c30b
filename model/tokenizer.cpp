#include "model/tokenizer.h"

#include <charconv>
#include <fstream>

#include "model/error.h"

namespace sidewinder {
namespace {

constexpr std::string_view kWordMark = "\u2581";

Tokenizer::Piece make_piece(std::string text) {
  Tokenizer::Piece piece;
  piece.is_special = text.size() > 2 && text.front() == '<' && text.back() == '>';
  if (text.starts_with(kWordMark)) {
    piece.starts_word = true;
    text.erase(0, kWordMark.size());
  }
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  piece.text = std::move(text);
  return piece;
}

}  // namespace

Tokenizer::Tokenizer(const std::filesystem::path& file, int vocab_size)
    : pieces_(static_cast<std::size_t>(vocab_size)) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw ModelError(file.string() + ": can't be read; check its permissions");
  std::vector<bool> seen(pieces_.size());
  int lines = 0;
  for (std::string line; std::getline(in, line);) {
    ++lines;
    auto fail = [&](const std::string& rule) {
      throw ModelError(file.string() + ":" + std::to_string(lines) + ": " + rule +
                       "; export the model again");
    };
    std::size_t space = line.rfind(' ');
    int id = -1;
    const char* end = line.data() + line.size();
    if (space == std::string::npos || space == 0) fail("must be a piece, a space and its id");
    auto [stop, error] = std::from_chars(line.data() + space + 1, end, id);
    if (error != std::errc() || stop != end || id < 0 || id >= vocab_size)
      fail("the id must be an integer from 0 to " + std::to_string(vocab_size - 1) +
           " (vocab_size in config.json)");
    if (seen[static_cast<std::size_t>(id)]) fail("id " + std::to_string(id) + " is listed twice");
    if (space > kMostPieceBytes) fail("the piece is longer than 64 bytes");
    seen[static_cast<std::size_t>(id)] = true;
    pieces_[static_cast<std::size_t>(id)] = make_piece(line.substr(0, space));
  }
  for (int id = 0; id < vocab_size; ++id)
    if (!seen[static_cast<std::size_t>(id)])
      throw ModelError(file.string() + ": id " + std::to_string(id) +
                       " is missing; config.json's vocab_size calls for " + std::to_string(vocab_size) +
                       " pieces");
}

}  // namespace sidewinder
