#include "catch.hpp"

#include <cadre/actor.hpp>
#include <cadre/actor/detail/own_requests.hpp>
#include <cadre/async/promise.hpp>
#include <cadre/async/this_task.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
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
  std::uint64_t sent() const noexcept override { return sent_; }
  void send(int, std::span<const std::byte> bytes, detail::urgency) override {
    const std::lock_guard lock(mutex_);
    ++sent_;
    under_way_.push_back({{bytes.begin(), bytes.end()}, {}});
  }
  void send(int, detail::outgoing&& message, detail::urgency) override {
    const std::lock_guard lock(mutex_);
    ++sent_;
    under_way_.push_back({message.bytes.to_vector(), {}});
    for (const auto block : message.blocks) under_way_.back().blocks.emplace_back(block.begin(), block.end());
  }
  void flush() override {}
  bool poll() noexcept override {
    // The tests say when a message comes: not to a thread of the pool that looks for work.
    if (detail::this_worker() != nullptr && detail::current_task() == nullptr) return false;
    const std::unique_lock one_at_a_time(polls_, std::try_to_lock);
    std::optional<letter> next = one_at_a_time ? take() : std::nullopt;
    if (!next) return false;
    std::vector<std::uint64_t> sizes;
    for (const auto& block : next->blocks) sizes.push_back(block.size());
    detail::incoming message(next->bytes, sizes);
    sink_->receive(1, message);
    sink_->batch_ends();
    if (!message.where()) return true;
    detail::landing where = *std::exchange(message.where(), std::nullopt);
    bool fits = where.into.size() == next->blocks.size();
    for (std::size_t i = 0; fits && i < where.into.size(); ++i) {
      fits = where.into[i].size() == next->blocks[i].size();
      if (fits) std::memcpy(where.into[i].data(), next->blocks[i].data(), next->blocks[i].size());
    }
    where.done(fits && !std::exchange(loses_blocks, false));
    return true;
  }
  bool wait_while(const std::atomic<std::uint32_t>&, std::uint32_t, std::chrono::steady_clock::time_point) override {
    return poll();
  }
  void wake() noexcept override {}
  bool is_alive(int) const noexcept override { return true; }
  void declare_dead(int, std::string) override {}
  void close(std::chrono::steady_clock::time_point) override {}

  std::function<void(std::vector<std::byte>&)> damage;  // to the next message that is received
  bool loses_blocks = false;                            // of the next message that has some

 private:
  struct letter {
    std::vector<std::byte> bytes;
    std::vector<std::vector<std::byte>> blocks;
  };
  std::optional<letter> take() {
    const std::lock_guard lock(mutex_);
    if (under_way_.empty()) return std::nullopt;
    letter first = std::move(under_way_.front());
    under_way_.pop_front();
    if (damage) std::exchange(damage, {})(first.bytes);
    return first;
  }

  std::mutex mutex_, polls_;
  std::deque<letter> under_way_;
  std::atomic<std::uint64_t> sent_{0};
  detail::message_sink* sink_ = nullptr;
};

