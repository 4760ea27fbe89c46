#ifndef CADRE_COMM_DETAIL_OFFSPRING_HPP
#define CADRE_COMM_DETAIL_OFFSPRING_HPP

#include <cadre/config/config.hpp>

#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// The ends that a rank has split from its end of a communicator, as long as they live: an abort of that one reaches
/// them, so that peers who wait in one of them are told too. Any thread may call it.
template <class End>
class offspring {
 public:
  void add(const std::shared_ptr<End>& child) {
    const std::lock_guard lock(mutex_);
    std::erase_if(children_, [](const std::weak_ptr<End>& c) { return c.expired(); });
    children_.push_back(child);
    if (aborted_) child->abort("the communicator that it was split from has been aborted");
  }

  void abort(std::string_view why) noexcept {
    const std::lock_guard lock(mutex_);
    aborted_ = true;  // one that is being split meanwhile
    for (const std::weak_ptr<End>& c : children_)
      if (const auto child = c.lock()) child->abort(why);
  }

 private:
  std::mutex mutex_;
  std::vector<std::weak_ptr<End>> children_;
  bool aborted_ = false;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif
