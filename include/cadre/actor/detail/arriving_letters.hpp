#ifndef CADRE_ACTOR_DETAIL_ARRIVING_LETTERS_HPP
#define CADRE_ACTOR_DETAIL_ARRIVING_LETTERS_HPP

#include <cadre/actor/detail/actor_table.hpp>
#include <cadre/actor/detail/letters.hpp>
#include <cadre/actor/detail/link.hpp>
#include <cadre/actor/detail/message_head.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Puts the calls of an actor together that come in one batch, so that its mailbox is opened once for all of them, also where
/// a caller has several actors and calls one after another. By whoever receives, one thread at a time.
class arriving_letters {
 public:
  arriving_letters(actor_table& actors, receives_letters& to, pool_id home) noexcept
      : actors_(actors), to_(to), home_(home) {}

  /// Whether the message begins like the last letter to its actor, but for its number, and is with it now; else take() has
  /// to look.
  [[nodiscard]] bool take_alike(int from, const incoming& message) noexcept {
    constexpr std::size_t head = message_head::bytes;
    const std::span<const std::byte> all = message.bytes();
    if (all.size() < head || all.size() - head > packed_letters::largest || !message.block_sizes().empty())
      return false;
    const std::span<const std::byte, head> begins = all.first<head>();
    pile& p = pile_of(message_head::cell_of(begins));
    return p.some && p.some->from() == from && message_head::alike(begins, p.last) &&
           p.some->add(*p.opened_by, message_head::number_of(begins), all.subspan(head));
  }
  /// False for what is not to be a letter, before which those that came go into the mailboxes.
  bool take(int from, const message_head& h, std::span<const std::byte> arguments, bool is_plain) {
    if (is_plain && add(from, h, arguments)) return true;
    deliver();
    return false;
  }
  /// What was taken goes into the mailboxes. Before anything else is served.
  void deliver() noexcept {
    while (begun_ != 0) deliver(piles_[static_cast<std::size_t>(std::countr_zero(begun_))]);
  }

 private:
  /// The letters of one actor that have come, of several that share it by turns.
  struct pile {
    task_ref<letters> some;
    actor_address whose;
    std::array<std::byte, message_head::bytes> last{};  // the head of the one that was added last
    const handler* opened_by = nullptr;                 // that one
  };
  [[nodiscard]] pile& pile_of(std::uint32_t cell) noexcept { return piles_[cell % piles_.size()]; }
  [[nodiscard]] std::uint64_t bit_of(const pile& p) const noexcept { return std::uint64_t{1} << (&p - piles_.data()); }

  bool add(int from, const message_head& h, std::span<const std::byte> arguments) {
    if (h.what != message_kind::ask || h.handler >= handlers_.size() || !h.counts ||
        arguments.size() > packed_letters::largest)
      return false;
    const handler* const opened_by = handlers_[h.handler];
    if (opened_by->open() == nullptr) return false;
    pile& p = pile_of(h.cell);
    const actor_address whose{h.cell, h.generation};
    h.write(p.last.data());
    p.opened_by = opened_by;
    if (p.some && p.whose == whose && p.some->from() == from && p.some->add(*opened_by, h.number, arguments))
      return true;
    deliver(p);
    if (!actors_.has(h.cell) || !actors_[h.cell].takes_letters(h.generation)) return false;
    p.whose = whose;
    p.some = task_ref<letters>(new letters(actors_[h.cell], to_, home_, from));
    begun_ |= bit_of(p);
    return p.some->add(*opened_by, h.number, arguments);
  }
  void deliver(pile& p) noexcept {
    if (!p.some) return;
    begun_ &= ~bit_of(p);
    const task_ref<letters> all = std::exchange(p.some, {});
    const std::uint32_t n = all->count();
    all->retain();  // that of the mailbox
    bool taken = false;
    try {
      taken = actors_[p.whose.cell].push(p.whose.generation, *all, false);
      if (!taken) all->fail_for_ever();
    } catch (...) {  // no memory for a turn
      all->fail(std::current_exception());
    }
    if (!taken) all->release();
    to_.letters_came(n);
  }

  actor_table& actors_;
  receives_letters& to_;
  pool_id home_;
  const std::vector<const handler*>& handlers_ = handler::all();
  std::array<pile, 64> piles_;
  std::uint64_t begun_ = 0;  // a bit for each that has some
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
