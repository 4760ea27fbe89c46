#ifndef CADRE_STORE_DETAIL_SPILL_TABLE_HPP
#define CADRE_STORE_DETAIL_SPILL_TABLE_HPP

#include <cadre/store/detail/layout.hpp>
#include <cadre/store/detail/spill_record.hpp>

#include <atomic>
#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Where a spilled object lies, in one word, so that one store says so: the number of the file and its block there.
class spill_position {
 public:
  constexpr spill_position() = default;  // nowhere
  constexpr explicit spill_position(std::uint64_t value) : value_(value) {}
  constexpr spill_position(std::uint32_t file, std::uint64_t offset)
      : value_((std::uint64_t{file} + 1) << 32 | offset / spill_block) {}

  explicit constexpr operator bool() const { return value_ != 0; }
  [[nodiscard]] constexpr std::uint64_t value() const { return value_; }
  [[nodiscard]] constexpr std::uint32_t file() const { return std::uint32_t(value_ >> 32) - 1; }
  [[nodiscard]] constexpr std::uint64_t offset() const { return (value_ & 0xffffffff) * spill_block; }

 private:
  std::uint64_t value_ = 0;
};

/// What the files of spilled objects hold, under the lock of the store. Of how many bytes of a file are wanted it may know
/// too much, if a process was killed, never too little; recount_spill_files() (recovery.hpp) makes it exact for files that
/// are closed. A file that is missing here for lack of room is removed with its folder only.
///
/// A closed file of which nothing is wanted is dead. Of each process's dead files of up to spill_file_limit bytes one is
/// kept while the process lives: it writes over that one instead of making another.
class spill_table {
 public:
  explicit spill_table(store_header& head, spill_file_entry* files) noexcept : head_(head), files_(files) {}

  /// Before a process makes a file of its own, so that it is removed when the process is killed behind that. False if there
  /// is one of that number.
  bool announce(std::uint32_t file) noexcept {
    if (const spill_file_entry* const f = find(file); f != nullptr) return f->state == 0 && f->bytes == 0;
    claim(file);
    return true;
  }
  /// An object of `bytes` is in the file, whose last record it is.
  void append(std::uint32_t file, std::uint64_t offset, std::uint64_t bytes) noexcept {
    spill_file_entry* f = find(file);
    if (f == nullptr) f = claim(file);
    if (f == nullptr) return;
    f->live += spill_header::record(bytes);
    f->bytes = offset + spill_header::record(bytes);
  }
  /// They are wanted no more.
  void drop(std::uint32_t file, std::uint64_t bytes) noexcept {
    if (spill_file_entry* const f = find(file); f != nullptr) {
      f->live -= spill_header::record(bytes);
      note_dead(*f);
    }
  }
  /// Nothing is appended to the file any more, and the table of objects knows all that is in it.
  void close(std::uint32_t file) noexcept {
    if (spill_file_entry* const f = find(file); f != nullptr) {
      f->state |= closed;
      note_dead(*f);
    }
  }
  /// A closed file that cannot be copied together with others.
  void give_up(std::uint32_t file) noexcept {
    if (spill_file_entry* const f = find(file); f != nullptr) f->state |= stuck;
  }
  /// With their process, which has gone. True if there were any.
  bool close_all_of(std::uint32_t slot) noexcept {
    bool any = false;
    for (std::uint32_t k = 0; k < head_.files_begun; ++k)
      if (is_of(files_[k], slot)) {
        files_[k].state = closed | left;
        any = true;
      }
    return any;
  }
  void begin_recount() noexcept {
    for (std::uint32_t k = 0; k < head_.files_begun; ++k)
      if ((files_[k].state & closed) != 0) files_[k].live = 0;
  }
  void recount(std::uint32_t file, std::uint64_t bytes) noexcept {
    if (spill_file_entry* const f = find(file); f != nullptr && (f->state & closed) != 0)
      f->live += spill_header::record(bytes);
  }
  static constexpr std::uint32_t none = ~std::uint32_t{0};
  /// A dead file that is not kept, to be removed, or `none`.
  [[nodiscard]] std::uint32_t find_dead() noexcept {
    while (spill_file_entry* const f = first([](const spill_file_entry& e) { return is_dead(e) && !is_kept(e); })) {
      const std::uint32_t slot = (f->number - 1) >> 20;
      const auto kept_of_slot = [slot](const spill_file_entry& e) { return is_of(e, slot) && is_kept(e); };
      if (!can_be_kept(*f) || first(kept_of_slot) != nullptr) return f->number - 1;
      f->state |= kept;
    }
    head_.dead_files.store(0, std::memory_order_relaxed);
    return none;
  }
  /// A dead file of the process, kept to be written over by it under another number, or `none`.
  [[nodiscard]] std::uint32_t find_to_reuse(std::uint32_t slot) noexcept {
    spill_file_entry* const f =
        first([slot](const spill_file_entry& e) { return is_of(e, slot) && is_dead(e) && can_be_kept(e); });
    if (f != nullptr) f->state |= kept;
    return file_of(f);
  }
  /// A file that is kept, for whichever process, to be removed as the disk is full, or `none`.
  [[nodiscard]] std::uint32_t find_kept() noexcept {
    return file_of(first([](const spill_file_entry& e) { return is_dead(e) && is_kept(e); }));
  }
  /// After the file was removed, or has another number.
  void forget(std::uint32_t file) noexcept {
    if (spill_file_entry* const f = find(file); f != nullptr) f->number = 0;
  }
  /// A closed file of which less than half is wanted, or `none`.
  [[nodiscard]] std::uint32_t find_sparse() const noexcept {
    return file_of(first([](const spill_file_entry& e) {
      return e.number != 0 && (e.state & (closed | stuck)) == closed && e.live != 0 && e.live < e.bytes / 2;
    }));
  }