struct mirrored : cadre::runtime {
  explicit mirrored(cadre::runtime_options options = {.threads = 1}) : cadre::runtime(std::move(options)) {
    detail::list_own_requests<detail::serving_job>();
    static_cast<void>(detail::handler::all());  // numbers them
    auto link = std::make_unique<mirror_link>();
    way = link.get();
    const std::vector<detail::peer_facts> both{{"here", 1, core().resources()}, {"there", 2, core().resources()}};
    auto job = std::make_shared<detail::serving_job>(core(), std::move(link), both);
    core().join(job, nullptr);
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
  /// What comes next from rank 1 comes so.
  void receive_damaged(std::function<void(std::vector<std::byte>&)> damage) {
    way->damage = std::move(damage);
    const auto end = std::chrono::steady_clock::now() + 10s;
    while (!way->poll() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    REQUIRE_FALSE(way->damage);
  }
  detail::job& its_job() { return *core().jobs(); }
  mirror_link* way = nullptr;
};

using bytes = std::vector<std::byte>;
/// Where in a message its head has what, and where that ends.
constexpr std::size_t cell_at = 8, generation_at = 12, handler_at = 16, kind_at = 20, counts_at = 21, head_bytes = 23;
template <class T>
auto with(std::size_t at, T value) {
  return [=](bytes& m) {
    REQUIRE(at + sizeof value <= m.size());
    std::memcpy(m.data() + at, &value, sizeof value);
  };
}
void cut_off(bytes& m) { m.pop_back(); }
void longer(bytes& m) { m.push_back({}); }

int six() { return 6; }
int twice(int n) { return 2 * n; }
int halved(int n) { return n % 2 == 0 ? n / 2 : throw std::invalid_argument("odd"); }
struct answers {
  int seven() { return 7; }
  int same(int n) { return n; }
};
struct others {
  int eight() { return 8; }
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

TEST_CASE("A request that is damaged on its way is an error of its future", "[runtime]") {
  mirrored rt;
  const auto error_of = [&](std::function<void(bytes&)> damage) -> std::string {
    auto task = rt.submit<&twice>({.on = cadre::on_rank(1)}, 4);
    rt.receive_damaged(std::move(damage));
    try {
      return std::to_string(rt.answer_to(std::move(task)));
    } catch (const std::exception& e) {
      return e.what();
    }
  };
  CHECK(error_of([](bytes&) {}) == "8");
  CHECK_THAT(error_of(cut_off), ContainsSubstring("[cadre.archive.501]"));
  CHECK_THAT(error_of(longer), ContainsSubstring("[cadre.archive.504]"));
  CHECK_THAT(error_of(with(handler_at, 1'000'000)), ContainsSubstring("[cadre.archive.502]"));
  CHECK(error_of([](bytes&) {}) == "8");
}

TEST_CASE("An answer that is damaged on its way is an error of the future that waits for it", "[runtime]") {
  mirrored rt;
  const auto answered = [&](std::function<void(bytes&)> damage, int n) {
    auto task = rt.submit<&halved>({.on = cadre::on_rank(1)}, n);
    rt.receive_damaged([](bytes&) {});
    rt.receive_damaged(std::move(damage));
    return rt.answer_to(std::move(task));
  };
  CHECK(answered([](bytes&) {}, 4) == 2);
  CHECK_THROWS_AS(answered(cut_off, 4), cadre::archive_truncated);
  CHECK_THROWS_AS(answered(longer, 4), cadre::archive_not_exhausted);
  CHECK_THROWS_AS(answered([](bytes&) {}, 3), std::invalid_argument);
  CHECK_THROWS_AS(answered(cut_off, 3), cadre::archive_truncated);
  CHECK_THROWS_AS(answered(longer, 3), cadre::archive_not_exhausted);
  CHECK_THROWS_AS(answered(with(head_bytes, std::uint64_t{1} << 60), 3), cadre::archive_corrupt);
}

std::vector<int> reversed(std::vector<int> all) {
  std::reverse(all.begin(), all.end());
  return all;
}

TEST_CASE("A large argument that is damaged on its way, or does not come whole, is an error of the future",
          "[runtime]") {
  mirrored rt;
  std::vector<int> up(10'000), down(10'000);
  for (int i = 0; i < 10'000; ++i) up[static_cast<std::size_t>(i)] = down[static_cast<std::size_t>(9'999 - i)] = i;
  const auto ask = [&] { return rt.submit<&reversed>({.on = cadre::on_rank(1)}, up); };
  CHECK(rt.answer_to(ask()) == down);
  auto lost = ask();
  rt.way->loses_blocks = true;
  CHECK_THROWS_WITH(rt.answer_to(std::move(lost)),
                    ContainsSubstring("its caller has died while it sent the arguments"));
  auto half = ask();
  rt.receive_damaged([](bytes&) {});
  rt.way->loses_blocks = true;
  CHECK_THROWS_WITH(rt.answer_to(std::move(half)), ContainsSubstring("it died while it sent the result"));
  const auto damaged = [&](std::uint64_t extent) {
    auto task = ask();
    rt.receive_damaged([&](bytes& m) { with(m.size() - 8, extent)(m); });
    return rt.answer_to(std::move(task));
  };
  for (const std::uint64_t extent : {std::uint64_t{0}, std::uint64_t{9'999}, std::uint64_t{1} << 40, ~std::uint64_t{0}})
    CHECK_THROWS_WITH(damaged(extent), ContainsSubstring("a block that is not of the value's size"));
  CHECK(rt.answer_to(ask()) == down);
}

TEST_CASE("What no rank says is told as an error of the runtime, and changes nothing", "[runtime]") {
  std::string untold;
  mirrored rt({.threads = 1, .on_unobserved_error = [&](const cadre::unobserved_error& e) {
                 try {
                   std::rethrow_exception(e.error);
                 } catch (const std::exception& what) {
                   untold = what.what();
                 }
               }});
  const auto told = [&](std::function<void(bytes&)> damage) {
    untold.clear();
    rt.way->send(1, bytes(head_bytes), detail::urgency::normal);
    rt.receive_damaged(std::move(damage));
    return std::exchange(untold, {});
  };
  CHECK_THAT(told(cut_off), ContainsSubstring("[cadre.archive.501]"));
  CHECK_THAT(told(with(counts_at, std::uint8_t{2})), ContainsSubstring("a bool of value 2"));
  CHECK_THAT(told(with(kind_at, std::uint8_t{5})), ContainsSubstring("a message of kind 5"));
  CHECK_THAT(told(with(kind_at, detail::job::kind::shutdown)), ContainsSubstring("which rank 0 alone"));
  CHECK(rt.answer_to(rt.submit<&six>({.on = cadre::on_rank(1)})) == 6);
}

TEST_CASE("A request of a number that no rank gives takes no more memory than others", "[runtime]") {
  detail::served_tasks served;
  cadre::promise<int> last;
  auto f = last.get_future();
  detail::task& t = *detail::future_access::get(f);
  served.add(1, ~std::uint64_t{0}, t);
  served.cancel(1'000'000, ~std::uint64_t{0});
  CHECK_FALSE(t.stop_requested());
  served.cancel(1, ~std::uint64_t{0});
  CHECK(t.stop_requested());
  std::move(last).set_value(1);
}

TEST_CASE("Options of a task that no rank sends are an error of its future", "[runtime]") {
  mirrored rt;
  const auto error_of = [&](const cadre::remote_options& o, auto change) -> std::string {
    auto sent = detail::sent_options::of(o);
    change(sent);
    using call = detail::bound_call<&six, detail::runtime_core>;
    auto task = detail::ask<detail::task_request<&six, call>, int>(rt.its_job(), 1, {}, false, "six", false, {},
                                                                   [&](cadre::output_archive& out) { out(sent); });
    try {
      return std::to_string(rt.answer_to(std::move(task)));
    } catch (const std::exception& e) {
      return e.what();
    }
  };
  using sent = detail::sent_options;
  const cadre::remote_options retried{.max_retries = 1, .retry_on = cadre::errors<std::exception>()};
  CHECK(error_of(retried, [](sent&) {}) == "6");
  CHECK_THAT(error_of(retried, [](sent& o) { ++o.retry_on; }), ContainsSubstring("a .retry_on that is not in"));
  CHECK_THAT(error_of({}, [](sent& o) { o.retry_on = 1; }), ContainsSubstring("a .retry_on that is not in"));
  CHECK_THAT(error_of({}, [](sent& o) { o.priority = cadre::priority{3}; }), ContainsSubstring("a priority of 3"));
  CHECK_THAT(error_of({}, [](sent& o) { o.resources.set("cpu", -1); }), ContainsSubstring("a resource of -1"));
  CHECK_THAT(error_of(retried, [](sent& o) { o.max_retries = -1; }), ContainsSubstring("[cadre.async.211]"));
  CHECK(error_of({}, [](sent& o) { o.deadline = std::numeric_limits<std::int64_t>::max(); }) == "6");
}

TEST_CASE("An actor that no rank asks for is not made", "[runtime]") {
  mirrored rt;
  const auto made = [&](const detail::sent_actor& how) {
    using request = detail::make_request<answers, std::tuple<>>;
    return rt.answer_to(detail::ask<request, detail::actor_address>(rt.its_job(), 1, {}, true, "answers", true, {},
                                                                    [&](cadre::output_archive& out) { out(how); }));
  };
  CHECK(made({}).generation != 0);
  CHECK_THROWS_WITH(made({.restarts = 1}), ContainsSubstring("an actor that was made anew 1 times"));
  CHECK_THROWS_WITH(made({.most = {.restarts = -1}, .restarts = -1}), ContainsSubstring("made anew -1 times"));
  CHECK_THROWS_WITH(made({.most_at_once = 0}), ContainsSubstring("an actor that can run no call"));
  CHECK(made({.most = {.restarts = 1}, .restarts = 1}).generation != 0);
}

TEST_CASE("A question to rank 0 that no rank asks is answered by an error", "[runtime]") {
  mirrored rt;
  const auto asked = [&]<class Tag, class... A>(Tag, const A&... a) {
    rt.answer_to(detail::ask<Tag, void>(rt.its_job(), 1, {}, false, "a question", false, {},
                                        [&](cadre::output_archive& out) { (out(a), ...); }));
  };
  const detail::actor_place first{1, {1, 1}, 0}, nowhere{2, {1, 1}, 0};
  const std::uint32_t maker = 0;
  asked(detail::keep_actor_request{}, first, maker, detail::sent_actor{}, cadre::placement{});
  CHECK_THROWS_WITH(asked(detail::keep_actor_request{}, nowhere, maker, detail::sent_actor{}, cadre::placement{}),
                    ContainsSubstring("rank 2 in a job of 2"));
  CHECK_THROWS_WITH(asked(detail::name_request{}, std::uint8_t{4}, std::string(), std::string(), first),
                    ContainsSubstring("a question about a name of kind 4"));
  asked(detail::forget_actor_request{}, first, std::string());
  CHECK_THROWS_WITH(asked(detail::forget_actor_request{}, first, std::string(), 1),
                    ContainsSubstring("[cadre.archive.504]"));
  CHECK_THROWS_WITH(asked(detail::activity_request{}, 1), ContainsSubstring("[cadre.archive.504]"));
}

/// What a handle begins with.
template <class T>
detail::actor_address address_of(const cadre::actor<T>& a) {
  detail::actor_address here;
  std::memcpy(static_cast<void*>(&here), static_cast<const void*>(&a), sizeof here);
  return here;
}

TEST_CASE("A call that comes to an actor of another class fails, and so does its end", "[runtime]") {
  mirrored rt;
  auto making = rt.pool().submit([&] { return rt.actor<answers>({.on = cadre::on_rank(1)}); });
  const auto one = rt.answer_to(std::move(making));
  auto making_another = rt.pool().submit([&] { return rt.actor<others>({.on = cadre::on_rank(1)}); });
  const auto another = rt.answer_to(std::move(making_another));

  auto call = one.call<&answers::seven>();
  rt.receive_damaged(with(cell_at, address_of(another)));
  CHECK_THROWS_AS(rt.answer_to(std::move(call)), cadre::wrong_actor_type);
  auto stop = one.stop();
  rt.receive_damaged(with(cell_at, address_of(another)));
  CHECK_THROWS_AS(rt.answer_to(std::move(stop)), cadre::wrong_actor_type);
  for (const std::uint32_t nowhere : {1'000'000u, ~0u}) {
    call = one.call<&answers::seven>();
    rt.receive_damaged(with(cell_at, nowhere));
    CHECK_THROWS_AS(rt.answer_to(std::move(call)), cadre::actor_died);
  }
  stop = one.stop();
  rt.receive_damaged(with(generation_at, detail::actor_cell::any));
  CHECK_THROWS_AS(rt.answer_to(std::move(stop)), cadre::actor_died);
  CHECK(rt.answer_to(one.call<&answers::seven>()) == 7);
  CHECK(rt.answer_to(another.call<&others::eight>()) == 8);
}

TEST_CASE("The handle of an actor that is damaged on its way refers to none, or to one of another class", "[runtime]") {
  mirrored rt;
  const auto local = rt.actor<answers>({.on = cadre::on_rank(0)});
  const auto another = rt.actor<others>({.on = cadre::on_rank(0)});
  const auto called = [&](std::size_t at, auto value) {
    auto damaged = local;
    std::memcpy(reinterpret_cast<std::byte*>(&damaged) + at, &value, sizeof value);
    return damaged.template call<&answers::seven>().get();
  };
  constexpr std::size_t cell = 0, generation = 4, rank = 12;
  CHECK(called(cell, address_of(local)) == 7);
  CHECK_THROWS_AS(called(cell, address_of(another)), cadre::wrong_actor_type);
  CHECK_THROWS_AS(called(generation, address_of(local).generation + 1), cadre::actor_died);
  CHECK_THROWS_AS(called(generation, ~0u), cadre::empty_actor);
  CHECK_THROWS_AS(called(cell, 1'000'000u), cadre::empty_actor);
  CHECK_THROWS_AS(called(cell, ~0u), cadre::empty_actor);
  CHECK_THROWS_AS(called(rank, 2), cadre::empty_actor);
  CHECK_THROWS_AS(called(rank, -1), cadre::empty_actor);
}

}  // namespace job_test
