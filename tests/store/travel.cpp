#include "catch.hpp"
#include "sanitizers.hpp"

#include <cadre/store.hpp>

#include <cereal/types/map.hpp>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace travel_test {

using namespace std::chrono_literals;
using numbers = std::vector<int>;
using ref = cadre::object_ref<numbers>;
using message = std::vector<std::byte>;

constexpr std::size_t MiB = std::size_t{1} << 20;

std::string unique_name(const char* what) { return "cadre-test-" + std::to_string(::getpid()) + what; }
cadre::object_store open(const std::string& name) {
  return cadre::object_store::open({.name = name, .capacity = 4 * MiB, .max_objects = 512, .put_timeout = 1s});
}
template <class... Values>
message write(cadre::ref_sender& sender, const Values&... values) {
  cadre::byte_buffer buffer;
  cadre::output_archive archive(buffer, &sender);
  archive(values...);
  return buffer.to_vector();
}
template <class... Values>
void read(cadre::object_store& store, const message& bytes, Values&... values) {
  cadre::ref_receiver receiver(store);
  cadre::input_archive archive(bytes, &receiver);
  archive(values...);
  archive.expect_end();
}
bool is_empty(cadre::object_store& store) {
  const cadre::store_stats s = store.stats();
  return s.objects == 0 && s.used == 0;
}
int first_of(cadre::object_store& store, const ref& r) {
  const auto v = store.get(r);
  return (*v)[0];
}

TEST_CASE("A ref that was sent holds its object until the receiver lets go") {
  const std::string name = unique_name("holds");
  auto sender_side = open(name), receiver_side = open(name);  // as two processes
  ref mine = sender_side.put(numbers{7, 8});
  message sent;
  {
    cadre::ref_sender sender(sender_side, receiver_side.process());
    sent = write(sender, mine);
    sender.sent();
  }
  mine = ref();
  CHECK(sender_side.stats().objects == 1);
  ref theirs;
  read(receiver_side, sent, theirs);
  CHECK(first_of(receiver_side, theirs) == 7);
  ref copy = std::exchange(theirs, ref());
  CHECK(sender_side.stats().objects == 1);
  theirs = copy;
  CHECK(theirs == copy);
  copy = ref();
  theirs = ref();
  CHECK(is_empty(sender_side));
}

TEST_CASE("A message that is not sent, or taken back, holds nothing and cannot be read") {
  auto store = open(unique_name("back"));
  message bytes;
  const char* const gone =
      "[cadre.store.301] an object that was sent is gone: its sender has died, or the message was read before";
  {
    cadre::ref_sender sender(store);
    bytes = write(sender, store.put(numbers{1}), store.put(numbers{2}));
    CHECK(store.stats().objects == 2);
    SECTION("taken back") {
      sender.take_back();
      CHECK(is_empty(store));
    }
    SECTION("not sent") {}
  }
  CHECK(is_empty(store));
  ref a, b;
  CHECK_THROWS_WITH(read(store, bytes, a, b), gone);
  CHECK_FALSE(a);

  const ref again = store.put(numbers{3});  // in the same ticket as before
  cadre::ref_sender sender(store);
  const message next = write(sender, again, again);
  CHECK_THROWS_WITH(read(store, bytes, a, b), gone);
  read(store, next, a, b);
  CHECK((a == again && b == again));
}

TEST_CASE("A message is read once, and only by whom it is for") {
  const std::string name = unique_name("once");
  auto from = open(name), to = open(name), other = open(name);
  ref got;
  {
    cadre::ref_sender sender(from, to.process());
    const message sent = write(sender, from.put(numbers{5}));
    sender.sent();
    CHECK_THROWS_AS(read(other, sent, got), cadre::object_gone);
    read(to, sent, got);
    CHECK(first_of(to, got) == 5);
    for (auto* store : {&to, &from, &other}) {
      ref second;
      CHECK_THROWS_AS(read(*store, sent, second), cadre::object_gone);
    }
    CHECK(first_of(to, got) == 5);
  }
  got = ref();
  CHECK(is_empty(from));
}

TEST_CASE("A ref that is read as one to another type is an error with both names, and holds nothing") {
  auto store = open(unique_name("type"));
  cadre::ref_sender sender(store);
  const message sent = write(sender, store.put(numbers{5}));
  cadre::object_ref<std::string> wrong;
  CHECK_THROWS_WITH(read(store, sent, wrong), "[cadre.store.303] the object was put as '" +
                                                  cadre::type_label<numbers>::get() + "' and is asked for as '" +
                                                  cadre::type_label<std::string>::get() +
                                                  "'; ask for it as what it is");
  wrong = {};
  CHECK(is_empty(store));
}

