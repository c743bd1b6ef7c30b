// Token ids to text: tokens.txt, one "piece id" a line.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace sidewinder {

// Immutable after construction; any thread.
class Tokenizer {
 public:
  // Checks that every id from 0 to vocab_size - 1 is there once. Throws ModelError.
  Tokenizer(const std::filesystem::path& file, int vocab_size);

  struct Piece {
    std::string text;          // ASCII letters in lower case: the models here know one case only
    bool starts_word = false;  // was marked with U+2581
    bool is_special = false;   // <blank>, <unk>, ...: no text
  };

  const Piece& piece(int id) const { return pieces_[static_cast<std::size_t>(id)]; }
  int size() const { return static_cast<int>(pieces_.size()); }

  static constexpr std::size_t kMostPieceBytes = 64;  // a longer piece is refused

 private:
  std::vector<Piece> pieces_;
};

}  // namespace sidewinder
