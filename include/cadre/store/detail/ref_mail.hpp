#ifndef CADRE_STORE_DETAIL_REF_MAIL_HPP
#define CADRE_STORE_DETAIL_REF_MAIL_HPP

#include <cadre/store/detail/store_core.hpp>
#include <cadre/store/detail/tickets.hpp>
#include <cadre/store/error.hpp>

#include <atomic>
#include <cstdint>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The refs that a process sends to others and receives. Thread-safety: all functions, from any thread.
class ref_mail {
 public:
  explicit ref_mail(store_core& core) noexcept : core_(core), table_(core.table()) {}

  struct ticket {
    std::uint32_t number = no_index;
    std::uint32_t generation = 0;  // of one that was given out: at least 1
  };
  /// Of an object of which the caller holds a ref, to the process of that number, or any_process. Throws store_full (302).
  ticket send(std::uint32_t i, std::uint32_t to) {
    core_.check_process();
    store_lock lock(table_);
    // To one that has died and been swept already it would be on its way for ever: a ticket that is void.
    if (to != any_process && !is_there(to)) return {0, 0};
    const std::uint32_t t = ticket_office(table_).send(
        i, to == any_process ? any_receiver : static_cast<std::uint16_t>(to % most_processes));
    if (t == no_index)
      throw store_full("store full: " + std::to_string(table_.head().most_objects) +
                       " refs are on their way already; receive them, or open the store with larger .max_objects");
    return {t, table_.memory().tickets()[t].generation};
  }
  /// The object, with a ref for the caller, or no_index if the ticket is void.
  std::uint32_t receive(ticket t) {
    core_.check_process();
    store_lock lock(table_);
    ticket_office office(table_);
    const transfer_ticket* const tickets = table_.memory().tickets();
    const std::uint16_t to = t.number < table_.head().most_objects ? tickets[t.number].to : any_receiver;
    if (!office.is_valid(t.number, t.generation) || (to != any_receiver && to != table_.slot())) return no_index;
    const std::uint32_t i = tickets[t.number].index;
    office.finish(t.number, true);
    return i;
  }
  void cancel(ticket t) noexcept {
    if (core_.is_forked()) return;
    store_lock lock(table_, store_lock::patiently{});
    if (ticket_office office(table_); office.is_valid(t.number, t.generation)) office.finish(t.number, false);
  }

 private:
  [[nodiscard]] bool is_there(std::uint32_t process) const noexcept {
    const process_slot& p = table_.memory().slots()[process % most_processes];
    return p.used.load(std::memory_order_acquire) != 0 && process_number(process % most_processes, p) == process;
  }

  store_core& core_;
  object_table& table_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
