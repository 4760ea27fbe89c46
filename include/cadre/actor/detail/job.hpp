#ifndef CADRE_ACTOR_DETAIL_JOB_HPP
#define CADRE_ACTOR_DETAIL_JOB_HPP

#include <cadre/actor/detail/cancelled_letters.hpp>
#include <cadre/actor/detail/flat.hpp>
#include <cadre/actor/detail/handlers.hpp>
#include <cadre/actor/detail/link.hpp>
#include <cadre/actor/detail/loans.hpp>
#include <cadre/actor/detail/membership.hpp>
#include <cadre/actor/detail/message_head.hpp>
#include <cadre/actor/detail/message_parts.hpp>
#include <cadre/actor/detail/name_answer.hpp>
#include <cadre/actor/detail/requests.hpp>
#include <cadre/actor/detail/runtime_core.hpp>
#include <cadre/actor/detail/sent_actor.hpp>
#include <cadre/actor/detail/served.hpp>
#include <cadre/actor/detail/where.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/archive/byte_buffer.hpp>
#include <cadre/archive/output_archive.hpp>
#include <cadre/async/detail/spin.hpp>
#include <cadre/async/future.hpp>
#include <cadre/async/shared_future.hpp>
#include <cadre/core/function.hpp>
#include <cadre/observe/log.hpp>

#include <sched.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// This rank's part of a job of several, as far as every unit compiles it that asks other ranks for something: the sending
/// side. The rest, with what the pure functions do, is class serving_job, which a unit compiles that begins a job.
/// Thread-safety: all functions, from any thread.
class job : public receives_letters {
 public:
  job(const job&) = delete;
  job& operator=(const job&) = delete;

  [[nodiscard]] runtime_core& core() noexcept { return core_; }
  [[nodiscard]] link& way() noexcept { return *way_; }
  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int world_size() const noexcept { return world_size_; }
  [[nodiscard]] bool has_rank(int r) const noexcept { return r >= 0 && (r < world_size_ || r < way_->members()); }
  /// Of a message. Throws archive_corrupt (502) if there is no such rank.
  void check_rank(int r) const {
    if (!has_rank(r))
      throw archive_corrupt("rank " + std::to_string(r) + " in a job of " + std::to_string(world_size()), 0);
  }
  [[nodiscard]] std::string where() const {
    return "rank " + std::to_string(rank_of(rank())) + " on " + facts_of(rank()).host;
  }
  /// The rank that one of those numbers stands for: of members that came later it is another.
  [[nodiscard]] int rank_of(int r) const noexcept { return way_->rank_of(r); }
  [[nodiscard]] membership& members() noexcept { return who_; }
  /// Whether that rank is on this node, and has its store.
  [[nodiscard]] bool is_here(int r) const noexcept { return who_.is_here(r); }
  [[nodiscard]] bool has_several_nodes() const noexcept { return who_.has_several_nodes(); }

  // ---- Requests

  using kind = message_kind;
  using head = message_head;

  /// Asks rank `to` for what Tag is. `write(archive)` writes the arguments; `refs`: they may hold object_refs; `keep`, if it is
  /// not null, keeps them until they have left, wherever they lie. Throws what the link's send() throws, and what writing
  /// throws.
  template <class Tag, class Write>
  void ask(int to, head h, bool refs, Write&& write, std::shared_ptr<const void> keep = {}) {
    h.handler = handler_of<Tag>::id();
    ask_handler(to, h, refs, write, std::move(keep));
  }
  template <class Write>
  void ask_handler(int to, head h, bool refs, Write&& write, std::shared_ptr<const void> keep = {}) {
    h.what = kind::ask;
    send(to, h, refs, write, urgency::normal, {std::move(keep), {}});
  }
  /// The same for `who`, who hears of it too if it cannot be sent.
  template <class Tag, class Write>
  void ask_for(waits_for_answer& who, int to, Write&& write) noexcept {
    std::uint64_t n = 0;
    try {
      n = requests_.add(who, to);
      ask<Tag>(to, {.number = n}, false, write);
    } catch (const std::exception& e) {
      if (n != 0 && (is_dying(to) || requests_.take(n) == nullptr)) return;
      is_alive(to) ? who.fail(std::current_exception()) : who.lost(e.what());
    }
  }
  /// Asks for what is not answered, of a rank that may have died; no part of what the job does.
  template <class Tag, class Write>
  void mention(int to, std::uint32_t cell, Write&& write) noexcept {
    try {
      send(to, {.cell = cell, .handler = handler_of<Tag>::id(), .what = kind::ask, .counts = false}, false, write,
           urgency::urgent);
      way_->flush();
    } catch (const std::exception& e) {
      log(log_level::debug, "actor", [&] { return std::string("a message was not sent: ") + e.what(); });
    }
  }
  template <class Write>
  void answer(int to, std::uint64_t number, bool refs, Write&& write, how_to_answer how = {},
              enclosed with = {}) noexcept {
    if (number == 0) return;
    try {
      send(to, {.number = number, .what = kind::answer, .counts = how.counts}, refs, write, urgency::urgent,
           std::move(with));
      if (!how.waits) way_->flush();
    } catch (...) {  // what cannot be written, or nobody to write to
      fail(to, number, std::current_exception());
    }
  }
  /// Of an error that nobody has asked for: to the runtime's handler.
  void tell_of(const std::exception_ptr& why, std::string_view name = "a message from another rank") noexcept {
    core_.report(why, name);
  }
  void cancel(int to, std::uint64_t number) noexcept {
    try {
      send(
          to, {.number = number, .what = kind::cancel}, false, [](output_archive&) {}, urgency::urgent);
      way_->flush();
    } catch (const std::exception&) {  // it has died, which its requests are told of
    }
  }

