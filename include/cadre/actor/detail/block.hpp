#ifndef CADRE_ACTOR_DETAIL_BLOCK_HPP
#define CADRE_ACTOR_DETAIL_BLOCK_HPP

#include <cadre/actor/detail/message_parts.hpp>
#include <cadre/actor/detail/spare_blocks.hpp>
#include <cadre/archive/detail/padding.hpp>
#include <cadre/archive/error.hpp>
#include <cadre/archive/input_archive.hpp>
#include <cadre/archive/output_archive.hpp>
#include <cadre/core/contiguous.hpp>
#include <cadre/store/stored.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// From here on a value is worth being sent from where it lies, and received where it is to lie.
inline constexpr std::size_t smallest_block = std::size_t{16} << 10;

/// A value whose elements lie in a row of memory that is not its own: where it is moved to they stay where they are.
template <class T>
concept travels_as_block = std::same_as<T, std::string> ||
                           (is_vector<T> && requires { requires archived_by_bytes<typename T::value_type>; }) ||
                           (stored_array<T> && requires(T& t, std::ptrdiff_t n) { t.resize(n, n); });

template <travels_as_block T>
std::span<const std::byte> block_of(const T& value) noexcept {
  return std::as_bytes(elements(value));
}
/// Whether it is worth it.
template <class T>
bool is_block(const T& value) noexcept {
  if constexpr (travels_as_block<T>)
    return block_of(value).size() >= smallest_block && !has_padding<typename contiguous_traits<T>::element>();
  else
    return false;
}

/// A value that is an argument or a result of its own, not part of one: of a large one the bytes go along as a block, where
/// the message can have them.
template <class T>
void write_value(output_archive& out, const T& value) {
  if constexpr (travels_as_block<T>) {
    auto* const message = is_block(value) ? dynamic_cast<outgoing_parts*>(out.extension()) : nullptr;
    const bool encloses = message != nullptr && message->encloses();
    out(encloses);
    if (encloses) {
      for (const std::size_t n : contiguous_traits<T>::shape(value)) out(std::uint64_t{n});
      message->enclose(block_of(value));
      return;
    }
  }
  out(value);
}

/// Gives it the size that is said, for the block that comes later.
template <travels_as_block T>
void read_extents(input_archive& in, incoming_parts& message, T& value) {
  constexpr std::size_t dimensions = stored_array<T> ? 2 : 1;
  constexpr std::uint64_t most = std::uint64_t{1} << 41;
  std::array<std::uint64_t, dimensions> n{};
  std::uint64_t bytes = sizeof(typename contiguous_traits<T>::element);
  bool fits = true;
  for (std::uint64_t& extent : n) {
    in(extent);
    fits = fits && extent <= most / bytes;
    if (fits) bytes *= extent;
  }
  if (!fits || bytes != message.next_block())
    throw archive_corrupt("a block that is not of the value's size", in.offset());
  value = spare_blocks<T>::take(static_cast<std::size_t>(bytes));
  if constexpr (dimensions == 2) {
    if constexpr (requires { stored_type<T>::fits(n[0], n[1]); })
      if (!stored_type<T>::fits(n[0], n[1]))
        throw archive_corrupt("a matrix of other extents than its type's", in.offset());
    value.resize(static_cast<std::ptrdiff_t>(n[0]), static_cast<std::ptrdiff_t>(n[1]));
  } else {
    value.resize(static_cast<std::size_t>(n[0]));
  }
  message.receive_next(std::as_writable_bytes(elements(value)));
}
/// Its block, if it has one, comes later: see incoming_parts. Throws archive_error (501-504).
template <class T>
void read_value(input_archive& in, T& value) {
  if constexpr (travels_as_block<T>) {
    bool enclosed = false;
    in(enclosed);
    if (enclosed) {
      auto* const message = dynamic_cast<incoming_parts*>(in.extension());
      if (message == nullptr) throw archive_corrupt("a block where there can be none", in.offset());
      return read_extents(in, *message, value);
    }
  }
  in(value);
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
