#ifndef CADRE_ACTOR_DETAIL_PROCESS_POOL_CORE_HPP
#define CADRE_ACTOR_DETAIL_PROCESS_POOL_CORE_HPP

#include <cadre/actor/detail/process_task.hpp>
#include <cadre/actor/detail/runtime_core.hpp>
#include <cadre/actor/detail/stream_message.hpp>
#include <cadre/actor/detail/worker_process.hpp>
#include <cadre/actor/detail/zygote.hpp>
#include <cadre/actor/detail/zygote_message.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/async/detail/process.hpp>
#include <cadre/async/detail/unobserved.hpp>
#include <cadre/async/error.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/observe/log.hpp>
#include <cadre/os/mapping.hpp>
#include <cadre/os/processors.hpp>
#include <cadre/os/thread.hpp>

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

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

/// What a process_pool needs of its core, whose code is compiled only where one is made.
class process_pool_face {
 public:
  process_pool_face() = default;
  process_pool_face(const process_pool_face&) = delete;
  process_pool_face& operator=(const process_pool_face&) = delete;
  virtual ~process_pool_face() = default;
  [[nodiscard]] virtual std::size_t size() const noexcept = 0;
  /// Throws forked_process (207), unknown_function (616).
  virtual void check(const worker_function& f, const std::string& name) const = 0;
  /// Takes over one reference.
  virtual void push(process_task& t) noexcept = 0;
};

