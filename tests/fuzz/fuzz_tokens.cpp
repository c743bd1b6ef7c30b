// Any text as tokens.txt: refused with a ModelError, or every piece can be read. The first byte is the
// vocabulary's size.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

#include "model/error.h"
#include "model/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sidewinder;
  if (size == 0) return 0;
  const int vocab_size = 2 + data[0] % 16;
  static const int file = ::memfd_create("fuzz", 0);
  if (::ftruncate(file, 0) != 0 || ::pwrite(file, data + 1, size - 1, 0) != static_cast<ssize_t>(size - 1))
    std::abort();
  try {
    Tokenizer tokenizer("/proc/self/fd/" + std::to_string(file), vocab_size);
    for (int id = 0; id < vocab_size; ++id)
      if (tokenizer.piece(id).text.size() > Tokenizer::kMostPieceBytes) std::abort();
  } catch (const ModelError&) {
  }
  return 0;
}