 private:
  // The states of a file: a sum of these.
  static constexpr std::uint32_t closed = 1;  // nothing is appended any more
  static constexpr std::uint32_t stuck = 2;   // nor can it be copied
  static constexpr std::uint32_t left = 4;    // its process has gone
  static constexpr std::uint32_t kept = 8;    // dead, and to be written over by its process

  static bool is_of(const spill_file_entry& f, std::uint32_t slot) noexcept {
    return f.number != 0 && (f.number - 1) >> 20 == slot;
  }
  static bool is_dead(const spill_file_entry& f) noexcept {
    return f.number != 0 && (f.state & closed) != 0 && f.live == 0;
  }
  static bool can_be_kept(const spill_file_entry& f) noexcept {
    return (f.state & left) == 0 && f.bytes <= spill_file_limit;
  }
  static bool is_kept(const spill_file_entry& f) noexcept { return (f.state & kept) != 0; }
  static std::uint32_t file_of(const spill_file_entry* f) noexcept { return f == nullptr ? none : f->number - 1; }
  template <class Predicate>
  [[nodiscard]] spill_file_entry* first(Predicate&& wanted) const noexcept {
    for (std::uint32_t k = 0; k < head_.files_begun; ++k)
      if (wanted(files_[k])) return &files_[k];
    return nullptr;
  }
  void note_dead(const spill_file_entry& f) noexcept {
    if (is_dead(f)) head_.dead_files.store(1, std::memory_order_relaxed);
  }
  [[nodiscard]] spill_file_entry* find(std::uint32_t file) const noexcept {
    return first([file](const spill_file_entry& e) { return e.number == file + 1; });
  }
  spill_file_entry* claim(std::uint32_t file) noexcept {
    std::uint32_t k = 0;
    while (k < head_.files_begun && files_[k].number != 0) ++k;
    if (k == most_spill_files) return nullptr;
    files_[k] = {file + 1, 0, 0, 0};
    if (k == head_.files_begun) ++head_.files_begun;
    return &files_[k];
  }

  store_header& head_;
  spill_file_entry* files_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
