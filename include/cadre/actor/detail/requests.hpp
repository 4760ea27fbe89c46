#ifndef CADRE_ACTOR_DETAIL_REQUESTS_HPP
#define CADRE_ACTOR_DETAIL_REQUESTS_HPP

#include <cadre/actor/detail/link.hpp>
#include <cadre/archive/input_archive.hpp>
#include <cadre/async/detail/brief_lock.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <span>
#include <string_view>
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
  /// Before lost(): true if it goes on elsewhere, in place of being lost. Asks for nothing else.
  virtual bool goes_elsewhere() noexcept { return false; }

 protected:
  ~waits_for_answer() = default;
};

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
    std::uint64_t order = 0;
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
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
