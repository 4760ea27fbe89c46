#ifndef CADRE_COMM_DETAIL_ON_BEHALF_OF_HPP
#define CADRE_COMM_DETAIL_ON_BEHALF_OF_HPP

#include <cadre/config/config.hpp>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// While it lives, the collectives of this thread are those of a call that the user knows by `name`, a literal of at
/// most 15 characters: errors name it beside a collective that the user never wrote. The outermost counts.
class on_behalf_of {
 public:
  explicit on_behalf_of(const char* name) noexcept : outermost_(current() == nullptr) {
    if (outermost_) current() = name;
  }
  on_behalf_of(const on_behalf_of&) = delete;
  on_behalf_of& operator=(const on_behalf_of&) = delete;
  ~on_behalf_of() {
    if (outermost_) current() = nullptr;
  }

  /// Null outside of such a call.
  static const char*& current() noexcept {
    static constinit thread_local const char* name = nullptr;
    return name;
  }

 private:
  bool outermost_;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif
