#ifndef CADRE_STORE_DETAIL_SPILLER_HPP
#define CADRE_STORE_DETAIL_SPILLER_HPP

#include <cadre/store/detail/direct_file.hpp>
#include <cadre/store/detail/object_moves.hpp>
#include <cadre/store/detail/spill_file.hpp>
#include <cadre/store/detail/spill_folder.hpp>
#include <cadre/store/detail/store_counters.hpp>
#include <cadre/store/detail/store_lock.hpp>

#include <fcntl.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Moves objects of a store between memory and disk, for one process. Thread-safety: all functions, from any thread,
/// without the lock of the store, which they take for moments only.
class spiller {
 public:
  /// Throws spill_folder_unusable (312), mapping_error (159).
  explicit spiller(object_table& table)
      : table_(table), folder_(table.head().spill_dir, table.head().id), writer_(folder_, table.slot() << 20) {}

  /// Moves objects that nobody looks at to disk, of at least `bytes` together if there are such. False if there are none.
  /// What cannot be written stays in memory; throws spill_failed (310) if none could be moved.
  bool make_room(std::uint64_t bytes) {
    std::exception_ptr failure;
    // Where nothing can be written, there may be some that have been.
    for (const bool written : {false, true}) {
      std::uint32_t found[64];
      std::size_t n = 0, moved = 0;
      {
        store_lock lock(table_);
        n = moves().begin_spill(bytes, found, std::size(found), written);
      }
      const std::lock_guard one_at_a_time(mutex_);
      try {
        for (; moved < n; ++moved) write(found[moved]);
      } catch (...) {
        failure = std::current_exception();
        store_lock lock(table_, store_lock::patiently{});
        for (std::size_t k = moved; k < n; ++k) moves().give_up_spill(found[k]);
      }
      if (moved != 0) {
        compact();
        remove_dead_files();
        return true;
      }
      if (!failure) return false;
    }
    std::rethrow_exception(failure);
  }

  /// Fills the memory of an object that this process restores. Throws spill_corrupt (311), spill_failed (310).
  void read(std::uint32_t i, std::span<std::byte> into) {
    for (;;) {
      const spilled_place place = place_of(i);
      try {
        return read_spilled(folder_, place, key_of(i), into);
      } catch (const spill_corrupt&) {
        // Another process may have moved it meanwhile, and removed the file.
        if (const spilled_place now = place_of(i); now.file == place.file && now.offset == place.offset) throw;
      }
    }
  }

  /// Removes the files of which nothing is wanted any more, but for one of each process, which it will write over.
  void remove_dead_files() noexcept { remove_files(&spill_table::find_dead); }

 private:
  // True if there were any.
  bool remove_files(std::uint32_t (spill_table::*find)() noexcept) noexcept {
    for (bool any = false;; any = true) {
      direct_file last;  // closed without the lock: not its name but its blocks take long to go
      store_lock lock(table_, store_lock::patiently{});
      spill_table files = table_.files();
      const std::uint32_t file = (files.*find)();
      if (file == spill_table::none) return any;
      last = direct_file(folder_.descriptor(), spill_file_name(file), O_RDONLY, false);
      remove_spill_file(folder_, file);
      CADRE_STORE_STEP(dead_file_removed);
      table_.files().forget(file);
    }
  }
  [[nodiscard]] std::uint64_t key_of(std::uint32_t i) const noexcept {
    return std::uint64_t{table_.word(i).generation()} << 32 | i;
  }
  [[nodiscard]] spilled_place place_of(std::uint32_t i) const noexcept {
    const spill_position at(table_.details(i).spilled.load(std::memory_order_acquire));
    return {at.file(), at.offset(), table_.entry(i).bytes, table_.details(i).checksum};
  }

