#ifndef CADRE_STORE_DETAIL_LABELS_HPP
#define CADRE_STORE_DETAIL_LABELS_HPP

#include <cadre/core/hash.hpp>
#include <cadre/store/detail/layout.hpp>

#include <atomic>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <span>
#include <string_view>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Texts that all processes of a store can read, found by their hash: labels of types, and lines of the program. They are
/// never removed. Thread-safety: add() under the lock of the store, find() at any time.
class store_labels {
 public:
  explicit store_labels(store_label* table) noexcept : table_(table) {}

  /// The number of the text, which is cut to what a label takes; `full` if there is no room: a label is for people only.
  static constexpr std::uint32_t full = most_labels;
  std::uint32_t add(std::uint64_t key, std::string_view text) noexcept {
    key |= 1;  // 0 is free
    for (std::uint32_t i = first(key), n = 0; n < probes; ++n, i = next(i)) {
      const std::uint64_t there = table_[i].key.load(std::memory_order_acquire);
      if (there == key) return i;
      if (there != 0) continue;
      const std::size_t length = text.size() < sizeof table_[i].text - 1 ? text.size() : sizeof table_[i].text - 1;
      std::memcpy(table_[i].text, text.data(), length);
      table_[i].text[length] = 0;
      table_[i].key.store(key, std::memory_order_release);
      return i;
    }
    return full;
  }
  /// "train.cpp:88".
  std::uint32_t add_line(const std::source_location& at) noexcept {
    std::string_view file(at.file_name());
    if (const std::size_t slash = file.rfind('/'); slash != file.npos) file.remove_prefix(slash + 1);
    char text[240];
    std::size_t n = file.size() < 200 ? file.size() : 200;
    std::memcpy(text, file.data(), n);
    text[n++] = ':';
    n = static_cast<std::size_t>(std::to_chars(text + n, text + sizeof text, at.line()).ptr - text);
    return add(hash_bytes(std::as_bytes(std::span(text, n))), {text, n});
  }
  [[nodiscard]] std::uint32_t find(std::uint64_t key) const noexcept {
    key |= 1;
    for (std::uint32_t i = first(key), n = 0; n < probes; ++n, i = next(i)) {
      const std::uint64_t there = table_[i].key.load(std::memory_order_acquire);
      if (there == key) return i;
      if (there == 0) break;
    }
    return full;
  }
  [[nodiscard]] std::string_view text(std::uint32_t label) const noexcept {
    return label < most_labels && table_[label].key.load(std::memory_order_acquire) != 0 ? table_[label].text
                                                                                         : std::string_view("?");
  }

 private:
  static constexpr std::uint32_t probes = 64;
  static std::uint32_t first(std::uint64_t key) noexcept { return std::uint32_t(hash_mix(key)) % most_labels; }
  static std::uint32_t next(std::uint32_t i) noexcept { return (i + 1) % most_labels; }

  store_label* table_;
};

/// Numbers of labels that were asked for before, by any key that is not 0. For one thread at a time.
class label_cache {
 public:
  /// add() gives the number of one that is not known.
  template <class Add>
  std::uint32_t of(std::uint64_t key, Add&& add) {
    entry& e = known_[key % known];
    if (e.key != key) [[unlikely]]
      e = {key, add()};
    return e.label;
  }

 private:
  static constexpr std::size_t known = 128;
  struct entry {
    std::uint64_t key = 0;
    std::uint32_t label = 0;
  };
  entry known_[known];
};
/// Of a line of this program.
inline std::uint64_t key_of_line(const std::source_location& at) noexcept {
  return hash_combine(reinterpret_cast<std::uintptr_t>(at.file_name()), at.line());
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
