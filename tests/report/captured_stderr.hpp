#ifndef CADRE_TESTS_REPORT_CAPTURED_STDERR_HPP
#define CADRE_TESTS_REPORT_CAPTURED_STDERR_HPP

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>

namespace test_report {

/// What the process writes to stderr while it lives.
class captured_stderr {
 public:
  captured_stderr() : file_(std::tmpfile()) {
    std::fflush(stderr);
    saved_ = ::dup(2);
    ::dup2(::fileno(file_), 2);
  }
  ~captured_stderr() {
    restore();
    std::fclose(file_);
  }
  captured_stderr(const captured_stderr&) = delete;
  captured_stderr& operator=(const captured_stderr&) = delete;
  std::string text() {
    restore();
    std::string all(1 << 16, ' ');
    all.resize(static_cast<std::size_t>(std::max<ssize_t>(0, ::pread(::fileno(file_), all.data(), all.size(), 0))));
    return all;
  }

 private:
  void restore() {
    if (saved_ < 0) return;
    std::fflush(stderr);
    ::dup2(saved_, 2);
    ::close(std::exchange(saved_, -1));
  }
  std::FILE* file_;
  int saved_ = -1;
};

}  // namespace test_report

#endif
