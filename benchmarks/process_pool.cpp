// Tasks in worker processes, beside a bare socketpair between two processes: round trips, tasks one behind another, a large
// argument and result, how long it takes to make a worker, and from a crash to the next result.
#include "harness.hpp"

#include <cadre/actor/process_pool.hpp>

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace {

constexpr std::size_t small = 64, large = 100 << 20;

int same(int x) { return x; }
std::string same_text(std::string text) { return text; }
void crashes() { ::raise(SIGKILL); }

/// A process that sends back what it is sent: `bytes`, when it has all of them.
class echo {
 public:
  explicit echo(std::size_t bytes) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
    process_ = ::fork();
    if (process_ == 0) {
      ::close(ends[0]);
      std::string room(bytes, ' ');
      while (receive(ends[1], room.data(), bytes)) send(ends[1], room.data(), bytes);
      ::_exit(0);
    }
    ::close(ends[1]);
    socket_ = ends[0];
  }
  echo(const echo&) = delete;
  echo& operator=(const echo&) = delete;
  ~echo() {
    ::close(socket_);
    ::waitpid(process_, nullptr, 0);
  }
  void round_trip(std::string& text) const {
    send(socket_, text.data(), text.size());
    receive(socket_, text.data(), text.size());
  }

 private:
  static void send(int socket, const void* data, std::size_t bytes) {
    for (auto* p = static_cast<const char*>(data); bytes != 0;) {
      const ssize_t n = ::send(socket, p, bytes, MSG_NOSIGNAL);
      if (n <= 0) std::abort();
      p += n;
      bytes -= static_cast<std::size_t>(n);
    }
  }
  static bool receive(int socket, void* data, std::size_t bytes) {
    for (auto* p = static_cast<char*>(data); bytes != 0;) {
      const ssize_t n = ::recv(socket, p, bytes, 0);
      if (n <= 0) return false;
      p += n;
      bytes -= static_cast<std::size_t>(n);
    }
    return true;
  }
  int process_ = 0, socket_ = -1;
};

template <class F>
double microseconds(int times, F&& f) {
  const double begun = benchmark::seconds();
  for (int i = 0; i < times; ++i) f();
  return (benchmark::seconds() - begun) * 1e6 / times;
}

}  // namespace

int main() {
  cadre::process_pool::prepare();
  const echo of_small(small), of_large(large);
  benchmark::print_head();
  {
    cadre::process_pool pool({.processes = 1});
    std::string raw(small, 'x');
    benchmark::measure(
        "submit().get() of a small task in a worker process", "us", 31,
        {{"cadre", [&] { return microseconds(2000, [&] { pool.submit<&same>(1).get(); }); }},
         {"socketpair, two processes", [&] { return microseconds(2000, [&] { of_small.round_trip(raw); }); },
          benchmark::at_most(3)}});
  }
  {
    cadre::process_pool pool({.processes = 2});
    benchmark::measure("small tasks one behind another, 2 worker processes", "thousands/s", 15,
                       {{"cadre", [&] {
                           constexpr int n = 10'000;
                           std::vector<cadre::future<int>> all;
                           all.reserve(n);
                           return 1e3 * n / microseconds(1, [&] {
                                    for (int i = 0; i < n; ++i) all.push_back(pool.submit<&same>(i));
                                    for (auto& f : all) f.wait();
                                  });
                         }}});
  }
  {
    cadre::process_pool pool({.processes = 1});
    const std::string text(large, 'x');
    std::string raw = text;
    benchmark::measure(
        "100 MiB to a worker process and back", "ms", 7,
        {{"cadre", [&] { return 1e-3 * microseconds(1, [&] { pool.submit<&same_text>(text).get(); }); }},
         {"socketpair, two processes", [&] { return 1e-3 * microseconds(1, [&] { of_large.round_trip(raw); }); }}});
  }
  benchmark::measure("a pool of one worker process, made and ended", "us", 31,
                     {{"cadre", [&] { return microseconds(20, [] { cadre::process_pool pool({.processes = 1}); }); }},
                      {"fork(), _exit() and waitpid()", [&] {
                         return microseconds(20, [] {
                           const pid_t child = ::fork();
                           if (child == 0) ::_exit(0);
                           ::waitpid(child, nullptr, 0);
                         });
                       }}});
  {
    cadre::process_pool pool({.processes = 1});
    const auto crash = [&] {
      const auto lost = pool.submit<&crashes>();
      pool.submit<&same>(1).get();
      lost.wait();
    };
    benchmark::measure("from a crash to the next result, 1 worker process", "us", 31,
                       {{"cadre", [&] { return microseconds(20, crash); }}});
  }
}