  // An object that was on disk before is there still.
  void write(std::uint32_t i) {
    object_entry& e = table_.entry(i);
    spill_position at;
    std::uint64_t checksum = 0;
    if (table_.details(i).spilled.load(std::memory_order_acquire) == 0)
      at = append(i, {table_.memory().data_to_read() + e.offset.load(std::memory_order_relaxed), e.bytes}, checksum);
    store_lock lock(table_, store_lock::patiently{});
    moves().commit_spill(i, at, checksum);
    counters_.spilled_bytes.add(e.bytes);
    if (at) close_own_file(at.file());
  }
  spill_position append(std::uint32_t i, std::span<const std::byte> object, std::uint64_t& checksum) {
    if (writer_.needs_file(object.size())) change_file();
    const spilled_place place = write_record(key_of(i), object);
    CADRE_STORE_STEP(record_written);
    checksum = place.checksum;
    if (place.file == writer_.current_file()) file_ = place.file;
    store_lock lock(table_, store_lock::patiently{});
    table_.files().append(place.file, place.offset, object.size());
    CADRE_STORE_STEP(record_counted);
    return {place.file, place.offset};
  }
  // On a full disk, once more without the files that are kept to be written over.
  spilled_place write_record(std::uint64_t key, std::span<const std::byte> object) {
    const auto announce = [this](std::uint32_t file) { return this->announce(file); };
    try {
      return writer_.append(key, object, announce);
    } catch (const spill_failed& e) {
      if ((e.code() != ENOSPC && e.code() != EDQUOT) || !remove_files(&spill_table::find_kept)) throw;
    }
    return writer_.append(key, object, announce);
  }
  // Of a file that is to be made, so that it goes with this process whenever that is killed. False if there is one.
  bool announce(std::uint32_t file) noexcept {
    store_lock lock(table_, store_lock::patiently{});
    const bool is_new = table_.files().announce(file);
    CADRE_STORE_STEP(file_announced);
    return is_new;
  }
  // From the full one, of which the table of objects knows all, to a dead one, or else a new one.
  void change_file() {
    std::uint32_t dead = spill_table::none;
    {
      store_lock lock(table_, store_lock::patiently{});
      if (file_ != spill_table::none) table_.files().close(std::exchange(file_, spill_table::none));
      dead = table_.files().find_to_reuse(table_.slot());
    }
    if (dead == spill_table::none) return;
    writer_.write_over(dead, [this](std::uint32_t file) { return announce(file); });
    CADRE_STORE_STEP(dead_file_reused);
    store_lock lock(table_, store_lock::patiently{});
    table_.files().forget(dead);
  }
  // If it is of an object above the limit, which the table of objects knows now.
  void close_own_file(std::uint32_t file) noexcept {
    if (file != file_) table_.files().close(file);
  }

  // Copies what is wanted of one file that holds little of it to the present one.
  void compact() {
    std::vector<std::uint32_t> wanted;
    std::uint32_t file = 0;
    {
      store_lock lock(table_);
      file = table_.files().find_sparse();
      if (file == spill_table::none) return;
      for (std::uint32_t i = 0; i < table_.head().entries_begun; ++i)
        if (const spill_position at(table_.details(i).spilled.load(std::memory_order_relaxed));
            table_.word(i).state() != object_state::free && at && at.file() == file)
          wanted.push_back(i);
      for (const std::uint32_t i : wanted) moves().begin_move(i);
    }
    std::vector<std::byte> bytes;
    for (const std::uint32_t i : wanted) {
      spill_position moved;
      try {
        bytes.resize(table_.entry(i).bytes);
        read(i, bytes);
        std::uint64_t checksum = 0;
        moved = append(i, bytes, checksum);
      } catch (...) {  // it stays where it is; whoever gets it is told
      }
      store_lock lock(table_, store_lock::patiently{});
      moves().end_move(i, moved);
      moved ? close_own_file(moved.file()) : table_.files().give_up(file);
    }
  }

  [[nodiscard]] object_moves moves() const noexcept { return object_moves(table_); }

  const store_counters& counters_ = store_counters::get();
  object_table& table_;
  spill_folder folder_;
  std::mutex mutex_;
  spill_writer writer_;
  std::uint32_t file_ = spill_table::none;  // that the writer appends to, not closed yet
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
