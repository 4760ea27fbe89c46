#include "model.hpp"

namespace arrivals_model {

using cadre::detail::task;

// Calls of an actor as its cell handles them: who finds the arrivals closed opens them, and takes until they can be closed.
struct fixture {
  cadre::detail::arrivals in;
  explore::model_mutex mutex;
  model::item items[3];
  int taken[3] = {};
  bool in_order = true;  // 0 before 1

  void take(const task* t) {
    const auto number = static_cast<std::size_t>(static_cast<const model::item*>(t) - items);
    ++taken[number];
    if (number == 0 && taken[1] != 0) in_order = false;
  }
  void call(std::size_t i) {
    if (in.push(1, items[i])) return;
    const std::lock_guard lock(mutex);
    in.open(1);
    take(&items[i]);
    while (!in.close())
      if (const task* const t = in.pop())
        take(t);
      else
        explore::explorer::current()->yield();  // a push is not over
  }
  void check() {
    explore::require(in.close() && in.pop() == nullptr, "somebody left what had arrived");
    for (const int t : taken) explore::require(t == 1, "a call was lost, or taken twice");
  }
};

void called_by_two() {
  fixture f;
  explore::together(
      [&] {
        f.call(0);
        f.call(1);
      },
      [&] { f.call(2); });
  f.check();
  explore::require(f.in_order, "two calls of one thread were taken out of order");
}
// Two push while a third takes.
void called_by_three() {
  fixture f;
  explore::together([&] { f.call(0); }, [&] { f.call(1); }, [&] { f.call(2); });
  f.check();
}

}  // namespace arrivals_model

TEST_CASE("in every order calls that arrive are taken once and in order", "[model]") {
  for (const bool buffers : {false, true}) {
    const auto r = model::every_order({.all = true, .store_buffers = buffers}, arrivals_model::called_by_two);
    CHECK(r.failure.empty());
    CHECK(r.runs > 100);
  }
}

TEST_CASE("calls of three threads are taken once while who takes them ends", "[model]") {
  for (const bool buffers : {false, true}) {
    const auto r = model::every_order({.budget = 3, .store_buffers = buffers}, arrivals_model::called_by_three);
    CHECK(r.failure.empty());
    CHECK(r.runs > 100);
  }
}

TEST_CASE("the explorer finds that a call must arrive by one exchange", "[model]") {
  explore::settings s{.all = true};
  s.broken.torn_updates = true;
  const auto r = model::every_order(s, arrivals_model::called_by_two);
  CHECK_FALSE(r.failure.empty());
}
