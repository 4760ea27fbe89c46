#ifndef CADRE_ACTOR_DETAIL_TRAVEL_HPP
#define CADRE_ACTOR_DETAIL_TRAVEL_HPP

#include <cadre/archive/to_bytes.hpp>
#include <cadre/async/future.hpp>
#include <cadre/async/shared_future.hpp>
#include <cadre/core/portable.hpp>
#include <cadre/store/object_store.hpp>
#include <cadre/store/stored.hpp>
#include <cadre/store/travel.hpp>
#include <cadre/store/view.hpp>

#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

template <class T>
inline constexpr bool is_object_ref = false;
template <class T>
inline constexpr bool is_object_ref<object_ref<T>> = true;
template <class T>
inline constexpr bool is_view = false;
template <class T>
inline constexpr bool is_view<view<T>> = true;
template <class T>
inline constexpr bool is_future = false;
template <class T>
inline constexpr bool is_future<future<T>> = true;
template <class T>
inline constexpr bool is_future<shared_future<T>> = true;

/// A value that may be written here and read in another process.
template <class T>
concept travels =
    std::is_void_v<T> ||
    (std::is_object_v<T> && !std::is_array_v<T> && !is_reference_like<T> && !std::ranges::enable_view<T> &&
     !is_view<T> && !is_future<T> && std::default_initializable<T> && can_be_archived<T> &&
     (archived_by_bytes<T> || custom_portable<T> || cereal::traits::is_input_serializable<T, input_archive>::value));

/// Types in which no object_ref can be.
template <class T>
inline constexpr bool holds_no_refs = archived_by_bytes<T> || std::same_as<T, std::string>;
template <class T, class Allocator>
inline constexpr bool holds_no_refs<std::vector<T, Allocator>> = holds_no_refs<T>;

/// One value, or nothing, to the end of what there is. Throws archive_error (501-504).
template <class T>
T read_whole(input_archive& in) {
  if constexpr (std::is_void_v<T>) {
    in.expect_end();
  } else {
    T value{};
    in(value);
    in.expect_end();
    return value;
  }
}

/// Writes the value and returns what is read from that, as another process of the node would have it. Throws archive_error
/// (501-504).
template <class T, class Core>
T copy_by_archive(Core& core, const T& value) {
  byte_buffer buffer;
  if constexpr (holds_no_refs<T>) {
    output_archive out(buffer);
    out(value);
    const auto bytes = buffer.to_vector();
    input_archive in(bytes);
    return read_whole<T>(in);
  } else {
    object_store& store = core.store();
    ref_sender sender(store, store.process());
    output_archive out(buffer, &sender);
    out(value);
    sender.sent();
    const auto bytes = buffer.to_vector();
    ref_receiver receiver(store);
    input_archive in(bytes, &receiver);
    return read_whole<T>(in);
  }
}
/// Puts such a copy in the place of the value. Throws the same.
template <class T, class Core>
void round_trip(Core& core, T& value) {
  T read = copy_by_archive(core, value);
  if constexpr (std::is_move_assignable_v<T>) {
    value = std::move(read);
  } else {
    std::destroy_at(std::addressof(value));
    std::construct_at(std::addressof(value), std::move(read));
  }
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
