#ifndef CADRE_STORE_DETAIL_STORE_CORE_HPP
#define CADRE_STORE_DETAIL_STORE_CORE_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/os/detail/relax.hpp>
#include <cadre/os/futex.hpp>
#include <cadre/store/detail/arena.hpp>
#include <cadre/store/detail/labels.hpp>
#include <cadre/store/detail/object_table.hpp>
#include <cadre/store/detail/put_shelves.hpp>
#include <cadre/store/detail/rendezvous.hpp>
#include <cadre/store/detail/store_lock.hpp>
#include <cadre/store/detail/store_registry.hpp>
#include <cadre/store/detail/store_report.hpp>
#include <cadre/store/detail/store_room.hpp>
#include <cadre/store/error.hpp>
#include <cadre/store/options.hpp>

#include <sys/mman.h>
#include <sys/types.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// One process's part in a store: its slot, what it maps, and what its refs and views call. Lives until the last handle,
/// ref and view of this process has ended. Thread-safety: all functions, from any thread.
class store_core : public store_registry::member {
 public:
  using clock = std::chrono::steady_clock;
  using time = clock::time_point;

  /// `slot` has been taken. With one handle.
  store_core(arena memory, std::uint32_t slot, store_options options)
      : memory_(std::move(memory)),
        table_(memory_, slot),
        entries_(memory_.entries()),
        counts_(memory_.counts(slot)),
        data_(memory_.data_to_read()),
        head_(memory_.head()),
        options_(std::move(options)),
        room_(table_, options_.put_timeout) {
    store_registry::add(*this);
  }
  store_core(const store_core&) = delete;
  store_core& operator=(const store_core&) = delete;

  [[nodiscard]] const store_options& options() const noexcept { return options_; }
  [[nodiscard]] object_table& table() noexcept { return table_; }
  [[nodiscard]] arena& memory() noexcept { return memory_; }
  [[nodiscard]] const std::array<std::uint64_t, 2>& id() const noexcept { return head_.id; }
  [[nodiscard]] std::uint32_t process() const noexcept {
    return process_number(table_.slot(), memory_.slots()[table_.slot()]);
  }
  void check_process() const {
    if (forked_) throw forked_store();
  }
  /// Whether this is a copy in a child made by fork().
  [[nodiscard]] bool is_forked() const noexcept { return forked_; }

  // ---- handles, refs and views

  void add_handle() noexcept { handles_.fetch_add(1, std::memory_order_relaxed); }
  /// True for the last, upon which close() follows.
  [[nodiscard]] bool drop_handle() noexcept { return handles_.fetch_sub(1, std::memory_order_acq_rel) == 1; }

  /// By who holds one.
  void add_ref(std::uint32_t i) noexcept { counts_[i].fetch_add(hold_ref, std::memory_order_relaxed); }
  void drop_ref(std::uint32_t i) noexcept {
    std::uint64_t seen = counts_[i].load(std::memory_order_relaxed);
    while (refs_of(seen) > 1)
      if (counts_[i].compare_exchange_weak(seen, seen - hold_ref, std::memory_order_release, std::memory_order_relaxed))
        return;
    if (seen == hold_ref && (drop_named(i) || put_away(i))) return;
    let_go(i, hold_ref);
  }

