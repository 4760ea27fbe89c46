// What only happens when a rank is stopped at a bad place: the meeting of ranks by hand, one side of it at a time.
#include "catch.hpp"

#include <cadre/comm/detail/member.hpp>
#include <cadre/comm/detail/thread_group.hpp>

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <string>
#include <string_view>
#include <thread>

namespace member_tests {

using namespace std::chrono_literals;
namespace detail = cadre::detail;
using member = detail::member<detail::thread_peers>;

constexpr std::size_t page = 4096;
char* slow_page = nullptr;
std::atomic<bool> stopped{false};

// Touching the page takes 200 ms: a writer that reads from it is stopped there for as long.
void make_slow(int) {
  stopped = true;
  ::usleep(200'000);
  ::mprotect(slow_page, page, PROT_READ | PROT_WRITE);
}

}  // namespace member_tests

TEST_CASE("a rank learns why the communicator broke even where the peer that says so is stopped while it writes",
          "[comm]") {
  using namespace member_tests;
  slow_page = static_cast<char*>(::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(slow_page != MAP_FAILED);
  constexpr std::string_view why = "rank 1 threw: the disk is full";
  why.copy(slow_page, why.size());
  ::mprotect(slow_page, page, PROT_NONE);
  struct sigaction slow {
  }, before{};
  slow.sa_handler = make_slow;
  ::sigaction(SIGSEGV, &slow, &before);

  detail::thread_group group(2);
  std::thread writer([&] { group.abort(std::string_view(slow_page, why.size())); });
  while (!stopped) std::this_thread::yield();
  CHECK_FALSE(group.block().break_with(detail::break_reason::aborted, 0, "another reason, too late"));
  std::string text;
  try {
    group.block().throw_broken({.sequence = 7});
  } catch (const cadre::communicator_aborted& error) {
    text = error.what();
  }
  writer.join();
  ::sigaction(SIGSEGV, &before, nullptr);
  ::munmap(slow_page, page);
  CHECK(text == "[cadre.comm.402] barrier #7: the communicator is broken: rank 1 threw: the disk is full");
}

TEST_CASE("a meeting to which all have come is complete though the last one was stopped before it said so", "[comm]") {
  using namespace member_tests;
  detail::thread_group group(2);
  member rank_0(group.block(), group.peers(), 0);
  // All that rank 1 does in a barrier before it opens the gate.
  detail::rank_slot& slot = group.block().slots()[1];
  slot.calls[1] = {.sequence = 1};
  std::atomic<bool> looks{false}, over{false};
  std::thread rank_1([&] {
    looks = true;
    while (group.block().sleepers.load() == 0 && !over) std::this_thread::yield();
    slot.arrived.store(1);
  });
  while (!looks) std::this_thread::yield();
  rank_0.begin({}, 1s);
  CHECK_NOTHROW(rank_0.agree());
  over = true;
  rank_1.join();
}

TEST_CASE("a timeout names the ranks that did not come and what they called last", "[comm]") {
  using namespace member_tests;
  detail::thread_group group(9);
  member waiting(group.block(), group.peers(), 0), busy(group.block(), group.peers(), 2);
  busy.begin({.what = detail::operation::broadcast, .root = 0, .count = 8}, 1s);
  std::string text;
  try {
    waiting.begin({}, 20ms);
    waiting.agree();
  } catch (const cadre::communicator_timeout& error) {
    text = error.what();
  }
  CHECK(text ==
        "[cadre.comm.401] rank 0 waited 20 ms in barrier #1; not arrived: rank 1 (last call: none), rank 2 (last call: "
        "broadcast #1), rank 3 (last call: none), rank 4 (last call: none), rank 5 (last call: none), rank 6 (last "
        "call: none) and 2 more. A rank that fails must abort the communicator; a slow one needs a longer set_timeout");
}