  [[nodiscard]] requests& open() noexcept { return requests_; }
  [[nodiscard]] served_tasks& served() noexcept { return served_; }
  [[nodiscard]] cancelled_letters& cancelled() noexcept override { return cancelled_; }
  void answers_end() noexcept override { way_->flush(); }
  void letters_came(std::uint32_t n) noexcept override { received_.fetch_add(n); }

  [[nodiscard]] virtual loans& far() noexcept = 0;
  /// Of a rank to which nothing can be sent: true if died() is to come, and will see to all that was asked of it.
  [[nodiscard]] bool is_dying(int r) noexcept {
    const std::lock_guard lock(dying_);
    return !is_alive(r) && !who_.is_gone(r);
  }
  [[nodiscard]] bool is_alive(int r) const noexcept { return r == rank() || way_->is_alive(r); }
  /// Calls `go(place)` for an actor that may be made anew and was there first: here or, in any case with `later`, on another
  /// thread; or, if the actor has died, `fail(why)`. Neither throws. Throws thread_error (151).
  template <class Go, class Fail>
  void with_place(const actor_place& first, bool later, Go go, Fail fail) {
    const std::optional<actor_place> now = later ? std::nullopt : known_place(first);
    if (now)
      go(*now);
    else
      find_actor(first, std::move(go), std::move(fail));
  }
  /// Makes progress while there is some, or until the task is done. True if it is.
  bool bring_nearer(const task& t) noexcept {
    way_->flush();
    for (std::uint64_t begun = ticks(); ticks() - begun < way_->patience();) {
      for (int i = 0; i < 16; ++i) {
        if (t.done()) return true;
        if (way_->poll()) begun = ticks();
      }
      ::sched_yield();  // who is to answer may be about to run on this very processor
    }
    way_->poll_last();
    return t.done();
  }

  // ---- Where

  /// What this rank has spoken for on all, by rank_of().
  [[nodiscard]] const std::shared_ptr<places>& ranks() const noexcept { return ranks_; }
  [[nodiscard]] const peer_facts& facts_of(int r) const noexcept { return who_.facts_of(r); }

  /// What is spoken for of where find_place() has said that it goes, as long as the charge lives.
  [[nodiscard]] charge charge_for(const placement& on, int to, const resource_set& wanted) {
    if (!on.is_in_group()) return charge(ranks_, rank_of(to), wanted);
    const auto g = core_.groups_used().find(on.group());
    return g ? charge(g->bundles, on.bundle(), wanted) : charge();
  }
  /// The same for an actor, which keeps it as long as it lives; what has ended gives it back.
  void take_for(const placement& on, int to, const resource_set& what) {
    if (!on.is_in_group()) return ranks_->take(rank_of(to), what);
    if (const auto g = core_.groups_used().find(on.group())) g->bundles->take(on.bundle(), what);
  }
  /// Whether it is known where that is; if not, what will say so is added to the sources. Throws as find_place().
  [[nodiscard]] bool is_placed(const placement& on, const resource_set& wanted, std::vector<task_ref<task>>& sources) {
    const auto comes = place_to_come(on, wanted);
    if (comes) sources.push_back(future_access::task_of(*comes));
    return !comes;
  }

  // ---- What serving_job does

