#ifndef CADRE_ACTOR_DETAIL_GROUP_REQUESTS_HPP
#define CADRE_ACTOR_DETAIL_GROUP_REQUESTS_HPP

#include <cadre/actor/detail/ask.hpp>
#include <cadre/actor/detail/bundles.hpp>
#include <cadre/actor/detail/groups_here.hpp>
#include <cadre/actor/detail/placement_groups.hpp>
#include <cadre/actor/detail/sent_options.hpp>
#include <cadre/actor/detail/serving_job.hpp>
#include <cadre/actor/detail/way_back.hpp>
#include <cadre/async/promise.hpp>
#include <cadre/async/shared_future.hpp>
#include <cadre/observe/log.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

placement_groups& groups_of(serving_job& j);

// What rank 0 asks the ranks for.

/// What is free; and to be told once when it may be more.
struct room_request : own_request {
  static void serve(request& r) {
    r.in.expect_end();
    way_back(r).with([&] { return look(serving(r)); });
  }
  static room look(serving_job& j);
};
struct more_request : own_request {
  static void serve(request& r) {
    r.in.expect_end();
    way_back(r).with([&] { groups_of(serving(r)).try_again(); });
  }
};
struct set_aside_request : own_request {
  static void serve(request& r) {
    std::uint64_t group = 0;
    std::string name;
    bundle_ranks::parts parts;
    read_all(r, group, name, parts);
    way_back(r).with([&] { return r.at.core().bundles().set_aside(group, name, parts); });
  }
};
struct drop_group_request : own_request {
  static void serve(request& r) {
    std::uint64_t group = 0;
    std::string why;
    std::vector<std::uint32_t> only;
    read_all(r, group, why, only);
    way_back(r).with([&] { drop(r.at.core(), group, why, only); });
  }
  /// `only`: bundles that were set aside a moment ago, of which nobody is to be told; all, if there are none.
  static void drop(runtime_core& core, std::uint64_t group, const std::string& why,
                   const std::vector<std::uint32_t>& only) {
    if (only.empty()) core.groups_used().drop(group);
    core.bundles().drop(group, why, only, !only.empty());
  }
};
inline room room_request::look(serving_job& j) {
  return j.core().bundles().look([&j] {
    if (j.rank() == 0) return groups_of(j).try_again();
    try {
      j.ask<more_request>(0, {}, false, [](output_archive&) {});
    } catch (const error&) {  // the job is over
    }
  });
}

// What all ask rank 0.

struct make_group_request : own_request {
  static void serve(request& r) {
    placement_group_options o;
    placement_strategy::kind how{};
    read_all(r, o.bundles, how, o.name);
    o.strategy = how;
    way_back(r).with([&] { return make(serving(r), std::move(o)); });
  }
  static std::uint64_t make(serving_job& j, placement_group_options o) {
    return groups_of(j).add(std::move(o), first_group(j.core()));
  }
};
struct find_group_request : own_request {
  static void serve(request& r) {
    std::uint64_t group = 0;
    read_all(r, group);
    way_back(r).with([&] { return groups_of(serving(r)).find(group); });
  }
};
/// Answered when it is placed, by the rank of each bundle, which is none of those that the asker knows to be dead.
struct placed_request : own_request {
  static void serve(request& r) {
    std::uint64_t group = 0;
    std::vector<int> dead;
    read_all(r, group, dead);
    groups_of(serving(r))
        .when_placed(group, std::move(dead), [back = way_back(r)](const placement_groups::outcome& o) mutable {
          back.with([&] { return ranks_of(o); });
        });
  }
  static std::vector<int> ranks_of(const placement_groups::outcome& o) {
    if (o.why != nullptr) std::rethrow_exception(o.why);
    return o.ranks;
  }
};
struct remove_group_request : own_request {
  static void serve(request& r) {
    std::uint64_t group = 0;
    read_all(r, group);
    way_back(r).with([&] { groups_of(serving(r)).remove(group); });
  }
};

/// In a job of several ranks.
class bundles_of_job final : public bundle_ranks {
 public:
  explicit bundles_of_job(serving_job& j) noexcept : job_(j) {}

