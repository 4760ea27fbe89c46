#ifndef CADRE_ACTOR_DETAIL_PROCESS_POOL_CORE_HPP
#define CADRE_ACTOR_DETAIL_PROCESS_POOL_CORE_HPP

#include <cadre/actor/detail/process_task.hpp>
#include <cadre/actor/detail/stream_message.hpp>
#include <cadre/actor/detail/worker_process.hpp>
#include <cadre/actor/detail/worker_supply.hpp>
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
#include <sys/eventfd.h>
#include <sys/socket.h>
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

/// Hands tasks to workers. A task goes to a free worker from the thread that submits it, else into a queue; one thread
/// hears what workers answer, and of their ends from the zygote. That a socket has ended says that no answer will come,
/// the zygote's word how the worker died.
template <class Options>
class process_pool_core final : public process_pool_face {
 public:
  explicit process_pool_core(const Options& options)
      : options_(options),
        size_(options.processes != 0 ? options.processes : usable_processors()),
        bell_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        supply_(zygote<Options>::connect()) {
    static_cast<void>(&zygote<Options>::is_wanted);
    watch_forks();
    forks_ = fork_count.load(std::memory_order_relaxed);
    if (!bell_) throw no_worker_process(errno);
    for (std::size_t i = 0; i < size_; ++i) {
      zygote_message m{.what = zygote_message::kind::make};
      file_descriptor socket;
      if (m.send(supply_.socket()) != 0 || m.receive(supply_.socket(), socket) != 0) zygote<Options>::throw_closed();
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
    supply_.end();
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
        queue_.push_back(t);
        feed_all();
        if (workers_.empty() && supply_.making() == 0) {
          supply_.ask_for_worker();
          ring();
        }
        return;
      }
    }
    t.fail(failure<zygote_died>(zygote<Options>::process()));
  }

 private:
  using time_point = std::chrono::steady_clock::time_point;

  using worker = pool_worker;
  using state = message_reader<answer_head>::state;

  [[nodiscard]] bool left_behind() const noexcept { return fork_count.load(std::memory_order_relaxed) != forks_; }
  void ring() noexcept {
    const std::uint64_t one = 1;
    static_cast<void>(!::write(bell_.get(), &one, sizeof one));
  }

  // ---- With the lock

  void feed_all() {
    for (const auto& w : workers_) {
      if (queue_.empty()) return;
      if (w->at == nullptr && !w->leaving) feed(*w);
    }
  }
  void feed(worker& w) {
    w.at = queue_.pop();
    if (w.at == nullptr) return;
    if (options_.timeout > options_.timeout.zero()) {
      w.deadline = std::chrono::steady_clock::now() + options_.timeout;
      if (w.deadline < wakes_at_) ring();
    }
    w.begin(++tasks_);
    if (w.out.pending()) ring();
  }
  [[nodiscard]] bool is_over() const noexcept {
    return closing_ && queue_.empty() &&
           std::none_of(workers_.begin(), workers_.end(), [](const auto& w) { return w->at != nullptr; });
  }

  // ---- The thread, which alone changes workers_ once it runs, and reads it without the lock

  void run() noexcept {
    std::vector<::pollfd> polled;
    for (;;) {
      if (std::exchange(look_, options_.timeout > options_.timeout.zero())) {
        const std::lock_guard lock(mutex_);
        if (is_over()) return;
        if (options_.timeout > options_.timeout.zero()) wakes_at_ = kill_the_late(workers_, supply_);
        supply_.send();
        const auto events = [](bool writes) { return static_cast<short>(writes ? POLLIN | POLLOUT : POLLIN); };
        polled.assign({{bell_.get(), POLLIN, 0}, {lost_ ? -1 : supply_.socket(), events(supply_.pending()), 0}});
        for (const auto& w : workers_) polled.push_back({w->ended ? -1 : w->socket.get(), events(w->out.pending()), 0});
      }
      if (::poll(polled.data(), polled.size(), milliseconds_until(wakes_at_)) < 0) continue;
      if (std::uint64_t rung = 0; polled[0].revents != 0) {
        look_ = true;
        static_cast<void>(!::read(bell_.get(), &rung, sizeof rung));
      }
      for (std::size_t i = 2; i < polled.size(); ++i) {
        worker& w = *workers_[i - 2];
        if ((polled[i].revents & POLLOUT) != 0) {
          const std::lock_guard lock(mutex_);
          w.write();
          look_ = true;
        }
        if ((polled[i].revents & ~POLLOUT) != 0) hear(w);
      }
      if ((polled[1].revents & ~POLLOUT) != 0) hear_zygote();
    }
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
          w.leaving = w.retired = look_ = true;
          ::shutdown(w.socket.get(), SHUT_WR);
          supply_.ask_for_worker();
        }
        if (!w.leaving) feed(w);
        look_ = look_ || closing_;
      } else {
        look_ = true;
        w.leaving = w.ended = true;
        w.unread = w.unread || what == state::unread;
        w.confused = what == state::broken || what == state::complete;
        w.out.give_up();
        supply_.ask_to_kill(w);  // if it has only closed its socket
      }
    }
    if (done == nullptr) return;
    done->arrive(w.in.head().failed != 0, w.in.body());
    w.in.next();
  }

  void hear_zygote() noexcept {
    look_ = true;
    for (;;) {
      zygote_message m;
      file_descriptor socket;
      const int code = m.receive(supply_.socket(), socket, MSG_DONTWAIT);
      if (code == EAGAIN) return;
      if (code != 0) return lose_zygote();
      if (m.what == zygote_message::kind::died) {
        died(m.process, m.detail);
      } else if (socket) {
        const std::lock_guard lock(mutex_);
        supply_.made();
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
    hear_the_last(w);
    process_task* lost = nullptr;
    std::unique_ptr<worker> gone;
    {
      const std::lock_guard lock(mutex_);
      lost = std::exchange(w.at, nullptr);
      gone = std::move(*at);
      workers_.erase(at);
      if (workers_.size() + supply_.making() < size_) supply_.ask_for_worker();
      if (lost != nullptr && lost->may_try_again(gone->unread && !gone->late, options_.max_retries)) {
        queue_.push_front(*std::exchange(lost, nullptr));
        feed_all();
      }
    }
    if (lost != nullptr)
      lost->fail(failure<worker_died>(describe(lost->node().name(), lost->node().at()),
                                      how_it_died(*gone, status, options_.timeout, lost->deaths())));
    else if (!gone->retired)
      log(log_level::warning, "actor",
          [&] { return how_it_died(*gone, status, options_.timeout, 0) + "; another one takes its place"; });
  }
  void hear_the_last(worker& w) noexcept {
    {
      const std::lock_guard lock(mutex_);
      w.leaving = true;
      if (w.ended) return;
    }
    hear(w);
  }
  void not_made(int code) noexcept {
    process_queue failed;
    {
      const std::lock_guard lock(mutex_);
      supply_.made();
      if (supply_.making() != 0 || !workers_.empty()) return;  // it goes on with fewer
      failed = std::exchange(queue_, {});
    }
    while (process_task* const t = failed.pop()) t->fail(failure<no_worker_process>(code));
  }
  void lose_zygote() noexcept {
    for (const auto& w : workers_) hear_the_last(*w);
    process_queue failed;
    {
      const std::lock_guard lock(mutex_);
      lost_ = true;
      failed = std::exchange(queue_, {});
    }
    for (const auto& w : workers_)
      if (process_task* const t = std::exchange(w->at, nullptr))
        t->fail(failure<zygote_died>(zygote<Options>::process()));
    while (process_task* const t = failed.pop()) t->fail(failure<zygote_died>(zygote<Options>::process()));
    const std::lock_guard lock(mutex_);
    workers_.clear();
  }
  // A function, so that no trace of it is left on this thread when another one has it: see take_result().
  template <class E, class... A>
  static std::exception_ptr failure(const A&... about) noexcept {
    return std::make_exception_ptr(E(about...));
  }

  const Options options_;
  const std::size_t size_;
  std::uint32_t forks_ = 0;
  file_descriptor bell_;
  native_thread thread_;
  // Of the thread: what it waits for may have changed. Not after each answer, lest it holds up who takes the lock then.
  bool look_ = true;

  std::mutex mutex_;  // below, and what workers have but `in`
  std::vector<std::unique_ptr<worker>> workers_;
  process_queue queue_;
  worker_supply supply_;
  std::uint64_t tasks_ = 0;
  time_point wakes_at_ = time_point::max();
  bool closing_ = false, lost_ = false;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
