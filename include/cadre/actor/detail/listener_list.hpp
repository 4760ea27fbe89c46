#ifndef CADRE_ACTOR_DETAIL_LISTENER_LIST_HPP
#define CADRE_ACTOR_DETAIL_LISTENER_LIST_HPP

#include <cadre/async/detail/sleeper.hpp>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Those who sleep until there is something to do for what they wait for, in the order in which they came. Thread-safety: none.
class listener_list {
 public:
  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  void push(listener& l) noexcept {
    l.previous = last_;
    l.next = nullptr;
    (last_ != nullptr ? last_->next : first_) = &l;
    last_ = &l;
    l.listed = true;
  }
  /// Of one that is listed.
  void remove(listener& l) noexcept {
    (l.previous != nullptr ? l.previous->next : first_) = l.next;
    (l.next != nullptr ? l.next->previous : last_) = l.previous;
    l.listed = false;
  }
  /// The first of some.
  listener& pop() noexcept {
    listener& l = *first_;
    remove(l);
    return l;
  }

 private:
  listener* first_ = nullptr;
  listener* last_ = nullptr;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