  /// The bytes of an object of which the caller holds a ref, readable until unpin(); waits until it is sealed. Throws
  /// object_gone (301), store_timeout (305).
  const std::byte* pin(std::uint32_t i, time deadline = time::max()) {
    if (const std::byte* const at = try_pin(i)) [[likely]]
      return at;
    return pin_later(i, deadline);
  }
  /// Null if it cannot be read at this moment.
  const std::byte* try_pin(std::uint32_t i) noexcept {
    counts_[i].fetch_add(hold_view, std::memory_order_seq_cst);
    object_entry& e = entries_[i];
    if (!object_word(e.word.load(std::memory_order_seq_cst)).readable()) [[unlikely]] {
      unpin(i);
      return nullptr;
    }
    if (const std::uint32_t now = head_.clock.load(std::memory_order_relaxed);
        e.used_at.load(std::memory_order_relaxed) != now)
      e.used_at.store(now, std::memory_order_relaxed);
    return e.bytes == 0 ? nowhere() : data_ + e.offset.load(std::memory_order_relaxed);
  }
  /// Touches nothing of the store behind the exchange: whoever closes it waits for that only.
  void unpin(std::uint32_t i) noexcept {
    std::uint64_t seen = counts_[i].load(std::memory_order_relaxed);
    while ((seen & hold_ask) == 0)
      if (counts_[i].compare_exchange_weak(seen, seen - hold_view, std::memory_order_release,
                                           std::memory_order_relaxed))
        return;
    let_go(i, hold_view);
  }

  [[nodiscard]] const object_entry& entry(std::uint32_t i) const noexcept { return entries_[i]; }

  // ---- making objects

  struct made {
    std::uint32_t index;
    std::byte* data;
  };
  /// Room for an object, present in memory, to be written by the caller, who then calls seal() or abort(). Throws store_full
  /// (302), object_name_taken (304), mapping_error (159).
  made create(std::uint64_t bytes, std::uint64_t type, std::string_view label, const put_options& how,
              const std::source_location& at, std::uint32_t flags = 0) {
    check_process();
    if (how.name.size() > most_name_bytes) throw bad_store_option("the name of an object has more than 4096 bytes");
    object_table::request r;
    r.bytes = bytes;
    r.type = type;
    r.flags = flags | (how.evictable ? object_evictable : 0);
    r.name = how.name;
    std::uint32_t i = take_kept(r, label, at);
    const bool was_kept = i != no_index;
    if (was_kept)
      room_.advance_clock(bytes);
    else
      room_.find(bytes + how.name.size(), [&](object_table::shortage& missing) {
        if (!how.name.empty() && is_taken(how.name)) throw object_name_taken(how.name);
        i = table_.create(r, missing);
        return i != no_index;
      });
    counters_.puts.add();
    counters_.put_bytes.add(bytes);
    try {
      object_entry& e = entries_[i];
      if (bytes != 0 && !was_kept) memory_.make_present(e.offset, bytes);
      if (!how.name.empty()) {
        if (!name_table::is_short(how.name.size())) memory_.make_present(e.name_offset, how.name.size());
        store_lock lock(table_);
        if (is_taken(how.name)) throw object_name_taken(how.name);
        table_.enter_name(i, how.name);
      }
      return {i, bytes == 0 ? nowhere() : memory_.data() + e.offset.load(std::memory_order_relaxed)};
    } catch (...) {
      abort(i);
      throw;
    }
  }
  /// Gives memory to an object that was made with none, by who writes it. Throws store_full (302), mapping_error (159).
  std::byte* attach(std::uint32_t i, std::uint64_t bytes) {
    check_process();
    if (bytes == 0) return nowhere();
    room_.find(bytes, [&](object_table::shortage& missing) {
      missing = object_table::shortage::memory;
      return table_.attach(i, bytes);
    });
    memory_.make_present(entries_[i].offset, bytes);
    return memory_.data() + entries_[i].offset.load(std::memory_order_relaxed);
  }
  /// Of an object without a name to which there is no other ref than that of its writer, whom it is left to. Costs two
  /// stores.
  void seal_unseen(std::uint32_t i) noexcept {
    counts_[i].store(hold_ref, std::memory_order_relaxed);
    entries_[i].word.store(object_word(word(i).generation(), object_state::sealed).value(), std::memory_order_release);
    CADRE_STORE_STEP(sealed);
  }
  /// Leaves the caller a ref. Throws object_gone (301) if it was erased meanwhile: then abort() is to follow.
  void seal(std::uint32_t i) {
    object_entry& e = entries_[i];
    std::uint64_t seen = e.word.load(std::memory_order_relaxed);
    const object_word w(seen);
    if (w.state() != object_state::creating ||
        !e.word.compare_exchange_strong(seen, object_word(w.generation(), object_state::sealed).value(),
                                        std::memory_order_seq_cst)) {
      check_process();
      throw object_gone("an object was erased while it was written");
    }
    CADRE_STORE_STEP(sealed);
    table_.tell(e);
    CADRE_STORE_STEP(seal_told);
    unpin(i);
  }
  /// Ends an object that was not sealed, with what its writer holds.
  void abort(std::uint32_t i) noexcept {
    if (forked_) return;
    {
      store_lock lock(table_, store_lock::patiently{});
      table_.end(i, object_end::aborted);
    }
    let_go(i, hold_ref + hold_view);
  }

