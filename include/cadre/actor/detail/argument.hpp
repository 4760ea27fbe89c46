#ifndef CADRE_ACTOR_DETAIL_ARGUMENT_HPP
#define CADRE_ACTOR_DETAIL_ARGUMENT_HPP

#include <cadre/actor/detail/block.hpp>
#include <cadre/actor/detail/flat.hpp>
#include <cadre/actor/detail/travel.hpp>
#include <cadre/async/future.hpp>
#include <cadre/async/shared_future.hpp>
#include <cadre/store/object_ref.hpp>
#include <cadre/store/stored.hpp>
#include <cadre/store/view.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

struct from_archive {};

/// A type that would hold a copy of what lies in the store.
template <class T>
concept owns_what_is_stored = std::same_as<stored_type_t<T>, T> && !stored_value<T>;
/// Whether a parameter P can show an object stored as an X, where it lies.
template <class P, class X>
concept shows_stored =
    std::is_convertible_v<typename view<X>::shown, P> &&
    (!owns_what_is_stored<std::remove_cvref_t<P>> ||
     (std::is_lvalue_reference_v<P> && std::same_as<typename view<X>::shown, std::remove_reference_t<P>&>));

/// An argument on its way to a parameter declared as P: by value, converted to the parameter's type where the call is made.
template <class P>
class value_argument {
  using type = std::remove_cvref_t<P>;
  static_assert(
      travels<type>,
      "cadre: an argument of this type cannot travel to another process: it is, or holds, a pointer, a view or a "
      "capture, or the archive cannot write and read it; give it a serialize and a default constructor, or "
      "include what cereal has for it (<cereal/types/map.hpp>). What looks at memory (std::span, Eigen::Map, "
      "std::string_view) can be given an object_ref only");

 public:
  /// What it is when it has come to where the call is made.
  using settled = value_argument;
  static constexpr bool may_hold_refs = !holds_no_refs<type>;
  static constexpr bool may_be_block = travels_as_block<type>;
  static constexpr bool is_flat = flat<type>;
  static constexpr std::size_t bytes = sizeof(type);

  template <class A>
  explicit value_argument(A&& a) : value_(static_cast<type>(std::forward<A>(a))) {}
  value_argument(const from_archive&, input_archive& in) : value_{}, has_come_(true) { read_value(in, value_); }
  void save(output_archive& out) const { write_value(out, value_); }
  value_argument(const from_archive&, const std::byte*& at) noexcept
    requires is_flat
      : value_{} {
    at = get_flat(at, value_);
  }
  [[nodiscard]] std::byte* put(std::byte* at) const noexcept { return put_flat(at, value_); }
  [[nodiscard]] bool is_block() const noexcept { return detail::is_block(value_); }
  void each_object(const auto&) const noexcept {}
  template <class Core>
  value_argument settle(Core&) && {
    return std::move(*this);
  }

  template <class Core>
  void pack(Core& core) {
    if (core.packs()) round_trip(core, value_);
  }
  /// For the parameter; a copy, where it is to be called again.
  template <class Core>
  decltype(auto) give(Core& core, bool again) {
    if constexpr (std::is_lvalue_reference_v<P>)
      return static_cast<const type&>(value_);
    else if constexpr (std::copy_constructible<type>)
      return again ? type(value_) : type(std::move(value_));
    else
      return again ? copy_by_archive(core, value_) : type(std::move(value_));
  }
  /// When it has been called, `again`: and may be once more.
  void let_go([[maybe_unused]] bool again) noexcept {
    if constexpr (travels_as_block<type>)
      if (has_come_ && !again && is_block()) spare_blocks<type>::give(std::move(value_), block_of(value_).size());
  }
  template <class Core>
  [[nodiscard]] task_ref<task> comes_from(Core&, bool) const noexcept {
    return {};
  }

 private:
  type value_;
  bool has_come_ = false;  // from another rank
};

/// A stored object that the parameter shows where it lies.
template <class P, class X>
class stored_argument {
  static_assert(
      shows_stored<P, X>,
      "cadre: this parameter would copy the stored object, or cannot show it: a task takes a stored matrix as "
      "Eigen::Map<const M> or Eigen::Ref<const M>, a stored range as std::span<const T>, text as "
      "std::string_view, all else as const T&");

