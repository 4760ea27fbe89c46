#include "catch.hpp"

#include <cadre/report/progress.hpp>

#include <fcntl.h>
#include <pty.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace test_progress {

/// A terminal emulator small enough to read: it knows what progress may send and fails on anything else. A line that is
/// too long goes on in the next, unless that is switched off: then it is a mistake.
class screen {
 public:
  explicit screen(std::size_t columns) : columns_(columns), lines_(1) {}

  void feed(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
      const char c = text[i];
      if (c == '\r') {
        column_ = 0;
      } else if (c == '\n') {
        if (++row_ == lines_.size()) lines_.emplace_back();
      } else if (c == '\x1b') {
        std::size_t end = i + 1;
        while (end < text.size() && !((text[end] >= 'A' && text[end] <= 'Z') || (text[end] >= 'a' && text[end] <= 'z')))
          ++end;
        const std::string code(text.substr(i + 1, end - i));
        if (code == "[K") {
          lines_[row_].resize(column_);
        } else if (code == "[J") {
          lines_[row_].resize(column_);
          lines_.resize(row_ + 1);
        } else if (code.back() == 'A') {
          row_ -= static_cast<std::size_t>(std::stoi(code.substr(1)));
        } else if (code == "[?7l" || code == "[?7h") {
          wraps_ = code.back() == 'h';
        } else {
          throw std::runtime_error("unexpected escape " + code);
        }
        i = end;
      } else {
        if (column_ >= columns_) {
          if (!wraps_) throw std::runtime_error("a line is wider than the terminal");
          column_ = 0;
          if (++row_ == lines_.size()) lines_.emplace_back();
        }
        if (static_cast<unsigned char>(c) < 0x20) throw std::runtime_error("unexpected control character");
        lines_[row_].resize(std::max(lines_[row_].size(), column_ + 1), ' ');
        lines_[row_][column_++] = c;
      }
    }
  }

  std::string text() const {
    std::string all;
    for (const std::string& line : lines_) all += line + '|';
    return all;
  }

 private:
  std::size_t columns_, row_ = 0, column_ = 0;
  bool wraps_ = true;
  std::vector<std::string> lines_;
};

/// A pseudo-terminal with a FILE on it, in raw mode, so that what is read is what was written.
class terminal {
 public:
  terminal(unsigned short columns, unsigned short rows) : screen_(columns) {
    termios raw{};
    ::cfmakeraw(&raw);
    winsize size{};
    size.ws_col = columns;
    size.ws_row = rows;
    int inner = -1;
    if (::openpty(&outer_, &inner, nullptr, &raw, &size) != 0) throw std::runtime_error("openpty failed");
    ::fcntl(outer_, F_SETFL, O_NONBLOCK);
    stream_ = ::fdopen(inner, "w");
  }
  ~terminal() {
    std::fclose(stream_);
    ::close(outer_);
  }
  terminal(const terminal&) = delete;
  terminal& operator=(const terminal&) = delete;

  std::FILE* stream() const { return stream_; }
  std::string bytes() {
    std::string got;
    char buffer[4096];
    for (ssize_t n; (n = ::read(outer_, buffer, sizeof buffer)) > 0;) got.append(buffer, static_cast<std::size_t>(n));
    return got;
  }
  /// What a person sees now.
  std::string seen() {
    // raw mode: "\n" moves down only; the library sends what a terminal in its usual mode turns into "\r\n"
    std::string cooked;
    for (char c : bytes()) (c == '\n' ? cooked += '\r' : cooked) += c;
    screen_.feed(cooked);
    return screen_.text();
  }

 private:
  int outer_ = -1;
  std::FILE* stream_ = nullptr;
  screen screen_;
};

/// A stream that is no terminal.
class file {
 public:
  file() : stream_(std::tmpfile()) {}
  ~file() { std::fclose(stream_); }
  file(const file&) = delete;
  file& operator=(const file&) = delete;
  std::FILE* stream() const { return stream_; }
  std::string text() const {
    std::string got;
    std::rewind(stream_);
    for (int c; (c = std::fgetc(stream_)) != EOF;) got += static_cast<char>(c);
    return got;
  }

 private:
  std::FILE* stream_;
};

constexpr cadre::importance important = cadre::importance::important;

/// TERM for a test, which the process may not have.
struct term_is {
  explicit term_is(const char* value) : had_(std::getenv("TERM") != nullptr), before_(had_ ? std::getenv("TERM") : "") {
    ::setenv("TERM", value, 1);
  }
  ~term_is() {
    if (had_)
      ::setenv("TERM", before_.c_str(), 1);
    else
      ::unsetenv("TERM");
  }
  bool had_;
  std::string before_;
};

}  // namespace test_progress

TEST_CASE("where no terminal is, only what matters is printed, without control characters") {
  const test_progress::file out;
  {
    cadre::progress bar({.stream = out.stream()});
    CHECK_FALSE(bar.live());
    bar.update("trial 1", "epoch 1");
    bar.update("trial 1", "epoch 2", test_progress::important);
    bar.update("trial 2", "epoch 1");
    bar.print("note\x1b[31m\nsecond line\n");
    bar.update("trial 2", "epoch 2");
    bar.finish("trial 1", "stopped\tat 2");
    bar.update("", "no key");
    bar.update("shown", "once", test_progress::important);
  }
  CHECK(out.text() ==
        "trial 1: epoch 2\n"
        "note [31m\n"
        "second line\n"
        "trial 1: stopped at 2\n"
        "shown: once\n"
        "trial 2: epoch 2\n"
        "no key\n");
}

