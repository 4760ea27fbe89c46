#ifndef CADRE_CORE_FUNCTION_HPP
#define CADRE_CORE_FUNCTION_HPP

#include <cadre/config/config.hpp>

#include <concepts>
#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace detail {

// std::invoke without <functional>, whose parse time every user would pay.
template <class F, class... Args>
constexpr decltype(auto) invoke(F&& f, Args&&... args) noexcept(std::is_nothrow_invocable_v<F, Args...>) {
  return std::forward<F>(f)(std::forward<Args>(args)...);
}

template <class Object>
constexpr decltype(auto) object_of(Object&& object) {
  if constexpr (std::is_pointer_v<std::remove_cvref_t<Object>>)
    return *object;
  else
    return std::forward<Object>(object);
}

template <class Member, class Class, class Object, class... Args>
constexpr decltype(auto) invoke(Member Class::*member, Object&& object, Args&&... args) {
  const auto call = [&]<class Target>(Target&& target) -> decltype(auto) {
    if constexpr (std::is_function_v<Member>)
      return (std::forward<Target>(target).*member)(std::forward<Args>(args)...);
    else
      return (std::forward<Target>(target).*member);
  };
  if constexpr (std::is_base_of_v<Class, std::remove_cvref_t<Object>> || std::is_pointer_v<std::remove_cvref_t<Object>>)
    return call(object_of(std::forward<Object>(object)));
  else if constexpr (requires { *object; })  // a smart pointer
    return call(*std::forward<Object>(object));
  else
    return call(object.get());  // a reference_wrapper
}

}  // namespace detail

template <class Signature>
class move_only_function;

namespace detail {

template <class T>
inline constexpr bool is_move_only_function = false;
template <class Signature>
inline constexpr bool is_move_only_function<move_only_function<Signature>> = true;

}  // namespace detail

/// A callable of any type that need not be copyable, as std::move_only_function of C++23. Callables of up to 48 bytes
/// whose move does not throw lie inside the object; larger ones cost one allocation. Calling an empty one is undefined.
///
/// Thread-safety: as that of the callable; calls of one object from two threads are the user's to order.
template <class R, class... Args>
class move_only_function<R(Args...)> {
 public:
  /// Bytes that a callable may have to need no allocation.
  static constexpr std::size_t capacity = 48;

  move_only_function() noexcept = default;
  move_only_function(std::nullptr_t) noexcept {}

  template <class F>
    requires(!std::same_as<std::remove_cvref_t<F>, move_only_function> &&
             std::is_invocable_r_v<R, std::decay_t<F>&, Args...> && std::constructible_from<std::decay_t<F>, F>)
  move_only_function(F&& f) {
    using callable_type = std::decay_t<F>;
    if constexpr (std::is_pointer_v<std::remove_cvref_t<F>> ||
                  std::is_member_pointer_v<callable_type>)  // not of functions by name
      if (f == nullptr) return;
    if constexpr (detail::is_move_only_function<callable_type>)  // of another signature
      if (!f) return;
    if constexpr (fits<callable_type>) {
      ::new (static_cast<void*>(storage_)) callable_type(std::forward<F>(f));
      operations_ = &inside<callable_type>;
    } else {
      ::new (static_cast<void*>(storage_)) callable_type*(new callable_type(std::forward<F>(f)));
      operations_ = &outside<callable_type>;
    }
  }

  move_only_function(move_only_function&& other) noexcept { take(other); }
  move_only_function& operator=(move_only_function&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  move_only_function& operator=(std::nullptr_t) noexcept {
    reset();
    return *this;
  }
  ~move_only_function() { reset(); }

  R operator()(Args... args) { return operations_->call(storage_, std::forward<Args>(args)...); }

  [[nodiscard]] explicit operator bool() const noexcept { return operations_ != nullptr; }
  friend bool operator==(const move_only_function& f, std::nullptr_t) noexcept { return !f; }
  friend void swap(move_only_function& a, move_only_function& b) noexcept {
    move_only_function c(std::move(a));
    a = std::move(b);
    b = std::move(c);
  }

 private:
  struct operations {
    R (*call)(std::byte*, Args&&...);
    void (*move)(std::byte* from, std::byte* to) noexcept;  // leaves nothing behind
    void (*destroy)(std::byte*) noexcept;
  };

  template <class F>
  static constexpr bool fits =
      sizeof(F) <= capacity && alignof(F) <= alignof(std::max_align_t) && std::is_nothrow_move_constructible_v<F>;

  template <class F>
  static F& at(std::byte* storage) noexcept {
    return *std::launder(reinterpret_cast<F*>(storage));
  }

  template <class F>
  static R call(F& f, Args&&... args) {
    if constexpr (std::is_void_v<R>)
      detail::invoke(f, std::forward<Args>(args)...);
    else
      return detail::invoke(f, std::forward<Args>(args)...);
  }

  template <class F>
  static constexpr operations inside = {
      [](std::byte* storage, Args&&... args) -> R { return call(at<F>(storage), std::forward<Args>(args)...); },
      [](std::byte* from, std::byte* to) noexcept {
        ::new (static_cast<void*>(to)) F(std::move(at<F>(from)));
        at<F>(from).~F();
      },
      [](std::byte* storage) noexcept { at<F>(storage).~F(); }};

  template <class F>
  static constexpr operations outside = {
      [](std::byte* storage, Args&&... args) -> R { return call(*at<F*>(storage), std::forward<Args>(args)...); },
      [](std::byte* from, std::byte* to) noexcept { ::new (static_cast<void*>(to)) F*(at<F*>(from)); },
      [](std::byte* storage) noexcept { delete at<F*>(storage); }};

  void take(move_only_function& other) noexcept {
    if (!other.operations_) return;
    other.operations_->move(other.storage_, storage_);
    operations_ = std::exchange(other.operations_, nullptr);
  }
  void reset() noexcept {
    if (operations_) std::exchange(operations_, nullptr)->destroy(storage_);
  }

  alignas(std::max_align_t) std::byte storage_[capacity];
  const operations* operations_ = nullptr;
};

CADRE_NAMESPACE_END

#endif
