#include "catch.hpp"

#include <cadre/async.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <latch>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace cancel_test {

// What a running task sees of it.
bool asked_to_stop() { return cadre::detail::current_task()->stop_requested(); }

// Until it is asked to; a hang here is the failure.
void run_until_stopped() {
  while (!asked_to_stop()) std::this_thread::yield();
}

std::string cancelled(const std::string& task) {
  return "[cadre.async.206] " + task +
         " was cancelled before it began: by cancel(), its stop token, its parent's or its pool's end";
}
std::string at(const std::source_location& here, unsigned below) {
  return std::string(here.file_name()) + ":" + std::to_string(here.line() + below);
}

template <class T>
bool was_cancelled(cadre::future<T>& f) {
  try {
    f.get();
    return false;
  } catch (const cadre::task_cancelled&) {
    return true;
  }
}

// A pool whose threads are all held by a task each, so that what is submitted stays queued, until release().
class held_pool {
 public:
  explicit held_pool(std::size_t threads, cadre::thread_pool_options options = {}) : started_(std::ptrdiff_t(threads)) {
    options.threads = threads;
    pool_ = std::make_unique<cadre::thread_pool>(std::move(options));
    for (std::size_t i = 0; i < threads; ++i)
      pool_->post([this] {
        started_.count_down();
        let_go_.wait();
      });
    started_.wait();
  }
  ~held_pool() { release(); }
  cadre::thread_pool& operator*() { return *pool_; }
  cadre::thread_pool* operator->() { return pool_.get(); }
  void release() {
    if (!std::exchange(released_, true)) let_go_.count_down();
  }

 private:
  std::latch started_;
  std::latch let_go_{1};
  bool released_ = false;
  std::unique_ptr<cadre::thread_pool> pool_;
};

std::size_t nodes() {
  std::size_t n = 0;
  cadre::detail::node_memory::for_each_node([&n](void*) { ++n; });
  return n;
}

}  // namespace cancel_test

TEST_CASE("a queued task that is cancelled never runs, and its future says so at once", "[cancel]") {
  cancel_test::held_pool pool(1);
  bool ran = false;
  const auto here = std::source_location::current();
  auto named = pool->submit({.name = "load"}, [&] { ran = true; });
  auto nameless = pool->submit([&] { ran = true; });
  CHECK(named.cancel());
  CHECK(nameless.cancel());
  CHECK(named.ready());
  CHECK(nameless.ready());
  CHECK_FALSE(named.cancel());  // it is done
  CHECK_THROWS_WITH(named.get(), cancel_test::cancelled("'load' submitted at " + cancel_test::at(here, 1)));
  CHECK_THROWS_WITH(nameless.get(), cancel_test::cancelled("a task submitted at " + cancel_test::at(here, 2)));
  pool.release();
  pool->submit([] {}).get();
  CHECK_FALSE(ran);
}

TEST_CASE("what a cancelled task holds is gone at once", "[cancel]") {
  cancel_test::held_pool pool(1);
  const auto held = std::make_shared<int>(1);
  auto f = pool->submit([held] { return *held; });
  CHECK(held.use_count() == 2);
  CHECK(f.cancel());
  CHECK(held.use_count() == 1);
}

TEST_CASE("a running task sees that it is asked to stop, and what it returns counts", "[cancel]") {
  std::latch started{1};
  cadre::thread_pool pool{{.threads = 1}};
  auto f = pool.submit([&] {
    started.count_down();
    cancel_test::run_until_stopped();
    return 5;
  });
  started.wait();
  CHECK(f.cancel());
  CHECK(f.get() == 5);
}

TEST_CASE("a task that is done cannot be cancelled", "[cancel]") {
  cadre::thread_pool pool{{.threads = 1}};
  auto f = pool.submit([] { return 3; });
  f.wait();
  CHECK_FALSE(f.cancel());
  CHECK(f.get() == 3);
  CHECK_THROWS_AS(f.cancel(), cadre::empty_future);
}

