#ifndef CADRE_STORE_DETAIL_TICKETS_HPP
#define CADRE_STORE_DETAIL_TICKETS_HPP

#include <cadre/store/detail/object_table.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Refs on their way to other processes, under the lock of the store. A ticket holds its object for as long as its sender
/// lives, and the receiver, if that is known; of both it is taken by recovery.
class ticket_office {
 public:
  explicit ticket_office(object_table& table) noexcept : table_(table) {}

  /// A ref that travels to the process in slot `to`; no_index if there is no room for one.
  std::uint32_t send(std::uint32_t i, std::uint16_t to) noexcept {
    std::uint32_t t = table_.head().free_ticket;
    if (t != no_index)
      table_.head().free_ticket = table_.memory().tickets()[t].next;
    else if (table_.head().tickets_begun < table_.head().most_objects)
      t = table_.head().tickets_begun++;
    else
      return no_index;
    transfer_ticket& ticket = table_.memory().tickets()[t];
    ++ticket.generation;
    ticket.index = i;
    ticket.from = static_cast<std::uint16_t>(table_.slot());
    ticket.to = to;
    table_.entry(i).flags |= object_sent;
    CADRE_STORE_STEP(ticket_written);
    ticket.used.store(1, std::memory_order_release);
    CADRE_STORE_STEP(ticket_committed);
    ++table_.entry(i).in_flight;
    CADRE_STORE_STEP(ticket_counted);
    return t;
  }
  /// Whether it is on its way still; a ticket that was ended and given out again has another generation.
  [[nodiscard]] bool is_valid(std::uint32_t t, std::uint32_t generation) const noexcept {
    const transfer_ticket& ticket = table_.memory().tickets()[t];
    return t < table_.head().tickets_begun && ticket.used.load(std::memory_order_acquire) != 0 &&
           ticket.generation == generation;
  }
  /// Ends a ticket that is used, without or (take) with a ref of this process in its place.
  void finish(std::uint32_t t, bool take) noexcept {
    transfer_ticket& ticket = table_.memory().tickets()[t];
    const std::uint32_t i = ticket.index;
    if (take) table_.hold(i);
    CADRE_STORE_STEP(receiver_holds);
    ticket.used.store(0, std::memory_order_release);
    CADRE_STORE_STEP(ticket_taken);
    --table_.entry(i).in_flight;
    ticket.next = table_.head().free_ticket;
    table_.head().free_ticket = t;
    CADRE_STORE_STEP(ticket_uncounted);
    if (!take) table_.settle(i);
  }

 private:
  object_table& table_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