  // ---- finding and ending

  /// With a ref for the caller, or no_index.
  std::uint32_t find(std::string_view name) {
    check_process();
    store_lock lock(table_);
    const std::uint32_t i = table_.names().find(name);
    if (i != no_index) table_.hold(i);
    return i;
  }
  void erase(std::uint32_t i) {
    check_process();
    {
      store_lock lock(table_);
      table_.end(i, object_end::erased);
    }
    room_.tidy();
  }
  bool erase(std::string_view name) {
    check_process();
    std::uint32_t i = no_index;
    {
      store_lock lock(table_);
      i = table_.names().find(name);
      if (i != no_index) table_.end(i, object_end::erased);
    }
    room_.tidy();
    return i != no_index;
  }
  /// Whether its producer writes it still.
  [[nodiscard]] bool is_pending(std::uint32_t i) const noexcept { return word(i).state() == object_state::creating; }
  /// Whether a get would have it, from memory or disk.
  [[nodiscard]] bool is_there(std::uint32_t i) const noexcept {
    return !is_pending(i) && word(i).state() != object_state::gone;
  }
  /// Throws object_gone (301).
  void check_exists(std::uint32_t i) const {
    check_process();
    if (const object_word w = word(i); w.state() == object_state::gone) throw object_gone(describe_end(table_, i, w));
  }
  [[nodiscard]] object_word word(std::uint32_t i) const noexcept {
    return object_word(entries_[i].word.load(std::memory_order_seq_cst));
  }

  /// Throws wrong_object_type (303).
  void check_type(std::uint32_t i, std::uint64_t type, std::string_view asked) const {
    const std::uint64_t there = table_.details(i).type;
    if (there == type) [[likely]]
      return;
    throw wrong_object_type(asked, type_text(there));
  }
  [[nodiscard]] std::string type_text(std::uint64_t type) const {
    const store_labels labels(memory_.labels());
    return std::string(labels.text(labels.find(type)));
  }

  /// Sleeps until done(), which is asked again whenever an object was sealed or has ended, or until the deadline.
  template <class Done>
  void wait_until(time deadline, Done&& done) {
    check_process();
    if (done()) return;
    for (;;) {
      const std::uint32_t seen = head_.seals.load(std::memory_order_seq_cst);
      head_.seal_waiters.store(1, std::memory_order_seq_cst);
      if (done()) return;
      const time now = clock::now();
      if (now >= deadline) return;
      if (!futex::wait_until(head_.seals, seen, std::min(deadline, now + slice), futex::scope::shared)) sweep_if_due();
    }
  }

  /// Takes from processes that have died what they held. Returns how many there were.
  std::uint32_t sweep() {
    check_process();
    store_lock lock(table_);
    return sweep_dead(table_);
  }

  [[nodiscard]] store_stats stats() {
    check_process();
    store_lock lock(table_);
    table_.release_kept();
    sweep_dead(table_);
    return collect_stats(table_);
  }
  [[nodiscard]] std::string report() {
    check_process();
    store_lock lock(table_);
    table_.release_kept();
    sweep_dead(table_);
    return describe_store(table_);
  }

  // ---- the end

