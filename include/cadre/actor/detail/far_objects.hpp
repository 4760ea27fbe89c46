#ifndef CADRE_ACTOR_DETAIL_FAR_OBJECTS_HPP
#define CADRE_ACTOR_DETAIL_FAR_OBJECTS_HPP

#include <cadre/actor/detail/loans.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/os/thread.hpp>
#include <cadre/store/detail/far_entries.hpp>
#include <cadre/store/detail/held_object.hpp>
#include <cadre/store/error.hpp>
#include <cadre/store/stored.hpp>

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <source_location>
#include <unordered_map>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Gives loans back to ranks of other nodes.
class gives_back {
 public:
  virtual void give_back(int lender, std::uint64_t key, std::uint32_t times) noexcept = 0;

 protected:
  ~gives_back() = default;
};

/// The objects of other nodes that this process has refs to, and those that it has lent to ranks of others. A ref that comes
/// from another node becomes an entry of this node's store, without memory, whose bytes are fetched when somebody wants
/// them; the lender holds the object until they have come, or until nobody here refers to it any more. A loan that is lent on
/// is held by all on the way, so that the bytes can come from where they are. Thread-safety: all functions, from any thread.
class far_objects final : public loans {
 public:
  far_objects(int rank, gives_back& ranks) noexcept : rank_(rank), ranks_(ranks) {}
  far_objects(const far_objects&) = delete;
  far_objects& operator=(const far_objects&) = delete;
  ~far_objects() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    more_.notify_one();
    looks_.join();
  }

  // ---- Lent

  object_loan lend(int to, store_core& core, std::uint32_t i) override {
    const std::uint64_t key = far_entries(core).key(i);
    const std::uint64_t bytes = core.is_pending(i) ? 0 : std::uint64_t{core.entry(i).bytes};
    object_loan l{key, {core.id(), i, core.word(i).generation(), bytes, core.table().details(i).type}, rank_};
    const std::lock_guard lock(mutex_);
    if (const auto b = borrowed_.find(key); b != borrowed_.end() && b->second.rank >= 0) {
      l.origin = b->second.origin;
      l.rank = b->second.rank;
    }
    lent& one = lent_[{to, key}];
    if (one.times++ == 0) {
      core.add_ref(i);
      one.object = held_object(core, i);
    }
    return l;
  }
  /// It has given it back, or it was not sent.
  void take_back(int from, std::uint64_t key, std::uint32_t times) noexcept {
    held_object last;  // ends without the lock
    const std::lock_guard lock(mutex_);
    const auto found = lent_.find({from, key});
    if (found == lent_.end()) return;
    found->second.times -= times < found->second.times ? times : found->second.times;
    if (found->second.times != 0) return;
    last = std::move(found->second.object);
    lent_.erase(found);
  }

  // ---- Borrowed

  /// The entry of this node for what was lent, with a ref for the caller. Throws object_gone (301), wrong_object_type (303),
  /// and as put().
  std::uint32_t borrow(int from, const object_loan& l, store_core& core, const stored_label& label) {
    far_entries entries(core);
    if (l.origin.store == core.id()) {  // it comes home
      held_object it = entries.hold(far_entries::key(l.origin.index, l.origin.generation));
      ranks_.give_back(from, l.key, 1);
      if (!it) throw object_gone("an object has gone while a ref to it came back from rank " + std::to_string(from));
      return it.release();
    }
    if (l.origin.type != label.key) {
      ranks_.give_back(from, l.key, 1);
      throw wrong_object_type(label.text, core.type_text(l.origin.type));
    }
    const far_entries::entered there = entries.enter(l.origin, label, 0, false, {});
    if (there.memory != nullptr) core.add_ref(there.index);  // beside that of the writer
    held_object ref(core, there.index);
    if (!add(from, l, core, there.index, there.memory != nullptr)) ranks_.give_back(from, l.key, 1);
    return ref.release();
  }
  void expect(std::uint64_t key) override {
    const std::lock_guard lock(mutex_);
    borrowed_[key].comes = false;
  }
  void expect_no_more(std::uint64_t key) noexcept override {
    const std::lock_guard lock(mutex_);
    borrowed_.erase(key);
  }
  [[nodiscard]] bool assign(int from, const object_loan& l, store_core& core, std::uint32_t i) override {
    const std::uint64_t key = far_entries(core).key(i);
    const std::lock_guard lock(mutex_);
    borrowed& b = borrowed_[key];
    const bool wanted = std::exchange(b.comes, false);
    b.origin = l.origin;
    b.rank = static_cast<int>(l.rank);
    b.core = &core;
    ++b.lenders[{from, l.key}];
    begin_to_look();
    return wanted;
  }

  /// Where to fetch an object from, once, by who is to do it. The lender may have a copy by now, and have given back its own
  /// loan: then the object may have gone where it was.
  struct source {
    int rank = 0;
    std::uint64_t key = 0;
    friend bool operator==(const source&, const source&) = default;
  };
  struct sources {
    source origin, lender;
  };
  [[nodiscard]] std::optional<sources> begin_fetch(std::uint64_t key) noexcept {
    const std::lock_guard lock(mutex_);
    const auto b = borrowed_.find(key);
    if (b == borrowed_.end() || std::exchange(b->second.comes, true) || b->second.rank < 0) return std::nullopt;
    const auto& [lender, times] = *b->second.lenders.begin();
    return sources{{b->second.rank, far_entries::key(b->second.origin.index, b->second.origin.generation)},
                   {lender.first, lender.second}};
  }
  /// It is here, or will not come. The writer's part is the caller's.
  void end_fetch(std::uint64_t key) noexcept {
    std::unordered_map<std::uint64_t, borrowed>::node_type last;
    {
      const std::lock_guard lock(mutex_);
      last = borrowed_.extract(key);
    }
    if (last) give_back(last.mapped());
  }

  /// Of a rank that has died: nothing is lent to it, and nothing that is there can come any more. Returns the keys of that;
  /// the writer's part is the caller's.
  std::vector<std::uint64_t> lose(int rank) {
    std::vector<held_object> last;  // ends without the lock
    std::vector<std::uint64_t> lost;
    std::vector<borrowed> given;
    {
      const std::lock_guard lock(mutex_);
      for (auto at = lent_.lower_bound({rank, 0}); at != lent_.end() && at->first.first == rank;) {
        last.push_back(std::move(at->second.object));
        at = lent_.erase(at);
      }
      for (auto at = borrowed_.begin(); at != borrowed_.end();) {
        if (at->second.rank != rank || at->second.comes) {
          ++at;
          continue;
        }
        lost.push_back(at->first);
        given.push_back(std::move(at->second));
        at = borrowed_.erase(at);
      }
    }
    for (const borrowed& b : given) give_back(b);
    return lost;
  }
  [[nodiscard]] std::optional<whereabouts> find(std::uint64_t key) const noexcept override {
    const std::lock_guard lock(mutex_);
    const auto b = borrowed_.find(key);
    return b == borrowed_.end() || b->second.rank < 0
               ? std::nullopt
               : std::optional(whereabouts{b->second.rank, b->second.origin.bytes});
  }

 private:
  struct lent {
    held_object object;
    std::uint32_t times = 0;
  };
  struct borrowed {
    object_origin origin;
    int rank = -1;  // not known yet
    store_core* core = nullptr;
    std::map<std::pair<int, std::uint64_t>, std::uint32_t> lenders;  // by rank and key: how often
    bool comes = false;                                              // or is to, once it is known from where
  };
  static constexpr auto between_looks = std::chrono::milliseconds(20);

  // False if nothing is to be kept: the bytes are on this node, or another process sees to it that they come.
  bool add(int from, const object_loan& l, store_core& core, std::uint32_t i, bool is_writer) {
    const std::uint64_t key = far_entries(core).key(i);
    const std::lock_guard lock(mutex_);
    auto b = borrowed_.find(key);
    if (b == borrowed_.end() && !is_writer) return false;
    if (b == borrowed_.end()) {
      b = borrowed_.try_emplace(key, borrowed{l.origin, static_cast<int>(l.rank), &core, {}}).first;
      begin_to_look();
    }
    ++b->second.lenders[{from, l.key}];
    return true;
  }
  void begin_to_look() {
    if (!std::exchange(begun_, true)) looks_ = native_thread("cadre objects", [this] { look(); });
    more_.notify_one();
  }
  void give_back(const borrowed& b) noexcept {
    for (const auto& [lender, times] : b.lenders) ranks_.give_back(lender.first, lender.second, times);
  }
  // Nobody tells when the last ref to an entry goes, in whichever process that is.
  void look() noexcept {
    std::unique_lock lock(mutex_);
    for (;;) {
      more_.wait(lock, [this] { return ends_ || !borrowed_.empty(); });
      if (more_.wait_for(lock, between_looks, [this] { return ends_; })) return;
      std::vector<borrowed> unwanted;
      for (auto at = borrowed_.begin(); at != borrowed_.end();) {
        const borrowed& b = at->second;
        const bool gone = b.rank >= 0 && !b.comes && give_up(*b.core, far_entries::index(at->first));
        if (gone) unwanted.push_back(std::move(at->second));
        at = gone ? borrowed_.erase(at) : std::next(at);
      }
      lock.unlock();
      for (const borrowed& b : unwanted) give_back(b);
      lock.lock();
    }
  }
  static bool give_up(store_core& core, std::uint32_t i) noexcept {
    try {
      return far_entries(core).give_up_if_unwanted(i);
    } catch (const error&) {  // the store is stalled: later
      return false;
    }
  }

  const int rank_;
  gives_back& ranks_;
  mutable std::mutex mutex_;
  std::condition_variable more_;
  std::map<std::pair<int, std::uint64_t>, lent> lent_;  // by whom to, and key
  std::unordered_map<std::uint64_t, borrowed> borrowed_;
  bool ends_ = false, begun_ = false;
  native_thread looks_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