  std::vector<group_layout::rank> all() override {
    std::vector<group_layout::rank> ranks;
    for (int r = 0; r < job_.world_size(); ++r) {
      const int now = job_.members().holder_of(r);
      if (job_.is_alive(now) || job_.members().is_to_return(r))
        ranks.push_back({now, r, job_.facts_of(now).host, room::of(job_.facts_of(now).resources)});
    }
    return ranks;
  }
  std::vector<group_layout::rank> free() override {
    std::vector<group_layout::rank> ranks = all();
    std::vector<future<room>> answers(ranks.size());
    for (std::size_t i = 0; i < ranks.size(); ++i)
      if (ranks[i].number != job_.rank())
        answers[i] = asked<room_request, room>(ranks[i].number, [](output_archive&) {});
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      ranks[i].has = {};
      try {
        ranks[i].has = ranks[i].number == job_.rank() ? room_request::look(job_) : answers[i].get();
      } catch (const std::exception&) {  // it has died
      }
    }
    return ranks;
  }
  bool set_aside(int rank, std::uint64_t group, const std::string& name, const parts& which) override {
    bool done = false;
    try {
      done = rank == job_.rank()
                 ? job_.core().bundles().set_aside(group, name, which)
                 : asked<set_aside_request, bool>(rank, [&](output_archive& out) { out(group, name, which); }).get();
    } catch (const std::exception&) {  // likewise
    }
    if (done)
      for (const bundle_table::part& p : which) job_.ranks()->take(job_.rank_of(rank), p.resources);
    return done;
  }
  void take_back(int rank, std::uint64_t group, const parts& which) noexcept override {
    lost(rank, which);
    std::vector<std::uint32_t> only;
    for (const bundle_table::part& p : which) only.push_back(p.index);
    tell(rank, group, "it could not be set aside as a whole", only);
  }
  void lost(int rank, const parts& which) noexcept override {
    for (const bundle_table::part& p : which) job_.ranks()->give_back(job_.rank_of(rank), p.resources);
  }
  [[nodiscard]] bool lives(int rank) const noexcept override { return job_.is_alive(rank); }
  void drop(std::uint64_t group, const std::vector<int>& at, const std::vector<resource_set>& bundles,
            const std::string& why) noexcept override {
    for (std::size_t b = 0; b < at.size(); ++b)
      if (at[b] != group_layout::nowhere) job_.ranks()->give_back(job_.rank_of(at[b]), bundles[b]);
    for (int r = 0; r < job_.world_size(); ++r)  // all that know it
      tell(job_.members().holder_of(r), group, why, {});
  }
  void run(move_only_function<void()> f) override { job_.later(std::move(f)); }

 private:
  template <class Tag, class R, class Write>
  future<R> asked(int rank, Write&& write) {
    return ask<Tag, R>(job_, rank, {}, false, "a placement group", false, {}, write);
  }
  void tell(int rank, std::uint64_t group, const std::string& why, const std::vector<std::uint32_t>& only) noexcept {
    try {
      if (rank == job_.rank())
        drop_group_request::drop(job_.core(), group, why, only);
      else if (job_.is_alive(rank))
        job_.ask<drop_group_request>(rank, {}, false, [&](output_archive& out) { out(group, why, only); });
    } catch (const std::exception& e) {  // it has died just now
      log(log_level::debug, "actor", [&] { return std::string("a rank was not told of a group's end: ") + e.what(); });
    }
  }

  serving_job& job_;
};

inline placement_groups& groups_of(serving_job& j) {
  return j.core().groups<placement_groups>(
      [&] { return std::make_unique<placement_groups>(std::make_unique<bundles_of_job>(j)); });
}

inline std::uint64_t make_group(serving_job& j, placement_group_options o) {
  if (j.rank() == 0) return make_group_request::make(j, std::move(o));
  return ask<make_group_request, std::uint64_t>(j, 0, {}, false, "the making of a placement group", false, {},
                                                [&](output_archive& out) { out(o.bundles, o.strategy.what(), o.name); })
      .get();
}
inline void remove_group(serving_job& j, std::uint64_t group) {
  if (j.rank() == 0) return groups_of(j).remove(group);
  ask<remove_group_request, void>(j, 0, {}, false, "the removal of a placement group", false, {},
                                  [&](output_archive& out) { out(group); })
      .get();
}
inline future<std::vector<int>> when_placed(serving_job& j, std::uint64_t group, const std::vector<int>& dead) {
  if (j.rank() == 0) return when_placed_by(groups_of(j), j.core(), group, dead);
  return ask<placed_request, std::vector<int>>(j, 0, {}, false, "a placement group", false, {},
                                               [&](output_archive& out) { out(group, dead); });
}
/// For all who use the group, each of whom says it if there is an error.
inline shared_future<std::vector<int>> shared_when_placed(serving_job& j, std::uint64_t group,
                                                          const std::vector<int>& dead = {}) {
  shared_future<std::vector<int>> ranks = when_placed(j, group, dead).share();
  future_access::get(ranks)->set_observed();
  return ranks;
}

