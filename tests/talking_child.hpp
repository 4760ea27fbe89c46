#ifndef CADRE_TESTS_TALKING_CHILD_HPP
#define CADRE_TESTS_TALKING_CHILD_HPP

#include "catch.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>
#include <type_traits>

/// A process that runs `body(tell, wait_for_word)` and then waits to be killed; at the latest when this ends. `tell(word)`
/// sends a Word to this process, which hears it; wait_for_word() returns when this process tells it to go on.
template <class Word>
class talking_child {
  static_assert(std::is_trivially_copyable_v<Word>);

 public:
  template <class Body>
  explicit talking_child(Body body) {
    REQUIRE(::pipe(up_) == 0);
    REQUIRE(::pipe(down_) == 0);
    id_ = ::fork();
    REQUIRE(id_ >= 0);
    if (id_ != 0) {
      ::close(up_[1]);  // so that one that died is not waited for
      return;
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    try {
      body([this](const Word& word = {}) { return ::write(up_[1], &word, sizeof word) == sizeof word; },
           [this] {
             char go_on = 0;
             return ::read(down_[0], &go_on, 1) == 1;
           });
    } catch (...) {
      ::_exit(99);
    }
    for (;;) ::pause();
  }
  talking_child(const talking_child&) = delete;
  talking_child& operator=(const talking_child&) = delete;
  ~talking_child() {
    kill();
    for (const int end : {up_[0], down_[0], down_[1]}) ::close(end);
  }

  [[nodiscard]] ::pid_t id() const { return id_; }
  /// Its next word; nothing if it has died without.
  [[nodiscard]] std::optional<Word> heard() const {
    Word word{};
    if (::read(up_[0], &word, sizeof word) != sizeof word) return std::nullopt;
    return word;
  }
  bool tell() const { return ::write(down_[1], "x", 1) == 1; }
  /// It is dead when this returns, and still a zombie.
  void kill_only() const {
    ::kill(id_, SIGKILL);
    ::siginfo_t info{};
    while (::waitid(P_PID, static_cast<::id_t>(id_), &info, WEXITED | WNOWAIT) != 0) {}
  }
  void kill() {
    if (id_ == 0) return;
    ::kill(id_, SIGKILL);
    ::waitpid(id_, nullptr, 0);
    id_ = 0;
  }

 private:
  ::pid_t id_ = 0;
  int up_[2] = {}, down_[2] = {};
};

#endif
