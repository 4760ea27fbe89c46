#ifndef CADRE_ASYNC_DETAIL_STAND_IN_HPP
#define CADRE_ASYNC_DETAIL_STAND_IN_HPP

#include <cadre/async/detail/scheduler.hpp>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// While it lives one more worker of this thread's pool may take tasks, in the place of this one, which is about to block
/// in the system. Nothing on a thread of no pool, or when no further thread can be had.
class stand_in {
 public:
  stand_in() noexcept : home_(this_worker() != nullptr ? this_worker()->home : nullptr) {
    there_is_one_ = home_ != nullptr && home_->begin_block();
  }
  stand_in(const stand_in&) = delete;
  stand_in& operator=(const stand_in&) = delete;
  ~stand_in() {
    if (home_ != nullptr) home_->end_block(there_is_one_);
  }

  explicit operator bool() const noexcept { return there_is_one_; }

 private:
  scheduler* const home_;
  bool there_is_one_ = false;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
