#include "catch.hpp"

#include <cadre/observe/events.hpp>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

TEST_CASE("events are not recorded until they are enabled") {
  cadre::mark_event("test", "nothing");
  { const cadre::event_span span("test", "nothing"); }
  CHECK_FALSE(cadre::events_enabled());
  CHECK(cadre::recent_events().empty());
  CHECK(cadre::disable_events().empty());
}

TEST_CASE("spans and instants carry time, thread and rank, in the order of their beginning") {
  cadre::enable_events(64);
  const auto before = std::chrono::steady_clock::now().time_since_epoch();
  {
    const cadre::event_span outer("train", "epoch");
    cadre::mark_event("train", "bucket ready");
    std::thread([] {
      const cadre::rank_scope as(4);
      const cadre::event_span inner("comm", "all_reduce");
    }).join();
  }
  const std::vector<cadre::event> events = cadre::disable_events();
  CHECK_FALSE(cadre::events_enabled());
  REQUIRE(events.size() == 3);
  CHECK(events[0].name == "epoch");
  CHECK(events[0].category == "train");
  CHECK(events[0].begin >= before);
  CHECK_FALSE(events[0].instant);
  CHECK(events[1].name == "bucket ready");
  CHECK(events[1].instant);
  CHECK(events[1].duration.count() == 0);
  CHECK(events[2].name == "all_reduce");
  CHECK(events[2].rank == 4);
  CHECK(events[2].thread != events[0].thread);
  CHECK(events[0].begin + events[0].duration >= events[2].begin + events[2].duration);
}

TEST_CASE("a span that began before events were enabled is not recorded, one that outlives them does no harm") {
  {
    const cadre::event_span early("test", "early");
    cadre::enable_events(64);
  }
  CHECK(cadre::recent_events().empty());
  {
    const cadre::event_span late("test", "late");
    cadre::disable_events();
  }
  CHECK(cadre::recent_events().empty());
}

TEST_CASE("enabling again begins with nothing") {
  cadre::enable_events(64);
  cadre::mark_event("test", "old");
  cadre::disable_events();
  cadre::enable_events(64);
  cadre::mark_event("test", "new");
  const auto events = cadre::disable_events();
  REQUIRE(events.size() == 1);
  CHECK(events[0].name == "new");
}

TEST_CASE("a ring keeps the newest events and cuts long names") {
  cadre::event_ring ring(5);
  CHECK(ring.capacity() == 8);
  for (int i = 0; i < 20; ++i)
    ring.record("c", std::to_string(i), std::chrono::nanoseconds(i), std::chrono::nanoseconds(1));
  auto events = ring.snapshot();
  REQUIRE(events.size() == 8);
  CHECK(events.front().name == "12");
  CHECK(events.back().name == "19");
  ring.clear();
  CHECK(ring.snapshot().empty());
  ring.record(std::string(100, 'c'), std::string(100, 'n'), std::chrono::nanoseconds(1), std::chrono::nanoseconds(-1));
  events = ring.snapshot();
  REQUIRE(events.size() == 1);
  CHECK(events[0].category == std::string(16, 'c'));
  CHECK(events[0].name == std::string(56, 'n'));
}

TEST_CASE("no snapshot sees an event that is half one thread's and half another's") {
  cadre::event_ring ring(16);  // small, so that writers lap one another
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers;
  for (int t = 1; t <= 3; ++t)
    writers.emplace_back([&, t] {
      const cadre::rank_scope as(t);
      const std::string name(static_cast<std::size_t>(40 + t), static_cast<char>('a' + t));
      while (!stop.load()) ring.record(name, name, std::chrono::nanoseconds(t), std::chrono::nanoseconds(t));
    });
  bool whole = true;
  std::size_t seen = 0;
  for (int round = 0; round < 300 || seen == 0; ++round)
    for (const cadre::event& e : ring.snapshot()) {
      ++seen;
      const char expected = static_cast<char>('a' + e.rank);
      whole = whole && e.begin.count() == e.rank && e.duration.count() == e.rank &&
              e.name == std::string(static_cast<std::size_t>(40 + e.rank), expected) &&
              e.category == std::string(16, expected);
    }
  stop.store(true);
  for (std::thread& t : writers) t.join();
  CHECK(whole);
}
