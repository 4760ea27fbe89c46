#ifndef CADRE_STORE_OBJECT_WRITER_HPP
#define CADRE_STORE_OBJECT_WRITER_HPP

#include <cadre/store/object_ref.hpp>
#include <cadre/store/stored.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace detail {
struct promise_access;
}

/// An object that is built where it will lie: made by object_store::create, filled, and sealed, from when on it never
/// changes. One that is destroyed without seal() is given up; so is one whose process dies.
///
/// Thread-safety: any threads may write to its elements; seal() and abort() come after, from one.
template <class T>
class object_writer {
  using storage = detail::storage<T>;

 public:
  object_writer(object_writer&& other) noexcept
      : core_(std::exchange(other.core_, nullptr)), index_(other.index_), data_(other.data_), bytes_(other.bytes_) {}
  object_writer& operator=(object_writer&& other) noexcept {
    std::swap(core_, other.core_);
    std::swap(index_, other.index_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~object_writer() {
    if (core_ != nullptr) core_->abort(index_);
  }

  /// The elements to be written: memory order, 64-byte aligned. What they hold before is not specified.
  [[nodiscard]] auto span() const noexcept {
    using element = typename contiguous_traits<T>::element;
    constexpr std::size_t head = detail::stored_array<T> ? detail::shape_bytes : 0;
    return std::span<element>(reinterpret_cast<element*>(data_ + head), (bytes_ - head) / sizeof(element));
  }
  /// The matrix to be written, as an Eigen::Map.
  [[nodiscard]] auto map() const noexcept
    requires detail::stored_array<T>
  {
    typename storage::shape_header shape;
    std::memcpy(shape.data(), data_, sizeof shape);
    return storage::map(reinterpret_cast<typename storage::element*>(data_ + detail::shape_bytes), shape);
  }

  /// A ref to the object before it is sealed: whoever gets it waits for that.
  [[nodiscard]] object_ref<T> ref() const noexcept {
    core_->add_ref(index_);
    return object_ref<T>(*core_, index_);
  }
  /// From here on everybody can read it and nobody write; do not touch what span() gave. Throws object_gone (301) if it was
  /// erased meanwhile.
  object_ref<T> seal() && {
    core_->seal(index_);
    return object_ref<T>(*std::exchange(core_, nullptr), index_);
  }
  /// Gives it up: who waits for it gets object_gone (301).
  void abort() && noexcept { std::exchange(core_, nullptr)->abort(index_); }

 private:
  friend object_store;
  friend detail::promise_access;
  object_ref<T> seal(bool unseen) && {
    if (!unseen) return std::move(*this).seal();
    core_->seal_unseen(index_);
    return object_ref<T>(*std::exchange(core_, nullptr), index_);
  }
  object_writer(detail::store_core& core, detail::store_core::made made, std::size_t bytes) noexcept
      : core_(&core), index_(made.index), data_(made.data), bytes_(bytes) {}

  detail::store_core* core_;
  std::uint32_t index_;
  std::byte* data_;
  std::size_t bytes_;
};

CADRE_NAMESPACE_END

#endif
