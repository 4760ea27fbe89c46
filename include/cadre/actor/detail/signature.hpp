#ifndef CADRE_ACTOR_DETAIL_SIGNATURE_HPP
#define CADRE_ACTOR_DETAIL_SIGNATURE_HPP

#include <cadre/archive/type_label.hpp>
#include <cadre/async/future.hpp>
#include <cadre/config/config.hpp>

#include <cstddef>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>

CADRE_NAMESPACE_BEGIN
namespace detail {

template <class... P>
struct parameter_list {
  static constexpr std::size_t size = sizeof...(P);
};

/// What a function returns, and that of a function that returns a future: a coroutine, say.
template <class R>
struct returned {
  using result = std::remove_cvref_t<R>;
  static constexpr bool is_future = false;
};
template <class R>
struct returned<future<R>> {
  using result = R;
  static constexpr bool is_future = true;
};

/// What a function or method takes and gives. `object` is the class of a method, else void; `result` what a future of the
/// function's own gives, which `gives_future` says.
template <class F>
struct signature {
  static constexpr bool is_known = false;
};
template <class R, class Object, class... P>
struct known_signature {
  static constexpr bool is_known = true;
  using result = typename returned<R>::result;
  using object = Object;
  using parameters = parameter_list<P...>;
  static constexpr bool gives_future = returned<R>::is_future;
  static constexpr bool takes_stop = false;
};
template <class R, class Object, class... P>
struct known_signature<R, Object, std::stop_token, P...> {
  static constexpr bool is_known = true;
  using result = typename returned<R>::result;
  using object = Object;
  using parameters = parameter_list<P...>;
  static constexpr bool gives_future = returned<R>::is_future;
  static constexpr bool takes_stop = true;
};

template <class R, class... P>
struct signature<R (*)(P...)> : known_signature<R, void, P...> {};
template <class R, class... P>
struct signature<R (*)(P...) noexcept> : known_signature<R, void, P...> {};
template <class R, class T, class... P>
struct signature<R (T::*)(P...)> : known_signature<R, T, P...> {};
template <class R, class T, class... P>
struct signature<R (T::*)(P...) const> : known_signature<R, T, P...> {};
template <class R, class T, class... P>
struct signature<R (T::*)(P...) noexcept> : known_signature<R, T, P...> {};
template <class R, class T, class... P>
struct signature<R (T::*)(P...) const noexcept> : known_signature<R, T, P...> {};

// A lambda without captures, of which the operator is the function.
template <class R, class T, class... P>
known_signature<R, void, P...> signature_of_operator(R (T::*)(P...) const);
template <class R, class T, class... P>
known_signature<R, void, P...> signature_of_operator(R (T::*)(P...) const noexcept);
template <class F>
  requires(std::is_class_v<F> && requires { signature_of_operator(&F::operator()); })
struct signature<F> : decltype(signature_of_operator(&F::operator())) {};

template <auto F>
using signature_of = signature<std::remove_cv_t<decltype(F)>>;

template <auto F>
struct named_function {};
/// "counter::increment", as in the source.
template <auto F>
const std::string& function_name() {
  static const std::string name = [] {
    std::string text = type_name(typeid(named_function<F>));  // named_function<&(counter::increment(int))>
    text.erase(0, text.find('<') + 1).pop_back();
    if (text.starts_with('&')) text.erase(0, 1);
    if (text.starts_with('(')) text = text.substr(1, text.size() - 2);
    if (text.starts_with('&')) text.erase(0, 1);
    if (text.ends_with(')') || text.ends_with(") const")) {
      std::size_t begin = text.rfind(')');
      for (int open = 1; open != 0 && begin != 0;) {
        --begin;
        open += text[begin] == ')' ? 1 : text[begin] == '(' ? -1 : 0;
      }
      text.erase(begin);
    }
    return text;
  }();
  return name;
}

template <class T>
const std::string& constructor_name() {
  static const std::string name = "the constructor of " + type_name(typeid(T));
  return name;
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