TEST_CASE("who cancels a task cancels its children and theirs, queued or running", "[cancel]") {
  std::latch ready{2};
  std::latch over{1};  // until then both threads are held
  std::atomic<int> ran{0};
  cadre::thread_pool pool{{.threads = 2}};
  std::vector<cadre::future<void>> queued;
  cadre::future<bool> child;
  auto parent = pool.submit([&] {
    child = pool.submit([&] {  // runs on the other thread
      for (int i = 0; i < 10; ++i) queued.push_back(pool.submit([&] { ++ran; }));
      pool.post([&] { ++ran; });
      ready.count_down();
      over.wait();
      return cancel_test::asked_to_stop();
    });
    ready.count_down();
    over.wait();
    return cancel_test::asked_to_stop();
  });
  ready.wait();
  CHECK(parent.cancel());
  for (auto& f : queued) CHECK(f.ready());
  over.count_down();
  CHECK(parent.get());
  CHECK(child.get());
  for (auto& f : queued) CHECK(cancel_test::was_cancelled(f));
  pool.submit([] {}).get();
  CHECK(ran == 0);
}

TEST_CASE("what a cancelled task submits is cancelled when it is born", "[cancel]") {
  std::latch started{1};
  cadre::thread_pool pool{{.threads = 1}};
  bool ran = false;
  auto parent = pool.submit([&] {
    started.count_down();
    cancel_test::run_until_stopped();
    auto child = pool.submit([&] { ran = true; });
    const bool at_once = child.ready();
    auto next = std::move(child).then([&] { ran = true; });
    return at_once && cancel_test::was_cancelled(next);
  });
  started.wait();
  CHECK(parent.cancel());
  CHECK(parent.get());
  CHECK_FALSE(ran);
}

TEST_CASE("a child of a task that has ended lives on", "[cancel]") {
  cancel_test::held_pool pool(1);
  cadre::future<int> child;
  cadre::thread_pool other{{.threads = 1}};
  auto parent = other.submit([&] { child = pool->submit([] { return 7; }); });
  parent.wait();
  CHECK_FALSE(parent.cancel());
  pool.release();
  CHECK(child.get() == 7);
}

TEST_CASE("who cancels a grandparent reaches grandchildren whose parent has ended", "[cancel]") {
  cancel_test::held_pool held(1);
  std::latch born{1};
  cadre::thread_pool pool{{.threads = 2}};
  cadre::future<void> grandchild;
  bool ran = false;
  auto grandparent = pool.submit([&] {
    pool.submit([&] { grandchild = held->submit([&] { ran = true; }); }).get();
    born.count_down();
    cancel_test::run_until_stopped();
  });
  born.wait();
  CHECK(grandparent.cancel());
  CHECK(grandchild.ready());
  CHECK(cancel_test::was_cancelled(grandchild));
  grandparent.get();
  held.release();
  held->submit([] {}).get();
  CHECK_FALSE(ran);
}

TEST_CASE("no child is missed that is born while its parent is cancelled", "[cancel]") {
  cadre::thread_pool pool{{.threads = 2}};
  // Fewer rounds on a machine that is busy with other things.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  for (int round = 0; round < 300 && std::chrono::steady_clock::now() < end; ++round) {
    std::atomic<bool> started{false};
    std::atomic<bool> over{false};
    std::atomic<int> deaf{0};
    std::vector<cadre::future<void>> children;
    auto parent = pool.submit([&] {
      started = true;
      bool last = false;
      for (int i = 0; i < 1000 && !last; ++i) {
        last = cancel_test::asked_to_stop();
        children.push_back(pool.submit([&] {
          // Begun before, or it has been told.
          if (over.load() && !cancel_test::asked_to_stop()) ++deaf;
        }));
        // It is cancelled here when it is born, or by the thread in cancel(), which may be in the middle of that.
        if (last && !cancel_test::was_cancelled(children.back())) ++deaf;
      }
    });
    while (!started.load()) std::this_thread::yield();
    for (int spin = round % 50 * 20; spin > 0; --spin) std::atomic_signal_fence(std::memory_order_seq_cst);
    over = parent.cancel();  // or it was done
    parent.get();
    for (auto& c : children)
      if (c.valid()) c.wait();
    CHECK(deaf == 0);
  }
}

