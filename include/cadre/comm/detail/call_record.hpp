#ifndef CADRE_COMM_DETAIL_CALL_RECORD_HPP
#define CADRE_COMM_DETAIL_CALL_RECORD_HPP

#include <cadre/comm/error.hpp>
#include <cadre/comm/reduce_op.hpp>
#include <cadre/core/data_type.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace detail {

enum class operation : std::uint8_t { barrier, all_reduce, broadcast, reduce_scatter, all_gather, allocate, split };

// Where a rank's buffer lies: segment 0 is the rank's own memory, which only threads of its process reach.
struct place {
  std::uint64_t segment = 0;
  std::uint64_t offset = 0;
};

/// What a rank calls, as its peers see it. All but `where` and `by` must be equal on all ranks.
struct call_record {
  operation what = operation::barrier;
  data_type type = data_type::uint8;  // where `reduces`
  reduce_op op = reduce_op::sum;      // where `reduces`
  bool reduces = false;
  std::int32_t root = -1;
  std::uint64_t count = 0;  // elements where `reduces`, else bytes
  std::uint64_t sequence = 0;
  place where = {};
  char by[16] = "";  // the user's call that makes it, where that is another

  [[nodiscard]] bool agrees_with(const call_record& other) const noexcept {
    return what == other.what && type == other.type && op == other.op && root == other.root && count == other.count &&
           sequence == other.sequence;
  }
};

inline std::string describe(operation what, std::uint64_t sequence) {
  constexpr std::string_view names[] = {"barrier",    "all_reduce", "broadcast", "reduce_scatter",
                                        "all_gather", "allocate",   "split"};
  return std::string(names[static_cast<std::size_t>(what)]) + " #" + std::to_string(sequence);
}

inline std::string describe(const call_record& call) {
  std::string text = describe(call.what, call.sequence);
  if (call.reduces) {
    text += " of " + std::to_string(call.count) + ' ' + std::string(to_string(call.type)) + " with " +
            std::string(to_string(call.op));
  } else if (call.what == operation::broadcast || call.what == operation::all_gather) {
    text += " of " + std::to_string(call.count) + " bytes";
    if (call.root >= 0) text += " from root " + std::to_string(call.root);
  }
  if (call.by[0] != '\0') text += std::string(" for ") + call.by;
  return text;
}

// The calls of every model, checked before anything is sent.

inline std::size_t checked_bytes(std::string_view name, std::size_t count, std::size_t size, int ranks) {
  if (count <= std::numeric_limits<std::size_t>::max() / size / static_cast<std::size_t>(ranks)) return count * size;
  throw collective_argument_error::bad_argument(std::string(name) + ": " + std::to_string(count) + " elements of " +
                                                std::to_string(size) + " bytes on each of " + std::to_string(ranks) +
                                                " ranks are more than can be addressed");
}

inline call_record reduction(operation what, std::size_t count, data_type type, reduce_op op, int ranks) {
  const std::string_view name = what == operation::all_reduce ? "all_reduce" : "reduce_scatter";
  if (!supports(op, type))
    throw collective_argument_error::unsupported_reduction(std::string(name) + ": " + std::string(to_string(op)) +
                                                           " has no meaning for " + std::string(to_string(type)) +
                                                           " elements");
  (void)checked_bytes(name, count, size_of(type), ranks);
  return {.what = what, .type = type, .op = op, .reduces = true, .count = count};
}

inline call_record broadcasting(std::size_t bytes, int root, int ranks) {
  if (root < 0 || root >= ranks)
    throw collective_argument_error::bad_argument("broadcast: root " + std::to_string(root) + " is not one of the " +
                                                  std::to_string(ranks) + " ranks");
  return {.what = operation::broadcast, .root = root, .count = bytes};
}

inline call_record gathering(std::size_t bytes, int ranks) {
  (void)checked_bytes("all_gather", bytes, 1, ranks);
  return {.what = operation::all_gather, .count = bytes};
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif
