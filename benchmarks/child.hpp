#ifndef CADRE_BENCHMARKS_CHILD_HPP
#define CADRE_BENCHMARKS_CHILD_HPP

#include "harness.hpp"

#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

extern char** environ;

namespace benchmark {

/// A program that takes part in the rounds from a process of its own, in whatever language. When it is ready it prints a
/// line that says who it is; then it answers each line of its standard input by a line with the figure of one round. It
/// ends when its input does. Its death, or silence beyond the deadline, is a std::runtime_error.
class child {
 public:
  child(std::vector<std::string> command, std::chrono::milliseconds deadline)
      : called_(command.at(0)), deadline_(deadline) {
    for (std::size_t i = 1; i < command.size(); ++i) called_ += " " + command[i];
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) fail(std::strerror(errno));
    socket_ = ends[0];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawnattr_t attributes;  // a group of its own, so that what it starts ends with it
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    std::vector<char*> arguments;
    for (std::string& s : command) arguments.push_back(s.data());
    arguments.push_back(nullptr);
    const int error = posix_spawnp(&process_, arguments[0], &actions, &attributes, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    close(ends[1]);
    try {
      if (error != 0) {
        process_ = -1;
        fail(std::strerror(error));
      }
      name_ = line();
    } catch (...) {
      reap();
      throw;
    }
  }
  child(const child&) = delete;
  child& operator=(const child&) = delete;
  ~child() { reap(); }

  [[nodiscard]] const std::string& name() const { return name_; }

  /// `of`: what is to be measured, for a program that can measure several things.
  double round(const std::string& of = "round") {
    const std::string request = of + "\n";
    if (send(socket_, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) died();
    const std::string answer = line();
    std::size_t read = 0;
    double figure = 0;
    try {
      figure = std::stod(answer, &read);
    } catch (const std::logic_error&) {}
    if (read == 0 || read != answer.size()) fail("answered '" + answer + "' where a number was due");
    return figure;
  }

 private:
  [[noreturn]] void fail(const std::string& why) const { throw std::runtime_error(called_ + ": " + why); }

  [[noreturn]] void died() {
    const int status = reap();
    fail(WIFSIGNALED(status) ? std::string("ended by signal: ") + strsignal(WTERMSIG(status))
                             : "ended with exit code " + std::to_string(WEXITSTATUS(status)));
  }

  std::string line() {
    const auto end = std::chrono::steady_clock::now() + deadline_;
    for (;;) {
      if (const std::size_t n = received_.find('\n'); n != std::string::npos) {
        std::string first = received_.substr(0, n);
        received_.erase(0, n + 1);
        return first;
      }
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
      pollfd ready{socket_, POLLIN, 0};
      const int events = left.count() > 0 ? poll(&ready, 1, static_cast<int>(left.count())) : 0;
      if (events < 0 && errno == EINTR) continue;
      if (events <= 0) fail("no answer in " + std::to_string(deadline_.count()) + " ms");
      char part[256];
      const ssize_t n = read(socket_, part, sizeof part);
      if (n <= 0) died();
      received_.append(part, static_cast<std::size_t>(n));
    }
  }

  /// Its exit status. The end of its input asks it to go; two seconds later its whole group is killed.
  int reap() noexcept {
    int status = 0;
    if (socket_ >= 0) close(std::exchange(socket_, -1));
    if (process_ <= 0) return status;
    const double begun = seconds();
    while (waitpid(process_, &status, WNOHANG) == 0) {
      if (seconds() - begun > 2) {
        kill(-process_, SIGKILL);
        waitpid(process_, &status, 0);
        break;
      }
      usleep(10'000);
    }
    process_ = -1;
    return status;
  }

  std::string called_, name_, received_;
  std::chrono::milliseconds deadline_;
  int socket_ = -1;
  pid_t process_ = -1;
};

/// A child process as a contender, named as it names itself.
inline contender in_child(std::vector<std::string> command, std::chrono::seconds deadline, target goal = {}) {
  auto process = std::make_shared<child>(std::move(command), deadline);
  return {process->name(), [process] { return process->round(); }, goal};
}

}  // namespace benchmark

#endif
