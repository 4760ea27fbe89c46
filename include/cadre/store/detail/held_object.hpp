#ifndef CADRE_STORE_DETAIL_HELD_OBJECT_HPP
#define CADRE_STORE_DETAIL_HELD_OBJECT_HPP

#include <cadre/store/detail/store_core.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// An object_ref that does not say of what type its object is. Thread-safety: as an int.
class held_object {
 public:
  held_object() noexcept = default;
  /// Takes over a ref that is counted already.
  held_object(store_core& core, std::uint32_t index) noexcept : core_(&core), index_(index) {}
  held_object(const held_object& other) noexcept : core_(other.core_), index_(other.index_) {
    if (core_ != nullptr) core_->add_ref(index_);
  }
  held_object(held_object&& other) noexcept : core_(std::exchange(other.core_, nullptr)), index_(other.index_) {}
  held_object& operator=(held_object other) noexcept {
    std::swap(core_, other.core_);
    std::swap(index_, other.index_);
    return *this;
  }
  ~held_object() {
    if (core_ != nullptr) core_->drop_ref(index_);
  }

  explicit operator bool() const noexcept { return core_ != nullptr; }
  [[nodiscard]] store_core& core() const noexcept { return *core_; }
  [[nodiscard]] std::uint32_t index() const noexcept { return index_; }
  /// For who takes over the ref.
  std::uint32_t release() noexcept {
    core_ = nullptr;
    return index_;
  }

 private:
  store_core* core_ = nullptr;
  std::uint32_t index_ = 0;
};

/// An object that can be read, and stays where it is. Thread-safety: as an int.
class pinned_object {
 public:
  /// Waits until it is sealed. Throws object_gone (301).
  explicit pinned_object(held_object which) : which_(std::move(which)), data_(which_.core().pin(which_.index())) {}
  pinned_object(pinned_object&& other) noexcept = default;
  pinned_object& operator=(pinned_object&&) = delete;
  ~pinned_object() {
    if (which_) which_.core().unpin(which_.index());
  }

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
    return {data_, static_cast<std::size_t>(std::uint64_t{which_.core().entry(which_.index()).bytes})};
  }

 private:
  held_object which_;
  const std::byte* data_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
