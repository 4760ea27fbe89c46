#ifndef CADRE_ASYNC_DETAIL_NEEDED_TASKS_HPP
#define CADRE_ASYNC_DETAIL_NEEDED_TASKS_HPP

#include <cadre/async/detail/task.hpp>
#include <cadre/async/detail/waiter_list.hpp>

#include <cstddef>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Tasks that others need, for a look at who waits for whom: kept until the look is over, and so longer than its lock, as
/// what they hold may be anything.
class needed_tasks {
 public:
  needed_tasks() = default;
  needed_tasks(const needed_tasks&) = delete;
  needed_tasks& operator=(const needed_tasks&) = delete;
  ~needed_tasks() {
    for (continuation* const c : at_end_) c->act(*c, continuation::wish::fire);
  }

  void add(task_ref<task> t) {
    if (t) all_.push_back(std::move(t));
  }
  /// If it is not done. More than anybody would look at are left out.
  void add_if_open(task& t) {
    if (t.done() || all_.size() >= most) return;
    t.retain();
    add(task_ref<task>(&t));
  }
  /// Comes first: nothing is thrown between an owner's preparation for the end of the look and fire_at_end().
  void prepare_to_fire() { at_end_.reserve(at_end_.size() + 1); }
  void fire_at_end(continuation& c) noexcept { at_end_.push_back(&c); }

  [[nodiscard]] std::size_t size() const noexcept { return all_.size(); }
  [[nodiscard]] task& operator[](std::size_t i) const noexcept { return *all_[i]; }

 private:
  static constexpr std::size_t most = 1024;

  std::vector<task_ref<task>> all_;
  std::vector<continuation*> at_end_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
