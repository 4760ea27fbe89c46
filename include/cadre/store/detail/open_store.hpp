#ifndef CADRE_STORE_DETAIL_OPEN_STORE_HPP
#define CADRE_STORE_DETAIL_OPEN_STORE_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/os/file_lock.hpp>
#include <cadre/os/memory_limit.hpp>
#include <cadre/store/detail/arena.hpp>
#include <cadre/store/detail/rendezvous.hpp>
#include <cadre/store/detail/store_core.hpp>

#include <unistd.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

inline std::uint64_t default_capacity() { return std::uint64_t{usable_memory()} / 10 * 3; }

/// Throws bad_store_option (308), mapping_error (159).
inline arena make_arena(const store_options& options) {
  constexpr std::uint64_t most_bytes = std::uint64_t{1} << 40;
  const std::uint64_t asked = options.capacity != 0 ? options.capacity : default_capacity();
  if (asked > most_bytes) throw bad_store_option("a store of more than 1 TiB: " + std::to_string(asked) + " bytes");
  if (options.max_objects == 0 || options.max_objects > 1u << 28)
    throw bad_store_option(".max_objects is to be from 1 to 268,435,456, not " + std::to_string(options.max_objects));
  if (options.spill_dir.size() >= sizeof(store_header::spill_dir))
    throw bad_store_option(".spill_dir has more than 1,023 bytes");
  arena made = arena::make((asked + extent_bytes - 1) / extent_bytes * extent_bytes,
                           std::bit_ceil(options.max_objects < 512 ? 512u : options.max_objects));
  std::memcpy(made.head().spill_dir, options.spill_dir.c_str(), options.spill_dir.size() + 1);
  return made;
}

/// A slot for this process. Throws store_full (302) if there are 512 processes, store_stalled (306).
inline std::uint32_t take_slot(arena& memory, int rank) {
  object_table table(memory, most_processes);
  store_lock lock(table);
  for (int again = 0; again < 2; ++again) {
    for (std::uint32_t s = 0; s < most_processes; ++s) {
      process_slot& slot = memory.slots()[s];
      if (slot.used.load(std::memory_order_acquire) != 0 || !try_lock_byte(memory.file(), memory.lock_byte(s)))
        continue;
      CADRE_STORE_STEP(slot_locked);
      memory.clear_counts(s);
      slot.pid = static_cast<std::uint32_t>(::getpid());
      slot.rank = rank;
      ++slot.generation;
      slot.used.store(1, std::memory_order_release);
      CADRE_STORE_STEP(slot_taken);
      return s;
    }
    sweep_dead(table);
  }
  throw store_full("store full: 512 processes have it open, as many as there can be");
}

inline store_core* open_private_store(store_options options) {
  arena memory = make_arena(options);
  const std::uint32_t slot = take_slot(memory, options.rank);
  return new store_core(std::move(memory), slot, std::move(options));
}

/// Throws store_unreachable (309) too.
inline store_core* open_shared_store(store_options options) {
  // Nobody else opens or leaves a store of this name meanwhile.
  rendezvous meeting(options.name, std::chrono::steady_clock::now() + store_lock::patience);
  std::optional<file_descriptor> found =
      meeting.open_existing([&meeting](const file_descriptor& file) { return arena::is(file, meeting.id()); });
  const bool is_first = !found;
  arena memory = is_first ? make_arena(options) : arena::open(*found);
  if (is_first) meeting.start_new(memory.head().id);
  const std::uint32_t slot = take_slot(memory, options.rank);
  auto core = std::make_unique<store_core>(std::move(memory), slot, std::move(options));
  meeting.join(::getpid(), core->memory().file().get());
  return core.release();
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
