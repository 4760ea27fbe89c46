#ifndef CADRE_STORE_VIEW_HPP
#define CADRE_STORE_VIEW_HPP

#include <cadre/archive/input_archive.hpp>
#include <cadre/store/detail/store_core.hpp>
#include <cadre/store/stored.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// An object of a store as it lies there, which stays in its place while the view lives: also after the last ref, after
/// erase(), and after the object_store it is of. The memory is read-only in fact: a write to it is a SIGSEGV.
///
/// `*v` is a std::span<const E> of ranges, a std::string_view of text, an Eigen::Map<const M> of Eigen's matrices, a
/// const T& of trivially copyable values, all in place; of other types a const T& that get() has read from the bytes of the
/// object. A view of a temporary cannot be dereferenced, for it would dangle.
///
/// Thread-safety: as an int. Costs two atomic operations, whatever the size of the object.
template <class T>
class view {
  using storage = detail::storage<T>;
  struct nothing {};

 public:
  /// What `*v` is.
  using shown = typename storage::shown;

  view(view&& other) noexcept
      : core_(std::exchange(other.core_, nullptr)),
        index_(other.index_),
        data_(other.data_),
        bytes_(other.bytes_),
        value_(std::move(other.value_)) {}
  view& operator=(view&& other) noexcept {
    std::swap(core_, other.core_);
    std::swap(index_, other.index_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(value_, other.value_);
    return *this;
  }
  ~view() {
    if (core_ != nullptr) core_->unpin(index_);
  }

  [[nodiscard]] shown operator*() const& noexcept { return show(); }
  // What compilers show of what is deleted is its line: the reason stands there.
  shown operator*() const&& = delete;  // cadre: what a temporary view shows is gone with it: give the view a name
  [[nodiscard]] auto operator->() const& noexcept {
    if constexpr (std::is_reference_v<shown>) {
      return &show();
    } else {
      struct arrow {
        std::remove_cv_t<shown> value;
        auto* operator->() noexcept { return &value; }
      };
      return arrow{show()};
    }
  }
  void operator->() const&& = delete;  // cadre: what a temporary view shows is gone with it: give the view a name

  /// The bytes of the object as they are stored.
  [[nodiscard]] std::span<const std::byte> bytes() const& noexcept { return {data_, bytes_}; }
  void bytes() const&& = delete;  // cadre: what a temporary view shows is gone with it: give the view a name

 private:
  friend object_store;
  /// Takes over a pin that is counted already.
  view(detail::store_core& core, std::uint32_t index, const std::byte* data)
      : core_(&core), index_(index), data_(data), bytes_(static_cast<std::size_t>(core.entry(index).bytes)) {
    if constexpr (!storage::in_place) {
      try {
        value_ = std::make_unique<T>();
        from_bytes(bytes(), *value_);
      } catch (...) {
        core_->unpin(index_);  // no destructor follows
        throw;
      }
    }
  }
  [[nodiscard]] shown show() const noexcept {
    if constexpr (storage::in_place)
      return storage::show(data_, bytes_);
    else
      return *value_;
  }

  detail::store_core* core_;
  std::uint32_t index_;
  const std::byte* data_;
  std::size_t bytes_;
  [[no_unique_address]] std::conditional_t<storage::in_place, nothing, std::unique_ptr<T>> value_;
};

/// A view is of this process's memory, and means nothing elsewhere.
template <class Archive, class T>
void CEREAL_SAVE_FUNCTION_NAME(Archive&, const view<T>&) {
  static_assert(sizeof(Archive) == 0, "cadre: a view cannot be written: write *view, or send the object_ref");
}

CADRE_NAMESPACE_END

#endif