/// Hands tasks to workers. A task goes to a free worker from the thread that submits it, else into a queue; one thread
/// hears what workers answer, and of their ends from the zygote. That a socket has ended says that no answer will come,
/// the zygote's word how the worker died.
template <class Options>
class process_pool_core final : public process_pool_face {
 public:
  explicit process_pool_core(const Options& options)
      : options_(options),
        size_(options.processes != 0 ? options.processes : usable_processors()),
        zygote_(zygote<Options>::connect()),
        bell_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    static_cast<void>(&zygote<Options>::is_wanted);
    watch_forks();
    forks_ = fork_count.load(std::memory_order_relaxed);
    if (!bell_) throw no_worker_process(errno);
    for (std::size_t i = 0; i < size_; ++i) {
      zygote_message m{.what = zygote_message::kind::make};
      file_descriptor socket;
      if (m.send(zygote_.get()) != 0 || m.receive(zygote_.get(), socket) != 0) zygote<Options>::throw_closed();
      if (m.what != zygote_message::kind::made || !socket) throw no_worker_process(m.detail != 0 ? m.detail : EMFILE);
      workers_.push_back(std::make_unique<worker>(m.process, std::move(socket)));
    }
    thread_ = native_thread("cadre/processes", [this] { run(); });
  }
  ~process_pool_core() override {
    if (left_behind()) {
      thread_.forget();
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    ring();
    thread_.join();
    // The zygote kills the workers, and closes its end when it has reaped them.
    ::shutdown(zygote_.get(), SHUT_WR);
    for (int code = 0; code == 0;) {
      ::pollfd end{zygote_.get(), POLLIN, 0};
      if (::poll(&end, 1, 2000) <= 0) return;
      zygote_message m;
      file_descriptor none;
      code = m.receive(zygote_.get(), none);
    }
  }

  [[nodiscard]] std::size_t size() const noexcept override { return size_; }
  void check(const worker_function& f, const std::string& name) const override {
    if (left_behind()) throw forked_process();
    if (!zygote<Options>::knows(f)) throw unknown_function(name);
  }
  void push(process_task& t) noexcept override {
    {
      const std::lock_guard lock(mutex_);
      if (!lost_) {
        t.next = nullptr;
        (first_ != nullptr ? last_->next : first_) = &t;
        last_ = &t;
        feed_all();
        if (workers_.empty() && making_ == 0) ask_for_worker();
        return;
      }
    }
    t.fail(of_lost_zygote());
  }

 private:
  using time_point = std::chrono::steady_clock::time_point;
  static constexpr int most_misses = 8;  // a task that a worker cannot even take in is lost at last

  struct worker {
    worker(int id, file_descriptor s) : process(id), socket(std::move(s)) {}
    int process;
    file_descriptor socket;
    message_writer<task_head> out;
    process_task* at = nullptr;
    std::uint64_t number = 0;  // of that task
    time_point deadline = time_point::max();
    std::size_t tasks = 0;
    bool leaving = false;  // gets no further task
    bool ended = false;    // will say nothing any more
    bool unread = false;   // has ended before it had all of its task
    bool late = false, confused = false;
    message_reader<answer_head> in;  // of the thread alone
  };
  using state = message_reader<answer_head>::state;

  [[nodiscard]] bool left_behind() const noexcept { return fork_count.load(std::memory_order_relaxed) != forks_; }
  void ring() noexcept {
    const std::uint64_t one = 1;
    static_cast<void>(!::write(bell_.get(), &one, sizeof one));
  }

  // ---- With the lock

  void feed_all() {
    for (const auto& w : workers_) {
      if (first_ == nullptr) return;
      if (w->at == nullptr && !w->leaving) feed(*w);
    }
  }
  void feed(worker& w) {
    while (first_ != nullptr) {
      process_task& t = *first_;
      first_ = t.next;
      if (!t.begun && !t.node().try_withdraw()) {
        t.node().release();  // it was cancelled
        continue;
      }
      t.begun = true;
      w.at = &t;
      w.number = ++tasks_;
      ++w.tasks;
      if (options_.timeout > options_.timeout.zero()) {
        w.deadline = std::chrono::steady_clock::now() + options_.timeout;
        if (w.deadline < wakes_at_) ring();
      }
      w.out.begin({.number = w.number, .bytes = 0, .run = t.function()}, t.arguments());
      write(w);
      if (w.out.pending()) ring();
      return;
    }
  }
  static void write(worker& w) noexcept {
    if (w.out.write(w.socket.get(), MSG_DONTWAIT) == 0) return;
    w.unread = true;
    w.out.give_up();
  }
  void ask(zygote_message::kind what, int process = 0) {
    requests_.push_back({.what = what, .process = process});
    send_requests();
    if (!requests_.empty()) ring();
  }
  void ask_for_worker() {
    ++making_;
    ask(zygote_message::kind::make);
  }
  // Never waits: the zygote may be waiting for this thread to read.
  void send_requests() noexcept {
    std::size_t sent = 0;
    while (sent < requests_.size() && requests_[sent].send(zygote_.get(), MSG_DONTWAIT) == 0) ++sent;
    requests_.erase(requests_.begin(), requests_.begin() + static_cast<std::ptrdiff_t>(sent));
  }
  void kill_the_late() {
    wakes_at_ = time_point::max();
    if (options_.timeout <= options_.timeout.zero()) return;
    const time_point now = std::chrono::steady_clock::now();
    for (const auto& w : workers_) {
      if (w->at == nullptr || w->late) continue;
      if (w->deadline <= now) {
        w->late = true;
        ask(zygote_message::kind::kill, w->process);
      } else {
        wakes_at_ = std::min(wakes_at_, w->deadline);
      }
    }
  }
  [[nodiscard]] bool is_over() const noexcept {
    return closing_ && first_ == nullptr &&
           std::none_of(workers_.begin(), workers_.end(), [](const auto& w) { return w->at != nullptr; });
  }

  // ---- The thread, which alone changes workers_ once it runs, and reads it without the lock

  void run() noexcept {
    std::vector<::pollfd> polled;
    for (;;) {
      {
        const std::lock_guard lock(mutex_);
        if (is_over()) return;
        kill_the_late();
        send_requests();
        const auto events = [](bool writes) { return static_cast<short>(writes ? POLLIN | POLLOUT : POLLIN); };
        polled.assign({{bell_.get(), POLLIN, 0}, {lost_ ? -1 : zygote_.get(), events(!requests_.empty()), 0}});
        for (const auto& w : workers_) polled.push_back({w->ended ? -1 : w->socket.get(), events(w->out.pending()), 0});
      }
      if (::poll(polled.data(), polled.size(), time_left()) < 0) continue;
      if (std::uint64_t rung = 0; polled[0].revents != 0) static_cast<void>(!::read(bell_.get(), &rung, sizeof rung));
      for (std::size_t i = 2; i < polled.size(); ++i) {
        worker& w = *workers_[i - 2];
        if ((polled[i].revents & POLLOUT) != 0) {
          const std::lock_guard lock(mutex_);
          write(w);
        }
        if ((polled[i].revents & ~POLLOUT) != 0) hear(w);
      }
      if ((polled[1].revents & ~POLLOUT) != 0) hear_zygote();
    }
  }
  [[nodiscard]] int time_left() const noexcept {
    if (wakes_at_ == time_point::max()) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(wakes_at_ - std::chrono::steady_clock::now());
    return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1'000'000));
  }

  void hear(worker& w) noexcept {
    state what = state::broken;
    try {
      what = w.in.read(w.socket.get(), MSG_DONTWAIT);
    } catch (const std::bad_alloc&) {  // a length that nobody has room for
    }
    if (what == state::more) return;
    process_task* done = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (what == state::complete && w.at != nullptr && w.in.head().number == w.number) {
        done = std::exchange(w.at, nullptr);
        if (w.tasks == options_.max_tasks_per_worker && !w.leaving) {
          w.leaving = true;
          ::shutdown(w.socket.get(), SHUT_WR);
          ask_for_worker();
        }
        if (!w.leaving) feed(w);
      } else {
        w.leaving = w.ended = true;
        w.unread = w.unread || what == state::unread;
        w.confused = what == state::broken || what == state::complete;
        w.out.give_up();
        ask(zygote_message::kind::kill, w.process);  // if it has only closed its socket
      }
    }
    if (done == nullptr) return;
    done->arrive(w.in.head().failed != 0, w.in.body());
    w.in.next();
  }

  void hear_zygote() noexcept {
    for (;;) {
      zygote_message m;
      file_descriptor socket;
      const int code = m.receive(zygote_.get(), socket, MSG_DONTWAIT);
      if (code == EAGAIN) return;
      if (code != 0) return lose_zygote();
      if (m.what == zygote_message::kind::died) {
        died(m.process, m.detail);
      } else if (socket) {
        const std::lock_guard lock(mutex_);
        --making_;
        workers_.push_back(std::make_unique<worker>(m.process, std::move(socket)));
        feed_all();
      } else {
        not_made(m.detail != 0 ? m.detail : EMFILE);
      }
    }
  }
  void died(int process, int status) noexcept {
    const auto at =
        std::find_if(workers_.begin(), workers_.end(), [&](const auto& w) { return w->process == process; });
    if (at == workers_.end()) return;
    worker& w = **at;
    const bool was_leaving = leave(w);
    process_task* lost = nullptr;
    std::unique_ptr<worker> gone;
    {
      const std::lock_guard lock(mutex_);
      lost = std::exchange(w.at, nullptr);
      gone = std::move(*at);
      workers_.erase(at);
      if (workers_.size() + making_ < size_) ask_for_worker();
      if (lost != nullptr && try_again(*lost, gone->unread)) lost = nullptr;
    }
    if (lost != nullptr) {
      // Made before, so that its last trace on this thread is gone when another one has it: see take_result().
      std::exception_ptr why = std::make_exception_ptr(
          worker_died(describe(lost->node().name(), lost->node().at()), how_it_died(*gone, status, lost->tries)));
      lost->fail(std::move(why));
    } else if (!was_leaving) {
      log(log_level::warning, "actor", [&] { return how_it_died(*gone, status, 0) + "; another one takes its place"; });
    }
  }
  // Hears what it may still have said. True if it was to end.
  bool leave(worker& w) noexcept {
    bool was_leaving = false, ended = false;
    {
      const std::lock_guard lock(mutex_);
      was_leaving = std::exchange(w.leaving, true) && w.tasks == options_.max_tasks_per_worker;
      ended = w.ended;
    }
    if (!ended) hear(w);
    return was_leaving;
  }
  // With the lock. A worker that died before it had the task says nothing of that.
  bool try_again(process_task& t, bool missed) noexcept {
    if (missed && t.misses < most_misses)
      ++t.misses;
    else if (t.tries < options_.max_retries && !t.node().stop_requested())
      ++t.tries;
    else
      return false;
    t.next = first_;
    if (first_ == nullptr) last_ = &t;
    first_ = &t;
    feed_all();
    return true;
  }
  [[nodiscard, gnu::cold]] std::string how_it_died(const worker& w, int status, int others) const {
    using std::chrono::milliseconds;
    std::string text = "a worker, process " + std::to_string(w.process) + " on host '" + runtime_core::host() + "', ";
    if (w.late)
      text += "was killed, as it ran for longer than the pool's .timeout of " +
              std::to_string(std::chrono::duration_cast<milliseconds>(options_.timeout).count()) + " ms";
    else if (w.confused)
      text += "was killed, as it answered what is no answer: its memory is damaged";
    else
      text += how_it_ended(status);
    if (others != 0) text += ", after " + std::to_string(others) + " others that died of it";
    return text;
  }

  void not_made(int code) noexcept {
    {
      const std::lock_guard lock(mutex_);
      if (--making_ != 0 || !workers_.empty()) return;  // it goes on with fewer
    }
    fail_queued([code] { return std::make_exception_ptr(no_worker_process(code)); });
  }
  void lose_zygote() noexcept {
    for (const auto& w : workers_) leave(*w);
    {
      const std::lock_guard lock(mutex_);
      lost_ = true;
    }
    for (const auto& w : workers_)
      if (process_task* const t = std::exchange(w->at, nullptr)) t->fail(of_lost_zygote());
    fail_queued(&of_lost_zygote);
    const std::lock_guard lock(mutex_);
    workers_.clear();
  }
  static std::exception_ptr of_lost_zygote() noexcept {
    return std::make_exception_ptr(zygote_died(zygote<Options>::process()));
  }
  template <class Make>
  void fail_queued(Make make) noexcept {
    process_task* t = nullptr;
    {
      const std::lock_guard lock(mutex_);
      t = std::exchange(first_, nullptr);
    }
    while (t != nullptr) {
      process_task& failed = *std::exchange(t, t->next);
      if (failed.begun || failed.node().try_withdraw())
        failed.fail(make());
      else
        failed.node().release();
    }
  }

  const Options options_;
  const std::size_t size_;
  std::uint32_t forks_ = 0;
  file_descriptor zygote_, bell_;
  native_thread thread_;

  std::mutex mutex_;  // below, and what workers have but `in`
  std::vector<std::unique_ptr<worker>> workers_;
  process_task* first_ = nullptr;  // the queue
  process_task* last_ = nullptr;
  std::vector<zygote_message> requests_;  // to be sent
  std::size_t making_ = 0;                // workers that are on their way
  std::uint64_t tasks_ = 0;
  time_point wakes_at_ = time_point::max();
  bool closing_ = false, lost_ = false;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
