#ifndef CADRE_ASYNC_DETAIL_STAND_IN_HPP
#define CADRE_ASYNC_DETAIL_STAND_IN_HPP

#include <cadre/async/detail/scheduler.hpp>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// While it lives one more worker of this thread's pool may take tasks, in the place of this one, which is about to block
/// in the system. Nothing on a thread of no pool, or when no further thread can be had.
class stand_in {
 public:
  stand_in() noexcept {
    if (worker* const w = this_worker(); w != nullptr && w->home->allow(+1)) pool_ = w->home;
  }
  stand_in(const stand_in&) = delete;
  stand_in& operator=(const stand_in&) = delete;
  ~stand_in() {
    if (pool_ != nullptr) pool_->allow(-1);
  }

  /// Whether there is one.
  explicit operator bool() const noexcept { return pool_ != nullptr; }

 private:
  scheduler* pool_ = nullptr;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
