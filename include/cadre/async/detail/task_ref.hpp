#ifndef CADRE_ASYNC_DETAIL_TASK_REF_HPP
#define CADRE_ASYNC_DETAIL_TASK_REF_HPP

#include <cadre/config/config.hpp>

#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A reference to a task, or nothing.
template <class Task>
class task_ref {
 public:
  task_ref() noexcept = default;
  /// Takes over one reference.
  explicit task_ref(Task* t) noexcept : task_(t) {}
  task_ref(task_ref&& other) noexcept : task_(std::exchange(other.task_, nullptr)) {}
  task_ref& operator=(task_ref&& other) noexcept {
    task_ref old(std::exchange(task_, std::exchange(other.task_, nullptr)));
    return *this;
  }
  ~task_ref() {
    if (task_) task_->release();
  }

  Task* get() const noexcept { return task_; }
  Task* operator->() const noexcept { return task_; }
  Task& operator*() const noexcept { return *task_; }
  explicit operator bool() const noexcept { return task_ != nullptr; }
  Task* give() noexcept { return std::exchange(task_, nullptr); }

 private:
  Task* task_ = nullptr;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