TEST_CASE("a relay in which each task submits the next needs no more memory the longer it runs", "[cancel]") {
  cadre::thread_pool pool{{.threads = 1}};
  struct runner {
    cadre::thread_pool* pool;
    std::atomic<int>* left;
    cadre::promise<void> end;
    void operator()() {
      if (--*left == 0)
        end.set_value();
      else
        pool->post(std::move(*this));
    }
  };
  const auto relay = [&](int length) {
    std::atomic<int> left{length};
    cadre::promise<void> end;
    auto ended = end.get_future();
    pool.post(runner{&pool, &left, std::move(end)});
    ended.get();
  };
  relay(1000);
  const std::size_t before = cancel_test::nodes();
  relay(100'000);
  CHECK(cancel_test::nodes() <= before + 256);
}

TEST_CASE("a relay with futures, on two threads, needs no more memory the longer it runs", "[cancel]") {
  std::atomic<int> left{100'000};
  cadre::thread_pool pool{{.threads = 2}};
  const std::size_t before = cancel_test::nodes();
  cadre::promise<void> end;
  auto ended = end.get_future();
  struct runner {
    cadre::thread_pool& pool;
    std::atomic<int>& left;
    cadre::promise<void>& end;
    void operator()() const {
      if (--left == 0)
        end.set_value();
      else
        static_cast<void>(pool.submit(*this));
    }
  };
  pool.post(runner{pool, left, end});
  ended.get();
  CHECK(cancel_test::nodes() <= before + 2000);
}

TEST_CASE("the end of a relay is reached by who cancels where it began", "[cancel]") {
  cancel_test::held_pool held(1);
  std::latch there{1};
  cadre::thread_pool pool{{.threads = 2}};
  cadre::future<void> last;
  struct runner {
    cadre::thread_pool& pool;
    cadre::thread_pool& held;
    cadre::future<void>& last;
    std::latch& there;
    int left;
    void operator()() const {
      if (left == 0) {
        last = held.submit([] {});
        there.count_down();
      } else {
        pool.post(runner{pool, held, last, there, left - 1});
      }
    }
  };
  auto first = pool.submit([&] {
    pool.post(runner{pool, *held, last, there, 1000});
    cancel_test::run_until_stopped();
  });
  there.wait();
  first.cancel();
  CHECK(last.ready());
  CHECK(cancel_test::was_cancelled(last));
  first.get();
}

TEST_CASE("a task whose result holds the future of one that it submitted is freed though nobody asks for it",
          "[cancel]") {
  const auto object = std::make_shared<int>(0);
  std::size_t before = 0;
  {
    const auto make = [object] { return object; };
    cadre::thread_pool pool{{.threads = 2}};
    const auto submit_and_drop = [&](int n) {
      for (int i = 0; i < n; ++i) {
        static_cast<void>(pool.submit([&] { return pool.submit(make); }));
        static_cast<void>(pool.submit([&] { return std::pair(object, pool.submit(make).share()); }));
        static_cast<void>(pool.submit([&] { return pool.submit(make).then([](auto o) { return o; }); }));
        static_cast<void>(pool.submit([&] { return pool.submit([&] { return pool.submit(make); }); }));
        static_cast<void>(pool.submit([&] { return cadre::when_all(pool.submit(make), pool.submit(make)); }));
        pool.submit([] {}).get();  // so that few are pending
      }
    };
    submit_and_drop(1000);
    before = cancel_test::nodes();
    submit_and_drop(10'000);
  }
  CHECK(object.use_count() == 1);
  CHECK(cancel_test::nodes() <= before + 2000);
}

TEST_CASE("a result that nobody asks for goes at once, and what its task submitted is still reached", "[cancel]") {
  cancel_test::held_pool held(1);
  std::latch gone{1};
  cadre::thread_pool pool{{.threads = 2}};
  cadre::future<void> grandchild;
  auto grandparent = pool.submit([&] {
    std::weak_ptr<int> result;
    auto parent = pool.submit([&] {
      grandchild = held->submit([] {});
      auto made = std::make_shared<int>(1);
      result = made;
      return made;
    });
    parent.wait();
    parent = {};
    while (!result.expired()) std::this_thread::yield();  // a hang here is the failure
    gone.count_down();
    cancel_test::run_until_stopped();
  });
  gone.wait();
  CHECK(grandparent.cancel());
  CHECK(grandchild.ready());
  CHECK(cancel_test::was_cancelled(grandchild));
  grandparent.get();
}

TEST_CASE("an error that nobody asks for is told while what its task submitted goes on", "[cancel]") {
  cancel_test::held_pool held(1);
  std::latch told{1};
  cadre::future<void> child;
  cadre::thread_pool pool{
      {.threads = 1, .on_unobserved_error = [&](const cadre::unobserved_error&) { told.count_down(); }}};
  static_cast<void>(pool.submit([&] {
    child = held->submit([] {});
    throw std::runtime_error("nobody asks");
  }));
  told.wait();
  CHECK_FALSE(child.ready());
  held.release();
  child.get();
}

TEST_CASE("a task that is cancelled while it begins or ends has one outcome", "[cancel]") {
  cadre::thread_pool pool{{.threads = 2}};
  for (int round = 0; round < 5000; ++round) {
    std::atomic<int> runs{0};
    const auto held = std::make_shared<int>(0);
    auto f = pool.submit([&runs, held] { return ++runs; });
    for (int spin = round % 64 * 8; spin > 0; --spin) std::atomic_signal_fence(std::memory_order_seq_cst);
    while (round % 64 == 0 && runs == 0)
      std::this_thread::yield();  // sometimes it has begun, however busy the machine is
    f.cancel();
    f.wait();
    REQUIRE(held.use_count() == 1);
    REQUIRE(runs == (cancel_test::was_cancelled(f) ? 0 : 1));
  }
}

TEST_CASE("many may cancel one task at once", "[cancel]") {
  cancel_test::held_pool pool(1);
  for (int round = 0; round < 200; ++round) {
    const auto held = std::make_shared<int>(0);
    auto f = pool->submit([held] { return 1; });
    std::latch begin{3};
    {
      std::vector<std::jthread> threads;
      for (int t = 0; t < 3; ++t)
        threads.emplace_back([&] {
          begin.arrive_and_wait();
          f.cancel();
        });
    }
    CHECK(f.ready());
    CHECK(held.use_count() == 1);
    CHECK(cancel_test::was_cancelled(f));
  }
}

TEST_CASE("a dropped future neither cancels its task nor reports that it was cancelled", "[cancel]") {
  std::atomic<int> reports{0};
  std::atomic<int> ran{0};
  {
    cancel_test::held_pool pool(1, {.on_unobserved_error = [&](const cadre::unobserved_error&) { ++reports; }});
    static_cast<void>(pool->submit([&] { ++ran; }));
    pool->submit([&] { ++ran; }).cancel();
  }
  CHECK(ran == 1);
  CHECK(reports == 0);
}

TEST_CASE("a continuation may be cancelled before its time, without the task before it", "[cancel]") {
  cancel_test::held_pool pool(1);
  const auto here = std::source_location::current();
  auto first = pool->submit([] { return 1; }).then([](int x) { return x + 1; });
  auto second = std::move(first).then([](int x) { return x + 1; });
  CHECK(second.cancel());
  CHECK(second.ready());
  CHECK_THROWS_WITH(second.get(), cancel_test::cancelled("a task submitted at " + cancel_test::at(here, 2)));
}

TEST_CASE("the continuation of a cancelled task gets its error", "[cancel]") {
  cancel_test::held_pool pool(1);
  auto task = pool->submit([] { return 1; });
  task.cancel();
  auto value = std::move(task).on_error([](std::exception_ptr e) {
    try {
      std::rethrow_exception(e);
    } catch (const cadre::task_cancelled&) {
      return 8;
    }
  });
  pool.release();
  CHECK(value.get() == 8);
}

TEST_CASE("who cancels a when_all cancels its parts", "[cancel]") {
  cancel_test::held_pool pool(1);
  std::atomic<int> ran{0};
  std::vector<cadre::future<void>> parts;
  for (int i = 0; i < 5; ++i) parts.push_back(pool->submit([&] { ++ran; }));
  auto all = cadre::when_all(std::move(parts));
  auto pair = cadre::when_all(pool->submit([&] { ++ran; }), pool->submit([&] { return ++ran; }));
  CHECK(all.cancel());
  CHECK(pair.cancel());
  CHECK(all.ready());
  CHECK(pair.ready());
  CHECK(cancel_test::was_cancelled(all));
  CHECK(cancel_test::was_cancelled(pair));
  pool.release();
  pool->submit([] {}).get();
  CHECK(ran == 0);
}

TEST_CASE("who keeps a promise sees that nobody wants it any more", "[cancel]") {
  cadre::promise<int> p;
  auto f = p.get_future();
  CHECK_FALSE(p.stop_requested());
  CHECK(f.cancel());
  CHECK(p.stop_requested());
  CHECK_FALSE(f.ready());
  p.set_value(4);
  CHECK(f.get() == 4);
}

TEST_CASE("a pool that ends by cancelling runs nothing more and asks what runs to stop", "[cancel]") {
  std::atomic<int> ran{0};
  std::atomic<int> reports{0};
  std::vector<cadre::future<void>> queued;
  cadre::future<bool> running[2];
  cadre::future<void> born_late;
  {
    std::latch started{2};
    std::atomic<bool> all_queued{false};
    // They hold their threads until the others have been cancelled: a thread set free earlier may begin one of them.
    const auto runs = [&] {
      started.count_down();
      while (!all_queued.load()) std::this_thread::yield();
      cancel_test::run_until_stopped();
      for (const auto& f : queued)
        while (!f.ready()) std::this_thread::yield();
    };
    cadre::thread_pool pool{{.threads = 2,
                             .on_unobserved_error = [&](const cadre::unobserved_error&) { ++reports; },
                             .at_end = cadre::at_end::cancel}};
    running[0] = pool.submit([&] {
      runs();
      born_late = pool.submit([&] { ++ran; });
      return true;
    });
    running[1] = pool.submit([&] {
      runs();
      return true;
    });
    started.wait();
    for (int i = 0; i < 100; ++i) queued.push_back(pool.submit([&] { ++ran; }));
    all_queued = true;
  }
  for (auto& f : running) CHECK(f.get());
  for (auto& f : queued) {
    REQUIRE(f.ready());
    CHECK(cancel_test::was_cancelled(f));
  }
  CHECK(cancel_test::was_cancelled(born_late));
  CHECK(ran == 0);
  CHECK(reports == 0);
}

TEST_CASE("a pool that ends by cancelling ends the waits of its tasks", "[cancel]") {
  std::atomic<int> cancelled{0};
  for (int round = 0; round < 50; ++round) {
    std::latch started{1};
    cadre::thread_pool pool{{.threads = 2, .at_end = cadre::at_end::cancel}};
    pool.post([&] {
      std::vector<cadre::future<int>> children;
      for (int i = 0; i < 20; ++i) children.push_back(pool.submit([i] { return i; }));
      started.count_down();
      for (auto& c : children) cancelled += cancel_test::was_cancelled(c);
    });
    started.wait();
  }
  CHECK(cancelled <= 50 * 20);
}

TEST_CASE("a pool that ends by cancelling leaves the tasks of others alone", "[cancel]") {
  cancel_test::held_pool other(1);
  auto f = other->submit([] { return 2; });
  { cadre::thread_pool pool{{.threads = 1, .at_end = cadre::at_end::cancel}}; }
  other.release();
  CHECK(f.get() == 2);
}
