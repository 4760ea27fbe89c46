#ifndef CADRE_ACTOR_DETAIL_SERVING_JOB_HPP
#define CADRE_ACTOR_DETAIL_SERVING_JOB_HPP

#include <cadre/actor/detail/arriving_letters.hpp>
#include <cadre/actor/detail/circle_looks.hpp>
#include <cadre/actor/detail/errands.hpp>
#include <cadre/actor/detail/error_codec.hpp>
#include <cadre/actor/detail/far_objects.hpp>
#include <cadre/actor/detail/job.hpp>
#include <cadre/actor/detail/kept_actors.hpp>
#include <cadre/actor/detail/message_refs.hpp>
#include <cadre/actor/detail/moved_actors.hpp>
#include <cadre/actor/detail/names.hpp>
#include <cadre/async/detail/state.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

class serving_job;

// What it asks rank 0, and does on rank 0, beside the requests for that: see group_requests.hpp, name_request.hpp,
// restarts.hpp and make_actor.hpp.
int find_place(serving_job& j, placement& on, const resource_set& wanted, bool rank_0_last, int near);
std::optional<shared_future<std::vector<int>>> place_to_come(serving_job& j, const placement& on,
                                                             const resource_set& wanted);
std::uint64_t make_group(serving_job& j, placement_group_options o);
void remove_group(serving_job& j, std::uint64_t group);
future<std::vector<int>> when_placed(serving_job& j, std::uint64_t group, const std::vector<int>& dead);
void tell_given_back(serving_job& j, int placed_by, const placement& on, const resource_set& what) noexcept;
name_answer ask_about_name(serving_job& j, name_question q, const std::string& name, const std::string& type,
                           actor_place where);
name_answer make_actor(serving_job& j, const actor_options& o, const std::string& name, const makes_actor& maker);
void keep_state(serving_job& j, const actor_place& first, const revival::saved_state& state);

