#ifndef CADRE_COMM_DETAIL_REDUCE_TREE_HPP
#define CADRE_COMM_DETAIL_REDUCE_TREE_HPP

#include <cadre/comm/detail/copy_bytes.hpp>
#include <cadre/comm/reduce_op.hpp>
#include <cadre/core/data_type.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>

CADRE_NAMESPACE_BEGIN

namespace detail {

// Blocks that stay in the first-level cache while the tree over the ranks is folded.
inline constexpr std::size_t reduce_block_bytes = 4096;

// a = a op b, for numbers and for vectors of them (the compilers' vector extension), both unsigned where the integer
// result may wrap around. By reference, as passing vectors by value depends on the target's ABI.
template <reduce_op Op, class V>
inline void combine_into(V& a, const V& b) noexcept {
  if constexpr (Op == reduce_op::sum) a = static_cast<V>(a + b);
  if constexpr (Op == reduce_op::product && std::is_integral_v<V>) a = static_cast<V>(1u * a * b);  // not in int
  if constexpr (Op == reduce_op::product && !std::is_integral_v<V>) a = a * b;
  // Written so that a NaN on either side stays.
  if constexpr (Op == reduce_op::min) a = ((b < a) | (b != b)) ? b : a;
  if constexpr (Op == reduce_op::max) a = ((a < b) | (b != b)) ? b : a;
  if constexpr (Op == reduce_op::bit_and) a = static_cast<V>(a & b);
  if constexpr (Op == reduce_op::bit_or) a = static_cast<V>(a | b);
}

// out[i] = a[i] op b[i] for `bytes` bytes; `out` may be `a`, and is otherwise apart from both.
using combine_function = void (*)(std::byte* out, const std::byte* a, const std::byte* b, std::size_t bytes) noexcept;

template <reduce_op Op, class T>
void combine_bytes(std::byte* out, const std::byte* a, const std::byte* b, std::size_t bytes) noexcept {
  constexpr bool compares = Op == reduce_op::min || Op == reduce_op::max;
  using number = typename std::conditional_t<std::is_floating_point_v<T> || compares, std::type_identity<T>,
                                             std::make_unsigned<T>>::type;
  // Vector types by hand: the same code at -O2 and -O3, whatever the compiler can prove about aliasing.
  typedef number vector __attribute__((vector_size(register_bytes)));
  std::size_t at = 0;
  for (; at + sizeof(vector) <= bytes; at += sizeof(vector)) {
    vector x, y;
    std::memcpy(&x, a + at, sizeof x);
    std::memcpy(&y, b + at, sizeof y);
    combine_into<Op>(x, y);
    std::memcpy(out + at, &x, sizeof x);
  }
  for (; at < bytes; at += sizeof(number)) {
    number x, y;
    std::memcpy(&x, a + at, sizeof x);
    std::memcpy(&y, b + at, sizeof y);
    combine_into<Op>(x, y);
    std::memcpy(out + at, &x, sizeof x);
  }
}

/// The loop for one type and operation; null where the operation has no meaning for the type. A template so that only
/// those who reduce pay to compile all the loops.
template <class Type>
combine_function combiner(Type type, reduce_op op) {
  return visit(type, []<class T>(T) -> const combine_function* {
    if constexpr (std::is_floating_point_v<T>) {
      static constexpr combine_function all[] = {combine_bytes<reduce_op::sum, T>,
                                                 combine_bytes<reduce_op::product, T>,
                                                 combine_bytes<reduce_op::min, T>,
                                                 combine_bytes<reduce_op::max, T>,
                                                 nullptr,
                                                 nullptr};
      return all;
    } else {
      static constexpr combine_function all[] = {
          combine_bytes<reduce_op::sum, T>, combine_bytes<reduce_op::product, T>, combine_bytes<reduce_op::min, T>,
          combine_bytes<reduce_op::max, T>, combine_bytes<reduce_op::bit_and, T>, combine_bytes<reduce_op::bit_or, T>};
      return all;
    }
  })[static_cast<std::size_t>(op)];
}

// The tree over sources[0..n), split at the largest power of two below n, for one block at `offset` of each source.
inline void reduce_block(std::byte* out, const std::byte* const* sources, std::size_t n, std::size_t offset,
                         std::size_t bytes, combine_function combine) noexcept {
  if (n == 1) {
    copy_bytes(out, sources[0] + offset, bytes);
  } else if (n == 2) {
    combine(out, sources[0] + offset, sources[1] + offset, bytes);
  } else {
    const std::size_t left = std::bit_floor(n - 1);
    reduce_block(out, sources, left, offset, bytes, combine);
    if (n - left == 1) {
      combine(out, out, sources[left] + offset, bytes);
    } else {
      alignas(64) std::byte right[reduce_block_bytes];
      reduce_block(right, sources + left, n - left, offset, bytes, combine);
      combine(out, out, right, bytes);
    }
  }
}

/// Reduces bytes [begin, end) of the sources and writes them at the same offset of every target. A target may be a
/// source; otherwise they are apart.
inline void reduce_tree(std::span<const std::byte* const> sources, std::span<std::byte* const> targets,
                        std::size_t begin, std::size_t end, combine_function combine) noexcept {
  alignas(64) std::byte block[reduce_block_bytes];
  for (std::size_t offset = begin; offset < end; offset += reduce_block_bytes) {
    const std::size_t bytes = std::min(reduce_block_bytes, end - offset);
    reduce_block(block, sources.data(), sources.size(), offset, bytes, combine);
    for (std::byte* target : targets) copy_bytes(target + offset, block, bytes);
  }
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif
