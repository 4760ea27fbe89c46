#ifndef CADRE_STORE_DETAIL_STORE_REPORT_HPP
#define CADRE_STORE_DETAIL_STORE_REPORT_HPP

#include <cadre/store/detail/labels.hpp>
#include <cadre/store/detail/object_table.hpp>
#include <cadre/store/options.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// "1.5 GiB".
[[gnu::cold]] inline std::string describe_bytes(std::uint64_t bytes) {
  static constexpr const char* units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  double n = static_cast<double>(bytes);
  for (; n >= 1024 && unit < 4; ++unit) n /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", n, units[unit]);
  return text;
}

/// "the object made at train.cpp:88 by process 4711".
[[gnu::cold]] inline std::string describe_object(const object_table& table, std::uint32_t i) {
  const object_entry& e = table.entry(i);
  return std::string("the object made at ")
      .append(store_labels(table.memory().labels()).text(table.details(i).site))
      .append(" by process ")
      .append(std::to_string(e.creator));
}
/// Why it cannot be read any more.
[[gnu::cold]] inline std::string describe_end(const object_table& table, std::uint32_t i, object_word w) {
  const std::string what = describe_object(table, i);
  switch (w.end()) {
    case object_end::erased: return what + " was erased";
    case object_end::aborted: return what + " was given up by who wrote it";
    case object_end::producer_died: return what + " is lost: that process died before it had sealed it";
    case object_end::evicted: return what + " was dropped for lack of memory (it was put as evictable); make it again";
    case object_end::damaged: return what + " is lost: its file on disk is damaged";
    default: return what + " is referred to by nobody any more";
  }
}

/// What one process holds, or (slot most_processes) what only names hold.
struct store_holder {
  std::uint32_t slot = 0;
  std::uint64_t held = 0;
  std::uint64_t pinned = 0;
  std::uint64_t objects = 0;
  std::uint32_t site = 0;  // of its largest object
  std::uint64_t largest = 0;
};

/// Under the lock, as all here. Those who hold most first. Cost: a look at all objects.
[[gnu::cold]] inline std::vector<store_holder> list_holders(object_table& table) {
  std::vector<store_holder> all(most_processes + 1);
  for (std::uint32_t i = 0; i < table.head().entries_begun; ++i) {
    const object_word w = table.word(i);
    const object_entry& e = table.entry(i);
    if (w.state() == object_state::free || e.offset.load(std::memory_order_relaxed) == no_offset) continue;
    bool by_process = false;
    const auto hold = [&](std::uint32_t slot, bool pinned) {
      store_holder& h = all[slot];
      h.slot = slot;
      h.held += e.bytes;
      if (pinned) h.pinned += e.bytes;
      ++h.objects;
      if (e.bytes > h.largest) h.largest = e.bytes, h.site = table.details(i).site;
    };
    table.for_each_holder(i, [&](std::uint32_t s) {
      const std::uint64_t count = table.memory().counts(s)[i].load(std::memory_order_relaxed);
      if (views_of(count) == 0 && refs_of(count) == 0) return;
      by_process = true;
      hold(s, views_of(count) != 0);
    });
    if (!by_process && (e.flags & object_named) != 0) hold(most_processes, false);
  }
  std::erase_if(all, [](const store_holder& h) { return h.objects == 0; });
  std::sort(all.begin(), all.end(), [](const store_holder& a, const store_holder& b) { return a.held > b.held; });
  return all;
}

/// "process 4711 (rank 3): 2.1 GiB in 17 objects, 1.0 GiB of it pinned, the largest made at train.cpp:88".
[[gnu::cold]] inline std::string describe_holder(object_table& table, const store_holder& h) {
  std::string text;
  if (h.slot == most_processes) {
    text = "names alone";
  } else {
    const process_slot& p = table.memory().slots()[h.slot];
    text = "process " + std::to_string(p.pid);
    if (p.rank >= 0) text += " (rank " + std::to_string(p.rank) + ")";
  }
  text +=
      ": " + describe_bytes(h.held) + " in " + std::to_string(h.objects) + (h.objects == 1 ? " object" : " objects");
  if (h.pinned != 0) text += ", " + describe_bytes(h.pinned) + " of it pinned";
  text += h.objects == 1 ? ", made at " : ", the largest made at ";
  return text.append(store_labels(table.memory().labels()).text(h.site));
}
[[gnu::cold]] inline std::string describe_top_holders(object_table& table) {
  std::string text;
  const std::vector<store_holder> all = list_holders(table);
  for (std::size_t k = 0; k < all.size() && k < 3; ++k) text += (k == 0 ? "" : "; ") + describe_holder(table, all[k]);
  if (all.size() > 3) text += "; and " + std::to_string(all.size() - 3) + " more";
  return text;
}

[[gnu::cold]] inline std::string describe_full(object_table& table, std::uint64_t bytes) {
  block_allocator blocks = table.memory().blocks();
  const std::uint64_t capacity = table.head().capacity, free = capacity - blocks.used();
  std::string text = "store full: asked " + describe_bytes(bytes) + ", " + describe_bytes(free) + " free of " +
                     describe_bytes(capacity);
  if (const std::uint64_t largest = blocks.largest_free(); free >= bytes && largest < bytes)
    text += " (the largest piece of it " + describe_bytes(largest) + ")";
  if (bytes > capacity) return text + "; open it with a larger .capacity";
  return text + "; held by " + describe_top_holders(table) +
         "; drop refs and views, or open the store with a larger .capacity or a .spill_dir";
}
[[gnu::cold]] inline std::string describe_too_many(object_table& table) {
  return "store full: it holds " + std::to_string(table.head().objects) +
         " objects, as many as it was opened for; held by " + describe_top_holders(table) +
         "; drop refs, or open the store with larger .max_objects";
}

[[gnu::cold]] inline store_stats collect_stats(object_table& table) {
  block_allocator blocks = table.memory().blocks();
  const store_header& head = table.head();
  store_stats s;
  s.capacity = head.capacity;
  s.used = blocks.used();
  s.largest_free = blocks.largest_free();
  s.objects = head.objects;
  s.resident = head.present_extents.load(std::memory_order_relaxed) * extent_bytes;
  for (std::uint32_t i = 0; i < head.entries_begun; ++i) {
    const object_state state = table.word(i).state();
    if (state == object_state::spilled || state == object_state::restoring)
      s.spilled += table.entry(i).bytes;
    else if (state != object_state::free && table.count_holding(i, false).views)
      s.pinned += table.entry(i).bytes;
  }
  for (std::uint32_t k = 0; k < most_processes; ++k)
    s.processes += table.memory().slots()[k].used.load(std::memory_order_relaxed) != 0;
  return s;
}

[[gnu::cold]] inline std::string describe_store(object_table& table) {
  const store_stats s = collect_stats(table);
  std::string text = describe_bytes(s.used) + " used of " + describe_bytes(s.capacity) + " in " +
                     std::to_string(s.objects) + " objects of " + std::to_string(s.processes) + " processes; " +
                     describe_bytes(s.pinned) + " pinned, " + describe_bytes(s.spilled) +
                     " on disk, largest free piece " + describe_bytes(s.largest_free) + ", " +
                     describe_bytes(s.resident) + " resident\n";
  for (const store_holder& h : list_holders(table)) text += "  " + describe_holder(table, h) + "\n";
  return text;
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
