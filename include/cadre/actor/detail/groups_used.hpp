#ifndef CADRE_ACTOR_DETAIL_GROUPS_USED_HPP
#define CADRE_ACTOR_DETAIL_GROUPS_USED_HPP

#include <cadre/actor/detail/where.hpp>
#include <cadre/async/shared_future.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A placement group, where something is sent to it.
struct group_used {
  std::string name;
  std::shared_ptr<places> bundles;
  shared_future<std::vector<int>> ranks;  ///< of the bundles
};

/// The placement groups of a job that this rank uses. Thread-safety: all functions, from any thread.
class groups_used {
 public:
  [[nodiscard]] std::shared_ptr<const group_used> find(std::uint64_t group) const {
    const std::lock_guard lock(mutex_);
    const auto found = all_.find(group);
    return found == all_.end() ? nullptr : found->second;
  }
  /// Or the one that is there already.
  std::shared_ptr<const group_used> add(std::uint64_t group, group_used g) {
    const std::lock_guard lock(mutex_);
    return all_.emplace(group, std::make_shared<const group_used>(std::move(g))).first->second;
  }
  /// In place of `old`, unless that has been done.
  std::shared_ptr<const group_used> replace(std::uint64_t group, const group_used& old, group_used g) {
    const auto next = std::make_shared<const group_used>(std::move(g));
    const std::lock_guard lock(mutex_);
    std::shared_ptr<const group_used>& now = all_[group];
    if (now == nullptr || now.get() == &old) now = next;
    return now;
  }
  void drop(std::uint64_t group) {
    std::shared_ptr<const group_used> last;  // ends without the lock
    const std::lock_guard lock(mutex_);
    if (const auto found = all_.find(group); found != all_.end()) {
      last = std::move(found->second);
      all_.erase(found);
    }
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::shared_ptr<const group_used>> all_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
