// How one task is to be run: with resources, tries, a deadline, a priority, and until somebody says stop.
#include <cadre/async.hpp>

#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <stop_token>
#include <vector>

int main() {
  using namespace std::chrono_literals;
  cadre::thread_pool pool{{.threads = 2, .resources = {{"gpu", 2}, {"licence", 1}}}};

  // A part of a device lies on one; the task is told on which.
  auto device = pool.submit({.name = "infer", .resources = {{"gpu", 0.25}}}, [] { return cadre::this_task::gpus(); });
  std::printf("runs on gpu %d\n", device.get().front());

  // What can never be met is refused at once.
  try {
    pool.submit({.resources = {{"gpu", 3}}}, [] {});
  } catch (const cadre::impossible_request& e) {
    std::printf("refused: error %d\n", e.number());
  }

  // Tried again after errors of some types.
  int tries = 0;
  auto download = pool.submit({.max_retries = 3, .retry_on = cadre::errors<std::runtime_error>()}, [&tries] {
    if (++tries < 3) throw std::runtime_error("connection reset");
    return tries;
  });
  std::printf("came at try %d\n", download.get());

  // Cancelled by a stop token: a running task sees it, and one that has not begun never will.
  std::stop_source user;
  cadre::promise<void> begun;
  auto has_begun = begun.get_future();
  auto endless = pool.submit({.resources = {{"licence", 1}}, .stop = user.get_token()}, [&begun] {
    begun.set_value();
    long rounds = 0;
    do ++rounds;
    while (!cadre::this_task::stop_requested());
    return rounds > 0;
  });
  has_begun.get();
  auto next = pool.submit({.name = "next", .resources = {{"licence", 1}}, .stop = user.get_token()}, [] {});
  user.request_stop();
  try {
    next.get();
  } catch (const cadre::task_cancelled&) {
    std::puts("'next' never began");
  }
  std::puts(endless.get() ? "'endless' ended" : "'endless' did nothing");

  // A task that comes too late is not run.
  auto late = pool.submit({.deadline = std::chrono::steady_clock::now() - 1ms}, [] {});
  try {
    late.get();
  } catch (const cadre::deadline_passed&) {
    std::puts("too late");
  }
}
