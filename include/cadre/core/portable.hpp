#ifndef CADRE_CORE_PORTABLE_HPP
#define CADRE_CORE_PORTABLE_HPP

#include <cadre/config/config.hpp>

#include <concepts>
#include <initializer_list>
#include <iterator>
#include <span>  // brings std::ranges::enable_view
#include <type_traits>

CADRE_NAMESPACE_BEGIN

/// Customisation point: how a T is written to bytes and read back, for types that cannot have a `serialize` of their
/// own. `archive(a, b, ...)` writes or reads any other portable values.
///
///     template <> struct cadre::portable<quaternion> {
///       static void save(auto& archive, const quaternion& q) { archive(q.w(), q.x(), q.y(), q.z()); }
///       static void load(auto& archive, quaternion& q) { ... }
///     };
template <class T>
struct portable;

/// A type for which the above is specialised.
template <class T>
concept custom_portable = requires { sizeof(portable<T>); };

namespace detail {

template <class T>
inline constexpr bool is_reference_like =
    std::is_pointer_v<T> || std::is_member_pointer_v<T> || std::is_null_pointer_v<T>;
template <class T>
inline constexpr bool is_reference_like<std::initializer_list<T>> = true;
// std::reference_wrapper and its like, known by their shape: <functional> takes too long to parse for its name.
template <class T>
  requires requires(const T& t) {
    typename T::type;
    { t.get() } noexcept -> std::same_as<typename T::type&>;
  }
inline constexpr bool is_reference_like<T> = true;

}  // namespace detail

/// A type whose bytes are its value, so that they may be copied to another process: trivially copyable, and no
/// pointer, reference wrapper, iterator, span, string_view or other view. Types that cannot be assigned are not:
/// lambdas with captures and structs with reference members are among them. A pointer inside a struct is invisible to
/// the compiler: such a type needs a `serialize`, which then takes precedence.
template <class T>
concept trivially_portable =
    std::is_object_v<T> && std::is_trivially_copyable_v<T> && std::is_copy_assignable_v<T> && !std::is_array_v<T> &&
    !detail::is_reference_like<T> && !std::ranges::enable_view<T> && !std::input_or_output_iterator<T>;

CADRE_NAMESPACE_END

#endif