  /// After the last handle: true if nothing is held any more, so that the core can be destroyed.
  [[nodiscard]] bool close() noexcept {
    if (forked_) return false;  // what the child's copies of refs and views hold is not known
    store_lock lock(table_, store_lock::patiently{});
    std::uint32_t held = 0;
    for (std::uint32_t i = 0; i < head_.entries_begun; ++i) {
      std::uint64_t seen = counts_[i].load(std::memory_order_acquire);
      while ((views_of(seen) != 0 || refs_of(seen) != 0) &&
             !counts_[i].compare_exchange_weak(seen, seen | hold_closing, std::memory_order_acq_rel)) {}
      held += views_of(seen) != 0 || refs_of(seen) != 0;
    }
    held_at_close_ = held;
    return held == 0;
  }
  /// In a child made by fork(): views stay readable, all else throws forked_store (307) or does nothing.
  void forget_after_fork() noexcept override {
    forked_ = true;
    const std::size_t n = head_.most_objects;
    void* const none = ::mmap(nullptr, n * (sizeof(object_entry) + sizeof(hold_count)), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (none != MAP_FAILED) {
      entries_ = static_cast<object_entry*>(none);
      counts_ = reinterpret_cast<hold_count*>(entries_ + n);
    } else {
      memory_.make_inaccessible();
    }
  }

  /// Gives the slot back; nothing is held any more.
  ~store_core() override {
    store_registry::remove(*this);
    if (forked_) return;
    shelves_.wait();  // for put_away()
    try {
      if (!options_.name.empty())
        rendezvous(options_.name, clock::now() + slice).leave(static_cast<::pid_t>(table_.pid()), memory_.file().get());
    } catch (const error&) {  // others strike it out when they find it closed
    }
    store_lock lock(table_, store_lock::patiently{});
    sweep_slot(table_, table_.slot());
  }

 private:
  static constexpr auto slice = store_room::slice;
  static constexpr std::size_t most_name_bytes = 4096;
  static constexpr std::uint64_t hold_ask = hold_notify | hold_closing;

  // Under the lock. An object whose writer has died is in nobody's way.
  [[nodiscard]] bool is_taken(std::string_view name) {
    const std::uint32_t there = table_.names().find(name);
    if (there == no_index || !is_pending(there)) return there != no_index;
    sweep_dead(table_);
    return table_.names().find(name) != no_index;
  }

  // Of many who wait at once, one looks for the dead.
  void sweep_if_due() {
    check_process();
    const std::int64_t now = clock::now().time_since_epoch().count();
    std::int64_t last = head_.last_sweep.load(std::memory_order_relaxed);
    // One in the future is of a process whose clock has another beginning: containers may have their own.
    if (last <= now && now - last < std::chrono::nanoseconds(slice).count() / 2) return;
    if (head_.last_sweep.compare_exchange_strong(last, now, std::memory_order_relaxed)) sweep();
  }

  static std::byte* nowhere() noexcept { return reinterpret_cast<std::byte*>(64); }  // of what has no bytes

  // An object made of what is kept for this process, or no_index. Enters the labels of the request.
  std::uint32_t take_kept(object_table::request& r, std::string_view type_label, const std::source_location& at) {
    store_labels labels(memory_.labels());
    const put_shelves::hold shelf(shelves_);
    r.site = shelf->labels.of(key_of_line(at), [&] {
      const store_lock lock(table_);
      return labels.add_line(at);
    });
    shelf->labels.of(r.type, [&] {
      const store_lock lock(table_);
      return labels.add(r.type, type_label);
    });
    return r.name.empty() && r.bytes != 0 ? shelf->take(table_, r) : no_index;
  }
  // The last ref of this process to what a name holds: of its end this count would tell.
  bool drop_named(std::uint32_t i) noexcept {
    std::uint64_t seen = hold_ref;
    return (entries_[i].flags & (object_named | object_weak_name)) == object_named &&
           counts_[i].compare_exchange_strong(seen, 0, std::memory_order_seq_cst);
  }
  // The last ref to what no other process has ever had: its entry is kept for the next put of this size.
  bool put_away(std::uint32_t i) noexcept {
    const std::uint64_t bytes = entries_[i].bytes;
    if (!table_.is_private(i) || head_.scarce.load(std::memory_order_relaxed) != 0) return false;
    const put_shelves::hold shelf(shelves_);
    std::uint64_t seen = hold_ref;
    const object_word before = word(i);
    if (!shelf->has_room(table_, bytes) || !counts_[i].compare_exchange_strong(seen, 0, std::memory_order_seq_cst))
      return false;
    // From here on nothing but the shelf keeps close() from deleting this.
    CADRE_STORE_STEP(ref_put_away);
    if (table_.keep(i, before)) {
      shelf->add(i, bytes);
    } else {
      store_lock lock(table_, store_lock::patiently{});
      table_.settle(i);
    }
    return true;
  }

  // The last ref, and a view that others wait for, end under the lock, so that close() sees them end.
  [[gnu::noinline]] void let_go(std::uint32_t i, std::uint64_t unit) noexcept {
    if (forked_) return;
    bool last = false;
    bool tidy = false;
    {
      store_lock lock(table_, store_lock::patiently{});
      const std::uint64_t before = counts_[i].fetch_sub(unit, std::memory_order_seq_cst);
      CADRE_STORE_STEP(ref_dropped);
      const std::uint64_t left = before - unit;
      if (views_of(left) == 0 && refs_of(left) == 0 && (left & hold_closing) != 0) {
        counts_[i].store(0, std::memory_order_relaxed);
        last = --held_at_close_ == 0;
      }
      if (views_of(left) == 0 || refs_of(left) == 0) table_.settle(i);
      // Without the lock only who holds a handle, or is the last, may touch anything of this.
      tidy = room_.is_untidy() && (last || try_add_handle());
    }
    if (tidy) room_.tidy();
    if (last || (tidy && drop_handle() && close())) delete this;
  }
  [[nodiscard]] bool try_add_handle() noexcept {
    std::uint32_t n = handles_.load(std::memory_order_relaxed);
    while (n != 0)
      if (handles_.compare_exchange_weak(n, n + 1, std::memory_order_relaxed)) return true;
    return false;
  }

  [[gnu::noinline]] const std::byte* pin_later(std::uint32_t i, time deadline) {
    for (;;) {
      check_process();
      const object_word w = word(i);
      switch (w.state()) {
        case object_state::free:
        case object_state::gone: throw object_gone(describe_end(table_, i, w));
        case object_state::creating:
        case object_state::restoring: wait_for_change(i, w, deadline); break;
        case object_state::spilled: room_.restore(i, deadline); break;
        default: break;
      }
      if (const std::byte* const at = try_pin(i)) return at;
    }
  }

  void wait_for_change(std::uint32_t i, object_word seen, time deadline) {
    object_entry& e = entries_[i];
    for (int spin = 0; spin < 300; ++spin) {
      if (word(i).value() != seen.value()) return;
      relax();
    }
    const std::uint32_t event = e.event.fetch_or(1, std::memory_order_seq_cst) | 1;
    if (word(i).value() != seen.value()) return;
    const time now = clock::now();
    if (now >= deadline) throw store_timeout(describe_object(table_, i) + " was not sealed in the time given");
    if (!futex::wait_until(e.event, event, std::min(deadline, now + slice), futex::scope::shared)) sweep_if_due();
  }

  arena memory_;
  object_table table_;
  object_entry* entries_;
  hold_count* counts_;
  const std::byte* data_;
  store_header& head_;
  store_options options_;
  store_room room_;
  const store_counters& counters_ = store_counters::get();
  std::atomic<std::uint32_t> handles_{1};
  bool forked_ = false;
  // Under the lock.
  std::uint32_t held_at_close_ = 0;
  put_shelves shelves_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
