#include "catch.hpp"

#include <cadre/async.hpp>
#include <cadre/async/channel.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

TEST_CASE("values arrive in the order in which they were sent, and the end after the last", "[channel]") {
  cadre::channel<int> c{4};
  std::thread sender([&] {
    for (int i = 0; i < 10'000; ++i) c.send(i);
    c.close();
  });
  int expected = 0;
  for (int& value : c) {
    REQUIRE(value == expected);
    ++expected;
  }
  CHECK(expected == 10'000);
  CHECK(c.is_over());
  CHECK_FALSE(c.receive().has_value());
  sender.join();
}

TEST_CASE("a full channel makes its sender wait", "[channel]") {
  cadre::channel<std::unique_ptr<int>> c{2};
  CHECK(c.capacity() == 2);
  CHECK(c.try_send(std::make_unique<int>(1)));
  CHECK(c.try_send(std::make_unique<int>(2)));
  auto third = std::make_unique<int>(3);
  CHECK_FALSE(c.try_send(third));
  CHECK_FALSE(c.send_for(third, 10ms));
  REQUIRE(third);  // what could not be sent is still here
  CHECK(c.size() == 2);
  CHECK(**c.try_receive() == 1);
  CHECK(c.send_for(third, 10ms));
  CHECK_FALSE(third);
}

TEST_CASE("an empty channel makes its receiver wait, for as long as it likes", "[channel]") {
  cadre::channel<int> c{1};
  CHECK_FALSE(c.try_receive());
  CHECK_FALSE(c.receive_for(10ms));
  CHECK_FALSE(c.is_over());
  c.send(5);
  CHECK(c.receive_for(10ms) == 5);
}

TEST_CASE("a closed channel refuses values, with those who wait to send, and gives out what it has", "[channel]") {
  cadre::channel<int> c{1};
  c.send(1);
  std::atomic<bool> refused{false};
  std::thread waits([&] {
    try {
      c.send(2);
    } catch (const cadre::channel_closed& e) {
      refused =
          std::string(e.what()) ==
          "[cadre.async.213] this channel is closed, so nobody will receive what is sent; close it when all have sent";
    }
  });
  c.close();
  c.close(std::make_exception_ptr(std::logic_error("too late")));
  waits.join();
  CHECK(refused);
  CHECK(c.receive() == 1);
  CHECK_FALSE(c.receive().has_value());
  CHECK_THROWS_AS(c.try_send(3), cadre::channel_closed);
  try {
    cadre::channel<int> none{0};
    FAIL("it was made");
  } catch (const cadre::bad_channel& e) {
    CHECK(std::string(e.what()) == "[cadre.async.212] a channel of capacity 0 could hold nothing; give it 1 or more");
  }
}

TEST_CASE("an error that ends the stream reaches every receiver with its type, after the values", "[channel]") {
  cadre::channel<int> c{2};
  c.send(1);
  c.close(std::make_exception_ptr(std::out_of_range("camera unplugged")));
  CHECK(c.receive() == 1);
  CHECK_THROWS_AS(c.receive(), std::out_of_range);
  CHECK_THROWS_AS(c.receive(), std::out_of_range);
}

TEST_CASE("sender and receiver may be tasks of a pool of one thread", "[channel]") {
  for (const std::size_t threads : {1u, 2u}) {
    cadre::thread_pool pool{{.threads = threads}};
    for (int round = 0; round < 20; ++round) {
      cadre::channel<int> numbers{1}, squares{1};
      auto sends = pool.submit([&] {
        for (int i = 1; i <= 50; ++i) numbers.send(i);
        numbers.close();
      });
      auto between = pool.submit([&] {
        for (int& n : numbers) squares.send(n * n);
        squares.close();
      });
      auto sum = pool.submit([&] {
        int s = 0;
        for (int& n : squares) s += n;
        return s;
      });
      REQUIRE(sum.wait_for(60s));
      CHECK(sum.get() == 42'925);
      sends.get();
      between.get();
    }
    CHECK(pool.size() == threads);
  }
}

TEST_CASE("many senders and receivers lose nothing and get nothing twice", "[channel]") {
  cadre::channel<int> c{3};
  constexpr int each = 2000, senders = 3, receivers = 3;
  std::vector<std::atomic<int>> seen(each * senders);
  std::vector<std::thread> threads;
  std::atomic<int> still_sending{senders};
  for (int s = 0; s < senders; ++s)
    threads.emplace_back([&, s] {
      for (int i = 0; i < each; ++i) c.send(s * each + i);
      if (--still_sending == 0) c.close();
    });
  for (int r = 0; r < receivers; ++r)
    threads.emplace_back([&] {
      for (int& value : c) ++seen[static_cast<std::size_t>(value)];
    });
  for (auto& t : threads) t.join();
  int wrong = 0;
  for (auto& n : seen) wrong += n != 1;
  CHECK(wrong == 0);
}