TEST_CASE("A ref does not travel to another store, nor without a sender and a receiver") {
  auto store = open(unique_name("here")), other = open(unique_name("there"));
  const ref mine = store.put(numbers{1});
  cadre::ref_sender sender(store), foreign(other);
  const message sent = write(sender, mine);
  ref got;
  CHECK_THROWS_WITH(read(other, sent, got),
                    "[cadre.store.314] an object_ref of another store, or of another node's, is read");
  CHECK_THROWS_WITH(write(foreign, mine), "[cadre.store.308] a ref of another store is used");
  CHECK_THROWS_WITH(cadre::to_bytes(mine),
                    "[cadre.store.314] an object_ref is written to what no process of the store will read, such as a "
                    "checkpoint; write the value of the object, or send the ref with a cadre::ref_sender");
  CHECK_THROWS_WITH(cadre::from_bytes(sent, got),
                    "[cadre.store.314] an object_ref is read without a cadre::ref_receiver, which knows the store");
  read(store, sent, got);  // it is still there
  CHECK(got == mine);
}

TEST_CASE("A ref to nothing arrives as such") {
  auto store = open(unique_name("nothing"));
  cadre::ref_sender sender(store);
  const message sent = write(sender, ref());
  ref got = store.put(numbers{1});
  read(store, sent, got);
  CHECK_FALSE(got);
  CHECK(is_empty(store));
}

struct shard {
  std::string title;
  std::map<std::string, ref> parts;
  std::vector<ref> all;
  std::optional<ref> best;
  template <class Archive>
  void serialize(Archive& ar) {
    ar(title, parts, all, best);
  }
};

TEST_CASE("Refs travel inside a user's types, maps and vectors") {
  auto store = open(unique_name("inside"));
  {
    shard made{"s", {{"a", store.put(numbers{1})}, {"b", store.put(numbers{2})}}, {}, store.put(numbers{3})};
    made.all = {made.parts.at("a"), *made.best, ref()};
    cadre::ref_sender sender(store);
    const message sent = write(sender, made);
    sender.sent();
    made = {};
    CHECK(store.stats().objects == 3);
    shard got;
    read(store, sent, got);
    CHECK(got.title == "s");
    CHECK(first_of(store, got.parts.at("b")) == 2);
    REQUIRE(got.all.size() == 3);
    CHECK(got.all[0] == got.parts.at("a"));
    CHECK(got.all[1] == got.best);
    CHECK_FALSE(got.all[2]);
  }
  CHECK(is_empty(store));
}

TEST_CASE("What a process has on its way goes with it, and what is on its way to it too") {
  const std::string name = unique_name("gone");
  auto here = open(name);
  std::optional<cadre::object_store> there = open(name);
  message from_there, to_there, to_any;
  {
    cadre::ref_sender sender(*there, here.process());
    from_there = write(sender, there->put(numbers{1}));
    sender.sent();
  }
  cadre::ref_sender any(here);
  {
    cadre::ref_sender sender(here, there->process());
    to_there = write(sender, here.put(numbers{2}));
    sender.sent();
    to_any = write(any, here.put(numbers{3}));
  }
  CHECK(here.stats().objects == 3);
  there.reset();
  CHECK(here.stats().objects == 1);
  ref got;
  CHECK_THROWS_AS(read(here, from_there, got), cadre::object_gone);
  CHECK_THROWS_AS(read(here, to_there, got), cadre::object_gone);
  any.take_back();
  CHECK(is_empty(here));
}

#if !CADRE_TESTS_WITH_TSAN  // TSan's runtime does not support threads in a child that was forked by a program with threads

/// A child, a pipe to it and one from it. All that is written is one message.
class child {
 public:
  struct pipes {
    int in, out;
    [[nodiscard]] message hear() const {
      std::uint64_t size = 0;
      if (!get(&size, sizeof size)) return {};
      message m(size);
      return get(m.data(), size) ? m : message();
    }
    bool say(const message& m) const {
      const std::uint64_t size = m.size();
      return ::write(out, &size, sizeof size) == sizeof size &&
             ::write(out, m.data(), size) == static_cast<ssize_t>(size);
    }

   private:
    bool get(void* to, std::size_t n) const {
      for (auto* at = static_cast<char*>(to); n != 0;) {
        const ssize_t got = ::read(in, at, n);
        if (got <= 0) return false;
        at += got;
        n -= static_cast<std::size_t>(got);
      }
      return true;
    }
  };

  template <class Body>
  explicit child(Body body) {
    std::array<int, 2> up{}, down{};
    REQUIRE(::pipe2(up.data(), O_CLOEXEC) == 0);
    REQUIRE(::pipe2(down.data(), O_CLOEXEC) == 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(up[0]);
      ::close(down[1]);
      int code = 99;
      try {
        code = body(pipes{down[0], up[1]});
      } catch (const std::exception& e) {
        std::fprintf(stderr, "%s\n", e.what());
      }
      ::_exit(code);
    }
    ::close(up[1]);
    ::close(down[0]);
    pipes_ = {up[0], down[1]};
  }
  child(const child&) = delete;
  child& operator=(const child&) = delete;
  ~child() {
    ::close(pipes_.in);
    ::close(pipes_.out);
    if (pid_ > 0) kill();
  }
  [[nodiscard]] const pipes& pipe() const { return pipes_; }
  void kill() {
    ::kill(pid_, SIGKILL);
    wait();
  }
  int wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t pid_ = -1;
  pipes pipes_{};
};