 public:
  using settled = stored_argument;
  static constexpr bool may_hold_refs = true;
  static constexpr bool may_be_block = false;
  static constexpr bool is_flat = false;
  static constexpr std::size_t bytes = 0;

  explicit stored_argument(object_ref<X> ref) : ref_(std::move(ref)) {}
  stored_argument(const from_archive&, input_archive& in) { in(ref_); }
  void save(output_archive& out) const { out(ref_); }
  [[nodiscard]] bool is_block() const noexcept { return false; }
  void each_object(const auto& f) const { f(ref_); }
  /// Throws what the task threw that was to make the object, if that is known here.
  template <class Core>
  stored_argument settle(Core& core) && {
    core.wait_for_maker_of(ref_);
    return std::move(*this);
  }

  template <class Core>
  void pack(Core& core) {
    if (core.packs()) round_trip(core, ref_);
  }
  template <class Core>
  decltype(auto) give(Core& core, bool) {
    view_.emplace(core.get(ref_));
    return **view_;
  }
  void let_go(bool) noexcept { view_.reset(); }
  template <class Core>
  [[nodiscard]] task_ref<task> comes_from(Core& core, bool here) const {
    return core.producer_of(ref_, here);
  }

 private:
  object_ref<X> ref_;
  std::optional<view<X>> view_;
};

/// What another task gives.
template <class P, class Future>
class future_argument {
  using type = std::remove_cvref_t<P>;

 public:
  using settled = value_argument<P>;
  template <class Core>
  value_argument<P> settle(Core&) && {
    return value_argument<P>(std::move(future_).get());
  }

  template <class F>
  explicit future_argument(F&& f) : future_(std::forward<F>(f)) {
    if (!future_.valid()) throw empty_future("an argument that depends");
  }

  template <class Core>
  decltype(auto) give(Core& core, bool again) {
    if (error_) std::rethrow_exception(error_);
    if (!value_) {
      try {
        value_.emplace(std::move(future_).get());
      } catch (...) {
        if (again) error_ = std::current_exception();
        throw;
      }
      value_->pack(core);
    }
    return value_->give(core, again);
  }
  void pack(const auto&) noexcept {}  // when it is there
  void each_object(const auto&) const noexcept {}
  void let_go(bool) noexcept {}
  template <class Core>
  [[nodiscard]] task_ref<task> comes_from(Core&, bool) const noexcept {
    return future_access::task_of(future_);
  }

 private:
  Future future_;
  std::optional<value_argument<P>> value_;
  std::exception_ptr error_;  // for the next try
};

/// How an argument given as an A waits for a parameter declared as P.
template <class P, class A>
consteval auto argument_kind() {
  using parameter = std::remove_cvref_t<P>;
  using given = std::decay_t<A>;
  static_assert(!std::is_lvalue_reference_v<P> || std::is_const_v<std::remove_reference_t<P>>,
                "cadre: a task cannot write to a variable of its caller: take the argument by value or by const&, and "
                "return what is changed");
  static_assert(!is_view<given>, "cadre: a view is of this process's memory: give the task the object_ref");
  if constexpr (is_object_ref<given> && !is_object_ref<parameter>) {
    return []<class X>(object_ref<X>*) {
      return std::type_identity<stored_argument<P, X>>();
    }(static_cast<given*>(nullptr));
  } else if constexpr (is_future<given>) {
    static_assert(std::is_convertible_v<typename given::value_type, parameter>,
                  "cadre: what this future gives cannot be converted to the parameter");
    return std::type_identity<future_argument<P, given>>();
  } else {
    static_assert(std::is_convertible_v<A, parameter>, "cadre: this argument cannot be converted to the parameter");
    return std::type_identity<value_argument<P>>();
  }
}
template <class P, class A>
using argument = typename decltype(argument_kind<P, A>())::type;

}  // namespace detail
CADRE_NAMESPACE_END

#endif
