#ifndef CADRE_ASYNC_DETAIL_POOL_REGISTRY_HPP
#define CADRE_ASYNC_DETAIL_POOL_REGISTRY_HPP

#include <cadre/async/detail/process.hpp>
#include <cadre/async/detail/task.hpp>

#include <cstdint>
#include <mutex>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Which pools live. Thread-safety: all functions, from any thread; none is called by a task's ordinary way through a pool.
class pool_registry {
 public:
  [[gnu::cold]] static pool_id enter(scheduler& s) {
    const std::lock_guard lock(the_locks().pools);
    std::vector<slot>& all = slots();
    std::size_t i = 0;
    while (i < all.size() && all[i].pool != nullptr) ++i;
    if (i == all.size()) all.push_back({});
    all[i].pool = &s;
    ++all[i].uses;
    return std::uint64_t{all[i].uses} << 32 | (i + 1);
  }

  [[gnu::cold]] static void leave(pool_id id) noexcept {
    const std::lock_guard lock(the_locks().pools);
    slots()[(id & 0xffffffff) - 1].pool = nullptr;
  }

  /// Calls `use(scheduler&)` while the pool cannot end. False if it has ended.
  template <class Use>
  static bool with(pool_id id, Use&& use) noexcept {
    const std::lock_guard lock(the_locks().pools);
    const std::size_t i = (id & 0xffffffff) - 1;
    if (id == no_pool || slots()[i].pool == nullptr || slots()[i].uses != id >> 32) return false;
    use(*slots()[i].pool);
    return true;
  }

 private:
  struct slot {
    scheduler* pool = nullptr;
    std::uint32_t uses = 0;
  };
  // Never destroyed: see process_locks.
  static std::vector<slot>& slots() noexcept {
    static std::vector<slot>& all = *new std::vector<slot>;
    return all;
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
