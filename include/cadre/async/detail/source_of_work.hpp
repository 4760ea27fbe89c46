#ifndef CADRE_ASYNC_DETAIL_SOURCE_OF_WORK_HPP
#define CADRE_ASYNC_DETAIL_SOURCE_OF_WORK_HPP

#include <cadre/config/config.hpp>

#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Where tasks of a pool come from beside itself, as messages. Lives until the threads of the pool have ended.
class source_of_work {
 public:
  /// Ticks that a thread looks for after the last thing that came.
  [[nodiscard]] virtual std::uint64_t patience() const noexcept = 0;
  /// True if something came, which may have queued tasks. Never waits.
  virtual bool bring() noexcept = 0;
  /// The same once more by a thread that looks no longer: what comes later, others see to.
  virtual bool bring_last() noexcept = 0;

 protected:
  ~source_of_work() = default;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
