#include "catch.hpp"

#include <cadre/actor.hpp>
#include <cadre/async/this_task.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace job_test {

using namespace std::chrono_literals;
namespace detail = cadre::detail;

/// Rank 0's way to rank 1, which is a mirror: what is sent there comes back as if from there, when somebody polls.
class mirror_link final : public detail::link {
 public:
  int rank() const noexcept override { return 0; }
  int world_size() const noexcept override { return 2; }
  void start(detail::message_sink& sink) override { sink_ = &sink; }
  void send(int, std::span<const std::byte> bytes, detail::urgency) override {
    const std::lock_guard lock(mutex_);
    under_way_.emplace_back(bytes.begin(), bytes.end());
  }
  void send(int to, detail::outgoing&& message, detail::urgency how) override {
    send(to, message.bytes.to_vector(), how);
  }
  void flush() override {}
  bool poll() noexcept override {
    const std::unique_lock one_at_a_time(polls_, std::try_to_lock);
    std::optional<std::vector<std::byte>> bytes = one_at_a_time ? take() : std::nullopt;
    if (!bytes) return false;
    detail::incoming message(*bytes, {});
    sink_->receive(1, message);
    return true;
  }
  bool wait_while(const std::atomic<std::uint32_t>&, std::uint32_t, std::chrono::steady_clock::time_point) override {
    return poll();
  }
  void wake() noexcept override {}
  bool is_alive(int) const noexcept override { return true; }
  void declare_dead(int, std::string) override {}
  void close(std::chrono::steady_clock::time_point) override {}

 private:
  std::optional<std::vector<std::byte>> take() {
    const std::lock_guard lock(mutex_);
    if (under_way_.empty()) return std::nullopt;
    std::vector<std::byte> first = std::move(under_way_.front());
    under_way_.pop_front();
    return first;
  }

  std::mutex mutex_, polls_;
  std::deque<std::vector<std::byte>> under_way_;
  detail::message_sink* sink_ = nullptr;
};

struct mirrored : cadre::runtime {
  explicit mirrored(cadre::runtime_options options = {.threads = 1}) : cadre::runtime(std::move(options)) {
    static_cast<void>(detail::handler::all());  // numbers them
    auto link = std::make_unique<mirror_link>();
    way = link.get();
    const std::vector<detail::peer_facts> both{{"here", core().resources()}, {"there", core().resources()}};
    auto job = std::make_shared<detail::job>(core(), std::move(link), both);
    core().join(job);
    job->start();
  }
  /// What comes is received by the only thread of the pool, in a task that is cancelled then.
  void receive_in_a_task_that_is_cancelled() {
    std::atomic<bool> received{false};
    auto polls = pool().submit([&] {
      while (!way->poll()) std::this_thread::yield();
      received = true;
      while (!cadre::this_task::stop_requested()) std::this_thread::yield();
    });
    while (!received) std::this_thread::yield();
    polls.cancel();
    polls.get();
  }
  template <class R>
  R answer_to(cadre::future<R> asked) {
    const auto end = std::chrono::steady_clock::now() + 10s;
    while (!asked.ready() && std::chrono::steady_clock::now() < end) way->poll();
    REQUIRE(asked.ready());
    return asked.get();
  }
  mirror_link* way = nullptr;
};

int six() { return 6; }
int twice(int n) { return 2 * n; }
struct answers {
  int seven() { return 7; }
  int same(int n) { return n; }
};

TEST_CASE("What another rank asks for is not cancelled with the task that happens to receive it", "[runtime]") {
  mirrored rt;
  auto task = rt.submit<&six>({.on = cadre::on_rank(1)});
  rt.receive_in_a_task_that_is_cancelled();
  CHECK(rt.answer_to(std::move(task)) == 6);

  auto making = rt.pool().submit([&] { return rt.actor<answers>({.on = cadre::on_rank(1)}); });
  const auto there = rt.answer_to(std::move(making));
  auto call = there.call<&answers::seven>();
  rt.receive_in_a_task_that_is_cancelled();
  CHECK(rt.answer_to(std::move(call)) == 7);
  auto stop = there.stop();
  rt.receive_in_a_task_that_is_cancelled();
  rt.answer_to(std::move(stop));
  CHECK_THROWS_AS(rt.answer_to(there.call<&answers::seven>()), cadre::actor_died);
}

TEST_CASE("The error of what an argument comes from stays with the rank that asks", "[runtime]") {
  std::string untold;
  mirrored rt({.threads = 1, .on_unobserved_error = [&](const cadre::unobserved_error& e) {
                 try {
                   std::rethrow_exception(e.error);
                 } catch (const std::exception& what) {
                   untold = std::string(e.task) + ": " + what.what();
                 }
               }});
  const auto failed = [&] {
    auto f = rt.pool().submit([]() -> int { throw std::out_of_range("early"); });
    f.wait();
    return f;
  };
  auto making = rt.pool().submit([&] { return rt.actor<answers>({.on = cadre::on_rank(1)}); });
  const auto there = rt.answer_to(std::move(making));
  CHECK_THROWS_AS(there.call<&answers::same>(failed()).get(), std::out_of_range);
  CHECK_THROWS_AS(rt.submit<&twice>({.on = cadre::on_rank(1)}, failed()).get(), std::out_of_range);
  there.tell<&answers::same>(failed());
  CHECK_THAT(untold, Catch::Matchers::EndsWith("same: early"));
  CHECK_FALSE(rt.way->poll());  // nothing was sent
}

TEST_CASE("A mailbox that is full refuses the calls of other ranks, and takes them again", "[runtime]") {
  mirrored rt;
  auto making = rt.pool().submit([&] { return rt.actor<answers>({.on = cadre::on_rank(1), .max_pending_calls = 1}); });
  const auto there = rt.answer_to(std::move(making));
  CHECK(rt.answer_to(there.call<&answers::same>(1)) == 1);
  std::atomic<bool> open{false};
  auto holds_the_thread = rt.pool().submit([&] {
    while (!open) std::this_thread::yield();
  });
  auto waits = there.call<&answers::same>(2), refused = there.call<&answers::same>(3);
  CHECK_THROWS_AS(rt.answer_to(std::move(refused)), cadre::too_many_calls);
  CHECK_FALSE(waits.ready());
  open = true;
  CHECK(rt.answer_to(std::move(waits)) == 2);
  CHECK(rt.answer_to(there.call<&answers::same>(4)) == 4);
}

}  // namespace job_test
