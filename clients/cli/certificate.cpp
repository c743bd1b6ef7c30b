#include "clients/cli/certificate.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

namespace sidewinder {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kKeyCharacters = 40;
constexpr std::size_t kKeyBytes = 32;

[[noreturn]] void fail(const fs::path& file, const std::string& what) {
  throw CertificateError(file.string() + ": " + what);
}

[[noreturn]] void fail_errno(const fs::path& file, const std::string& way_out) {
  fail(file, std::string(std::strerror(errno)) + "; " + way_out);
}

// The value of `name = "value"` in a line, or nothing.
std::string value_of(const std::string& line, std::string_view name) {
  const std::size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string::npos || line.compare(begin, name.size(), name) != 0) return "";
  const std::size_t open = line.find('"', begin + name.size());
  const std::size_t close = open == std::string::npos ? open : line.find('"', open + 1);
  return close == std::string::npos ? "" : line.substr(open + 1, close - open - 1);
}

std::string text_of(const Certificate& certificate) {
  std::string text = "#   Made by sidewinder keygen: a ZeroMQ CURVE ";
  text += certificate.secret_key.empty() ? "public certificate. It may be handed out.\n"
                                         : "secret certificate. It must not leave its owner.\n";
  text += "metadata\ncurve\n    public-key = \"" + certificate.public_key + "\"\n";
  if (!certificate.secret_key.empty()) text += "    secret-key = \"" + certificate.secret_key + "\"\n";
  return text;
}

// Writes a file that must not be there yet, and has it on the disk when it returns.
void write_new(const fs::path& file, mode_t mode, const std::string& text) {
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
  if (descriptor < 0 && errno == EEXIST)
    fail(file, "is there already; choose another name, or --force to replace the key");
  if (descriptor < 0) fail_errno(file, "choose a folder that can be written");
  // fchmod: the mode is as asked whatever the umask is.
  const bool written = ::fchmod(descriptor, mode) == 0 &&
                       ::write(descriptor, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                       ::fsync(descriptor) == 0;
  const int error = errno;
  ::close(descriptor);
  if (written) return;
  ::unlink(file.c_str());
  errno = error;
  fail_errno(file, "free some space or choose another folder");
}

}  // namespace

bool valid_key(std::string_view z85) noexcept {
  std::array<unsigned char, kKeyBytes> bytes;
  // zmq_z85_decode reads characters outside its alphabet as some others, so they are looked at here.
  constexpr std::string_view kAlphabet =
      "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
  if (z85.size() != kKeyCharacters || z85.find_first_not_of(kAlphabet) != std::string_view::npos)
    return false;
  std::array<char, kKeyCharacters + 1> text{};
  z85.copy(text.data(), kKeyCharacters);
  return zmq_z85_decode(bytes.data(), text.data()) != nullptr;
}

Certificate load_certificate(const fs::path& file) {
  std::ifstream in(file);
  if (!in) fail_errno(file, "give the certificate that sidewinder keygen made");
  Certificate certificate;
  for (std::string line; std::getline(in, line);) {
    if (auto key = value_of(line, "public-key"); !key.empty()) certificate.public_key = key;
    if (auto key = value_of(line, "secret-key"); !key.empty()) certificate.secret_key = key;
  }
  if (!valid_key(certificate.public_key))
    fail(file,
         "has no line public-key = \"40 characters\"; give the certificate that sidewinder keygen made");
  if (certificate.secret_key.empty()) return certificate;
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) fail_errno(file, "give a file that can be read");
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    fail(file, "has a secret key, and others than its owner may use the file; chmod 600 it");
  std::array<char, kKeyCharacters + 1> derived{};
  if (!valid_key(certificate.secret_key) ||
      zmq_curve_public(derived.data(), certificate.secret_key.c_str()) != 0 ||
      certificate.public_key != derived.data())
    fail(file, "its two keys do not belong together; make new ones with sidewinder keygen");
  return certificate;
}

Certificate load_secret_certificate(const fs::path& file) {
  Certificate certificate = load_certificate(file);
  if (certificate.secret_key.empty())
    fail(file, "has no secret key; give the .key_secret file that lies beside it");
  return certificate;
}

std::string public_key_of(const std::string& key_or_file) {
  return valid_key(key_or_file) ? key_or_file : load_certificate(key_or_file).public_key;
}

Certificate make_certificate() {
  std::array<char, kKeyCharacters + 1> public_key{}, secret_key{};
  if (zmq_curve_keypair(public_key.data(), secret_key.data()) != 0)
    throw CertificateError("this libzmq was built without CURVE; install one with libsodium");
  return {public_key.data(), secret_key.data()};
}

void write_certificate(const Certificate& certificate, const fs::path& prefix, bool replace) {
  const fs::path public_file = prefix.string() + ".key";
  const fs::path secret_file = prefix.string() + ".key_secret";
  const Certificate public_part{certificate.public_key, ""};
  if (!replace) {
    if (fs::exists(fs::symlink_status(public_file)))
      fail(public_file, "is there already; choose another name, or --force to replace the key");
    write_new(secret_file, 0600, text_of(certificate));
    try {
      write_new(public_file, 0644, text_of(public_part));
    } catch (const CertificateError&) {
      ::unlink(secret_file.c_str());
      throw;
    }
    return;
  }
  const fs::path new_public = public_file.string() + ".new", new_secret = secret_file.string() + ".new";
  ::unlink(new_public.c_str());
  ::unlink(new_secret.c_str());
  try {
    write_new(new_secret, 0600, text_of(certificate));
    write_new(new_public, 0644, text_of(public_part));
    fs::rename(new_secret, secret_file);
    fs::rename(new_public, public_file);
  } catch (const fs::filesystem_error& error) {
    throw CertificateError(error.what());
  }
}

}  // namespace sidewinder
