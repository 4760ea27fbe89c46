#ifndef CADRE_ACTOR_DETAIL_FLAT_HPP
#define CADRE_ACTOR_DETAIL_FLAT_HPP

#include <cadre/archive/detail/padding.hpp>
#include <cadre/archive/output_archive.hpp>

#include <concepts>
#include <cstddef>
#include <cstring>
#include <memory>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// What the archives write and read as its bytes, whichever they are: where there is nothing else an archive, which takes
/// longer to make than a small message to send, is not needed.
template <class T>
concept flat = archived_by_bytes<T> && !std::same_as<T, bool>;

/// As an output_archive writes it. Returns its end.
template <flat T>
std::byte* put_flat(std::byte* at, const T& value) noexcept {
  copy_cleared(at, value);
  return at + sizeof(T);
}
template <flat T>
const std::byte* get_flat(const std::byte* at, T& value) noexcept {
  std::memcpy(static_cast<void*>(std::addressof(value)), at, sizeof(T));
  return at + sizeof(T);
}

/// What can be written without an archive: `flat_bytes` bytes, by put().
template <class Writer>
concept writes_flat = requires { Writer::flat_bytes; };
template <flat T>
struct flat_value {
  static constexpr std::size_t flat_bytes = sizeof(T);
  const T& value;
  void put(std::byte* at) const noexcept { put_flat(at, value); }
};
struct flat_nothing {
  static constexpr std::size_t flat_bytes = 0;
  void put(std::byte*) const noexcept {}
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif
