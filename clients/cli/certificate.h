// CURVE keys as files, in the format of CZMQ's certificates (which pyzmq's zmq.auth reads too): a public file
// NAME.key to hand out, and NAME.key_secret, which holds both keys and never leaves its machine.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>

namespace sidewinder {

// A file or key can't be used; what() names it, says what is wrong and what to do.
struct CertificateError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Keys are in Z85 (ZeroMQ RFC 32): 40 characters for 32 bytes.
struct Certificate {
  std::string public_key;
  std::string secret_key;  // empty: a public certificate
};

bool valid_key(std::string_view z85) noexcept;  // 40 characters of Z85

// Throws CertificateError; also for a file with a secret key that others than its owner may read, and for a
// secret key that is not the public one's.
Certificate load_certificate(const std::filesystem::path& file);

// As load_certificate(), and it must have the secret key.
Certificate load_secret_certificate(const std::filesystem::path& file);

// A public key given as 40 characters, or as a file that has one. Throws CertificateError.
std::string public_key_of(const std::string& key_or_file);

// A new pair. Throws CertificateError where libzmq was built without CURVE.
Certificate make_certificate();

// PREFIX.key (mode 0644) and PREFIX.key_secret (mode 0600). Neither may be there already unless `replace`;
// then both are written beside the old ones and renamed over them. Throws CertificateError.
void write_certificate(const Certificate& certificate, const std::filesystem::path& prefix, bool replace);

}  // namespace sidewinder
