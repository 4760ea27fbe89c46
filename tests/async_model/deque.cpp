#include "model.hpp"

namespace deque_model {

using deque = cadre::detail::work_deque<int>;
constexpr explore::settings all_orders{.all = true};
constexpr explore::settings buffered{.all = true, .store_buffers = true};

// Items, and how often each has been taken.
struct items {
  int taken[80] = {};
  void take(int* item) {
    if (item != nullptr) ++*item;
  }
  void check(deque& d, int n) {
    while (int* const i = d.pop()) take(i);
    for (int i = 0; i < n; ++i) {
      explore::require(taken[i] < 2, "an item was taken twice");
      explore::require(taken[i] == 1, "an item was lost");
    }
  }
};

void two_items_popped_and_stolen() {
  deque d;
  items all;
  static_cast<void>(d.push(&all.taken[0]));
  static_cast<void>(d.push(&all.taken[1]));
  explore::together(
      [&] {
        all.take(d.pop());
        all.take(d.pop());
      },
      [&] {
        all.take(d.steal());
        all.take(d.steal());
      });
  all.check(d, 2);
}

}  // namespace deque_model

TEST_CASE("in every order an item of a deque goes to its owner or to a thief", "[model]") {
  using namespace deque_model;
  for (const auto& s : {all_orders, buffered}) {
    const auto r = model::every_order(s, two_items_popped_and_stolen);
    CHECK(r.failure.empty());
    CHECK(r.runs > 100);
  }
}

TEST_CASE("in every order two thieves and an owner share what is pushed meanwhile", "[model]") {
  using namespace deque_model;
  for (const auto& s : {all_orders, buffered}) {
    const auto r = model::every_order(s, [] {
      deque d;
      items all;
      static_cast<void>(d.push(&all.taken[0]));
      explore::together(
          [&] {
            static_cast<void>(d.push(&all.taken[1]));
            all.take(d.pop());
          },
          [&] { all.take(d.steal()); }, [&] { all.take(d.steal()); });
      all.check(d, 2);
    });
    CHECK(r.failure.empty());
    CHECK(r.runs > 100);
  }
}

TEST_CASE("in every order a thief takes nothing twice from a deque that grows", "[model]") {
  using namespace deque_model;
  for (const auto& s : {all_orders, buffered}) {
    const auto r = model::every_order(s, [] {
      deque d;
      items all;
      for (int i = 0; i < 63; ++i) static_cast<void>(d.push(&all.taken[i]));
      all.take(d.steal());  // so that the ring wraps
      explore::together(
          [&] {
            int* const more[] = {&all.taken[65], &all.taken[64], &all.taken[63]};
            static_cast<void>(d.push(more, 3));
            all.take(d.pop());
          },
          [&] {
            all.take(d.steal());
            all.take(d.steal());
          });
      all.check(d, 66);
    });
    CHECK(r.failure.empty());
    CHECK(r.runs > 10);
  }
}

TEST_CASE("in every order two who take many at once share what the owner pushes meanwhile", "[model]") {
  using namespace deque_model;
  for (const auto& s : {all_orders, buffered}) {
    const auto r = model::every_order(s, [] {
      deque d;
      items all;
      int* out[80];
      for (int i = 0; i < 63; ++i) static_cast<void>(d.push(&all.taken[i]));
      explore::require(d.steal(out, 62) == 62, "there were 63");
      for (int i = 0; i < 62; ++i) all.take(out[i]);
      const auto take_two = [&] {
        int* taken[2];
        for (std::size_t n = d.steal(taken, 2); n > 0; --n) all.take(taken[n - 1]);
      };
      explore::together(
          [&] {  // the second of them wraps
            static_cast<void>(d.push(&all.taken[63]));
            static_cast<void>(d.push(&all.taken[64]));
          },
          take_two, take_two);
      all.check(d, 65);
    });
    CHECK(r.failure.empty());
    CHECK(r.runs > 100);
  }
}

TEST_CASE("the explorer finds that an owner's store must not be put off", "[model]") {
  auto s = deque_model::buffered;
  s.broken.weak_stores = true;
  const auto r = model::every_order(s, deque_model::two_items_popped_and_stolen);
  CHECK_THAT(r.failure, ContainsSubstring("an item was taken twice"));
}

TEST_CASE("the explorer finds that the last item must be taken by one exchange", "[model]") {
  auto s = deque_model::all_orders;
  s.broken.torn_updates = true;
  const auto r = model::every_order(s, deque_model::two_items_popped_and_stolen);
  CHECK_THAT(r.failure, ContainsSubstring("an item was taken twice"));
}
