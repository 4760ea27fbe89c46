#ifndef CADRE_CORE_CONTIGUOUS_HPP
#define CADRE_CORE_CONTIGUOUS_HPP

#include <cadre/config/config.hpp>

#include <cstddef>
#include <span>  // brings the concepts of ranges; <ranges>, with its views, would cost as much again as <string>
#include <type_traits>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Customisation point: how a T is seen as one run of elements without a copy. Given for contiguous sized ranges
/// (vector, span, array); cadre/eigen.hpp gives it for Eigen's dense matrices; specialise it for a type of your own:
///
///     element                         the element type
///     elements(T&)                    std::span over all elements, in memory order
///     shape(const T&)                 extents, outermost first, for messages and agreement between ranks
///     view, const_view                what looks at memory that somebody else owns
///     map(element*, extents...)       makes such a view; of const elements, a const_view
///     count(extents...)               elements that a T of these extents has
template <class T>
struct contiguous_traits;

template <class T>
  requires std::ranges::contiguous_range<T> && std::ranges::sized_range<T>
struct contiguous_traits<T> {
  using element = std::remove_cv_t<std::ranges::range_value_t<T>>;
  using view = std::span<element>;
  using const_view = std::span<const element>;
  template <class R>
  static auto elements(R& range) noexcept {
    return std::span(std::ranges::data(range), static_cast<std::size_t>(std::ranges::size(range)));
  }
  static std::vector<std::size_t> shape(const T& range) { return {static_cast<std::size_t>(std::ranges::size(range))}; }
  static view map(element* data, std::size_t n) noexcept { return {data, n}; }
  static const_view map(const element* data, std::size_t n) noexcept { return {data, n}; }
  static std::size_t count(std::size_t n) noexcept { return n; }
};

/// A type whose elements can be seen in place.
template <class T>
concept contiguous = requires(std::remove_reference_t<T>& t) {
  typename contiguous_traits<std::remove_cvref_t<T>>::element;
  { contiguous_traits<std::remove_cvref_t<T>>::elements(t).data() };
};

/// All elements of `t`, in memory order; nothing is copied.
template <contiguous T>
[[nodiscard]] auto elements(T&& t) noexcept(noexcept(contiguous_traits<std::remove_cvref_t<T>>::elements(t))) {
  return contiguous_traits<std::remove_cvref_t<T>>::elements(t);
}

CADRE_NAMESPACE_END

#endif
