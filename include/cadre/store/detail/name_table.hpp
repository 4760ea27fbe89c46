#ifndef CADRE_STORE_DETAIL_NAME_TABLE_HPP
#define CADRE_STORE_DETAIL_NAME_TABLE_HPP

#include <cadre/core/hash.hpp>
#include <cadre/store/detail/arena.hpp>
#include <cadre/store/detail/layout.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Finds objects by their names, under the lock of the store: a table of hashes, chained through the entries, that grows
/// with the names, so that few names take few pages. A short name lies in its entry, a longer one in a block of its own.
/// Nothing throws. Derived: recovery makes the chains anew.
class name_table {
 public:
  explicit name_table(arena& memory) noexcept
      : head_(memory.head()),
        entries_(memory.entries()),
        details_(memory.details()),
        buckets_(memory.buckets()),
        data_(memory.data()) {}

  static std::uint64_t hash(std::string_view name) noexcept { return hash_bytes(std::as_bytes(std::span(name))); }
  /// Whether it lies in the entry.
  static constexpr bool is_short(std::size_t bytes) noexcept { return bytes <= sizeof object_details::short_name; }

  /// The object of that name, or no_index.
  [[nodiscard]] std::uint32_t find(std::string_view name) const noexcept {
    const std::uint64_t wanted = hash(name);
    for (std::uint32_t i = bucket(wanted); i != 0; i = entries_[i - 1].next) {
      const object_details& d = details_[i - 1];
      if (d.name_hash == wanted && d.name_bytes == name.size() &&
          std::memcmp(text(i - 1), name.data(), name.size()) == 0)
        return i - 1;
    }
    return no_index;
  }

  /// The memory of an entry's name, which is present.
  [[nodiscard]] char* text(std::uint32_t i) const noexcept {
    return is_short(details_[i].name_bytes)
               ? details_[i].short_name
               : reinterpret_cast<char*>(data_ + entries_[i].name_offset.load(std::memory_order_relaxed));
  }

  /// Of an entry that says that it is named.
  void add(std::uint32_t i) noexcept {
    if (head_.names >= head_.name_buckets && head_.name_buckets < head_.most_objects)
      grow();  // with this one
    else
      link(i);
  }
  void remove(std::uint32_t i) noexcept {
    for (std::uint32_t* at = &bucket(details_[i].name_hash); *at != 0; at = &entries_[*at - 1].next)
      if (*at == i + 1) {
        *at = entries_[i].next;
        --head_.names;
        return;
      }
  }
  void clear() noexcept {
    head_.names = 0;
    std::memset(buckets_, 0, head_.name_buckets * sizeof(std::uint32_t));
  }
  void link(std::uint32_t i) noexcept {
    std::uint32_t& first = bucket(details_[i].name_hash);
    entries_[i].next = first;
    first = i + 1;  // 0 is the end
    ++head_.names;
  }

 private:
  [[nodiscard]] std::uint32_t& bucket(std::uint64_t hash) const noexcept {
    return buckets_[hash & (head_.name_buckets - 1)];
  }
  void grow() noexcept {
    const std::uint32_t wanted = head_.name_buckets * 4;
    head_.name_buckets = wanted < head_.most_objects ? wanted : head_.most_objects;
    clear();
    for (std::uint32_t i = 0; i < head_.entries_begun; ++i)
      if ((entries_[i].flags & object_named) != 0) link(i);
  }

  store_header& head_;
  object_entry* entries_;
  object_details* details_;
  std::uint32_t* buckets_;
  std::byte* data_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
