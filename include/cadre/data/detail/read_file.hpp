#ifndef CADRE_DATA_DETAIL_READ_FILE_HPP
#define CADRE_DATA_DETAIL_READ_FILE_HPP

#include <cadre/data/error.hpp>

#include <fcntl.h>     // open
#include <sys/stat.h>  // fstat, for the size
#include <unistd.h>    // read, close

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

CADRE_NAMESPACE_BEGIN

namespace data::detail {

/// Appends the whole file to `out`, a vector of bytes or a string. Works for pipes too, whose size is not known before.
/// `fail(reason)` makes the exception to throw.
template <class Bytes, class Fail>
void read_file(const std::string& path, Bytes& out, const Fail& fail) {
  struct file {
    int descriptor;
    ~file() {
      if (descriptor >= 0) ::close(descriptor);
    }
  } in{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  struct ::stat info;
  if (in.descriptor < 0 || ::fstat(in.descriptor, &info) != 0) throw fail(std::strerror(errno));
  std::size_t used = out.size();
  out.resize(used + (info.st_size > 0 ? static_cast<std::size_t>(info.st_size) : 0) + 1);  // 1 more, to see the end
  for (;;) {
    const ::ssize_t n = ::read(in.descriptor, out.data() + used, out.size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw fail(std::strerror(errno));
    if (n == 0) break;
    used += static_cast<std::size_t>(n);
    if (used == out.size()) out.resize(used + used / 2 + 4096);
  }
  out.resize(used);
}

/// The same, throwing file_error 701.
template <class Bytes>
void read_file(const std::string& path, Bytes& out) {
  read_file(path, out, [&](const char* reason) { return file_error::unreadable(path, reason); });
}

}  // namespace data::detail

CADRE_NAMESPACE_END

#endif
