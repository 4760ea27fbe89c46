#include "model.hpp"

// Whole pools: start, sleep, wake, wait, end. The runs are too long for every order, so at most `budget` times a thread is
// held up where it could go on, or sees an old value; each way to lose a wake-up that is known needs two.

namespace pool_model {

constexpr explore::settings bounded{.budget = 2};
constexpr explore::settings buffered{.budget = 2, .store_buffers = true};

// A word that a task waits for without the pool knowing, as for a lock.
class flag {
 public:
  void set() {
    word_.store(1);
    cadre::futex::wake_one(word_);
  }
  void wait() {
    while (word_.load() == 0) cadre::futex::wait(word_, 0);
  }

 private:
  explore::model_atomic<std::uint32_t> word_{0};
};

// A thread outside submits while the last worker falls asleep, or has fallen, and waits for the value. In a pool of two it
// has a queue of its own, which the first push makes.
template <std::size_t Threads>
void submit_and_get() {
  cadre::thread_pool pool{{.threads = Threads}};
  explore::settle();
  explore::explore_from_here();
  explore::require(pool.submit([] { return 1; }).get() == 1, "another value");
  explore::require(pool.submit([] { return 2; }).get() == 2, "another value");
  explore::no_further();
}

// A thread with a queue of its own submits while all workers, which were at work, fall asleep.
void submit_as_all_fall_asleep() {
  flag first_may_end, second_may_end;
  cadre::thread_pool pool{{.threads = 2}};
  pool.post([&] { first_may_end.wait(); });
  pool.post([&] { second_may_end.wait(); });
  for (int i = 0; i < 6; ++i) pool.post([] {});  // so that it makes no more barriers
  explore::settle();
  first_may_end.set();
  second_may_end.set();
  explore::explore_from_here();
  explore::require(pool.submit([] { return 1; }).get() == 1, "another value");
  explore::no_further();
}

// A task queues another while the other worker falls asleep. Only that one can run it, as the task waits for it in a way
// that the pool does not see.
void queue_and_block() {
  flag begin, end, second_ran;
  cadre::thread_pool pool{{.threads = 2}};
  pool.post([&] {
    begin.wait();
    pool.post([&] { second_ran.set(); });
    second_ran.wait();
  });
  pool.post([&] { end.wait(); });
  explore::settle();
  begin.set();
  end.set();
  explore::explore_from_here();
  explore::settle();
  explore::no_further();
}

// Two tasks come while both workers sleep; the first waits for the second. Who was woken for the first wakes the next.
void two_that_need_each_other() {
  flag second_ran;
  cadre::thread_pool pool{{.threads = 2}};
  explore::settle();
  explore::explore_from_here();
  pool.post([&] { second_ran.wait(); });
  pool.post([&] { second_ran.set(); });
  explore::settle();
  explore::no_further();
}

// A task queues another while one of the two other workers, woken for work from outside, stops searching. Both of these
// tasks wait for the one that is queued, so that the third worker has to be woken for it.
void queue_and_rely_on_a_searcher() {
  flag begin, first_may_end, other_may_end;
  cadre::thread_pool pool{{.threads = 3}};
  pool.post([&] {
    begin.wait();
    pool.post([&] {
      first_may_end.set();
      other_may_end.set();
    });
    first_may_end.wait();
  });
  explore::settle();
  begin.set();
  explore::explore_from_here();
  pool.post([&] { other_may_end.wait(); });
  explore::settle();
  explore::no_further();
}

// A posted task begins, or has, or never does, while its pool is cancelled: once it runs it goes on until it is asked to stop.
void post_and_cancel() {
  explore::explore_from_here();
  {
    cadre::thread_pool pool{{.threads = 1, .at_end = cadre::at_end::cancel}};
    pool.post([] {
      while (!cadre::this_task::stop_requested()) model_yield();
    });
  }
  explore::no_further();
}

}  // namespace pool_model

TEST_CASE("no wake-up is lost between a thread that submits and a worker that falls asleep", "[model]") {
  for (const auto& s : {pool_model::bounded, pool_model::buffered}) {
    const auto r = model::every_order(s, pool_model::submit_and_get<1>);
    CHECK(r.failure.empty());
    CHECK(r.runs > 1000);
  }
}

TEST_CASE("no wake-up is lost between a thread with a queue of its own and the last worker to fall asleep", "[model]") {
  const auto check = [](const explore::settings& s, void (*program)()) {
    const auto r = model::every_order(s, program);
    CHECK(r.failure.empty());
    CHECK(r.runs > 1000);
  };
  check(pool_model::bounded, pool_model::submit_and_get<2>);
  check(pool_model::buffered, pool_model::submit_and_get<2>);
  check(pool_model::buffered, pool_model::submit_as_all_fall_asleep);
}

TEST_CASE("the explorer finds the wake-up of a thread outside that is lost without the barrier of the sleeper",
          "[model]") {
  auto s = pool_model::buffered;
  s.broken.no_barrier = true;
  const auto r = model::every_order(s, pool_model::submit_as_all_fall_asleep);
  CHECK_THAT(r.failure, ContainsSubstring("nobody can go on"));
  CHECK(r.runs > 100);  // it takes an unusual order
}

