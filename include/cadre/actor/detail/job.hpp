#ifndef CADRE_ACTOR_DETAIL_JOB_HPP
#define CADRE_ACTOR_DETAIL_JOB_HPP

#include <cadre/actor/detail/arriving_letters.hpp>
#include <cadre/actor/detail/circle_looks.hpp>
#include <cadre/actor/detail/error_codec.hpp>
#include <cadre/actor/detail/far_objects.hpp>
#include <cadre/actor/detail/flat.hpp>
#include <cadre/actor/detail/handlers.hpp>
#include <cadre/actor/detail/kept_actors.hpp>
#include <cadre/actor/detail/link.hpp>
#include <cadre/actor/detail/membership.hpp>
#include <cadre/actor/detail/message_head.hpp>
#include <cadre/actor/detail/message_parts.hpp>
#include <cadre/actor/detail/moved_actors.hpp>
#include <cadre/actor/detail/names.hpp>
#include <cadre/actor/detail/requests.hpp>
#include <cadre/actor/detail/runtime_core.hpp>
#include <cadre/actor/detail/served.hpp>
#include <cadre/actor/detail/where.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/archive/byte_buffer.hpp>
#include <cadre/archive/output_archive.hpp>
#include <cadre/async/detail/spin.hpp>
#include <cadre/async/detail/state.hpp>
#include <cadre/async/future.hpp>
#include <cadre/observe/log.hpp>
#include <cadre/store/travel.hpp>

