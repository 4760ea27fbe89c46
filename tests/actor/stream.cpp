#include "catch.hpp"
#include "job.hpp"

#include <cadre/actor.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace stream_test {

using namespace std::chrono_literals;

cadre::remote_options last_rank(cadre::runtime& rt, std::size_t capacity = 64) {
  return {.on = cadre::on_rank(rt.world_size() - 1), .stream_capacity = capacity};
}

void count_to(cadre::stream_writer<int> out, int n) {
  for (int i = 0; i < n; ++i) out.send(i);
}
void count_and_fail(cadre::stream_writer<int> out, int n) {
  for (int i = 0; i < n; ++i) out.send(i);
  throw std::out_of_range("no more numbers");
}
std::atomic<int> sent{0}, ended{0};
int how_many_sent() { return sent; }
int how_many_ended() { return ended; }
void reset() { sent = ended = 0; }
void without_end(cadre::stream_writer<int> out) {
  struct at_end {
    ~at_end() { ++ended; }
  } const here;
  for (int i = 0; !cadre::this_task::stop_requested(); ++i) {
    out.send(i);
    sent = i + 1;
  }
}
void fields(cadre::stream_writer<std::vector<double>> out, int n) {
  for (int i = 0; i < n; ++i) out.send(std::vector<double>(100'000, i));
}
cadre::future<void> slowly(cadre::stream_writer<std::string> out, int n) {
  for (int i = 0; i < n; ++i) {
    out.send(std::string(static_cast<std::size_t>(i), 'x'));
    co_await cadre::this_task::runtime().submit<[] {}>();
  }
}

template <class Done>
void soon(Done&& done) {
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (!done()) {
    REQUIRE(std::chrono::steady_clock::now() < end);
    std::this_thread::sleep_for(1ms);
  }
}

TEST_CASE("The values that a task sends come in order, and then the stream is over", "[stream]") {
  job rt;
  for (const std::size_t capacity : {std::size_t{1}, std::size_t{64}}) {
    auto numbers = rt->submit_stream<&count_to>(last_rank(*rt, capacity), 1000);
    int expected = 0;
    for (const int x : numbers) CHECK(x == expected++);
    CHECK(expected == 1000);
    CHECK(numbers.is_over());
    CHECK_FALSE(numbers.receive());
  }
  auto none = rt->submit_stream<&count_to>(0);
  CHECK_FALSE(none.receive());
}

TEST_CASE("What the task of a stream throws comes behind its values", "[stream]") {
  job rt;
  auto numbers = rt->submit_stream<&count_and_fail>(last_rank(*rt), 10);
  for (int i = 0; i < 10; ++i) CHECK(numbers.receive() == i);
  CHECK_THROWS_WITH(numbers.receive(), "no more numbers");
  auto again = rt->submit_stream<&count_and_fail>(last_rank(*rt), 0);
  CHECK_THROWS_AS(again.receive(), std::out_of_range);
}

TEST_CASE("A task whose receiver does not keep up waits for it", "[stream]") {
  job rt;
  rt->submit<&reset>(last_rank(*rt)).get();
  auto numbers = rt->submit_stream<&without_end>(last_rank(*rt, 4));
  CHECK(numbers.receive() == 0);
  const auto far = [&] { return rt->submit<&how_many_sent>(last_rank(*rt)).get(); };
  soon([&] { return far() >= 5; });
  std::this_thread::sleep_for(20ms);
  CHECK(far() <= 10);  // what lies there, what is on its way, and one in hand
  for (int i = 1; i < 100; ++i) CHECK(numbers.receive() == i);
  std::optional<cadre::stream<int>>(std::move(numbers)).reset();
  soon([&] { return rt->submit<&how_many_ended>(last_rank(*rt)).get() == 1; });
}

TEST_CASE("The task of a stream that nobody wants any more ends", "[stream]") {
  job rt;
  rt->submit<&reset>(last_rank(*rt)).get();
  {
    auto numbers = rt->submit_stream<&without_end>(last_rank(*rt, 2));
    CHECK(numbers.receive() == 0);
    auto moved = std::move(numbers);
    CHECK(moved.receive() == 1);
  }
  soon([&] { return rt->submit<&how_many_ended>(last_rank(*rt)).get() == 1; });
}

TEST_CASE("Streams have values of any size and type that travels, and coroutines send them too", "[stream]") {
  job rt;
  auto large = rt->submit_stream<&fields>(last_rank(*rt, 2), 5);
  for (int i = 0; i < 5; ++i) {
    const auto field = large.receive();
    REQUIRE(field);
    CHECK((field->size() == 100'000 && field->front() == i && field->back() == i));
  }
  CHECK_FALSE(large.receive());
  auto texts = rt->submit_stream<&slowly>(last_rank(*rt), 20);
  std::size_t n = 0;
  for (const std::string& text : texts) CHECK(text.size() == n++);
  CHECK(n == 20);
}

TEST_CASE("A wait for a value may have an end", "[stream]") {
  job rt;
  std::optional<cadre::stream<int>> numbers(rt->submit_stream<&without_end>(last_rank(*rt, 1)));
  soon([&] { return numbers->receive_for(1ms).has_value(); });
  CHECK_FALSE(numbers->is_over());
  numbers.reset();
  CHECK_THROWS_AS(rt->submit_stream<&count_to>({.stream_capacity = 0}, 1), cadre::bad_channel);
}

TEST_CASE("Sender and receiver of a stream may share one thread", "[stream][one process]") {
  cadre::runtime rt({.threads = 1});
  CHECK(rt.pool()
            .submit([&] {
              int sum = 0;
              for (const int x : rt.submit_stream<&count_to>({.stream_capacity = 2}, 100)) sum += x;
              return sum;
            })
            .get() == 4950);
}

}  // namespace stream_test
