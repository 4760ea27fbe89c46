#ifndef CADRE_STORE_DETAIL_FAR_ENTRIES_HPP
#define CADRE_STORE_DETAIL_FAR_ENTRIES_HPP

#include <cadre/store/detail/held_object.hpp>
#include <cadre/store/detail/store_core.hpp>
#include <cadre/store/detail/store_lock.hpp>
#include <cadre/store/error.hpp>
#include <cadre/store/options.hpp>
#include <cadre/store/stored.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <source_location>
#include <string>

CADRE_NAMESPACE_BEGIN

/// An object as other nodes know it: which one of which store, and what it is. Trivially copyable, to be sent as it is.
struct object_origin {
  std::array<std::uint64_t, 2> store{};
  std::uint32_t index = 0;
  std::uint32_t generation = 0;
  std::uint64_t bytes = 0;
  std::uint64_t type = 0;
};

namespace detail {

/// Entries of a store as other processes and nodes name them. Thread-safety: all functions, from any thread.
class far_entries {
 public:
  explicit far_entries(store_core& core) noexcept : core_(core), table_(core.table()) {}

  /// No other object of this store has, or has had, the same.
  [[nodiscard]] std::uint64_t key(std::uint32_t i) const noexcept { return key(i, core_.word(i).generation()); }
  static std::uint64_t key(std::uint32_t i, std::uint32_t generation) noexcept {
    return std::uint64_t{generation} << 32 | i;
  }
  static std::uint32_t index(std::uint64_t key) noexcept { return static_cast<std::uint32_t>(key); }

  /// The object of that key, if it lives: somebody has to hold it.
  [[nodiscard]] held_object hold(std::uint64_t key) {
    core_.check_process();
    const std::uint32_t i = index(key);
    const store_lock lock(table_);
    if (i >= table_.head().entries_begun) return {};
    const object_word w = table_.word(i);
    if (w.generation() != key >> 32 || w.state() == object_state::free || object_table::is_kept(w)) return {};
    table_.hold(i);
    return {core_, i};
  }

  /// What is known here of an object of another node, under one name for all processes of this one: a new entry of `bytes`,
  /// which the caller is to write (it holds a ref and a view of it), or the one that there is (with a ref). `memory` is null
  /// in the second case. Throws as put().
  struct entered {
    std::uint32_t index;
    std::byte* memory;
  };
  entered enter(const object_origin& origin, const stored_label& label, std::uint64_t bytes, bool evictable,
                const std::source_location& at) {
    const std::string name = name_of(origin);
    for (;;) {
      if (const std::uint32_t i = core_.find(name); i != no_index) return {i, nullptr};
      try {
        const auto made =
            core_.create(bytes, label.key, label.text, {.name = name, .evictable = evictable}, at, object_weak_name);
        return {made.index, made.data};
      } catch (const object_name_taken&) {}
    }
  }

  /// Makes this process the writer of an object that another one has begun, without memory, and of which this one holds a
  /// ref. False if that is not being written any more.
  [[nodiscard]] bool adopt(std::uint32_t i) {
    core_.check_process();
    {
      const store_lock lock(table_);
      object_word w = table_.word(i);
      if (w.state() != object_state::creating || w.owner() == table_.slot()) return false;
      table_.hold(i);
      table_.mine(i).fetch_add(hold_view, std::memory_order_seq_cst);
      if (table_.change(i, w, object_word(w.generation(), object_state::creating, table_.slot()))) return true;
    }
    leave(i);
    return false;
  }
  /// Its writer holds it no more: another one has adopted it, or it has ended.
  void leave(std::uint32_t i) noexcept {
    core_.unpin(i);
    core_.drop_ref(i);
  }
  /// Ends what is not sealed, and to which nobody refers but its writer, who calls this. False if somebody does.
  bool give_up_if_unwanted(std::uint32_t i) {
    {
      const store_lock lock(table_);
      bool wanted = refs_of(table_.mine(i).load(std::memory_order_seq_cst)) != 1 || table_.entry(i).in_flight != 0;
      table_.for_each_holder(i, [&](std::uint32_t s) {
        wanted |= s != table_.slot() && refs_of(core_.memory().counts(s)[i].load(std::memory_order_seq_cst)) != 0;
      });
      if (wanted) return false;
      table_.end(i, object_end::aborted);
    }
    leave(i);
    return true;
  }

  /// Of the process that writes the object of that key, if there is one, and it is another one that has said its rank.
  [[nodiscard]] std::optional<int> rank_of_writer(std::uint64_t key) {
    const std::uint32_t i = index(key);
    const store_lock lock(table_);
    if (i >= table_.head().entries_begun) return std::nullopt;
    const object_word w = table_.word(i);
    if (w.generation() != key >> 32 || w.state() != object_state::creating || w.owner() == table_.slot())
      return std::nullopt;
    const std::int32_t rank = core_.memory().slots()[w.owner()].rank;
    return rank < 0 ? std::nullopt : std::optional<int>(rank);
  }

 private:
  // One that no user would choose, and short, so that it takes no memory.
  static std::string name_of(const object_origin& o) {
    std::array<char, 24> text{'\1'};
    static_assert(sizeof text <= sizeof object_details::short_name);
    std::memcpy(text.data() + 1, o.store.data(), 15);
    std::memcpy(text.data() + 16, &o.index, 4);
    std::memcpy(text.data() + 20, &o.generation, 4);
    return {text.data(), text.size()};
  }

  store_core& core_;
  object_table& table_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