TEST_CASE("a terminal shows one line per key, rewritten in place, below what is permanent") {
  const test_progress::term_is term("xterm");
  test_progress::terminal tty(40, 10);
  cadre::progress bar({.stream = tty.stream(), .interval = std::chrono::milliseconds(0)});
  REQUIRE(bar.live());
  bar.update("trial 1", "epoch 1 of 10");
  bar.update("trial 12", "epoch 1");
  CHECK(tty.seen() == "trial 1:  epoch 1 of 10|trial 12: epoch 1||");
  bar.update("trial 1", "epoch 2");
  CHECK(tty.seen() == "trial 1:  epoch 2|trial 12: epoch 1||");
  bar.print("a note\nof two lines");
  CHECK(tty.seen() == "a note|of two lines|trial 1:  epoch 2|trial 12: epoch 1||");
  bar.finish("trial 12", "done");
  CHECK(tty.seen() == "a note|of two lines|trial 12: done|trial 1: epoch 2||");
  bar.finish();
  bar.update("epoch", "next block");
  CHECK(tty.seen() == "a note|of two lines|trial 12: done|trial 1: epoch 2|epoch: next block||");
}

TEST_CASE("lines are cut to the terminal's width, letters whole, and controls become blanks") {
  const test_progress::term_is term("xterm");
  test_progress::terminal tty(16, 10);
  cadre::progress bar({.stream = tty.stream(), .interval = std::chrono::milliseconds(0)});
  bar.update("key", "0123456789abcdef");
  CHECK(tty.seen() == "key: 0123456...||");
  bar.update("key", "a\x1b[2Jb\nc");
  CHECK(tty.seen() == "key: a [2Jb c||");
  bar.update("key",
             "\xc2\x9b"
             "31m");  // the one-character form of ESC [
  CHECK(tty.seen() == "key:  31m||");
}

TEST_CASE("more keys than rows are summed up, so that the block never scrolls") {
  const test_progress::term_is term("xterm");
  test_progress::terminal tty(40, 6);
  cadre::progress bar({.stream = tty.stream(), .interval = std::chrono::milliseconds(0)});
  for (int i = 0; i < 9; ++i) bar.update("t" + std::to_string(i), "x");
  CHECK(tty.seen() == "t0: x|t1: x|t2: x|... and 6 more||");
}

TEST_CASE("at the end every key's last text stands on the terminal whole, however narrow and low that is") {
  const test_progress::term_is term("xterm");
  test_progress::terminal tty(16, 5);
  cadre::progress bar({.stream = tty.stream(), .interval = std::chrono::milliseconds(0)});
  for (int i = 0; i < 4; ++i) bar.update("t" + std::to_string(i), "accuracy 0.75");
  CHECK(tty.seen() == "t0: accuracy...|t1: accuracy...|... and 2 more||");
  bar.finish();
  CHECK(tty.seen() == "t0: accuracy 0.7|5|t1: accuracy 0.7|5|t2: accuracy 0.7|5|t3: accuracy 0.7|5||");
}

TEST_CASE("routine updates within the interval wait for the next redraw, important ones do not") {
  const test_progress::term_is term("xterm");
  test_progress::terminal tty(40, 10);
  cadre::progress bar({.stream = tty.stream(), .interval = std::chrono::years(100)});
  bar.update("a", "1");  // the first is shown at once, however long the machine has been up
  CHECK(tty.seen() == "a: 1||");
  for (int i = 0; i < 1000; ++i) bar.update("a", "2");
  CHECK(tty.bytes().empty());
  bar.update("b", "3", test_progress::important);
  CHECK(tty.seen() == "a: 2|b: 3||");
  bar.update("a", "4");
  bar.finish();
  CHECK(tty.seen() == "a: 4|b: 3||");
}

TEST_CASE("a dumb terminal gets plain lines, and the style can be chosen") {
  test_progress::terminal tty(40, 10);
  {
    const test_progress::term_is term("dumb");
    CHECK_FALSE(cadre::progress({.stream = tty.stream()}).live());
  }
  const test_progress::term_is term("xterm");
  CHECK_FALSE(cadre::progress({.stream = tty.stream(), .style = cadre::progress_style::plain}).live());
  const test_progress::file out;
  CHECK(cadre::progress({.stream = out.stream(), .style = cadre::progress_style::live}).live());
}

TEST_CASE("a stream that cannot be written to does no harm") {
  std::FILE* full = std::fopen("/dev/full", "w");
  REQUIRE(full);
  {
    cadre::progress bar({.stream = full});
    bar.update("a", "b", test_progress::important);
    bar.print("c");
  }
  std::fclose(full);
}

TEST_CASE("threads that show their progress at once do not tear one another's lines") {
  const test_progress::file out;
  {
    cadre::progress bar({.stream = out.stream()});
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&bar, t] {
        const std::string key = "t" + std::to_string(t);
        for (int i = 0; i < 100; ++i) {
          bar.update(key, "routine");
          bar.update(key, "important", test_progress::important);
          bar.print("note");
        }
        bar.finish(key, "done");
      });
    for (std::thread& t : threads) t.join();
  }
  std::size_t lines = 0, torn = 0;
  std::string text = out.text();
  for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(rest.find('\n') + 1), ++lines) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    if (line != "note" && !(line.starts_with("t") && (line.ends_with(": important") || line.ends_with(": done"))))
      ++torn;
  }
  CHECK(lines == 4 * 201);
  CHECK(torn == 0);
}
