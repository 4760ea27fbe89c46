#ifndef CADRE_ASYNC_DETAIL_LONG_WAIT_HPP
#define CADRE_ASYNC_DETAIL_LONG_WAIT_HPP

#include <cadre/config/config.hpp>
#include <cadre/core/chrono.hpp>

CADRE_NAMESPACE_BEGIN
namespace detail {

class scheduler;
class task;

/// When a wait is to be told to the log, and who does that: set together, so that only those who ask for it compile it.
struct long_wait_report {
  std::chrono::nanoseconds after = std::chrono::nanoseconds::max();
  void (*tell)(scheduler& pool, const task* waiter, const task& target) noexcept = nullptr;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