/// What this rank knows of a group, of a job of several. Waits for an answer of rank 0 when it is first used here. Throws
/// placement_group_gone (617), empty_placement_group (618).
inline std::shared_ptr<const group_used> known_group(serving_job& j, std::uint64_t group) {
  runtime_core& core = j.core();
  if (group >> 32 != core.number()) throw empty_placement_group("this placement group is of another runtime");
  if (auto known = core.groups_used().find(group)) return known;
  const placement_groups::facts f =
      j.rank() == 0 ? groups_of(j).find(group)
                    : ask<find_group_request, placement_groups::facts>(j, 0, {}, false, "a placement group", false, {},
                                                                       [&](output_archive& out) { out(group); })
                          .get();
  std::vector<places::place> bundles;
  for (const resource_set& b : f.bundles) bundles.push_back({"", b});
  return core.groups_used().add(group, {f.name, std::make_shared<places>(bundles), shared_when_placed(j, group)});
}
/// At once: whether that can be there at all. Throws impossible_request (209), empty_placement_group (618).
inline void check_fits(const group_used& g, const placement& on, const resource_set& wanted) {
  if (on.bundle() != placement::any_bundle && (on.bundle() < 0 || on.bundle() >= g.bundles->size()))
    throw empty_placement_group("bundle " + std::to_string(on.bundle()) + " of " + group_label(on.group(), g.name) +
                                ", which has " + std::to_string(g.bundles->size()));
  for (int b = 0; b < g.bundles->size(); ++b)
    if ((on.bundle() == placement::any_bundle || on.bundle() == b) && g.bundles->has(b, wanted)) return;
  throw impossible_request(bundle_table::too_much(wanted, g.name, on.group()));
}

/// Which bundle, on a rank that lives; places::none if there is none. Waits for the group to be placed, and throws why it is
/// not.
inline int choose_bundle(serving_job& j, const group_used& g, const placement& on, const resource_set& wanted) {
  const std::vector<int>& ranks = g.ranks.get();
  return g.bundles->choose(wanted, placement::kind::anywhere, [&](int i) {
    return (on.bundle() == placement::any_bundle || on.bundle() == i) && j.is_alive(ranks[static_cast<std::size_t>(i)]);
  });
}
/// What is known of a group, of which no bundle that would do is on a rank that lives: where they are placed once more.
inline std::shared_ptr<const group_used> known_anew(serving_job& j, std::uint64_t group, const group_used& old) {
  std::vector<int> dead;
  for (const int r : old.ranks.get())
    if (!j.is_alive(r)) dead.push_back(r);
  return j.core().groups_used().replace(group, old, {old.name, old.bundles, shared_when_placed(j, group, dead)});
}
/// In a job of several ranks, what will say where that is; nothing, if it is known. Throws as known_group(), check_fits() and
/// choose_bundle().
inline std::optional<shared_future<std::vector<int>>> place_to_come(serving_job& j, const placement& on,
                                                                    const resource_set& wanted) {
  if (!on.is_in_group()) return std::nullopt;
  auto g = known_group(j, on.group());
  check_fits(*g, on, wanted);
  while (g->ranks.ready()) {
    if (choose_bundle(j, *g, on, wanted) != places::none) return std::nullopt;
    g = known_anew(j, on.group(), *g);
  }
  return g->ranks;
}
/// Which rank; `on` becomes one bundle, if it is a group. Waits for a group to be placed. Throws impossible_request (209),
/// placement_group_gone (617), empty_placement_group (618).
inline int find_place(serving_job& j, placement& on, const resource_set& wanted, bool rank_0_last, int near) {
  if (!on.is_in_group()) return j.choose(on, wanted, rank_0_last, near);
  auto g = known_group(j, on.group());
  check_fits(*g, on, wanted);
  int b = places::none;
  while ((b = choose_bundle(j, *g, on, wanted)) == places::none) g = known_anew(j, on.group(), *g);
  on = in_group(on.group(), b);
  return g->ranks.get()[static_cast<std::size_t>(b)];
}
struct given_back_request : own_request {
  static void serve(request& r) {
    placement on;
    resource_set what;
    read_all(r, on, what);
    way_back(r).with([&] { give_back(serving(r), on, r.from, what); });
  }
  static void give_back(serving_job& j, const placement& on, int at, const resource_set& what) {
    if (!on.is_in_group()) return j.ranks()->give_back(j.rank_of(at), what);
    const auto g = j.core().groups_used().find(on.group());
    if (g && on.bundle() >= 0 && on.bundle() < g->bundles->size()) g->bundles->give_back(on.bundle(), what);
  }
};
inline void tell_given_back(serving_job& j, int placed_by, const placement& on, const resource_set& what) noexcept {
  try {
    if (placed_by == j.rank()) return given_back_request::give_back(j, on, j.rank(), what);
    j.ask<given_back_request>(placed_by, {}, false, [&](output_archive& out) { out(on, what); });
  } catch (const std::exception&) {  // it has died, or the job is over
  }
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
