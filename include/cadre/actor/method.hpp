#ifndef CADRE_ACTOR_METHOD_HPP
#define CADRE_ACTOR_METHOD_HPP

#include <cadre/config/config.hpp>

CADRE_NAMESPACE_BEGIN

namespace detail {

template <class Signature>
struct method_of;
template <class R, class... P>
struct method_of<R(P...)> {
  template <class T>
  constexpr auto operator()(R (T::*m)(P...)) const noexcept {
    return m;
  }
  template <class T>
  constexpr auto operator()(R (T::*m)(P...) const) const noexcept {
    return m;
  }
  constexpr auto operator()(R (*f)(P...)) const noexcept { return f; }
};
template <class R, class... P>
struct method_of<R(P...) const> {
  template <class T>
  constexpr auto operator()(R (T::*m)(P...) const) const noexcept {
    return m;
  }
};

}  // namespace detail

/// Names one of several functions of a name: `c.call<cadre::method<int(int)>(&counter::add)>(3)`; of two that differ in
/// const alone, `cadre::method<int() const>(&counter::at)`.
template <class Signature>
inline constexpr detail::method_of<Signature> method{};

CADRE_NAMESPACE_END

#endif
