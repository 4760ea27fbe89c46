#ifndef CADRE_STORE_DETAIL_MAKING_HPP
#define CADRE_STORE_DETAIL_MAKING_HPP

#include <cadre/config/config.hpp>

#include <array>
#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What this thread makes in get_or_create() while this exists, so that a call for the same from within is seen.
class making {
 public:
  making(const std::array<std::uint64_t, 2>& store, std::uint32_t index) noexcept
      : store_(store), index_(index), outer_(innermost_) {
    innermost_ = this;
  }
  making(const making&) = delete;
  making& operator=(const making&) = delete;
  ~making() { innermost_ = outer_; }

  [[nodiscard]] static bool includes(const std::array<std::uint64_t, 2>& store, std::uint32_t index) noexcept {
    for (const making* m = innermost_; m != nullptr; m = m->outer_)
      if (m->index_ == index && m->store_ == store) return true;
    return false;
  }

 private:
  const std::array<std::uint64_t, 2> store_;
  const std::uint32_t index_;
  making* const outer_;
  static inline constinit thread_local making* innermost_ = nullptr;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
