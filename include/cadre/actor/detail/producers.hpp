#ifndef CADRE_ACTOR_DETAIL_PRODUCERS_HPP
#define CADRE_ACTOR_DETAIL_PRODUCERS_HPP

#include <cadre/async/future.hpp>
#include <cadre/async/shared_future.hpp>
#include <cadre/store/object_ref.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The tasks of this process whose results are to be objects of the store, and the errors of those that failed: whoever asks
/// for the object gets the error with its type. Thread-safety: all functions, from any thread.
class producers {
 public:
  template <class T>
  void add(const object_ref<T>& object, shared_future<void> task) {
    add(object_ref_access::key(object), std::move(task));
  }
  void add(std::uint64_t object, shared_future<void> task) {
    std::map<std::uint64_t, shared_future<void>> old;  // ends without the lock
    const std::lock_guard lock(mutex_);
    all_.insert_or_assign(object, std::move(task));
    if (all_.size() > most_) {
      for (auto at = all_.begin(); at != all_.end();) {
        const auto next = std::next(at);
        if (at->second.ready()) old.insert(all_.extract(at));
        at = next;
      }
      most_ = 2 * all_.size() + 1024;
    }
    count_.store(all_.size(), std::memory_order_release);
  }
  /// It is there.
  template <class T>
  void finish(const object_ref<T>& object) {
    finish(object_ref_access::key(object));
  }
  void finish(std::uint64_t object) {
    std::map<std::uint64_t, shared_future<void>>::node_type last;  // ends without the lock
    const std::lock_guard lock(mutex_);
    last = all_.extract(object);
    count_.store(all_.size(), std::memory_order_release);
  }

  /// Of a task that has not ended, or failed.
  template <class T>
  [[nodiscard]] std::optional<shared_future<void>> find(const object_ref<T>& object) const {
    if (!object) return std::nullopt;
    return find(object_ref_access::key(object));
  }
  [[nodiscard]] std::optional<shared_future<void>> find(std::uint64_t object) const {
    if (count_.load(std::memory_order_acquire) == 0) return std::nullopt;
    const std::lock_guard lock(mutex_);
    const auto found = all_.find(object);
    return found == all_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  mutable std::mutex mutex_;
  std::atomic<std::size_t> count_{0};
  std::map<std::uint64_t, shared_future<void>> all_;
  std::size_t most_ = 1024;  // then those that have ended are forgotten, with their errors
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
