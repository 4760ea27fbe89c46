// The first of several ways to an answer wins; the others are asked to stop. A shared result has many readers.
#include <cadre/async.hpp>

#include <chrono>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

int main() {
  cadre::thread_pool pool{{.threads = 4}};

  // Two replicas that never answer, and one that does.
  std::vector<cadre::promise<std::string>> replicas(3);
  std::vector<cadre::future<std::string>> answers;
  for (auto& r : replicas) answers.push_back(r.get_future());
  auto first = cadre::when_any(std::move(answers));
  std::printf("after 1 ms: %s\n", first.wait_for(1ms) ? "an answer" : "no answer yet");
  replicas[1].set_value("42");
  auto [index, answer] = first.get();
  std::printf("replica %zu says %s; the others are told to stop: %d %d\n", index, answer.c_str(),
              replicas[0].stop_requested(), replicas[2].stop_requested());

  // One result, read by several tasks and as often as one likes: const T&, never copied.
  const cadre::shared_future<std::vector<int>> table = pool.submit([] { return std::vector<int>{3, 1, 2}; }).share();
  auto size = table.then([](const std::vector<int>& t) { return t.size(); });
  auto front = table.then([](const std::vector<int>& t) { return t.front(); });
  std::printf("size %zu, front %d, last %d\n", size.get(), front.get(), table.get().back());

  // As Ray's wait: which are ready, which are not; nothing is consumed.
  std::vector<cadre::promise<int>> jobs(3);
  std::vector<cadre::future<int>> results;
  for (auto& j : jobs) results.push_back(j.get_future());
  jobs[2].set_value(30);
  auto [ready, pending] = cadre::wait(results, 2, 10ms);
  std::printf("%zu ready (number %zu), %zu pending\n", ready.size(), ready.front(), pending.size());
  jobs[0].set_value(10);
  jobs[1].set_value(20);
  std::printf("all: %zu ready\n", cadre::wait(results, results.size()).ready.size());
}
