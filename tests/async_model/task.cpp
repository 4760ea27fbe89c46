#include "model.hpp"

namespace task_model {

using cadre::detail::continuation;
using cadre::detail::task;
constexpr explore::settings all_orders{.all = true};
constexpr explore::settings buffered{.all = true, .store_buffers = true};

// Two that take it from queues, and one that cancels it.
void claimed_and_cancelled() {
  int ended = 0;
  auto* const t = new model::item(4);
  t->ended = &ended;
  const auto takes = [t] {
    if (t->try_claim()) t->run_or_end();
    t->release();
  };
  explore::together(takes, takes, [t] {
    t->cancel_alone();
    t->release();
  });
  explore::require(t->done(), "neither run nor ended");
  explore::require(t->runs + t->runs_not == 1, "run or ended twice");
  t->release();
  explore::require(ended == 1, "not destroyed once");
}

struct counter : continuation {
  counter() noexcept : continuation(&fired) {}
  static task* fired(continuation& c, wish) noexcept {
    ++static_cast<counter&>(c).times;
    return nullptr;
  }
  int times = 0;
};

// One that completes it, one that adds a waiter, and one that adds one and takes it back.
void completed_and_waited_for() {
  auto* const t = new model::item;
  counter stays, goes;
  bool stays_added = false, goes_left = false;
  explore::together(
      [t] {
        if (t->try_claim()) t->run_or_end();
      },
      [&] { stays_added = t->add(stays); }, [&] { goes_left = t->add(goes) && !t->remove(goes); });
  explore::require(stays.times == stays_added, "a waiter was not told once");
  explore::require(goes.times == goes_left, "a waiter that went was told, or one that stayed was not");
  t->release();
}

void beget(task& parent, model::item*& child) {
  cadre::detail::running_frame frame{&parent, nullptr};
  cadre::detail::this_context().top = &frame;
  child = new model::item;
  cadre::detail::this_context().top = nullptr;
}

// A child is born while its parent is cancelled.
void born_while_cancelled() {
  auto* const parent = new model::item;
  static_cast<void>(parent->try_claim());
  model::item* child = nullptr;
  explore::together([&] { beget(*parent, child); }, [&] { cadre::detail::cancel(*parent); });
  explore::require(child->stop_requested(), "a child was missed");
  explore::require(child->runs_not == 1, "a child was not ended once");
  child->release();
  parent->release();
}

// The children of a task, and whoever holds it, go.
void family_ends() {
  int ended = 0, children_ended = 0;
  auto* const parent = new model::item;
  parent->ended = &ended;
  model::item* child[2];
  beget(*parent, child[0]);
  beget(*parent, child[1]);
  for (model::item* c : child) c->ended = &children_ended;
  explore::together([&] { child[0]->release(); }, [&] { parent->release(); }, [&] { child[1]->release(); });
  explore::require(ended == 1 && children_ended == 2, "not destroyed once");
}

// A task is cancelled while the one between it and its grandchild goes.
void grandparent_cancelled() {
  auto* const grandparent = new model::item;
  model::item *parent, *child;
  beget(*grandparent, parent);
  beget(*parent, child);
  static_cast<void>(grandparent->try_claim());
  if (parent->try_claim()) parent->run_or_end();
  explore::together([&] { parent->release(); }, [&] { cadre::detail::cancel(*grandparent); });
  explore::require(child->runs_not == 1, "a grandchild was missed");
  child->release();
  grandparent->release();
}

}  // namespace task_model

TEST_CASE("in every order a task runs or is ended, once, and is destroyed once", "[model]") {
  using namespace task_model;
  for (const auto& s : {all_orders, buffered}) {
    const auto r = model::every_order(s, claimed_and_cancelled);
    CHECK(r.failure.empty());
    CHECK(r.runs > 100);
  }
}

TEST_CASE("a waiter is told once, unless it has gone", "[model]") {
  // Those who find the list locked look again and again: too many orders for all of them.
  const auto r = model::every_order({.budget = 3, .store_buffers = true}, task_model::completed_and_waited_for);
  CHECK(r.failure.empty());
  CHECK(r.runs > 100);
}

TEST_CASE("a child that is born while its parent is cancelled is cancelled", "[model]") {
  const auto r = model::every_order({.budget = 2, .store_buffers = true}, task_model::born_while_cancelled);
  CHECK(r.failure.empty());
  CHECK(r.runs > 100);
}

TEST_CASE("in every order a family goes, each of it once", "[model]") {
  using namespace task_model;
  for (const auto& s : {all_orders, buffered}) {
    const auto r = model::every_order(s, family_ends);
    CHECK(r.failure.empty());
    CHECK(r.runs > 10);
  }
}

TEST_CASE("a grandchild is cancelled with its grandparent while the one between them goes", "[model]") {
  const auto r = model::every_order({.budget = 2, .store_buffers = true}, task_model::grandparent_cancelled);
  CHECK(r.failure.empty());
  CHECK(r.runs > 100);
}

TEST_CASE("whoever looks at all nodes gets a task that lives, or none", "[model]") {
  using namespace task_model;
  for (const auto& s : {all_orders, buffered}) {
    const auto r = model::every_order(s, [] {
      int ended = 0;
      auto* const t = new model::item;
      t->ended = &ended;
      const auto looks = [&] {
        if (task* const found = task::retain_at(t)) {
          explore::require(ended == 0, "a reference to a task that is gone");
          found->release();
        }
      };
      explore::together([t] { t->release(); }, looks, looks);
      explore::require(ended == 1, "not destroyed once");
    });
    CHECK(r.failure.empty());
    CHECK(r.runs > 10);
  }
}

TEST_CASE("the explorer finds that a claim must be one exchange", "[model]") {
  auto s = task_model::all_orders;
  s.broken.torn_updates = true;
  CHECK_FALSE(model::every_order(s, task_model::claimed_and_cancelled).failure.empty());
  s.all = false;
  CHECK_FALSE(model::every_order(s, task_model::completed_and_waited_for).failure.empty());
}