TEST_CASE("no wake-up is lost between a worker that queues and one that falls asleep", "[model]") {
  for (const auto& s : {pool_model::bounded, pool_model::buffered}) {
    const auto r = model::every_order(s, pool_model::queue_and_block);
    CHECK(r.failure.empty());
    CHECK(r.runs > 1000);
  }
}

TEST_CASE("tasks that need each other all get a thread, in whatever order these wake", "[model]") {
  const auto r = model::every_order(pool_model::bounded, pool_model::two_that_need_each_other);
  CHECK(r.failure.empty());
  CHECK(r.runs > 1000);
}

TEST_CASE("no wake-up is lost between a worker that queues and a searcher that leaves with other work", "[model]") {
  const auto r = model::every_order(pool_model::buffered, pool_model::queue_and_rely_on_a_searcher);
  CHECK(r.failure.empty());
  CHECK(r.runs > 1000);
}

TEST_CASE("the explorer finds the wake-up that is lost without the barrier of the sleeper", "[model]") {
  auto s = pool_model::buffered;
  s.broken.no_barrier = true;
  const auto r = model::every_order(s, pool_model::queue_and_block);
  CHECK_THAT(r.failure, ContainsSubstring("nobody can go on"));
  CHECK(r.runs > 100);  // it takes an unusual order
}

TEST_CASE("the explorer finds the wake-up that is lost without the sleeper's second look", "[model]") {
  auto s = pool_model::bounded;
  s.broken.no_second_look = true;
  const auto r = model::every_order(s, pool_model::queue_and_block);
  CHECK_THAT(r.failure, ContainsSubstring("nobody can go on"));
  CHECK(r.runs > 100);  // it takes an unusual order
}

TEST_CASE("the explorer finds the wake-up that is lost if the last searcher wakes nobody", "[model]") {
  auto s = pool_model::bounded;
  s.broken.subtract_hides = std::uint64_t{0xffffffff} << 32;  // it sees no sleeper
  const auto r = model::every_order(s, pool_model::two_that_need_each_other);
  CHECK_THAT(r.failure, ContainsSubstring("nobody can go on"));
}

TEST_CASE("a pool may end while its threads fall asleep or wake", "[model]") {
  const auto r = model::every_order(pool_model::bounded, [] {
    int ran = 0;
    explore::explore_from_here();
    {
      cadre::thread_pool pool{{.threads = 1}};
      pool.post([&] { ++ran; });
    }
    explore::require(ran == 1, "a task was lost");
    explore::no_further();
  });
  CHECK(r.failure.empty());
  CHECK(r.runs > 100);
}

TEST_CASE("a task that waits for one that it submitted goes on, whoever runs that", "[model]") {
  const auto r = model::every_order(pool_model::bounded, [] {
    cadre::thread_pool pool{{.threads = 2}};
    explore::settle();
    auto f = pool.submit([&] { return pool.submit([] { return 1; }).get() + 1; });
    explore::explore_from_here();
    explore::require(f.get() == 2, "another value");
    explore::no_further();
  });
  CHECK(r.failure.empty());
  CHECK(r.runs > 100);
}

TEST_CASE("another thread stands in for a task that waits for a promise, in whatever order", "[model]") {
  const auto r = model::every_order(pool_model::bounded, [] {
    cadre::promise<int> promise;
    auto kept = promise.get_future();
    cadre::thread_pool pool{{.threads = 1}};
    auto first = pool.submit([&] { return kept.get(); });
    explore::settle();
    explore::explore_from_here();
    auto second = pool.submit([&] { return first.get() + 1; });
    pool.post([&] { promise.set_value(1); });
    explore::require(second.get() == 2, "another value");
    explore::no_further();
  });
  CHECK(r.failure.empty());
  CHECK(r.runs > 100);
}

TEST_CASE("a task that is cancelled while a worker takes it runs or does not, and its future ends", "[model]") {
  const auto r = model::every_order(pool_model::bounded, [] {
    cadre::thread_pool pool{{.threads = 1}};
    explore::settle();
    explore::explore_from_here();
    int ran = 0;
    auto f = pool.submit([&] { ++ran; });
    f.cancel();
    f.wait();
    explore::no_further();
    int value = 1;
    try {
      f.get();
    } catch (const cadre::task_cancelled&) {
      value = 0;
    }
    explore::require(ran == value, "it ran and was cancelled, or neither");
  });
  CHECK(r.failure.empty());
  CHECK(r.runs > 100);
}

TEST_CASE("a posted task that begins while its pool is cancelled is asked to stop", "[model]") {
  for (const auto& s : {pool_model::bounded, pool_model::buffered}) {
    const auto r = model::every_order(s, pool_model::post_and_cancel);
    CHECK(r.failure.empty());
    CHECK(r.runs > 100);
  }
}

TEST_CASE("the explorer finds the task that is not asked to stop without the barrier of who cancels", "[model]") {
  auto s = pool_model::buffered;
  s.broken.no_barrier = true;
  CHECK_THAT(model::every_order(s, pool_model::post_and_cancel).failure,
             ContainsSubstring("the threads go on for ever"));
}
