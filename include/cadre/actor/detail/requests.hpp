#ifndef CADRE_ACTOR_DETAIL_REQUESTS_HPP
#define CADRE_ACTOR_DETAIL_REQUESTS_HPP

#include <cadre/actor/detail/link.hpp>
#include <cadre/archive/input_archive.hpp>
#include <cadre/async/detail/brief_lock.hpp>
#include <cadre/async/detail/task.hpp>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Somebody who waits for the answer of another rank. One of these is called, once, and ends it.
class waits_for_answer {
 public:
  /// `message`: what the answer is read from; of one with blocks, to say where they go.
  virtual void arrive(input_archive& answer, incoming& message) noexcept = 0;
  /// Before arrive(), of an answer that is nothing but these bytes: false if they are to be read from an archive.
  virtual bool arrive_flat(std::span<const std::byte>) noexcept { return false; }
  virtual void fail(std::exception_ptr why) noexcept = 0;
  /// The rank has died, and how.
  virtual void lost(std::string_view how) noexcept = 0;
  /// The name of what was asked for.
  [[nodiscard]] virtual std::string_view what() const noexcept = 0;
  /// What of it others wait for, with a reference, if somebody does; or null.
  [[nodiscard]] virtual task* awaited() noexcept { return nullptr; }
  /// Where it was asked for last.
  struct place {
    int rank;
    std::uint32_t cell;  ///< of the actor, if it is a call
    std::uint64_t number;
  };
  [[nodiscard]] virtual place asked_at() const noexcept { return {}; }
  /// Before lost(): true if it goes on elsewhere, in place of being lost. Asks for nothing else.
  virtual bool goes_elsewhere() noexcept { return false; }

 protected:
  ~waits_for_answer() = default;
};

/// Of a rank, to those who waited for it.
inline std::string obituary(int rank, std::string_view how, std::span<waits_for_answer* const> asked) {
  std::string text = "rank " + std::to_string(rank) + " of the job has died: " + std::string(how);
  for (std::size_t i = 0; i < asked.size() && i < 3; ++i)
    text.append(i == 0 ? "; this rank waited for " : ", ").append(asked[i]->what());
  if (asked.size() > 3) text += " and " + std::to_string(asked.size() - 3) + " more";
  return text;
}

/// The requests of this rank that have not been answered. Thread-safety: all functions, from any thread.
class requests {
 public:
  /// A number for it, which is not 0 and comes again after 2^32 others of its place only.
  std::uint64_t add(waits_for_answer& who, int to) {
    const std::lock_guard lock(mutex_);
    if (free_ == none) {
      entries_.push_back({});
      free_ = static_cast<std::uint32_t>(entries_.size() - 1);
      entries_[free_].next = none;
    }
    const std::uint32_t i = free_;
    entry& e = entries_[i];
    free_ = e.next;
    e.who = &who;
    e.to = to;
    e.order = ++made_;
    e.looks = 0;
    ++e.generation;
    ++open_;
    return number(i);
  }
  /// Null if it is answered already.
  [[nodiscard]] waits_for_answer* take(std::uint64_t n) noexcept {
    const std::lock_guard lock(mutex_);
    const auto i = static_cast<std::uint32_t>(n);
    if (i >= entries_.size() || entries_[i].who == nullptr || number(i) != n) return nullptr;
    return release(i);
  }
  /// Those of a rank that has died, in the order in which they were made.
  [[nodiscard]] std::vector<waits_for_answer*> take_all_of(int rank) {
    const std::lock_guard lock(mutex_);
    std::vector<std::uint32_t> found;
    for (std::uint32_t i = 0; i < entries_.size(); ++i)
      if (entries_[i].who != nullptr && entries_[i].to == rank) found.push_back(i);
    std::sort(found.begin(), found.end(),
              [this](std::uint32_t a, std::uint32_t b) { return entries_[a].order < entries_[b].order; });
    std::vector<waits_for_answer*> all;
    for (const std::uint32_t i : found) all.push_back(release(i));
    return all;
  }
  struct awaited {
    task_ref<task> what;
    std::int64_t since;  ///< when it was first looked at, by this machine's clock
  };
  /// Some of those that somebody waits for: each comes here at the second look at it, the fourth, the eighth and so on. Looks
  /// at others each time. For one thread.
  [[nodiscard]] std::vector<awaited> look_at_awaited() {
    const std::int64_t now = std::chrono::system_clock::now().time_since_epoch().count();
    std::vector<awaited> found;
    found.reserve(64);
    for (std::uint32_t n = 0; n < 4096 && found.size() < found.capacity();) {
      const std::lock_guard lock(mutex_);  // for a few only, as others spin
      for (const std::uint32_t end = n + 64; n != end; ++n) {
        if (n >= entries_.size() || found.size() == found.capacity()) return found;
        next_look_ = next_look_ + 1 < entries_.size() ? next_look_ + 1 : 0;
        entry& e = entries_[next_look_];
        task* const t = e.who != nullptr ? e.who->awaited() : nullptr;
        if (t == nullptr) continue;
        task_ref<task> one(t);
        if (++e.looks == 1)
          e.since = now;
        else if (std::has_single_bit(e.looks))
          found.push_back({std::move(one), e.since});
      }
    }
    return found;
  }
  /// When it was first looked at, if that is known and it has not been answered.
  [[nodiscard]] std::optional<std::int64_t> awaited_since(std::uint64_t n) const noexcept {
    const std::lock_guard lock(mutex_);
    const auto i = static_cast<std::uint32_t>(n);
    if (i >= entries_.size() || entries_[i].who == nullptr || number(i) != n || entries_[i].looks == 0) return {};
    return entries_[i].since;
  }
  [[nodiscard]] std::size_t open() const noexcept {
    const std::lock_guard lock(mutex_);
    return open_;
  }

 private:
  static constexpr std::uint32_t none = ~std::uint32_t{0};
  struct entry {
    waits_for_answer* who = nullptr;
    int to = 0;
    std::uint32_t generation = 0;
    std::uint32_t next = none;
    std::uint32_t looks = 0;
    std::uint64_t order = 0;
    std::int64_t since = 0;
  };
  [[nodiscard]] std::uint64_t number(std::uint32_t i) const noexcept {
    return std::uint64_t{entries_[i].generation} << 32 | i;
  }
  waits_for_answer* release(std::uint32_t i) noexcept {
    entry& e = entries_[i];
    waits_for_answer* const who = e.who;
    e.who = nullptr;
    e.next = free_;
    free_ = i;
    --open_;
    return who;
  }

  mutable brief_lock mutex_;  // but for take_all_of()
  std::vector<entry> entries_;
  std::uint32_t free_ = none;
  std::size_t open_ = 0;
  std::uint64_t made_ = 0;
  std::size_t next_look_ = 0;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
