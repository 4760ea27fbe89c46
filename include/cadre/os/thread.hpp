#ifndef CADRE_OS_THREAD_HPP
#define CADRE_OS_THREAD_HPP

#include <cadre/core/error.hpp>
#include <cadre/core/function.hpp>

#include <pthread.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// Thrown (151) when the system gives no further thread. `code()` is the errno.
class thread_error : public error {
 public:
  [[gnu::cold]] thread_error(const std::string& name, int code)
      : error("os", 151,
              "cannot start thread '" + name + "': " + std::generic_category().message(code) +
                  "; raise the limit on threads (ulimit -u, the cgroup's pids.max) or start fewer"),
        code_(code) {}
  [[nodiscard]] int code() const noexcept { return code_; }

 private:
  int code_;
};

/// A thread with a name that debuggers and `top -H` show (its first 15 characters). Destroying one that runs joins it.
/// Not `std::thread`, which would triple the parse time of the pool.
class native_thread {
 public:
  native_thread() noexcept = default;

  /// Runs `body`, which must not throw. Throws thread_error (151).
  [[gnu::cold]] native_thread(const std::string& name, move_only_function<void()> body) {
    auto* const start = new start_block{name.substr(0, 15), std::move(body)};  // the thread's own once there is one
    if (const int code = ::pthread_create(&id_, nullptr, &run, start)) {
      delete start;
      throw thread_error(name, code);
    }
    running_ = true;
  }

  native_thread(native_thread&& other) noexcept : id_(other.id_), running_(std::exchange(other.running_, false)) {}
  native_thread& operator=(native_thread&& other) noexcept {
    join();
    id_ = other.id_;
    running_ = std::exchange(other.running_, false);
    return *this;
  }
  ~native_thread() { join(); }

  void join() noexcept {
    if (std::exchange(running_, false)) ::pthread_join(id_, nullptr);
  }
  /// In a process made by fork(), where the thread is not.
  void forget() noexcept { running_ = false; }
  void detach() noexcept {
    if (std::exchange(running_, false)) ::pthread_detach(id_);
  }

 private:
  struct start_block {
    std::string name;
    move_only_function<void()> body;
  };

  static void* run(void* argument) noexcept {
    auto* const start = static_cast<start_block*>(argument);
    ::pthread_setname_np(::pthread_self(), start->name.c_str());
    start->body();
    delete start;
    return nullptr;
  }

  pthread_t id_{};
  bool running_ = false;
};

/// The address at which half of this thread's stack is used up; null if the system does not say. Costs some microseconds.
[[gnu::cold]] inline std::uintptr_t middle_of_stack() noexcept {
  pthread_attr_t attributes;
  if (::pthread_getattr_np(::pthread_self(), &attributes) != 0) return 0;
  void* lowest = nullptr;
  std::size_t bytes = 0;
  ::pthread_attr_getstack(&attributes, &lowest, &bytes);
  ::pthread_attr_destroy(&attributes);
  return reinterpret_cast<std::uintptr_t>(lowest) + bytes / 2;
}

CADRE_NAMESPACE_END

#endif
