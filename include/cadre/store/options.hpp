#ifndef CADRE_STORE_OPTIONS_HPP
#define CADRE_STORE_OPTIONS_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/core/units.hpp>  // 8_GiB

#include <cstdint>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// How a store is opened.
struct store_options {
  /// Processes of the same user on this node that give the same name share one store. Empty: a store of this process alone.
  std::string name = {};
  /// Bytes of data that it holds at most; the first process to open it decides. 0: the least of 30 % of the machine's
  /// memory and 30 % of the cgroup's limit. Rounded up to 2 MiB; at most 1 TiB.
  std::uint64_t capacity = 0;
  /// A folder on a disk, to which objects go that find no room. Empty: none.
  std::string spill_dir = {};
  /// Objects that it holds at most, rounded up to a power of two, at least 512. The first process to open it decides.
  std::uint32_t max_objects = 1u << 20;
  /// How long a put waits for room before it throws store_full (302).
  std::chrono::nanoseconds put_timeout = std::chrono::seconds(10);
  /// This process's rank, for messages; -1: none.
  int rank = -1;
};

/// How an object is put.
struct put_options {
  /// Others find the object by this name, which holds it until it is erased. Empty: none.
  std::string_view name = {};
  /// May be dropped when memory is short and nobody looks at it: for what can be made again. A get then throws object_gone
  /// (301).
  bool evictable = false;
};

/// What a store holds at a moment. Bytes.
struct store_stats {
  std::uint64_t capacity = 0;
  std::uint64_t used = 0;          ///< by objects, rounded up to what they take
  std::uint64_t pinned = 0;        ///< of objects with a view in some process, or that are being written
  std::uint64_t spilled = 0;       ///< on disk
  std::uint64_t largest_free = 0;  ///< the largest object that could be put without moving others out
  std::uint64_t resident = 0;      ///< memory taken from the system
  std::uint64_t objects = 0;
  std::uint32_t processes = 0;
  /// The share of the free memory that one largest object could not use.
  [[nodiscard]] double fragmentation() const noexcept {
    const std::uint64_t free = capacity - used;
    return free == 0 ? 0 : 1 - static_cast<double>(largest_free) / static_cast<double>(free);
  }
};

CADRE_NAMESPACE_END

#endif
