#ifndef CADRE_COMM_COLLECTIVES_HPP
#define CADRE_COMM_COLLECTIVES_HPP

#include <cadre/comm/buffer.hpp>
#include <cadre/comm/error.hpp>
#include <cadre/comm/reduce_op.hpp>
#include <cadre/core/contiguous.hpp>
#include <cadre/core/data_type.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

template <class R>
using element_of = typename contiguous_traits<std::remove_cvref_t<R>>::element;

// A vector that dies at the end of the statement would take the result with it; a span or a map does not.
template <class R>
inline constexpr bool dies_with_result =
    !std::is_lvalue_reference_v<R> && requires { typename std::remove_cvref_t<R>::allocator_type; };

template <class R>
inline constexpr bool writable =
    !std::is_const_v<std::remove_reference_t<decltype(*elements(std::declval<R&>()).data())>>;

template <class T>
inline constexpr bool copies_as_bytes =
    std::is_trivially_copyable_v<T> && !std::is_pointer_v<T> && !std::is_member_pointer_v<T>;

template <class R>
constexpr void check_result() {
  static_assert(writable<R>, "the elements of this range are const: the result has nowhere to go");
  static_assert(!dies_with_result<R>,
                "this container is a temporary: the result would be lost; pass a named one or a span");
}

template <class T>
constexpr void check_reducible() {
  static_assert(reducible<T>, "only the integer types, float and double can be reduced (bool: reduce an int)");
}

template <class T>
constexpr void check_bytes() {
  static_assert(copies_as_bytes<T>, "only trivially copyable elements that are not pointers travel between ranks");
}

}  // namespace detail

/// The typed face that every communicator offers: derive from it and implement the operations on bytes of the
/// `communicator` concept. Ranges are anything `cadre::contiguous` (vector, span, array, Eigen matrices and maps with
/// cadre/eigen.hpp); views may be temporaries. Every rank calls with the same types, counts and arguments.
/// Throws what the concept lists: 401 to 403, 404 and 405.
template <class Derived>
class collectives {
 public:
  /// Replaces each element, on every rank, by its reduction over all ranks.
  template <contiguous R>
  void all_reduce(R&& range, reduce_op op) {
    using element = detail::element_of<R>;
    detail::check_result<R>();
    detail::check_reducible<element>();
    if constexpr (reducible<element> && detail::writable<R>) {
      const auto all = elements(range);
      self().all_reduce_bytes(all.data(), all.size(), data_type_of<element>, op);
    }
  }

  /// The reduction of one value per rank, returned on every rank.
  template <class T>
    requires(!contiguous<T>)
  [[nodiscard]] T all_reduce(T value, reduce_op op) {
    detail::check_reducible<T>();
    if constexpr (reducible<T>) self().all_reduce_bytes(&value, 1, data_type_of<T>, op);
    return value;
  }

  /// Replaces the elements on every rank by those of `root`.
  template <contiguous R>
  void broadcast(R&& range, int root) {
    detail::check_result<R>();
    detail::check_bytes<detail::element_of<R>>();
    if constexpr (detail::writable<R> && detail::copies_as_bytes<detail::element_of<R>>) {
      const auto all = elements(range);
      self().broadcast_bytes(all.data(), all.size_bytes(), root);
    }
  }

  /// The value that `root` passed, returned on every rank.
  template <class T>
    requires(!contiguous<T>)
  [[nodiscard]] T broadcast(T value, int root) {
    detail::check_bytes<T>();
    if constexpr (detail::copies_as_bytes<T>) self().broadcast_bytes(&value, sizeof(T), root);
    return value;
  }

  /// Rank r gets the reduction of part r of every rank's `in`, where in.size() == world_size() * out.size(). `out` may
  /// be part rank() of `in`, and otherwise does not overlap it. Other parts of `in` stay as they were.
  template <contiguous In, contiguous Out>
  void reduce_scatter(const In& in, Out&& out, reduce_op op) {
    using element = detail::element_of<Out>;
    static_assert(std::is_same_v<detail::element_of<In>, element>, "reduce_scatter: in and out differ in element type");
    detail::check_result<Out>();
    detail::check_reducible<element>();
    if constexpr (reducible<element> && detail::writable<Out>) {
      const auto from = elements(in);
      const auto to = elements(out);
      check_sizes("reduce_scatter", "in", from.size(), "out", to.size());
      check_overlap("reduce_scatter", "in", from.data(), "out", to.data(), to.size_bytes());
      self().reduce_scatter_bytes(from.data(), to.data(), to.size(), data_type_of<element>, op);
    }
  }

