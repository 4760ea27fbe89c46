#include "catch.hpp"

#include <cadre/observe/log.hpp>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace test_log {

// Every test ends in silence, whatever happens in it.
struct silence {
  ~silence() { cadre::set_log_sink(nullptr); }
};

}  // namespace test_log

TEST_CASE("without a sink nothing is logged and no message is made") {
  CHECK_FALSE(cadre::log_enabled(cadre::log_level::error));
  bool made = false;
  cadre::log(cadre::log_level::error, "test", [&] {
    made = true;
    return std::string("message");
  });
  cadre::log(cadre::log_level::error, "test", "message");
  CHECK_FALSE(made);
}

TEST_CASE("a sink hears level, rank, category, message, thread and time") {
  const test_log::silence at_end;
  std::vector<std::string> heard;
  cadre::log_record last{};
  cadre::set_log_sink([&](const cadre::log_record& r) {
    heard.push_back(std::string(cadre::to_string(r.level)) + ' ' + std::to_string(r.rank) + ' ' +
                    std::string(r.category) + ": " + std::string(r.message));
    last = r;
  });
  const auto before = std::chrono::system_clock::now();
  cadre::log(cadre::log_level::warning, "pool", "slow");
  {
    const cadre::rank_scope as(3);
    cadre::log(cadre::log_level::error, "train", [] { return std::string("lost"); });
    const cadre::rank_scope inner(5);
    CHECK(cadre::current_rank() == 5);
  }
  CHECK(cadre::current_rank() == 0);
  CHECK(heard == std::vector<std::string>{"warning 0 pool: slow", "error 3 train: lost"});
  CHECK(last.time >= before);
  CHECK(last.thread == static_cast<std::uint32_t>(::gettid()));
}

TEST_CASE("the rank of the process is that of threads without one of their own") {
  cadre::set_process_rank(2);
  int seen = -1;
  std::thread([&] { seen = cadre::current_rank(); }).join();
  cadre::set_process_rank(0);
  CHECK(seen == 2);
}

TEST_CASE("records below the level asked for are not heard") {
  const test_log::silence at_end;
  int heard = 0;
  cadre::set_log_sink([&](const cadre::log_record&) { ++heard; });
  cadre::log(cadre::log_level::debug, "test", "no");
  CHECK(heard == 0);
  cadre::log(cadre::log_level::info, "test", "yes");
  CHECK(heard == 1);
  cadre::set_log_sink([&](const cadre::log_record&) { ++heard; }, cadre::log_level::trace);
  cadre::log(cadre::log_level::trace, "test", "yes");
  CHECK(heard == 2);
}

TEST_CASE("a sink or a message that throws does not break the caller, and the next record is heard") {
  const test_log::silence at_end;
  int calls = 0;
  cadre::set_log_sink([&](const cadre::log_record&) {
    if (++calls == 1) throw std::runtime_error("sink");
  });
  cadre::log(cadre::log_level::info, "test", "first");
  cadre::log(cadre::log_level::info, "test", []() -> std::string { throw std::runtime_error("message"); });
  cadre::log(cadre::log_level::info, "test", "second");
  CHECK(calls == 2);
}

TEST_CASE("what a sink logs itself is dropped instead of recursing") {
  const test_log::silence at_end;
  int calls = 0;
  cadre::set_log_sink([&](const cadre::log_record&) {
    ++calls;
    cadre::log(cadre::log_level::error, "sink", "again");
  });
  cadre::log(cadre::log_level::info, "test", "once");
  CHECK(calls == 1);
}

TEST_CASE("a sink may replace itself") {
  const test_log::silence at_end;
  int first = 0, second = 0;
  auto life = std::make_shared<int>(0);
  cadre::set_log_sink([&first, &second, life](const cadre::log_record&) {
    ++first;
    cadre::set_log_sink([&second](const cadre::log_record&) { ++second; });
    *life += first;  // its captures live until it returns
  });
  cadre::log(cadre::log_level::info, "test", "one");
  cadre::log(cadre::log_level::info, "test", "two");
  CHECK(first == 1);
  CHECK(second == 1);
  CHECK(life.use_count() == 1);
}

TEST_CASE("a sink can be moved in, and is destroyed when it is replaced") {
  const test_log::silence at_end;
  auto life = std::make_shared<int>(0);
  const std::weak_ptr<int> watch = life;
  cadre::set_log_sink(
      [owned = std::make_unique<std::shared_ptr<int>>(std::move(life))](const cadre::log_record&) { ++**owned; });
  cadre::log(cadre::log_level::info, "test", "one");
  CHECK(*watch.lock() == 1);
  cadre::set_log_sink(nullptr);
  CHECK(watch.expired());
}

TEST_CASE(
    "many threads log while the sink is swapped; no sink runs twice at once, or runs or lives after it was replaced") {
  const test_log::silence at_end;
  std::atomic<bool> stop{false};
  std::atomic<int> inside{0}, overlaps{0}, late{0}, kept{0};
  std::vector<std::thread> writers;
  for (int i = 0; i < 3; ++i)
    writers.emplace_back([&] {
      while (!stop.load()) cadre::log(cadre::log_level::info, "test", "x");
    });
  for (int round = 0; round < 200; ++round) {
    auto alive = std::make_shared<std::atomic<bool>>(true);
    cadre::set_log_sink([&, alive](const cadre::log_record&) {
      if (inside.fetch_add(1) != 0) overlaps.fetch_add(1);
      if (!alive->load()) late.fetch_add(1);
      inside.fetch_sub(1);
    });
    cadre::log(cadre::log_level::info, "test", "y");
    cadre::set_log_sink(nullptr);
    alive->store(false);
    if (alive.use_count() != 1) kept.fetch_add(1);
  }
  stop.store(true);
  for (std::thread& t : writers) t.join();
  CHECK(overlaps.load() == 0);
  CHECK(late.load() == 0);
  CHECK(kept.load() == 0);
}
