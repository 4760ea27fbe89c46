#ifndef CADRE_STORE_OBJECT_REF_HPP
#define CADRE_STORE_OBJECT_REF_HPP

#include <cadre/store/detail/store_core.hpp>
#include <cadre/store/fwd.hpp>

#include <cstdint>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace detail {
struct object_ref_access {
  static store_core& core(const object_store& store) noexcept;
  /// Null for one that refers to nothing.
  template <class T>
  static store_core* core(const object_ref<T>& ref) noexcept {
    return ref.core_;
  }
  template <class T>
  static std::uint32_t index(const object_ref<T>& ref) noexcept {
    return ref.index_;
  }
  /// Of one that is not empty: no other object of its store has, or has had, the same.
  template <class T>
  static std::uint64_t key(const object_ref<T>& ref) noexcept {
    return std::uint64_t{object_word(ref.core_->entry(ref.index_).word.load(std::memory_order_acquire)).generation()}
               << 32 |
           ref.index_;
  }
};
}  // namespace detail

/// Refers to an object of a store, and keeps it: it ends with its last ref and view, in whichever process that is. Cheap to
/// copy (one atomic addition); may outlive the object_store it is of.
///
/// Thread-safety: as an int; copies of one ref may be used by any threads. A child made by fork() can only destroy it.
template <class T>
class object_ref {
 public:
  /// Refers to nothing.
  object_ref() noexcept = default;
  object_ref(const object_ref& other) noexcept : core_(other.core_), index_(other.index_) {
    if (core_ != nullptr) core_->add_ref(index_);
  }
  object_ref(object_ref&& other) noexcept : core_(std::exchange(other.core_, nullptr)), index_(other.index_) {}
  object_ref& operator=(object_ref other) noexcept {
    std::swap(core_, other.core_);
    std::swap(index_, other.index_);
    return *this;
  }
  ~object_ref() {
    if (core_ != nullptr) core_->drop_ref(index_);
  }

  explicit operator bool() const noexcept { return core_ != nullptr; }
  /// Whether both refer to the same object.
  friend bool operator==(const object_ref& a, const object_ref& b) noexcept {
    return a.core_ == b.core_ && (a.core_ == nullptr || a.index_ == b.index_);
  }

 private:
  friend object_store;
  friend detail::object_ref_access;
  template <class>
  friend class object_writer;
  template <class>
  friend struct portable;
  friend class object_source;
  template <class>
  friend class object_fetch;
  /// Takes over a ref that is counted already.
  object_ref(detail::store_core& core, std::uint32_t index) noexcept : core_(&core), index_(index) {}

  detail::store_core* core_ = nullptr;
  std::uint32_t index_ = 0;
};

CADRE_NAMESPACE_END

#endif