message slot_of(const cadre::object_store& store) { return cadre::to_bytes(store.process()); }

TEST_CASE("A vector of refs travels through a pipe to another process, which holds the objects from then on") {
  const std::string name = unique_name("pipe");
  child other([&](const child::pipes& p) {
    auto store = open(name);
    p.say(slot_of(store));
    std::vector<ref> got;
    read(store, p.hear(), got);
    p.say(cadre::to_bytes(std::uint64_t{got.size()}));
    if (p.hear().empty()) return 1;  // until the sender has let go
    for (int k = 0; k < 20; ++k)
      if (first_of(store, got[static_cast<std::size_t>(k)]) != k) return 2;
    got.clear();
    return 0;
  });
  auto store = open(name);
  const auto to = cadre::from_bytes<std::uint32_t>(other.pipe().hear());
  std::vector<ref> refs;
  for (int k = 0; k < 20; ++k) refs.push_back(store.put(numbers{k}));
  {
    cadre::ref_sender sender(store, to);
    const message sent = write(sender, refs);
    REQUIRE(other.pipe().say(sent));
    sender.sent();
  }
  REQUIRE(cadre::from_bytes<std::uint64_t>(other.pipe().hear()) == 20);
  refs.clear();
  CHECK(store.stats().objects == 20);
  REQUIRE(other.pipe().say(cadre::to_bytes(1)));
  CHECK(other.wait() == 0);
  CHECK(is_empty(store));
}

TEST_CASE("A sender that is killed before its message is read takes what it sent with it") {
  const std::string name = unique_name("sender");
  auto store = open(name);
  child other([&](const child::pipes& p) {
    auto mine = open(name);
    cadre::ref_sender sender(mine, cadre::from_bytes<std::uint32_t>(p.hear()));
    p.say(write(sender, mine.put(numbers{1, 2, 3})));
    sender.sent();
    static_cast<void>(p.hear());
    return 0;
  });
  REQUIRE(other.pipe().say(slot_of(store)));
  const message sent = other.pipe().hear();
  REQUIRE_FALSE(sent.empty());
  CHECK(store.stats().objects == 1);
  other.kill();
  CHECK(is_empty(store));
  ref got;
  CHECK_THROWS_AS(read(store, sent, got), cadre::object_gone);
}

TEST_CASE("What was sent to a process that is killed is freed; what was sent to anybody stays until it is taken back") {
  const std::string name = unique_name("receiver");
  auto store = open(name);
  child other([&](const child::pipes& p) {
    auto mine = open(name);
    p.say(slot_of(mine));
    static_cast<void>(p.hear());
    return 0;
  });
  const auto to = cadre::from_bytes<std::uint32_t>(other.pipe().hear());
  cadre::ref_sender known(store, to), any(store);
  static_cast<void>(write(known, store.put(numbers{1})));
  static_cast<void>(write(any, store.put(numbers{2})));
  known.sent();
  CHECK(store.stats().objects == 2);
  other.kill();
  CHECK(store.stats().objects == 1);
  any.take_back();
  CHECK(is_empty(store));
}

TEST_CASE("Processes that are killed at random instants while refs travel leave nothing behind") {
  const std::string name = unique_name("random");
  auto store = open(name);
  std::uint64_t x = 42;
  for (int round = 0; round < 60; ++round) {
    child other([&](const child::pipes& p) {  // sends back what it gets, and something of its own
      auto mine = open(name);
      p.say(slot_of(mine));
      cadre::ref_sender sender(mine);
      for (int n = 0;; ++n) {
        std::vector<ref> got;
        read(mine, p.hear(), got);
        got.push_back(mine.put(numbers{n}));
        if (!p.say(write(sender, got))) return 0;
        sender.sent();
      }
    });
    const auto to = cadre::from_bytes<std::uint32_t>(other.pipe().hear());
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    const std::uint64_t exchanges = x % 8;
    cadre::ref_sender sender(store, to);
    std::vector<ref> mine(3, store.put(numbers{1000 + round}));
    for (std::uint64_t n = 0; n < exchanges; ++n) {
      REQUIRE(other.pipe().say(write(sender, mine)));
      sender.sent();
      std::vector<ref> got;
      read(store, other.pipe().hear(), got);
      REQUIRE(got.size() == 4);
      CHECK(first_of(store, got[0]) == 1000 + round);
      CHECK(first_of(store, got[3]) == static_cast<int>(n));
    }
    if (x / 8 % 2 == 0) {  // in the middle of an exchange
      REQUIRE(other.pipe().say(write(sender, mine)));
      sender.sent();
      for (std::uint64_t spin = x / 16 % 200'000; spin != 0; --spin) asm volatile("");
    }
    other.kill();
    CHECK(first_of(store, mine[0]) == 1000 + round);
    mine.clear();
    REQUIRE(is_empty(store));
    CHECK(store.stats().processes == 1);
  }
}
#endif

}  // namespace travel_test