  /// Every rank gets every rank's `in`, in rank order, where out.size() == world_size() * in.size(). `in` may be part
  /// rank() of `out`, and otherwise does not overlap it.
  template <contiguous In, contiguous Out>
  void all_gather(const In& in, Out&& out) {
    using element = detail::element_of<Out>;
    static_assert(std::is_same_v<detail::element_of<In>, element>, "all_gather: in and out differ in element type");
    detail::check_result<Out>();
    detail::check_bytes<element>();
    if constexpr (detail::writable<Out> && detail::copies_as_bytes<element>) {
      const auto from = elements(in);
      const auto to = elements(out);
      check_sizes("all_gather", "out", to.size(), "in", from.size());
      check_overlap("all_gather", "out", to.data(), "in", from.data(), from.size_bytes());
      self().all_gather_bytes(from.data(), to.data(), from.size_bytes());
    }
  }

  /// One value of every rank, in rank order.
  template <class T>
    requires(!contiguous<T>)
  [[nodiscard]] std::vector<T> all_gather(const T& value) {
    detail::check_bytes<T>();
    static_assert(!std::is_same_v<T, bool>, "vector<bool> has no elements to gather into: gather a char");
    std::vector<T> all(static_cast<std::size_t>(self().world_size()));
    if constexpr (detail::copies_as_bytes<T> && !std::is_same_v<T, bool>)
      self().all_gather_bytes(&value, all.data(), sizeof(T));
    return all;
  }

  /// Zeroed memory for `n` elements that this communicator reduces fastest. Every rank calls it; `n` may differ.
  template <class T>
  [[nodiscard]] buffer<T> allocate(std::size_t n) {
    static_assert(alignof(T) <= 64, "allocate: memory of communicators is aligned to 64 bytes, this type needs more");
    if (n > std::numeric_limits<std::size_t>::max() / sizeof(T))
      throw collective_argument_error::bad_argument("allocate: " + std::to_string(n) + " elements of " +
                                                    std::to_string(sizeof(T)) +
                                                    " bytes are more than can be addressed");
    return buffer<T>(self().allocate_bytes(n * sizeof(T)), n);
  }

 protected:
  collectives() = default;
  ~collectives() = default;
  collectives(const collectives&) = default;
  collectives& operator=(const collectives&) = default;

 private:
  Derived& self() noexcept { return static_cast<Derived&>(*this); }

  void check_sizes(std::string_view operation, std::string_view whole_name, std::size_t whole,
                   std::string_view part_name, std::size_t part) {
    const auto ranks = static_cast<std::size_t>(self().world_size());
    if (whole / ranks == part && whole % ranks == 0) return;
    throw collective_argument_error::bad_argument(std::string(operation) + ": " + std::string(whole_name) + " has " +
                                                  std::to_string(whole) + " elements, but " + std::to_string(ranks) +
                                                  " ranks and " + std::to_string(part) + " elements of " +
                                                  std::string(part_name) + " need " + std::to_string(part * ranks));
  }

  // One rank would write what another still reads.
  void check_overlap(std::string_view operation, std::string_view whole_name, const void* whole,
                     std::string_view part_name, const void* part, std::size_t part_bytes) {
    const auto begin = reinterpret_cast<std::uintptr_t>(whole), at = reinterpret_cast<std::uintptr_t>(part);
    const std::size_t bytes = part_bytes * static_cast<std::size_t>(self().world_size());
    if (at + part_bytes <= begin || begin + bytes <= at) return;
    if (at == begin + part_bytes * static_cast<std::size_t>(self().rank())) return;
    throw collective_argument_error::bad_argument(
        std::string(operation) + ": " + std::string(part_name) + " overlaps " + std::string(whole_name) +
        ", and is not part " + std::to_string(self().rank()) + " of it: pass memory apart, or this rank's part");
  }
};

CADRE_NAMESPACE_END

#endif