  /// Which rank; `on` becomes one bundle, if it is a group. Waits for a group to be placed. `near`: a node that is preferred.
  /// Throws impossible_request (209), placement_group_gone (617), empty_placement_group (618).
  [[nodiscard]] virtual int find_place(placement& on, const resource_set& wanted, int near) = 0;
  /// What will say where that is; nothing, if it is known. Throws the same.
  [[nodiscard]] virtual std::optional<shared_future<std::vector<int>>> place_to_come(const placement& on,
                                                                                     const resource_set& wanted) = 0;
  virtual void fail(int to, std::uint64_t number, const std::exception_ptr& why) noexcept = 0;
  /// Somewhere in the job, with that name if it is not empty, for who calls handles by it: or the one that has it, if the
  /// options allow that. Throws actor_name_taken (603), and as find_place().
  [[nodiscard]] virtual name_answer make_actor(const actor_options& o, const std::string& name,
                                               const makes_actor& maker) = 0;
  /// Asks rank 0, again while somebody makes the actor of that name.
  virtual name_answer ask_about_name(name_question q, const std::string& name, const std::string& type,
                                     actor_place where) = 0;
  /// Of an actor that may be made anew, which was there first: see moved_actors::known() and find().
  [[nodiscard]] virtual std::optional<actor_place> known_place(const actor_place& first) noexcept = 0;
  virtual void find_actor(const actor_place& first, move_only_function<void(const actor_place&)> go,
                          move_only_function<void(std::exception_ptr)> fail) = 0;
  /// Has rank 0 know the last state of an actor that may be made anew. On another rank.
  virtual void keep_state(const actor_place& first, const revival::saved_state& state) = 0;
  /// Of what has ended on this rank, to who has placed it.
  virtual void tell_given_back(int placed_by, const placement& on, const resource_set& what) noexcept = 0;
  [[nodiscard]] virtual std::uint64_t make_group(placement_group_options o) = 0;
  virtual void remove_group(std::uint64_t group) = 0;
  /// The ranks of its bundles, none of which is one of those.
  [[nodiscard]] virtual future<std::vector<int>> when_placed(std::uint64_t group, const std::vector<int>& dead) = 0;

 protected:
  job(runtime_core& core, std::unique_ptr<link> way, std::vector<peer_facts> all)
      : core_(core),
        way_(std::move(way)),
        who_(*way_, std::move(all)),
        ranks_(std::make_shared<places>(who_.places_by_rank())) {}
  ~job() = default;

  /// For a message to this rank itself: to an actor that was made anew on the rank of its caller.
  virtual void take_here(std::span<const std::byte> all) = 0;
  // Writes what comes behind a message's head.
  struct archive_writer {
    void (*write)(const void* what, output_archive& to);
    const void* what;
  };
  virtual void send_archive(int to, head h, bool refs, archive_writer write, urgency how, enclosed with) = 0;

  template <writes_flat Write>
  void send_flat(int to, const head& h, const Write& write, urgency how) {
    constexpr std::size_t bytes = head::bytes + Write::flat_bytes;
    static_assert(bytes <= written_in_place::most);
    const auto put = [&](std::byte* at) noexcept { h.write(at), write.put(at + head::bytes); };
    constexpr auto call = [](const void* what, std::byte* at) noexcept { (*static_cast<decltype(put)*>(what))(at); };
    if (to != rank()) {
      way_->send(to, written_in_place{bytes, call, &put}, how);
      return set_apart(h);
    }
    std::array<std::byte, bytes> message;
    put(message.data());
    deliver_here(h, message);
  }
  [[gnu::noinline]] void deliver_here(const head& h, std::span<const std::byte> all) {
    if (h.counts) sent_here_.fetch_add(1);
    take_here(all);
  }
  // The link counts what it sends, under a lock that it takes anyway: this, afterwards, what is not to count.
  void set_apart(const head& h) noexcept {
    if (!h.counts) [[unlikely]]
      sent_apart_.fetch_add(1);
  }
  /// For a moment perhaps too many, never too few.
  [[nodiscard]] std::uint64_t sent() const noexcept {
    const std::uint64_t apart = sent_apart_.load();
    return way_->sent() - apart + sent_here_.load();
  }
  template <class Write>
  void send(int to, head h, bool refs, const Write& write, urgency how, enclosed with = {}) {
    if constexpr (writes_flat<Write>)
      return send_flat(to, h, write, how);
    else
      send_archive(to, h, refs,
                   {[](const void* what, output_archive& a) { (*static_cast<const Write*>(what))(a); }, &write}, how,
                   std::move(with));
  }

  runtime_core& core_;
  std::unique_ptr<link> way_;
  const int rank_ = way_->rank(), world_size_ = way_->world_size();  // each call asks for them
  membership who_;
  requests requests_;
  served_tasks served_;
  cancelled_letters cancelled_;
  std::mutex dying_;  // while the death of a rank is told
  const std::shared_ptr<places> ranks_;
  std::atomic<std::uint64_t> sent_here_{0}, sent_apart_{0}, received_{0};
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
