#ifndef CADRE_STORE_DETAIL_HASH_BESIDE_HPP
#define CADRE_STORE_DETAIL_HASH_BESIDE_HPP

#include <cadre/core/hash.hpp>
#include <cadre/os/futex.hpp>
#include <cadre/os/thread.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// XXH64 of a large range, worked out by a thread of its own while the caller's thread moves the range to or from a
/// disk, so that a checksum costs the slower of the two and not the sum. Where no thread is to be had, the caller's
/// works it out. The range must outlive the object, which belongs to one thread.
class hash_beside {
 public:
  /// From this many bytes on it pays for its thread, which costs some 30 us.
  static constexpr std::size_t worth_while = std::size_t{512} << 10;

  explicit hash_beside(std::span<const std::byte> bytes) : bytes_(bytes) {
    try {
      worker_ = native_thread("cadre spill", [this] { follow(); });
      threaded_ = true;
    } catch (const thread_error&) {}
  }
  hash_beside(const hash_beside&) = delete;
  hash_beside& operator=(const hash_beside&) = delete;
  ~hash_beside() {
    if (threaded_) tell(given_up);  // of no effect once all is hashed
  }

  /// The first `count` bytes are there, and stay as they are from now on: all, or a multiple of 4096 no less than before.
  void available(std::size_t count) noexcept {
    if (threaded_) {
      tell(static_cast<std::uint32_t>((count + unit - 1) / unit));
    } else {
      hash_up_to(count);
    }
  }
  /// The hash of all bytes, once all are available.
  [[nodiscard]] std::uint64_t digest() noexcept {
    worker_.join();
    return hash_.digest();
  }

 private:
  static constexpr std::size_t unit = 4096;  // in which what is available is counted, as a futex has 32 bits
  static constexpr std::size_t step = std::size_t{256} << 10;
  static constexpr std::uint32_t given_up = std::numeric_limits<std::uint32_t>::max();

  void tell(std::uint32_t units) noexcept {
    available_.store(units, std::memory_order_release);
    futex::wake_one(available_);
  }
  void hash_up_to(std::size_t end) noexcept {
    hash_.update(bytes_.subspan(hashed_, end - hashed_));
    hashed_ = end;
  }
  void follow() noexcept {
    while (hashed_ != bytes_.size()) {
      const std::uint32_t units = available_.load(std::memory_order_acquire);
      if (units == given_up) return;
      std::size_t end = units * unit;
      if (end > hashed_ + step) end = hashed_ + step;
      if (end > bytes_.size()) end = bytes_.size();
      if (end == hashed_) {
        futex::wait(available_, units);
      } else {
        hash_up_to(end);
      }
    }
  }

  std::span<const std::byte> bytes_;
  xxh64 hash_;
  std::size_t hashed_ = 0;
  std::atomic<std::uint32_t> available_{0};
  bool threaded_ = false;
  native_thread worker_;  // last: it is joined before what it uses is gone
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif
