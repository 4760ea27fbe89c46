#ifndef CADRE_NCCL_DETAIL_HANDLE_HPP
#define CADRE_NCCL_DETAIL_HANDLE_HPP

#include <cadre/comm/error.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/nccl/error.hpp>

#include <nccl.h>

#include <algorithm>
#include <exception>
#include <mutex>
#include <source_location>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace nccl::detail {

using deadline = std::chrono::steady_clock::time_point;

/// The time at which a wait of `timeout` from now ends; a timeout beyond the clock's range never ends.
[[nodiscard]] inline deadline ends_after(std::chrono::nanoseconds timeout) {
  const auto now = std::chrono::steady_clock::now();
  return timeout < deadline::max() - now ? now + timeout : deadline::max();
}

/// Waits a little longer each time: first not at all, to be quick; at last a millisecond, to leave the processor.
class pause {
 public:
  void operator()() {
    if (++rounds_ < 200) return std::this_thread::yield();
    std::this_thread::sleep_for(length_);
    length_ = std::min(length_ * 2, std::chrono::microseconds(1000));
  }

 private:
  int rounds_ = 0;
  std::chrono::microseconds length_{20};
};

/// Owns a non-blocking ncclComm_t. No thread stays inside NCCL for long, because its calls return ncclInProgress and are
/// asked again, and none is inside beside another, because each call holds the mutex: so abort may come from any thread
/// at any time, as NCCL demands.
class handle {
 public:
  handle() = default;
  handle(const handle&) = delete;
  handle& operator=(const handle&) = delete;
  ~handle() { close(); }

  /// Calls `call(comm)`, a reference to the ncclComm_t, and waits until NCCL has taken it up. Throws 402 on a broken
  /// communicator, 401 at the deadline, 1301 if NCCL fails; both break it.
  template <class Call>
  void run(std::string_view name, std::string_view who, deadline until, Call&& call,
           const std::source_location& where) {
    run_on(
        name, who, until, [&] { return std::forward<Call>(call)(comm_); }, [&] { return comm_; }, where);
  }

  /// As run, for a call that fills in another handle's ncclComm_t, which NCCL then works on.
  template <class Call>
  void run(std::string_view name, std::string_view who, deadline until, handle& made, Call&& call,
           const std::source_location& where) {
    run_on(
        name, who, until, [&] { return std::forward<Call>(call)(comm_, made.comm_); }, [&] { return made.comm_; },
        where);
    // The parent, too, is in progress until the split is done.
    run_on(
        name, who, until, [] { return ncclInProgress; }, [&] { return comm_; }, where);
  }

  /// Throws 1301 if NCCL has met an error since, in the network or on a peer, and 402 on a broken communicator.
  void check(std::string_view name, const std::source_location& where) {
    const std::lock_guard lock(mutex_);
    throw_if_broken();
    if (comm_ == nullptr) return;
    ncclResult_t state = ncclSuccess;
    ncclResult_t code = ::ncclCommGetAsyncError(comm_, &state);
    if (code == ncclSuccess) code = state;
    if (code != ncclSuccess && code != ncclInProgress) fail(name, code, where);
  }

  /// Breaks the communicator: kernels that wait for peers end, waiting and later calls throw 402 with `why`. Only the
  /// first reason is kept.
  void abort(std::string_view why) noexcept {
    const std::lock_guard lock(mutex_);
    break_up(why);
  }

  /// How long the destructor may wait for the peers.
  void set_patience(std::chrono::nanoseconds patience) noexcept { patience_ = patience; }

 private:
  template <class Call, class Watched>
  void run_on(std::string_view name, std::string_view who, deadline until, Call&& call, Watched&& watched,
              const std::source_location& where) {
    std::unique_lock lock(mutex_);
    throw_if_broken();
    ncclResult_t code = call();
    for (pause wait; code == ncclInProgress;) {
      if (watched() == nullptr) {  // a split without a color makes nothing to watch
        code = ncclSuccess;
        break;
      }
      ncclResult_t state = ncclSuccess;
      code = ::ncclCommGetAsyncError(watched(), &state);
      if (code == ncclSuccess) code = state;
      if (code != ncclInProgress) break;
      if (std::chrono::steady_clock::now() >= until) {
        const std::string text = std::string(who) + " waited in vain in " + std::string(name) + ", called at " +
                                 cuda::cuda_error::place(where) + ": a peer has not called it or is gone";
        break_up(text);
        throw communicator_timeout(text);
      }
      lock.unlock();
      wait();
      lock.lock();
      throw_if_broken();
    }
    if (code != ncclSuccess) fail(name, code, where);
  }

  void throw_if_broken() const {
    if (broken_) throw communicator_aborted("the NCCL communicator is broken: " + why_);
  }

  [[noreturn]] void fail(std::string_view name, ncclResult_t code, const std::source_location& where) {
    const char* last = ::ncclGetLastError(comm_);
    const nccl_error error = nccl_error::call_failed(name, code, last != nullptr ? last : "", where);
    break_up(error.what());
    throw error;
  }

  void break_up(std::string_view why) noexcept {
    if (broken_) return;
    broken_ = true;
    try {
      why_ = why;
    } catch (const std::exception&) {
      why_.clear();  // out of memory: broken without a reason
    }
    if (comm_ != nullptr) static_cast<void>(::ncclCommAbort(std::exchange(comm_, nullptr)));
  }

  /// Gives the communicator back in agreement with its peers; in the middle of an exception, when they may never come,
  /// or when they do not come in time, breaks it off.
  void close() noexcept {
    const std::lock_guard lock(mutex_);
    if (comm_ == nullptr) return;
    const deadline until = ends_after(std::min<std::chrono::nanoseconds>(patience_, std::chrono::seconds(30)));
    ncclResult_t code = std::uncaught_exceptions() > born_amid_ ? ncclInternalError : ::ncclCommFinalize(comm_);
    for (pause wait; code == ncclInProgress && std::chrono::steady_clock::now() < until; wait())
      if (::ncclCommGetAsyncError(comm_, &code) != ncclSuccess) code = ncclInternalError;
    static_cast<void>(code == ncclSuccess ? ::ncclCommDestroy(comm_) : ::ncclCommAbort(comm_));
    comm_ = nullptr;
  }

  std::mutex mutex_;
  ncclComm_t comm_ = nullptr;  // null: of one rank, not made yet, or broken
  bool broken_ = false;
  std::string why_;
  std::chrono::nanoseconds patience_{std::chrono::seconds(30)};
  int born_amid_ = std::uncaught_exceptions();
};

}  // namespace nccl::detail

CADRE_NAMESPACE_END

#endif
