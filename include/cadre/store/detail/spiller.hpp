#ifndef CADRE_STORE_DETAIL_SPILLER_HPP
#define CADRE_STORE_DETAIL_SPILLER_HPP

#include <cadre/store/detail/direct_file.hpp>
#include <cadre/store/detail/object_moves.hpp>
#include <cadre/store/detail/spill_file.hpp>
#include <cadre/store/detail/spill_folder.hpp>
#include <cadre/store/detail/store_counters.hpp>
#include <cadre/store/detail/store_lock.hpp>

#include <fcntl.h>

#include <algorithm>
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
      std::uint32_t found[4096];
      std::size_t n = 0, moved = 0;
      {
        store_lock lock(table_);
        // Some more than is wanted, since the look at all objects costs the same.
        n = moves().begin_spill(std::max(bytes, object_table::batch_bytes(table_.head())), found, std::size(found),
                                written);
      }
      const std::lock_guard one_at_a_time(mutex_);
      try {
        while (moved < n) moved += write(std::span(found, n).subspan(moved));
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

  // Moves the first of the objects to disk, and with it those behind it that go by the same call. Returns how many.
  std::size_t write(std::span<const std::uint32_t> objects) {
    const auto is_there = [this](std::uint32_t i) {  // it was on disk before, and is still
      return table_.details(i).spilled.load(std::memory_order_acquire) != 0;
    };
    if (is_there(objects[0])) {
      store_lock lock(table_, store_lock::patiently{});
      commit(objects[0], {}, 0);
      return 1;
    }
    records_.clear();
    std::uint64_t bytes = 0;
    for (const std::uint32_t i : objects) {
      const object_entry& e = table_.entry(i);
      bytes += spill_header::record(e.bytes);
      if (!records_.empty() && (is_there(i) || bytes > spill_writer::most_together)) break;
      records_.push_back(
          {key_of(i), {table_.memory().data_to_read() + e.offset.load(std::memory_order_relaxed), e.bytes}});
    }
    try {
      append(records_);
    } catch (const spill_failed&) {  // for one there may be room
      if (records_.size() == 1) throw;
      records_.resize(1);
      append(records_);
    }
    store_lock lock(table_, store_lock::patiently{});
    for (std::size_t k = 0; k < records_.size(); ++k) {
      const spilled_place& place = records_[k].place;
      count(place);
      commit(objects[k], {place.file, place.offset}, place.checksum);
    }
    close_own_file(records_[0].place.file);
    return records_.size();
  }
  // Both under the lock.
  void count(const spilled_place& place) noexcept {
    table_.files().append(place.file, place.offset, place.bytes);
    CADRE_STORE_STEP(record_counted);
  }
  void commit(std::uint32_t i, spill_position at, std::uint64_t checksum) noexcept {
    counters_.spilled_bytes.add(table_.entry(i).bytes);
    moves().commit_spill(i, at, checksum);
  }
  // On a full disk, once more without the files that are kept to be written over.
  void append(std::span<spill_writer::record> records) {
    if (writer_.needs_file(spill_writer::bytes_of(records))) change_file();
    const auto announce = [this](std::uint32_t file) { return this->announce(file); };
    try {
      writer_.append(records, announce);
    } catch (const spill_failed& e) {
      if ((e.code() != ENOSPC && e.code() != EDQUOT) || !remove_files(&spill_table::find_kept)) throw;
      writer_.append(records, announce);
    }
    CADRE_STORE_STEP(record_written);
    if (records[0].place.file == writer_.current_file()) file_ = records[0].place.file;
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

  // Copies what is wanted of one file that holds little of it to the present one, in the order in which it lies there.
  void compact() {
    std::vector<wanted_object> wanted;
    std::uint32_t file = 0;
    {
      store_lock lock(table_);
      file = table_.files().find_sparse();
      if (file == spill_table::none) return;
      for (std::uint32_t i = 0; i < table_.head().entries_begun; ++i)
        if (const spill_position at(table_.details(i).spilled.load(std::memory_order_relaxed));
            at && at.file() == file && table_.word(i).state() != object_state::free)
          wanted.push_back({at.offset(), i});
      for (const wanted_object& o : wanted) moves().begin_move(o.index);
    }
    std::sort(wanted.begin(), wanted.end(), [](const auto& a, const auto& b) { return a.offset < b.offset; });
    const mapping buffer = mapping::anonymous(spill_writer::most_together);
    const std::span<std::byte> pieces(buffer.data(), spill_writer::most_together);
    std::size_t moved = 0;
    while (moved < wanted.size()) {
      const std::size_t n = move(file, std::span(wanted).subspan(moved), pieces);
      if (n == 0) break;
      moved += n;
    }
    if (moved == wanted.size()) return;
    // They stay where they are; whoever gets the one that cannot be read is told.
    store_lock lock(table_, store_lock::patiently{});
    table_.files().give_up(file);
    for (; moved < wanted.size(); ++moved) moves().end_move(wanted[moved].index, {});
  }
  struct wanted_object {
    std::uint64_t offset;
    std::uint32_t index;
  };
  // Moves the first of the objects of a file, and with it those behind it that are read by the same call. Returns how many;
  // 0: it cannot be moved.
  std::size_t move(std::uint32_t file, std::span<const wanted_object> objects, std::span<std::byte> buffer) {
    records_.clear();
    for (const wanted_object& o : objects) {
      const object_entry& e = table_.entry(o.index);
      if (o.offset + spill_header::record(e.bytes) - objects[0].offset > buffer.size()) break;
      records_.push_back({key_of(o.index), {}, {file, o.offset, e.bytes, table_.details(o.index).checksum}});
    }
    std::vector<std::byte> alone;
    try {
      records_.resize(read_spilled_together(folder_, records_, buffer));
      if (records_.empty()) {
        const std::uint32_t i = objects[0].index;
        alone.resize(table_.entry(i).bytes);
        read(i, alone);
        records_.push_back({key_of(i), alone});
      }
      append(records_);
    } catch (...) {
      return 0;
    }
    store_lock lock(table_, store_lock::patiently{});
    for (std::size_t k = 0; k < records_.size(); ++k) {
      const spilled_place& place = records_[k].place;
      count(place);
      moves().end_move(objects[k].index, {place.file, place.offset});
    }
    return records_.size();
  }

  [[nodiscard]] object_moves moves() const noexcept { return object_moves(table_); }

  const store_counters& counters_ = store_counters::get();
  object_table& table_;
  spill_folder folder_;
  std::mutex mutex_;
  spill_writer writer_;
  std::vector<spill_writer::record> records_;  // on their way
  std::uint32_t file_ = spill_table::none;     // that the writer appends to, not closed yet
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
