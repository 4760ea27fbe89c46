#ifndef CADRE_ACTOR_DETAIL_BOUND_CALL_HPP
#define CADRE_ACTOR_DETAIL_BOUND_CALL_HPP

#include <cadre/actor/detail/argument.hpp>
#include <cadre/actor/detail/signature.hpp>
#include <cadre/async/future.hpp>
#include <cadre/core/function.hpp>

#include <concepts>
#include <cstddef>
#include <memory>
#include <stop_token>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A function that was named at compile time, with its arguments. Core has the store of the objects among them.
template <auto F, class Core, class... Arguments>
class bound_call {
  using known = signature_of<F>;

 public:
  using result = typename known::result;
  /// True if a call gives a future<result>, until which this has to live.
  static constexpr bool gives_future = known::gives_future;
  using given = std::conditional_t<gives_future, future<result>, result>;
  /// When all arguments are there.
  using settled = bound_call<F, Core, typename Arguments::settled...>;
  static constexpr bool may_hold_refs = (Arguments::settled::may_hold_refs || ...);
  static constexpr bool may_have_blocks = (Arguments::settled::may_be_block || ...);
  static constexpr std::size_t bytes = (Arguments::settled::bytes + ... + 0);
  /// Few bytes, which are read and written without an archive.
  static constexpr bool is_flat = (Arguments::settled::is_flat && ...) && bytes <= 512;

  template <class... A>
    requires(sizeof...(A) == sizeof...(Arguments) && (std::constructible_from<Arguments, A> && ...))
  explicit bound_call(Core& core, A&&... arguments) : core_(&core), arguments_(std::forward<A>(arguments)...) {
    std::apply([&](Arguments&... a) { (a.pack(core), ...); }, arguments_);
  }

  explicit bound_call(Core& core, std::tuple<Arguments...> arguments)
      : core_(&core), arguments_(std::move(arguments)) {}
  /// As save() wrote it. Throws archive_error (501-504).
  static bound_call read(Core& core, input_archive& in) {
    bound_call call(core, std::tuple<Arguments...>{Arguments(from_archive{}, in)...});  // in braces: in this order
    in.expect_end();
    return call;
  }
  void save(output_archive& out) const {
    std::apply([&](const Arguments&... a) { (a.save(out), ...); }, arguments_);
  }
  /// From `bytes` bytes, as put() wrote them.
  static bound_call read_flat(Core& core, [[maybe_unused]] const std::byte* at) noexcept {
    return bound_call(core, std::tuple<Arguments...>{Arguments(from_archive{}, at)...});  // in braces: in this order
  }
  void put(std::byte* at) const noexcept {
    std::apply([&](const Arguments&... a) { ((at = a.put(at)), ...); }, arguments_);
  }
  /// Of one that is settled: whether it is worth being kept until its arguments have left.
  [[nodiscard]] bool has_blocks() const noexcept {
    return std::apply([](const Arguments&... a) { return (a.is_block() || ...); }, arguments_);
  }
  /// Calls `f` with each object_ref that is to be shown.
  void each_object(const auto& f) const {
    std::apply([&](const Arguments&... a) { (a.each_object(f), ...); }, arguments_);
  }
  /// Waits for those that others give.
  settled settle() && {
    return std::apply(
        [&](Arguments&... a) {
          return settled(*core_, std::tuple<typename Arguments::settled...>(std::move(a).settle(*core_)...));
        },
        arguments_);
  }

  /// `front` stands before the arguments: an object, a std::stop_token. With `again` it can be called once more.
  template <class... Front>
  given operator()(bool again, Front&&... front) {
    const auto call = [&]() -> given {
      return std::apply(
          [&](Arguments&... a) -> given {
            return detail::invoke(F, std::forward<Front>(front)..., a.give(*core_, again)...);
          },
          arguments_);
    };
    if constexpr (gives_future) {
      return call();
    } else if constexpr (std::is_void_v<result>) {
      const let_go_at_end end{*this, again};
      call();
    } else {
      const let_go_at_end end{*this, again};
      result r = call();
      pack(r);
      return r;
    }
  }
  /// The result is as another process would have it.
  void pack(auto& r) {
    if (core_->packs()) [[unlikely]]
      round_trip(*core_, r);
  }

  /// The tasks that give arguments; also those that bring objects from other nodes, if it is to be called `here`.
  void add_sources(std::vector<task_ref<task>>& to, bool here) const {
    const auto add = [&](const auto& a) {
      if (task_ref<task> t = a.comes_from(*core_, here); t && !t->done()) to.push_back(std::move(t));
    };
    std::apply([&](const Arguments&... a) { (add(a), ...); }, arguments_);
  }

 private:
  struct let_go_at_end {
    bound_call& call;
    bool again;
    ~let_go_at_end() {
      std::apply([&](Arguments&... a) { (a.let_go(again), ...); }, call.arguments_);
    }
  };

  Core* core_;
  std::tuple<Arguments...> arguments_;
};

/// What writes a settled call into a message.
template <class Call>
struct flat_call {
  static constexpr std::size_t flat_bytes = Call::bytes;
  const Call& call;
  void put(std::byte* at) const noexcept { call.put(at); }
};
template <class Call>
auto writer_of(const Call& call) {
  if constexpr (Call::is_flat)
    return flat_call<Call>{call};
  else
    return [&call](output_archive& out) { call.save(out); };
}

/// Sends a settled call by `send(call, keep)`: one with blocks is kept until they have left.
template <class Call, class Send>
auto send_kept(Call call, Send&& send) {
  if constexpr (Call::may_have_blocks)
    if (call.has_blocks()) {
      const auto kept = std::make_shared<const Call>(std::move(call));
      return send(*kept, kept);
    }
  return send(std::as_const(call), std::shared_ptr<const Call>());
}

template <auto F, class... A>
consteval void check_call() {
  using known = signature_of<F>;
  static_assert(known::is_known,
                "cadre: name a function (&f), a method (&T::m), or a lambda without captures that is not generic");
  if constexpr (known::is_known) {
    static_assert(known::parameters::size == sizeof...(A), "cadre: this call has too few or too many arguments");
    static_assert(
        travels<typename known::result>,
        "cadre: the result of this function cannot travel to another process: it is, or holds, a pointer or a "
        "view, or the archive cannot write and read it");
  }
}

template <auto F, class Core, class... A>
auto bind_call(Core& core, A&&... arguments) {
  check_call<F, A...>();
  return [&]<class... P>(parameter_list<P...>) {
    return bound_call<F, Core, argument<P, A>...>(core, std::forward<A>(arguments)...);
  }(typename signature_of<F>::parameters());
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
