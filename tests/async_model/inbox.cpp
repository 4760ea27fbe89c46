#include "model.hpp"

namespace inbox_model {

using cadre::detail::task;
constexpr explore::settings all_orders{.all = true};
constexpr explore::settings buffered{.all = true, .store_buffers = true};

struct fixture {
  cadre::detail::inbox in;
  model::item items[3];
  int taken[3] = {};
  std::size_t last = 0;  // of two that one thread pushed, in their order
  bool in_order = true;

  void push(std::size_t i) { in.push(&items[i]); }
  void take(std::size_t most) {
    task* out[3] = {};
    const std::size_t n = in.take(out, most);
    for (std::size_t i = 0; i < n; ++i) {
      const auto number = static_cast<std::size_t>(static_cast<model::item*>(out[i]) - items);
      ++taken[number];
      if (number == 0 && taken[1] != 0) in_order = false;
    }
  }
  void check() {
    explore::require(in_order, "two of one thread were taken out of order");
    take(3);
    explore::require(in.empty(), "an empty inbox does not say so");
    for (const int t : taken) explore::require(t == 1, "a task was lost, or taken twice");
  }
};

// One thread pushes two, another one, a third takes.
void pushed_and_taken() {
  fixture f;
  explore::together(
      [&] {
        f.push(0);
        f.push(1);
      },
      [&] { f.push(2); }, [&] { f.take(2); });
  f.check();
}

}  // namespace inbox_model

TEST_CASE("in every order what is pushed to an inbox comes out once and in order", "[model]") {
  using namespace inbox_model;
  for (const auto& s : {all_orders, buffered}) {
    const auto r = model::every_order(s, pushed_and_taken);
    CHECK(r.failure.empty());
    CHECK(r.runs > 100);
  }
}

TEST_CASE("in every order two may take from an inbox while a third pushes", "[model]") {
  using namespace inbox_model;
  for (const auto& s : {all_orders, buffered}) {
    const auto r = model::every_order(s, [] {
      fixture f;
      f.push(0);
      f.push(1);
      explore::together([&] { f.push(2); }, [&] { f.take(1); }, [&] { f.take(2); });
      f.check();
    });
    CHECK(r.failure.empty());
    CHECK(r.runs > 100);
  }
}

TEST_CASE("the explorer finds that pushes to an inbox must be one exchange", "[model]") {
  auto s = inbox_model::all_orders;
  s.broken.torn_updates = true;
  const auto r = model::every_order(s, inbox_model::pushed_and_taken);
  CHECK_FALSE(r.failure.empty());
}
