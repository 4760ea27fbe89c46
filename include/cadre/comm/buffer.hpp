#ifndef CADRE_COMM_BUFFER_HPP
#define CADRE_COMM_BUFFER_HPP

#include <cadre/config/config.hpp>

#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// Elements in memory that a communicator reduces where they lie: `comm.allocate<float>(n)` makes one. A contiguous
/// range, zeroed and 64-byte aligned at first, that owns its memory (move-only; the memory may outlive the
/// communicator). Under MPI on one node every rank of the node maps it; `share()` keeps the memory alive beside views.
template <class T>
  requires std::is_trivially_copyable_v<T>
class buffer {
 public:
  using value_type = T;

  buffer() = default;
  /// Takes memory of at least `size` elements, as allocate_bytes returns it.
  buffer(std::shared_ptr<std::byte> memory, std::size_t size) noexcept : memory_(std::move(memory)), size_(size) {}
  buffer(buffer&& other) noexcept : memory_(std::move(other.memory_)), size_(std::exchange(other.size_, 0)) {}
  buffer& operator=(buffer&& other) noexcept {
    memory_ = std::move(other.memory_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  [[nodiscard]] T* data() noexcept { return reinterpret_cast<T*>(memory_.get()); }
  [[nodiscard]] const T* data() const noexcept { return reinterpret_cast<const T*>(memory_.get()); }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

  [[nodiscard]] T* begin() noexcept { return data(); }
  [[nodiscard]] T* end() noexcept { return data() + size_; }
  [[nodiscard]] const T* begin() const noexcept { return data(); }
  [[nodiscard]] const T* end() const noexcept { return data() + size_; }
  [[nodiscard]] T& operator[](std::size_t i) noexcept { return data()[i]; }
  [[nodiscard]] const T& operator[](std::size_t i) const noexcept { return data()[i]; }

  [[nodiscard]] std::span<T> span() noexcept { return {data(), size_}; }
  [[nodiscard]] std::span<const T> span() const noexcept { return {data(), size_}; }

  /// The memory itself, for owners that outlive this object.
  [[nodiscard]] std::shared_ptr<std::byte> share() const noexcept { return memory_; }

 private:
  std::shared_ptr<std::byte> memory_;
  std::size_t size_ = 0;
};

CADRE_NAMESPACE_END

#endif
