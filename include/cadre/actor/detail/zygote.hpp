#ifndef CADRE_ACTOR_DETAIL_ZYGOTE_HPP
#define CADRE_ACTOR_DETAIL_ZYGOTE_HPP

#include <cadre/actor/detail/worker_process.hpp>
#include <cadre/actor/detail/zygote_message.hpp>
#include <cadre/actor/detail/zygote_starter.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/os/mapping.hpp>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The process that makes workers: a copy of this one as it was before it had threads, MPI or CUDA, so that it can be
/// copied again at any time. It sleeps until it is asked, kills the workers of a pool that has ended, and ends, with all
/// workers, when the process that it was made for does, however that happens: it sees the end of the sockets, and that of
/// the process itself, whose other children may hold copies of these.
///
/// It is an orphan, so that a program that waits for all of its children does not wait for it.
class zygote_process {
 public:
  zygote_process(file_descriptor control, file_descriptor whole_program)
      : control_(std::move(control)), whole_program_(std::move(whole_program)) {
    ::prctl(PR_SET_NAME, "cadre/zygote");
    ::sigset_t all;  // what the keyboard sends is for the others; it ends with them
    ::sigfillset(&all);
    ::sigprocmask(SIG_SETMASK, &all, nullptr);
    for (const int s : {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGCHLD}) ::signal(s, SIG_DFL);
    ::sigset_t child;
    ::sigemptyset(&child);
    ::sigaddset(&child, SIGCHLD);
    signals_ = file_descriptor(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
    const file_descriptor nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    ::dup2(nothing.get(), STDIN_FILENO);
  }

  void run() noexcept {
    zygote_message{.what = zygote_message::kind::here, .process = ::getpid()}.send(control_.get());
    std::vector<::pollfd> polled;
    for (;;) {
      polled.assign({{control_.get(), POLLIN, 0}, {whole_program_.get(), POLLIN, 0}, {signals_.get(), POLLIN, 0}});
      for (const pool& p : pools_) polled.push_back({p.ending ? -1 : p.socket.get(), POLLIN, 0});
      if (::poll(polled.data(), polled.size(), -1) < 0) {
        if (errno == EINTR) continue;
        break;
      }
      if (polled[1].revents != 0 || (polled[0].revents != 0 && !take_pool())) break;
      for (std::size_t i = 3; i < polled.size(); ++i)
        if (polled[i].revents != 0) hear(pools_[i - 3]);
      if (polled[2].revents != 0) reap();
      std::erase_if(pools_, [](const pool& p) { return p.ending && p.workers.empty(); });
    }
    for (const pool& p : pools_) kill_all(p);
    while (::waitpid(-1, nullptr, 0) > 0) {}
  }

 private:
  struct pool {
    file_descriptor socket;
    std::vector<::pid_t> workers = {};
    bool ending = false;
  };

  bool take_pool() {
    zygote_message m;
    file_descriptor socket;
    if (m.receive(control_.get(), socket) != 0) return false;
    if (socket) pools_.push_back({std::move(socket)});
    return true;
  }
  void hear(pool& p) {
    zygote_message m;
    file_descriptor none;
    if (m.receive(p.socket.get(), none) != 0) {
      p.ending = true;
      kill_all(p);
    } else if (m.what == zygote_message::kind::make) {
      make(p);
    } else if (std::find(p.workers.begin(), p.workers.end(), m.process) != p.workers.end()) {
      ::kill(m.process, SIGKILL);  // nobody else has its number as long as it is not reaped
    }
  }
  static void kill_all(const pool& p) noexcept {
    for (const ::pid_t w : p.workers) ::kill(w, SIGKILL);
  }

  void make(pool& p) {
    file_descriptor ours, workers;
    p.workers.reserve(p.workers.size() + 1);
    int code = make_sockets(SOCK_STREAM, ours, workers);
    const ::pid_t self = ::getpid(), made = code == 0 ? ::fork() : -1;
    if (made < 0) {
      if (code == 0) code = errno;
      zygote_message{.what = zygote_message::kind::not_made, .detail = code}.send(p.socket.get());
      return;
    }
    if (made == 0) {
      ours = {};
      be_worker(self, std::move(workers));
    }
    p.workers.push_back(made);
    zygote_message{.what = zygote_message::kind::made, .process = made}.send(p.socket.get(), 0, ours.get());
  }
  [[noreturn]] void be_worker(::pid_t zygote, file_descriptor socket) noexcept {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::prctl(PR_SET_NAME, "cadre/worker");
    ::sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    pools_.clear();
    control_ = {};
    whole_program_ = {};
    signals_ = {};
    if (::getppid() == zygote) work_for(socket.get());
    ::_exit(0);  // what the program has to do at its end is not the worker's to do
  }

  void reap() {
    ::signalfd_siginfo told;
    while (::read(signals_.get(), &told, sizeof told) > 0) {}
    for (int status = 0;;) {
      const ::pid_t dead = ::waitpid(-1, &status, WNOHANG);
      if (dead <= 0) return;
      for (pool& p : pools_)
        if (std::erase(p.workers, dead) != 0 && !p.ending)
          zygote_message{.what = zygote_message::kind::died, .process = dead, .detail = status}.send(p.socket.get());
    }
  }

  file_descriptor control_, whole_program_, signals_;
  std::vector<pool> pools_;
};

/// The zygote of this process, if it has one. A template so that only those who make a process_pool compile it.
template <class Use = void>
class zygote {
 public:
  /// Throws no_zygote (611).
  static void start() {
    if (exists()) return;
    if (const std::size_t n = threads(); n > most_threads) throw no_zygote(no_zygote::kind::late, std::to_string(n));
    fork_it();
  }
  static void start_if_alone() {
    if (!exists() && threads() <= most_threads) fork_it();
  }

  /// A pool's socket. Throws no_zygote (611), zygote_died (614).
  static file_descriptor connect() {
    if (!exists()) throw no_zygote(the().process != 0 ? no_zygote::kind::of_parent : no_zygote::kind::never, {});
    file_descriptor here, there;
    if (const int code = make_sockets(SOCK_SEQPACKET, here, there)) throw no_worker_process(code);
    const zygote_message m{.what = zygote_message::kind::pool};
    if (m.send(the().control.get(), 0, there.get()) != 0) throw_closed();
    return here;
  }
  /// A pool's socket has been closed at once: throws zygote_died (614), or no_worker_process (615) if it lives.
  [[noreturn]] static void throw_closed() {
    ::pollfd about{the().control.get(), 0, 0};
    if (::poll(&about, 1, 0) != 0) throw zygote_died(the().process);
    throw no_worker_process(EMFILE);
  }
  [[nodiscard]] static ::pid_t process() noexcept { return the().process; }
  /// Whether workers have the function.
  [[nodiscard]] static bool knows(const worker_function& f) noexcept { return f.number() <= the().functions; }

  /// To be named wherever a process_pool is made, so that run() forks the zygote.
  static inline const bool is_wanted = [] {
    zygote_starter = &start_if_alone;
    return true;
  }();

 private:
  struct state {
    file_descriptor control;
    ::pid_t owner = 0, process = 0;
    std::uint32_t functions = 0;
  };
  // Never destroyed: the zygote lives as long as the process, in which statics may use pools to the end.
  static state& the() noexcept {
    static state& only = *new state;
    return only;
  }
  static bool exists() noexcept { return the().owner == ::getpid(); }

#ifdef CADRE_TSAN
  static constexpr std::size_t most_threads = 2;  // one is the sanitizer's own, which it stops for a fork
#else
  static constexpr std::size_t most_threads = 1;
#endif
  static std::size_t threads() noexcept {
    ::DIR* const folder = ::opendir("/proc/self/task");
    if (folder == nullptr) return 1;
    std::size_t n = 0;
    while (const ::dirent* const entry = ::readdir(folder)) n += entry->d_name[0] != '.';
    ::closedir(folder);
    return n;
  }

  static void fork_it() {
    file_descriptor ours, its;
    if (const int code = make_sockets(SOCK_SEQPACKET, ours, its)) throw no_worker_process(code);
    file_descriptor whole_program(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
    const std::uint32_t functions = worker_function::made();
    std::fflush(nullptr);  // or what is in buffers would be printed by each worker too
    const ::pid_t between = ::fork();
    if (between < 0) throw no_worker_process(errno);
    if (between == 0) {
      ours = {};
      the().control = {};
      if (::fork() == 0) zygote_process(std::move(its), std::move(whole_program)).run();
      ::_exit(0);  // both: what the program has to do at its end is not theirs to do
    }
    its = {};
    while (::waitpid(between, nullptr, 0) < 0 && errno == EINTR) {}
    zygote_message m;
    file_descriptor none;
    if (m.receive(ours.get(), none) != 0) throw no_worker_process(EAGAIN);
    state& s = the();
    s.control = std::move(ours);
    s.owner = ::getpid();
    s.process = m.process;
    s.functions = functions;
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