#include <sched.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// This rank's part of a job of several: sends requests to the other ranks and answers theirs. Thread-safety: all
/// functions, from any thread, but for serve() and finish().
class job final : public message_sink,
                  public fetches_objects,
                  public receives_letters,
                  private knows_ranks,
                  private gives_back,
                  private source_of_work {
 public:
  job(runtime_core& core, std::unique_ptr<link> way, std::vector<peer_facts> all)
      : core_(core),
        way_(std::move(way)),
        who_(*way_, std::move(all)),
        letters_(core_.actors(), *this, core_.home()),
        far_(way_->rank(), *this),
        ranks_(std::make_shared<places>(who_.places_by_rank())),
        moved_(*this) {}
  /// Messages are received from now on. Once, when all else is there.
  void start() {
    way_->start(*this);
    scheduler_of(core_.pool()).look_also_at(*this);
  }
  job(const job&) = delete;
  job& operator=(const job&) = delete;
  ~job() = default;

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
  void fail(int to, std::uint64_t number, const std::exception_ptr& why) noexcept {
    if (number == 0) return tell_of(why);
    try {
      const sent_error e = send_error(why, where());
      send(
          to, {.number = number, .what = kind::failure}, false, [&](output_archive& a) { a(e.type, e.text, e.where); },
          urgency::urgent);
      way_->flush();
    } catch (const std::exception& e) {
      log(log_level::debug, "actor", [&] { return std::string("an answer was not sent: ") + e.what(); });
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
  /// On rank 0.
  [[nodiscard]] job_names& names() noexcept { return names_; }
  [[nodiscard]] kept_actors& kept() noexcept { return kept_; }

  [[nodiscard]] circle_looks& circles() noexcept { return circles_; }
  [[nodiscard]] moved_actors& moved() noexcept { return moved_; }
  [[nodiscard]] far_objects& far() noexcept { return far_; }
  /// The object of that key comes from another node, or would if somebody wanted it: whoever waits for this may get it.
  std::optional<shared_future<void>> want(std::uint64_t key) override { return begin_fetch(key); }
  /// Of a rank to which nothing can be sent: true if died() is to come, and will see to all that was asked of it.
  [[nodiscard]] bool is_dying(int r) noexcept {
    const std::lock_guard lock(dying_);
    return !is_alive(r) && !who_.is_gone(r);
  }
  /// On rank 0: makes those anew that were there, on another thread.
  void revive_all_of(int r, std::string_view how) {
    for (const actor_place& first : kept_.lose(r))
      revivals_.add([this, first, why = std::string(how)] { revive(first, why); });
  }
  [[nodiscard]] bool is_gone(int r) noexcept { return is_gone(r, false); }
  /// What may have to wait for other ranks: on another thread.
  void later(errands::errand f) { errands_.add(std::move(f)); }

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

  /// Throws impossible_request (209).
  int choose(const placement& on, const resource_set& wanted, bool rank_0_last = false, int near = places::none) {
    const auto may = [&](int r) { return who_.is_at(on, r) && is_alive(who_.holder_of(r)); };
    int to = places::none;
    if (rank_0_last) to = ranks_->choose(wanted, on.what(), [&](int r) { return r != 0 && may(r); });
    if (on.what() != placement::kind::anywhere) near = places::none;
    if (to == places::none) to = ranks_->choose(wanted, on.what(), may, near);
    if (to == places::none && on.is_soft()) return choose({}, wanted, rank_0_last);
    if (to == places::none) throw impossible_request(who_.none_for(on, wanted));
    return who_.holder_of(to);
  }
  /// What this rank has spoken for on all, by rank_of().
  [[nodiscard]] const std::shared_ptr<places>& ranks() const noexcept { return ranks_; }
  [[nodiscard]] const peer_facts& facts_of(int r) const noexcept { return who_.facts_of(r); }

  // ---- The life of the job

  /// Every rank but 0: until that says that the job is over. Throws worker_died (609) if it dies.
  void serve() {
    over_.wait(0, std::memory_order_acquire);  // the pool's threads make progress, and the link's own where they do not
    if (!is_alive(0)) throw worker_died("the program of the job", "rank 0 has died");
  }
  void close() { way_->close(std::chrono::steady_clock::now() + std::chrono::seconds(30)); }
  /// What a rank has sent and received, and whether anything goes on there.
  struct activity {
    std::uint64_t sent = 0, received = 0;
    bool idle = false;
    bool still = false;         // nothing but requests is open
    bool holds = false;         // actors hold resources
    std::uint64_t waiting = 0;  // for resources: tasks, actors, groups
    friend bool operator==(const activity&, const activity&) = default;
  };
  [[nodiscard]] activity look() {
    activity a;
    a.received = received_.load();  // before sent_: see finish()
    a.idle = requests_.open() == 0;
    a.still = moved_.idle() && revivals_.idle() && respawns_.idle() && errands_.idle() &&
              scheduler_of(core_.pool()).is_idle();
    a.idle = a.idle && a.still;
    a.waiting = core_.waiting_for_resources();
    a.holds = a.waiting != 0 && !core_.actors().all_of(nullptr).empty();
    a.sent = sent_.load();
    return a;
  }
  /// By rank 0.
  void end_others() {
    for (int r = 0; r < way_->members(); ++r) {
      if (r == rank() || !is_alive(r)) continue;
      try {
        send(
            r, {.what = kind::shutdown, .counts = false}, false, [](output_archive&) {}, urgency::urgent);
      } catch (const error&) {  // it has died just now
      }
    }
    way_->flush();
  }
  [[nodiscard]] bool is_alive(int r) const noexcept { return r == rank() || way_->is_alive(r); }

  // ---- message_sink

  void receive(int from, incoming& message) noexcept override {
    const outside_of_tasks here;  // which task of this rank happens to poll is not the sender's matter
    head h;
    waits_for_answer* asker = nullptr;
    try {
      h = head::read(message.bytes());
      const auto content = message.bytes().subspan(head::bytes);
      const bool is_plain = !h.with_refs && message.block_sizes().empty();
      if (from != rank() && letters_.take(from, h, content, is_plain)) return;
      if (is_plain && is_flat_answer(h, content, asker)) {
        if (h.counts) received_.fetch_add(1);
        return;
      }
      incoming_parts parts(message);
      if (h.with_refs && is_here(from)) parts.read_mail(core_.store());
      if (h.with_refs && !is_here(from)) parts.borrow_refs(far_, core_.store(), from);
      input_archive in(message.bytes().subspan(head::bytes), &parts);
      take(from, h, in, message, asker);
    } catch (...) {
      asker != nullptr ? asker->fail(std::current_exception()) : refuse(from, h, std::current_exception());
    }
    if (h.counts) received_.fetch_add(1);  // behind what it made
  }
  void batch_ends() noexcept override { letters_.deliver(); }
  // Virtual functions are defined in the class: a vtable that lies with one that is not is compiled in every unit.
  void tick() noexcept override { look_for_circles(); }
  void fault(int from, const error& what) noexcept override {
    log(log_level::error, "actor", [&] {
      return "rank " + std::to_string(rank_of(from)) + " of the job sends what no rank sends: " + what.what();
    });
  }
  void died(int rank, std::string_view how) noexcept override {
    const outside_of_tasks here;
    names_.drop_all_of(rank);
    std::vector<waits_for_answer*> lost;
    {
      const std::lock_guard lock(dying_);
      if (this->rank() == 0) revive_all_of(rank, how);
      const auto asked = requests_.take_all_of(rank);
      log(log_level::error, "actor", [&] { return obituary(rank_of(rank), how, asked); });
      for (waits_for_answer* const w : asked)
        if (!w->goes_elsewhere()) lost.push_back(w);
      who_.set_gone(rank);
    }
    for (waits_for_answer* const w : lost) w->lost(how);
    lose_objects_of(rank, how);
    if (when_lost) who_.set_to_return(rank_of(rank), true);
    core_.lose_bundles_on(rank);
    if (rank == 0) end();
    if (when_lost) respawns_.add([this, rank] { when_lost(rank); });
  }
  /// Called for each member that has died, on a thread for that. To be set before start().
  move_only_function<void(int member)> when_lost;
  /// On that thread too.
  void later_to_respawn(errands::errand f) { respawns_.add(std::move(f)); }

 private:
  [[nodiscard]] std::uint64_t patience() const noexcept override { return way_->patience(); }
  bool bring() noexcept override { return way_->poll(); }
  bool bring_last() noexcept override { return way_->poll_last(); }
  [[nodiscard]] bool is_gone(int r, bool for_sure) noexcept override {
    if (for_sure) const std::lock_guard lock(dying_);
    return who_.is_gone(r);
  }
  [[nodiscard]] actor_place ask_where(const actor_place& first, int not_at) override {
    return find_actor(first, not_at);
  }
  void revive(const actor_place& first, std::string how) noexcept;
  void lose_objects_of(int rank, std::string_view how) noexcept;

  template <writes_flat Write>
  void send_flat(int to, const head& h, const Write& write, urgency how) {
    constexpr std::size_t bytes = head::bytes + Write::flat_bytes;
    static_assert(bytes <= written_in_place::most);
    const auto put = [&](std::byte* at) noexcept { h.write(at), write.put(at + head::bytes); };
    constexpr auto call = [](const void* what, std::byte* at) noexcept { (*static_cast<decltype(put)*>(what))(at); };
    count(h, [&] {
      if (to != rank()) return way_->send(to, written_in_place{bytes, call, &put}, how);
      std::array<std::byte, bytes> message;
      put(message.data());
      deliver_here(message);
    });
  }
  template <class Send>
  void count(const head& h, Send&& send) {
    if (h.counts) sent_.fetch_add(1);
    try {
      send();
    } catch (...) {
      if (h.counts) sent_.fetch_sub(1);
      throw;
    }
  }
  template <class Write>
  void send(int to, head h, bool refs, Write&& write, urgency how, enclosed with = {}) {
    if constexpr (writes_flat<std::remove_cvref_t<Write>>)
      return send_flat(to, h, write, how);
    else
      send_archive(to, h, refs, write, how, std::move(with));
  }
  template <class Write>
  void send_archive(int to, head h, bool refs, Write& write, urgency how, enclosed with) {
    byte_buffer bytes = std::move(spare_buffer());
    outgoing_parts parts(with.keep != nullptr && to != rank());
    h.with_refs = refs;
    if (refs && is_here(to)) parts.mail_refs(core_.store());
    if (refs && !is_here(to)) parts.lend_refs(far_, core_.store(), to);
    bytes.append(&h, head::bytes);
    output_archive archive(bytes, &parts);
    write(archive);
    std::vector<std::span<const std::byte>> blocks = parts.take_blocks();
    if (!with.block.empty()) blocks.push_back(with.block);
    count(h, [&] {
      if (to == rank())
        deliver_here(bytes.to_vector());
      else if (const auto all = bytes.in_one_piece(); !all.empty() && blocks.empty())
        way_->send(to, all, how);
      else
        way_->send(
            to,
            {.bytes = std::exchange(bytes, byte_buffer()), .blocks = std::move(blocks), .keep = std::move(with.keep)},
            how);
    });
    parts.sent();
    bytes.clear();
    spare_buffer() = std::move(bytes);
  }
  // For the next message of this thread. Not inlined into coroutines, which may go on on another one.
  [[gnu::noinline]] static byte_buffer& spare_buffer() noexcept {
    static thread_local byte_buffer spare;
    return spare;
  }
  void give_back(int lender, std::uint64_t key, std::uint32_t times) noexcept override { end_loan(lender, key, times); }
  std::optional<shared_future<void>> begin_fetch(std::uint64_t key);
  void look_for_circles() noexcept;
  actor_place find_actor(const actor_place& first, int not_at);
  void end_loan(int lender, std::uint64_t key, std::uint32_t times) noexcept;
  // To an actor that was made anew on the rank of its caller.
  void deliver_here(std::span<const std::byte> all) {
    incoming message(all, {});
    receive(rank(), message);
  }
  void take(int from, const head& h, input_archive& in, incoming& message, waits_for_answer*& asker) {
    switch (h.what) {
      case kind::ask: {
        if (h.handler >= handler::all().size())
          throw archive_corrupt("a request of number " + std::to_string(h.handler), 0);
        request r{*this, from, h.number, h.cell, h.generation, in};
        handler::all()[h.handler]->run()(r);
        break;
      }
      case kind::answer:
        if (asker == nullptr) asker = requests_.take(h.number);
        if (asker != nullptr) std::exchange(asker, nullptr)->arrive(in, message);
        break;
      case kind::failure: {
        sent_error e;
        in(e.type, e.text, e.where);
        in.expect_end();
        if (waits_for_answer* const w = requests_.take(h.number)) w->fail(receive_error(e));
        break;
      }
      case kind::cancel:
        if (!served_.cancel(from, h.number) && cancelled_.cancel(from, h.number))
          fail(from, h.number, std::make_exception_ptr(task_cancelled("a call from another rank")));
        break;
      case kind::shutdown:
        if (from != 0) throw archive_corrupt("the end of the job, which rank 0 alone can say,", 0);
        end();
        break;
      default: throw archive_corrupt("a message of kind " + std::to_string(static_cast<int>(h.what)), 0);
    }
  }
  // Who waits for it is still to be told if that is not so.
  bool is_flat_answer(const head& h, std::span<const std::byte> content, waits_for_answer*& asker) noexcept {
    if (h.what != kind::answer) return false;
    asker = requests_.take(h.number);
    if (asker == nullptr) return true;
    if (!asker->arrive_flat(content)) return false;
    asker = nullptr;
    return true;
  }
  // What cannot be read is an error where the answer is waited for.
  void refuse(int from, const head& h, const std::exception_ptr& why) noexcept {
    const bool answers = h.what == kind::answer || h.what == kind::failure;
    if (h.what == kind::ask && h.number != 0)
      fail(from, h.number, why);
    else if (waits_for_answer* const w = answers ? requests_.take(h.number) : nullptr)
      w->fail(why);
    else
      tell_of(why);
  }
  void end() noexcept {
    over_.store(1, std::memory_order_release);
    over_.notify_all();
  }

  runtime_core& core_;
  std::unique_ptr<link> way_;
  const int rank_ = way_->rank(), world_size_ = way_->world_size();  // each call asks for them
  membership who_;
  requests requests_;
  served_tasks served_;
  cancelled_letters cancelled_;
  arriving_letters letters_;
  job_names names_;
  kept_actors kept_;
  far_objects far_;
  std::mutex dying_;  // while the death of a rank is told
  const std::shared_ptr<places> ranks_;
  moved_actors moved_;
  circle_looks circles_;
  errands revivals_, respawns_, errands_;
  std::atomic<std::uint64_t> sent_{0}, received_{0};
  std::atomic<std::uint32_t> over_{0};
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
