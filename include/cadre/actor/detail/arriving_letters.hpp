#ifndef CADRE_ACTOR_DETAIL_ARRIVING_LETTERS_HPP
#define CADRE_ACTOR_DETAIL_ARRIVING_LETTERS_HPP

#include <cadre/actor/detail/actor_table.hpp>
#include <cadre/actor/detail/letters.hpp>
#include <cadre/actor/detail/link.hpp>
#include <cadre/actor/detail/message_head.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Puts calls of one actor together that come one behind the other, so that its mailbox is opened once for all of them. By
/// whoever receives, one thread at a time.
class arriving_letters {
 public:
  arriving_letters(actor_table& actors, receives_letters& to, pool_id home) noexcept
      : actors_(actors), to_(to), home_(home) {}

  /// Whether the message begins like the letter before, but for its number, and is with it now; else take() has to look.
  [[nodiscard]] bool take_alike(int from, const incoming& message) noexcept {
    constexpr std::size_t head = message_head::bytes;
    const std::span<const std::byte> all = message.bytes();
    if (!some_ || some_->from() != from || all.size() < head || all.size() - head > packed_letters::largest ||
        !message.block_sizes().empty() || !message_head::alike(all.first<head>(), last_))
      return false;
    return some_->add(*opened_by_, message_head::number_of(all.first<head>()), all.subspan(head));
  }
  /// False for what is not to be a letter, before which those that came go into the mailbox.
  bool take(int from, const message_head& h, std::span<const std::byte> arguments, bool is_plain) {
    const handler* const opened_by =
        h.what == message_kind::ask && h.handler < handlers_.size() ? handlers_[h.handler] : nullptr;
    if (opened_by == nullptr || opened_by->open() == nullptr || !is_plain || !h.counts ||
        arguments.size() > packed_letters::largest) {
      deliver();
      return false;
    }
    h.write(last_.data());
    opened_by_ = opened_by;
    if (some_ && whose_ == actor_address{h.cell, h.generation} && some_->from() == from &&
        some_->add(*opened_by, h.number, arguments))
      return true;
    deliver();
    if (!actors_.has(h.cell) || !actors_[h.cell].takes_letters(h.generation)) return false;
    whose_ = {h.cell, h.generation};
    some_ = task_ref<letters>(new letters(actors_[h.cell], to_, home_, from));
    return some_->add(*opened_by, h.number, arguments);
  }
  /// What was taken goes into the mailbox. Before anything else is served.
  void deliver() noexcept {
    if (!some_) return;
    const task_ref<letters> all = std::exchange(some_, {});
    const std::uint32_t n = all->count();
    all->retain();  // that of the mailbox
    bool taken = false;
    try {
      taken = actors_[whose_.cell].push(whose_.generation, *all, false);
      if (!taken) all->fail_for_ever();
    } catch (...) {  // no memory for a turn
      all->fail(std::current_exception());
    }
    if (!taken) all->release();
    to_.letters_came(n);
  }

 private:
  actor_table& actors_;
  receives_letters& to_;
  pool_id home_;
  const std::vector<const handler*>& handlers_ = handler::all();
  task_ref<letters> some_;
  actor_address whose_;
  std::array<std::byte, message_head::bytes> last_{};  // the head of the one that was added last
  const handler* opened_by_ = nullptr;                 // that one
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
