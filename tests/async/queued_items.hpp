#ifndef CADRE_TESTS_ASYNC_QUEUED_ITEMS_HPP
#define CADRE_TESTS_ASYNC_QUEUED_ITEMS_HPP

#include <cadre/async.hpp>

#include <cstddef>
#include <memory>

namespace queued_items {

// A task that is never run: only its place in a queue matters.
class item final : public cadre::detail::state<void> {
 public:
  item() noexcept : state<void>(cadre::detail::no_pool, 0, {}) { publish(pending, 1); }
  void run() noexcept override {}
  void run_not() noexcept override {}
  std::size_t number = 0;
};
inline std::size_t number_of(const cadre::detail::task* t) { return static_cast<const item*>(t)->number; }

using items = std::unique_ptr<item[]>;
inline items make(std::size_t n) {
  items all(::new item[n]);
  for (std::size_t i = 0; i < n; ++i) all[i].number = i;
  return all;
}

}  // namespace queued_items

#endif
