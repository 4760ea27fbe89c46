#ifndef CADRE_ACTOR_DETAIL_JOB_GROUPS_HPP
#define CADRE_ACTOR_DETAIL_JOB_GROUPS_HPP

#include <cadre/config/config.hpp>

#include <cstddef>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// All placement groups of a job, on rank 0, as its runtime sees them: class placement_groups, which is compiled where one is
/// made. Thread-safety: all functions, from any thread.
class job_groups {
 public:
  virtual ~job_groups() = default;
  /// Something is free that was not, or may come to be.
  virtual void try_again() = 0;
  /// A rank has died: its bundles are to be elsewhere.
  virtual void lose(int rank) = 0;
  /// At the end: those that are placed, so that others can be; if none is, those that wait. False if there is none.
  virtual bool remove_some(const std::string& why) = 0;
  /// How many are not placed.
  [[nodiscard]] virtual std::size_t waiting() const = 0;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
