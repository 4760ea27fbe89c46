#ifndef CADRE_ACTOR_DETAIL_NAMES_HPP
#define CADRE_ACTOR_DETAIL_NAMES_HPP

#include <cadre/actor/detail/actor_table.hpp>
#include <cadre/actor/detail/name_answer.hpp>

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The names of a job's actors, on rank 0. Who makes an actor has the name reserved first. Thread-safety: all functions, from
/// any thread.
class job_names {
 public:
  name_answer reserve(const std::string& name, const std::string& type, int by) {
    const std::lock_guard lock(mutex_);
    const auto [at, is_new] = all_.try_emplace(name, entry{type, by, {}, false});
    return is_new ? name_answer{name_answer::kind::yours, {}, {}, {}} : answer(at->second);
  }
  void bind(const std::string& name, actor_place where) {
    const std::lock_guard lock(mutex_);
    if (const auto found = all_.find(name); found != all_.end()) {
      found->second.where = where;
      found->second.is_bound = true;
    }
  }
  name_answer find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    if (const auto found = all_.find(name); found != all_.end()) return answer(found->second);
    return {name_answer::kind::none, {}, {}, list_of_names(all_)};
  }
  /// The actor has ended, or was not made.
  void drop(const std::string& name, actor_place where) {
    const std::lock_guard lock(mutex_);
    const auto found = all_.find(name);
    if (found == all_.end()) return;
    const entry& e = found->second;
    if (!e.is_bound || e.where == where) all_.erase(found);
  }
  /// A rank has died. Actors that are made anew keep their names.
  void drop_all_of(int rank) {
    const std::lock_guard lock(mutex_);
    std::erase_if(all_, [rank](const auto& e) {
      return e.second.is_bound ? e.second.where.rank == rank && !e.second.where.may_move() : e.second.by == rank;
    });
  }

 private:
  struct entry {
    std::string type;
    int by;
    actor_place where;
    bool is_bound;
  };
  static name_answer answer(const entry& e) {
    return {e.is_bound ? name_answer::kind::taken : name_answer::kind::being_made, e.where, e.type, {}};
  }

  mutable std::mutex mutex_;
  std::map<std::string, entry> all_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