/// This rank's part of a job of several, whole: hears the other ranks, and keeps what they ask it for. Thread-safety: all
/// functions, from any thread, but for serve() and finish().
class serving_job final : public job,
                          public message_sink,
                          public fetches_objects,
                          private knows_ranks,
                          private gives_back,
                          private source_of_work {
 public:
  serving_job(runtime_core& core, std::unique_ptr<link> way, std::vector<peer_facts> all)
      : job(core, std::move(way), std::move(all)),
        letters_(core_.actors(), *this, core_.home()),
        far_(rank(), *this),
        moved_(*this) {}
  /// Messages are received from now on. Once, when all else is there.
  void start() {
    way_->start(*this);
    scheduler_of(core_.pool()).look_also_at(*this);
  }
  ~serving_job() = default;

  /// On rank 0.
  [[nodiscard]] job_names& names() noexcept { return names_; }
  [[nodiscard]] kept_actors& kept() noexcept { return kept_; }

  [[nodiscard]] circle_looks& circles() noexcept { return circles_; }
  /// The object of that key comes from another node, or would if somebody wanted it: whoever waits for this may get it.
  std::optional<shared_future<void>> want(std::uint64_t key) override { return begin_fetch(key); }
  /// On rank 0: makes those anew that were there, on another thread.
  void revive_all_of(int r, std::string_view how) {
    for (const actor_place& first : kept_.lose(r))
      revivals_.add([this, first, why = std::string(how)] { revive(first, why); });
  }
  /// What may have to wait for other ranks: on another thread.
  void later(errands::errand f) { errands_.add(std::move(f)); }

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

  // ---- job

  [[nodiscard]] int find_place(placement& on, const resource_set& wanted, int near) override {
    return detail::find_place(*this, on, wanted, false, near);
  }
  [[nodiscard]] std::optional<shared_future<std::vector<int>>> place_to_come(const placement& on,
                                                                             const resource_set& wanted) override {
    return detail::place_to_come(*this, on, wanted);
  }
  void fail(int to, std::uint64_t number, const std::exception_ptr& why) noexcept override {
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
  name_answer ask_about_name(name_question q, const std::string& name, const std::string& type,
                             actor_place where) override {
    return detail::ask_about_name(*this, q, name, type, where);
  }
  [[nodiscard]] name_answer make_actor(const actor_options& o, const std::string& name,
                                       const makes_actor& maker) override {
    return detail::make_actor(*this, o, name, maker);
  }
  void keep_state(const actor_place& first, const revival::saved_state& state) override {
    detail::keep_state(*this, first, state);
  }
  void tell_given_back(int placed_by, const placement& on, const resource_set& what) noexcept override {
    detail::tell_given_back(*this, placed_by, on, what);
  }
  [[nodiscard]] std::uint64_t make_group(placement_group_options o) override {
    return detail::make_group(*this, std::move(o));
  }
  void remove_group(std::uint64_t group) override { detail::remove_group(*this, group); }
  [[nodiscard]] future<std::vector<int>> when_placed(std::uint64_t group, const std::vector<int>& dead) override {
    return detail::when_placed(*this, group, dead);
  }
  [[nodiscard]] std::optional<actor_place> known_place(const actor_place& first) noexcept override {
    return moved_.known(first);
  }
  void find_actor(const actor_place& first, move_only_function<void(const actor_place&)> go,
                  move_only_function<void(std::exception_ptr)> fail) override {
    moved_.find(first, std::move(go), std::move(fail));
  }
  [[nodiscard]] far_objects& far() noexcept override { return far_; }

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
    a.received = received_.load();  // before sent(): see finish()
    a.idle = requests_.open() == 0;
    a.still = moved_.idle() && revivals_.idle() && respawns_.idle() && errands_.idle() &&
              scheduler_of(core_.pool()).is_idle();
    a.idle = a.idle && a.still;
    a.waiting = core_.waiting_for_resources();
    a.holds = a.waiting != 0 && !core_.actors().all_of(nullptr).empty();
    a.sent = sent();
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

  // ---- message_sink

  void receive(int from, incoming& message) noexcept override {
    if (letters_.take_alike(from, message)) return;
    receive_any(from, message);
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
    return ask_where_it_is(first, not_at);
  }
  void revive(const actor_place& first, std::string how) noexcept;
  void lose_objects_of(int rank, std::string_view how) noexcept;

  void give_back(int lender, std::uint64_t key, std::uint32_t times) noexcept override { end_loan(lender, key, times); }
  std::optional<shared_future<void>> begin_fetch(std::uint64_t key);
  void look_for_circles() noexcept;
  actor_place ask_where_it_is(const actor_place& first, int not_at);
  void end_loan(int lender, std::uint64_t key, std::uint32_t times) noexcept;
  [[nodiscard]] std::unique_ptr<ref_reader> reader_of_refs(int from) {
    if (is_here(from)) return std::make_unique<ref_receiver>(core_.store());
    return std::make_unique<far_reader>(far_, core_.store(), from);
  }
  [[nodiscard]] std::unique_ptr<sent_refs> writer_of_refs(int to) {
    if (is_here(to)) return std::make_unique<near_writer>(core_.store());
    return std::make_unique<far_writer>(far_, core_.store(), to);
  }
  void send_archive(int to, head h, bool refs, archive_writer write, urgency how, enclosed with) override {
    byte_buffer bytes = std::move(spare_buffer());
    outgoing_parts parts(with.keep != nullptr && to != rank());
    h.with_refs = refs;
    if (refs) parts.write_refs_by(writer_of_refs(to));
    bytes.append(&h, head::bytes);
    output_archive archive(bytes, &parts);
    write.write(write.what, archive);
    std::vector<std::span<const std::byte>> blocks = parts.take_blocks();
    if (!with.block.empty()) blocks.push_back(with.block);
    if (to == rank()) {
      deliver_here(h, bytes.to_vector());
    } else {
      if (const auto all = bytes.in_one_piece(); !all.empty() && blocks.empty())
        way_->send(to, all, how);
      else
        way_->send(
            to,
            {.bytes = std::exchange(bytes, byte_buffer()), .blocks = std::move(blocks), .keep = std::move(with.keep)},
            how);
      set_apart(h);
    }
    parts.sent();
    bytes.clear();
    spare_buffer() = std::move(bytes);
  }
  // For the next message of this thread. Not inlined into coroutines, which may go on on another one.
  [[gnu::noinline]] static byte_buffer& spare_buffer() noexcept {
    static thread_local byte_buffer spare;
    return spare;
  }
  [[gnu::noinline]] void receive_any(int from, incoming& message) noexcept {
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
      if (h.with_refs) parts.read_refs_by(reader_of_refs(from));
      input_archive in(message.bytes().subspan(head::bytes), &parts);
      take(from, h, in, message, asker);
    } catch (...) {
      asker != nullptr ? asker->fail(std::current_exception()) : refuse(from, h, std::current_exception());
    }
    if (h.counts) received_.fetch_add(1);  // behind what it made
  }
  void take_here(std::span<const std::byte> all) override {
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

  arriving_letters letters_;
  job_names names_;
  kept_actors kept_;
  far_objects far_;
  moved_actors moved_;
  circle_looks circles_;
  errands revivals_, respawns_, errands_;
  std::atomic<std::uint32_t> over_{0};
};

/// Who serves the runtime's own requests.
inline serving_job& serving(const request& r) noexcept { return static_cast<serving_job&>(r.at); }

}  // namespace detail
CADRE_NAMESPACE_END

#endif
