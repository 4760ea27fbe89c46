#ifndef CADRE_ACTOR_DETAIL_WORKER_SUPPLY_HPP
#define CADRE_ACTOR_DETAIL_WORKER_SUPPLY_HPP

#include <cadre/actor/detail/process_task.hpp>
#include <cadre/actor/detail/runtime_core.hpp>
#include <cadre/actor/detail/stream_message.hpp>
#include <cadre/actor/detail/worker_process.hpp>
#include <cadre/actor/detail/zygote_message.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/os/mapping.hpp>

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A worker, as its pool sees it.
struct pool_worker {
  pool_worker(int id, file_descriptor s) : process(id), socket(std::move(s)) {}

  /// Sends it the task that it is at.
  void begin(std::uint64_t task_number) {
    number = task_number;
    ++tasks;
    out.begin({.number = number, .bytes = 0, .run = at->function()}, at->arguments());
    write();
  }
  void write() noexcept {
    if (out.write(socket.get(), MSG_DONTWAIT) == 0) return;
    unread = true;
    out.give_up();
  }

  int process;
  file_descriptor socket;
  message_writer<task_head> out;
  process_task* at = nullptr;
  std::uint64_t number = 0;  // of that task
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  std::size_t tasks = 0;
  bool leaving = false;            // gets no further task
  bool retired = false;            // as it has had as many as it may
  bool ended = false;              // will say nothing any more
  bool unread = false;             // has ended before it had all of its task
  bool late = false;               // is killed, as its task takes too long
  bool confused = false;           // has said what makes no sense
  message_reader<answer_head> in;  // of the pool's thread alone
};

/// "was killed by SIGSEGV", "ended with exit code 3": of a status as wait() gives it.
[[gnu::cold]] inline std::string how_it_ended(int status) {
  if (!WIFSIGNALED(status)) return "ended with exit code " + std::to_string(WEXITSTATUS(status));
  constexpr struct {
    int number;
    const char* name;
  } signals[] = {{SIGSEGV, "SIGSEGV"}, {SIGABRT, "SIGABRT"}, {SIGBUS, "SIGBUS"},   {SIGFPE, "SIGFPE"},
                 {SIGILL, "SIGILL"},   {SIGTRAP, "SIGTRAP"}, {SIGSYS, "SIGSYS"},   {SIGINT, "SIGINT"},
                 {SIGTERM, "SIGTERM"}, {SIGHUP, "SIGHUP"},   {SIGQUIT, "SIGQUIT"}, {SIGPIPE, "SIGPIPE"},
                 {SIGXCPU, "SIGXCPU"}, {SIGALRM, "SIGALRM"}};
  const int number = WTERMSIG(status);
  if (number == SIGKILL) return "was killed by SIGKILL (where memory runs out, the kernel does that)";
  for (const auto& s : signals)
    if (s.number == number) return std::string("was killed by ") + s.name;
  return "was killed by signal " + std::to_string(number);
}
/// The same of a worker. `others` died of its task before.
[[gnu::cold]] inline std::string how_it_died(const pool_worker& w, int status, std::chrono::nanoseconds timeout,
                                             int others) {
  std::string text = "a worker, process " + std::to_string(w.process) + " on host '" + runtime_core::host() + "', ";
  if (w.late)
    text += "was killed, as it ran for longer than the pool's .timeout of " +
            std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count()) + " ms";
  else if (w.confused)
    text += "was killed, as it answered what is no answer: its memory is damaged";
  else
    text += how_it_ended(status);
  if (others != 0) text += ", after " + std::to_string(others) + " others that died of it";
  return text;
}

/// What a pool says to the zygote.
class worker_supply {
 public:
  explicit worker_supply(file_descriptor zygote) noexcept : zygote_(std::move(zygote)) {}

  [[nodiscard]] int socket() const noexcept { return zygote_.get(); }
  /// Workers that are on their way.
  [[nodiscard]] std::size_t making() const noexcept { return making_; }
  void made() noexcept { --making_; }
  /// There are requests that the zygote does not take now.
  [[nodiscard]] bool pending() const noexcept { return !requests_.empty(); }

  void ask_for_worker() {
    ++making_;
    ask({.what = zygote_message::kind::make});
  }
  void ask_to_kill(const pool_worker& w) { ask({.what = zygote_message::kind::kill, .process = w.process}); }
  // Never waits: the zygote may be waiting for the pool to read.
  void send() noexcept {
    std::size_t sent = 0;
    while (sent < requests_.size() && requests_[sent].send(zygote_.get(), MSG_DONTWAIT) == 0) ++sent;
    requests_.erase(requests_.begin(), requests_.begin() + static_cast<std::ptrdiff_t>(sent));
  }
  /// Has it kill all workers, and waits until they are gone, for two seconds at most.
  void end() noexcept {
    ::shutdown(zygote_.get(), SHUT_WR);
    for (int code = 0; code == 0;) {
      ::pollfd closed{zygote_.get(), POLLIN, 0};
      if (::poll(&closed, 1, 2000) <= 0) return;
      zygote_message m;
      file_descriptor none;
      code = m.receive(zygote_.get(), none);
    }
  }

 private:
  void ask(const zygote_message& m) {
    requests_.push_back(m);
    send();
  }

  file_descriptor zygote_;
  std::vector<zygote_message> requests_;
  std::size_t making_ = 0;
};

/// Has those killed of which the task has taken too long. When to look again.
inline std::chrono::steady_clock::time_point kill_the_late(const std::vector<std::unique_ptr<pool_worker>>& workers,
                                                           worker_supply& supply) {
  const auto now = std::chrono::steady_clock::now();
  auto next = std::chrono::steady_clock::time_point::max();
  for (const auto& w : workers) {
    if (w->at == nullptr || w->late) continue;
    if (w->deadline > now) {
      next = std::min(next, w->deadline);
    } else {
      w->late = true;
      supply.ask_to_kill(*w);
    }
  }
  return next;
}
/// For poll(). -1: for ever.
inline int milliseconds_until(std::chrono::steady_clock::time_point when) noexcept {
  if (when == std::chrono::steady_clock::time_point::max()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(when - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1'000'000));
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
