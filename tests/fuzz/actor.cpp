// libFuzzer: two ranks of a job that is mirrored, so that what each sends comes back to it as if from the other one. The bytes
// say what is asked for, and how each message is damaged on its way. Whatever comes, the job goes on: who was sent an answer
// or a request with a whole head hears of it, memory stays bounded, and calls that nobody damages give what they should.

#include "choices.hpp"

#include <cadre/actor.hpp>
#include <cadre/actor/detail/own_requests.hpp>

#include <cereal/types/map.hpp>
#include <sanitizer/lsan_interface.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

extern "C" const char* __asan_default_options() { return "max_allocation_size_mb=256"; }

namespace {

namespace detail = cadre::detail;
using namespace std::chrono_literals;
using bytes = std::vector<std::byte>;
using head = detail::job::head;
using kind = detail::job::kind;

/// Of a head as it travels: its members, one after another, as they lie.
constexpr std::size_t number_at = 0, cell_at = 8, generation_at = 12, handler_at = 16, kind_at = 20, flags_at = 21,
                      head_bytes = 23;

void check(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  std::abort();
}

// ---- What ranks ask each other for. Few functions, as each takes its time to compile with all that looks on.

struct nothing {
  template <class Archive>
  void serialize(Archive&) {}
};
struct point {
  double x = 0;
  std::int32_t n = 0;
};
struct record {
  std::string name;
  std::vector<std::string> lines;
  std::map<std::string, std::vector<int>> numbers;
  std::optional<double> maybe;
  std::variant<int, std::string> either;
  std::vector<std::vector<nothing>> shapes;
  std::vector<bool> flags;
  std::vector<point> points;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(name, lines, numbers, maybe, either, shapes, flags, points);
  }
};

class counter {
 public:
  counter() = default;
  counter(int from, std::string name) : n_(from), name_(std::move(name)) {}
  int add(int n) {
    if (n < 0) throw std::out_of_range(name_);
    return n_ = static_cast<int>(static_cast<unsigned>(n_) + static_cast<unsigned>(n));
  }
  std::string same(std::string text) const { return text; }
  template <class Archive>
  void serialize(Archive& archive) {
    archive(n_, name_);
  }

 private:
  int n_ = 0;
  std::string name_;
};
/// Without a state that could be written, and of another layout.
class shelf {
 public:
  void hold(std::vector<std::uint64_t> all) { held_ = std::move(all); }

 private:
  std::vector<std::uint64_t> held_{1, 2, 3};
};

std::atomic<unsigned> tries{0};
int sum(int a, int b) {
  if (a == -1 || (a == -2 && tries.fetch_add(1) % 2 == 0)) throw std::runtime_error("not that");
  return static_cast<int>(static_cast<unsigned>(a) + static_cast<unsigned>(b));
}
record same(record r) { return r; }
std::vector<double> same_numbers(std::vector<double> all) { return all; }
cadre::object_ref<std::vector<int>> same_ref(cadre::object_ref<std::vector<int>> ref, std::span<const int> seen) {
  return seen.empty() ? cadre::object_ref<std::vector<int>>() : ref;
}
cadre::actor<counter> told(cadre::actor<counter> c, const std::vector<cadre::actor<shelf>>& shelves) {
  for (std::size_t i = 0; i < std::min<std::size_t>(shelves.size(), 4); ++i)
    shelves[i].tell<&shelf::hold>(std::vector<std::uint64_t>{});
  return c;
}

// ---- The way

std::optional<head> head_of(std::span<const std::byte> message) {
  try {
    return head::read(message);
  } catch (const cadre::archive_error&) {
    return std::nullopt;
  }
}

/// A message as it travels.
struct parcel {
  bytes message;
  std::vector<bytes> blocks = {};
};
/// What becomes of its blocks.
enum class blocks_come : std::uint8_t { at_once, later, not_all, later_not_all };

/// To the other rank and back; messages wait until somebody takes them.
class mirror final : public detail::link {
 public:
  explicit mirror(int rank) : rank_(rank) {}
  int rank() const noexcept override { return rank_; }
  int world_size() const noexcept override { return 2; }
  void start(detail::message_sink& sink) override { sink_ = &sink; }
  std::uint64_t sent() const noexcept override { return sent_; }
  void send(int to, std::span<const std::byte> message, detail::urgency) override {
    add(to, {{message.begin(), message.end()}, {}, {}});
  }
  void send(int to, detail::outgoing&& message, detail::urgency) override {
    add(to, {message.bytes.to_vector(), std::move(message.blocks), std::move(message.keep)});
  }
  void flush() override {}
  bool poll() noexcept override {
    // Who waits takes it, or the input says when it comes: no thread of the pool that looks for work.
    if (holds || (detail::this_worker() != nullptr && detail::current_task() == nullptr)) return false;
    const std::unique_lock one_at_a_time(polls_, std::try_to_lock);
    const std::optional<parcel> next = one_at_a_time ? take() : std::nullopt;
    if (!next) return false;
    if (records) recorded.push_back(*next);
    deliver(*next);
    return true;
  }
  // Who waits outside of the pool looks on until it is there: no thread of the link's own would wake it.
  std::uint64_t patience() const noexcept override {
    return holds || detail::this_worker() != nullptr ? link::patience() : std::uint64_t{1} << 40;
  }
  bool wait_while(const std::atomic<std::uint32_t>&, std::uint32_t, std::chrono::steady_clock::time_point) override {
    return poll();
  }
  void wake() noexcept override {}
  bool is_alive(int r) const noexcept override {
    check(r == 0 || r == 1, "whether no rank is alive");
    return true;
  }
  void declare_dead(int, std::string) override {}
  void close(std::chrono::steady_clock::time_point) override {}

  std::optional<parcel> take() {
    leaving first;
    {
      const std::lock_guard lock(mutex_);
      if (under_way_.empty()) return std::nullopt;
      first = std::move(under_way_.front());
      under_way_.pop_front();
    }
    parcel p{std::move(first.message)};
    for (const std::span<const std::byte> b : first.blocks) p.blocks.emplace_back(b.begin(), b.end());
    return p;
  }
  void deliver(const parcel& p, blocks_come how = blocks_come::at_once) noexcept {
    // Of its own size, so that a read behind its end is seen.
    const auto exact = std::make_unique<std::byte[]>(p.message.size());
    std::copy(p.message.begin(), p.message.end(), exact.get());
    std::vector<std::uint64_t> sizes;
    for (const bytes& b : p.blocks) sizes.push_back(b.size());
    detail::incoming in(std::span<const std::byte>(exact.get(), p.message.size()), sizes);
    sink_->receive(1 - rank_, in);
    if (!p.blocks.empty() && in.where()) receive_blocks(*std::move(in.where()), p.blocks, how);
    sink_->batch_ends();
  }
  /// The blocks that are to come later: those of the first message. False if there are none.
  bool bring_blocks() noexcept {
    if (to_come_.empty()) return false;
    arriving first = std::move(to_come_.front());
    to_come_.pop_front();
    first.bring();
    return true;
  }
  [[nodiscard]] bool owes_blocks() const noexcept { return !to_come_.empty(); }

  /// Until there is an answer; one that is `late` waits for something that may not come before the end of the input.
  void expect_answer_to(std::uint64_t number, bool late) {
    const std::lock_guard lock(mutex_);
    unanswered_[number] = late;
  }
  [[nodiscard]] bool owes_answers(bool late_ones = true) {
    const std::lock_guard lock(mutex_);
    return std::any_of(unanswered_.begin(), unanswered_.end(), [&](const auto& u) { return late_ones || !u.second; });
  }

  std::atomic<bool> holds{false};  // nothing is received but by deliver()
  std::atomic<bool> records{true};
  std::vector<parcel> recorded;

 private:
  /// The blocks stay where they lie until they leave.
  struct leaving {
    bytes message;
    std::vector<std::span<const std::byte>> blocks;
    std::shared_ptr<const void> keep;
  };
  struct arriving {
    detail::landing where;
    std::vector<bytes> blocks;
    bool all;
    void bring() noexcept {
      for (std::size_t i = 0; i < blocks.size(); ++i)
        std::copy_n(blocks[i].begin(), all ? blocks[i].size() : blocks[i].size() / 2, where.into[i].begin());
      where.done(all);
    }
  };
  void add(int to, leaving s) {
    check(to == 1 - rank_, "a message to no rank");
    const head h = *head_of(s.message);
    const std::lock_guard lock(mutex_);
    if (h.what == kind::answer || h.what == kind::failure) unanswered_.erase(h.number);
    ++sent_;
    under_way_.push_back(std::move(s));
  }
  void receive_blocks(detail::landing where, const std::vector<bytes>& blocks, blocks_come how) {
    if (!std::equal(where.into.begin(), where.into.end(), blocks.begin(), blocks.end(),
                    [](const auto& into, const bytes& b) { return into.size() == b.size(); }))
      return where.done(false);
    arriving a{std::move(where), blocks, how == blocks_come::at_once || how == blocks_come::later};
    if (how == blocks_come::later || how == blocks_come::later_not_all)
      to_come_.push_back(std::move(a));
    else
      a.bring();
  }

  const int rank_;
  std::mutex mutex_, polls_;
  std::atomic<std::uint64_t> sent_{0};
  std::deque<leaving> under_way_;
  std::map<std::uint64_t, bool> unanswered_;  // and whether that may be late
  std::deque<arriving> to_come_;              // while it holds
  detail::message_sink* sink_ = nullptr;
};

template <class Tag>
std::uint32_t number_of() {
  return detail::handler_of<Tag>::id();
}

// ---- A rank

class any_future {
 public:
  virtual ~any_future() = default;
  [[nodiscard]] virtual bool ready() const = 0;
  virtual void cancel() = 0;
};
template <class R>
class one_future final : public any_future {
 public:
  explicit one_future(cadre::future<R> f) : f_(std::move(f)) {}
  ~one_future() override {
    try {
      if (f_.valid()) static_cast<void>(f_.get());
    } catch (const std::exception&) {}
  }
  R get() { return f_.get(); }
  bool ready() const override { return f_.ready(); }
  void cancel() override { f_.cancel(); }

 private:
  cadre::future<R> f_;
};

class world final : public cadre::runtime {
 public:
  explicit world(int rank)
      : cadre::runtime({.threads = 1,
                        .resources = {{"gpu", 8}, {"slot", 16}, {"disk", 16}},
                        .store = {.capacity = std::size_t{4} << 20, .put_timeout = std::chrono::nanoseconds(1)},
                        .on_unobserved_error = [](const cadre::unobserved_error&) {}}),
        other_(1 - rank) {
    core().set_rank(rank);
    auto link = std::make_unique<mirror>(rank);
    way_ = link.get();
    // To rank 0 the other one is of its node, to rank 1 of another.
    std::vector<detail::peer_facts> facts(2, {"here", 1, core().resources()});
    if (rank == 1) facts[0] = {"there", 2, core().resources()};
    const auto j = std::make_shared<detail::serving_job>(core(), std::move(link), facts);
    core().join(j, rank == 1 ? j.get() : nullptr);
    j->start();
    begin();
  }
  ~world() override {
    counter_ = {}, anew_ = {}, shelf_ = {};
    way_->holds = false;
  }

  /// What the input says.
  void run(choices& choose) {
    way_->holds = true;
    for (int n = 0; n < 3 && choose.left(); ++n) {
      if (choose.below(2) == 0)
        ask(choose.below(asks));
      else
        pass(choose, of_this_group(way_->recorded[choose.below(way_->recorded.size())]));
      pass_all(choose);
    }
    settle();
  }
  /// Calls that nobody damages give what they should.
  void check_that_it_works() {
    way_->holds = false;
    ask(2);
    check(answer<int>() == 42, "a task gives something else");
    keep(submit<&sum>({.resources = bundle(), .on = cadre::on_rank(other_)}, 40, 2));
    check(answer<int>() == 42, "a task with resources gives something else");
    keep(submit<&same_numbers>({.on = cadre::on_rank(other_)}, many_numbers()));
    check(answer<std::vector<double>>() == many_numbers(), "large values come back as others");
    ask(0);
    check(answer<record>().numbers == some_record().numbers, "a record comes back as another");
    const auto made = make({.on = cadre::on_rank(other_), .max_restarts = 1, .checkpoint_every = 1});
    keep(made.call<&counter::add>(2));
    check(answer<int>() == 3, "an actor counts otherwise");
    check(made.kill({.no_restart = false}), "an actor was not there");
    keep(made.call<&counter::add>(2));
    check(answer<int>() == 5, "an actor that was made anew has another state");
    keep(made.stop());
    answer<void>();
    const auto simple = make({.on = cadre::on_rank(other_)});
    keep(simple.call<&counter::same>(long_text()));
    check(answer<std::string>() == long_text(), "a long text comes back as another");
    keep(simple.stop());
    answer<void>();
    const auto group = placement_group({bundle(), bundle()}, cadre::spread);
    for (std::size_t b = 0; b < group.size(); ++b) {
      keep(submit<&sum>({.resources = bundle(), .on = group.bundle(b)}, 40, 2));
      check(answer<int>() == 42, "a task in a bundle gives something else");
    }
    remove(group);
  }

 private:
  /// What was asked last gives.
  template <class R>
  R answer() {
    const auto last = std::move(futures_.back());
    futures_.pop_back();
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (!last->ready()) {
      if (!way_->poll()) std::this_thread::yield();
      check(std::chrono::steady_clock::now() < end, "a call is not answered");
    }
    return dynamic_cast<one_future<R>&>(*last).get();
  }
  template <class R>
  void keep(cadre::future<R> f) {
    futures_.push_back(std::make_unique<one_future<R>>(std::move(f)));
  }
  static std::vector<double> many_numbers() {
    std::vector<double> all(detail::smallest_block / sizeof(double));
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<double>(i);
    return all;
  }
  static std::string long_text() { return std::string(detail::smallest_block, 't') + "ext"; }
  static cadre::resource_set bundle() { return {{"slot", 1}, {"disk", 1}, {"gpu", 0.5}}; }
  cadre::actor<counter> make(cadre::actor_options o) { return actor<counter>(std::move(o), 1, std::string("text")); }
  detail::serving_job& its_job() { return static_cast<detail::serving_job&>(*core().jobs()); }
  /// Uses of all that ranks ask each other for; their messages are recorded.
  void begin() {
    const auto on = cadre::on_rank(other_);
    detail::serving_job& j = its_job();
    counter_ = make({.name = "c", .on = on, .max_pending_calls = 8});
    anew_ = make({.name = "anew", .on = on, .max_restarts = 5, .max_task_retries = 1, .checkpoint_every = 1});
    shelf_ = actor<shelf>({.on = on, .max_concurrency = 2});
    const auto kept_here = make({.on = cadre::on_rank(j.rank()), .max_restarts = 2, .checkpoint_every = 1});
    keep(kept_here.call<&counter::add>(1));
    check(answer<int>() == 2, "an actor counts otherwise");
    kept_here.kill({.no_restart = false});
    static_cast<void>(find_actor<counter>("c"));
    make({.name = "brief", .on = on}).kill();
    anew_.kill({.no_restart = false});
    // What is asked at the end or the death of ranks alone, or of a rank 0 that is not this one.
    const detail::actor_place place{other_, {1, 1}, 0};
    const auto asked = [&]<class Tag>(Tag, const auto&... a) {
      j.ask<Tag>(other_, {.number = 1}, false, [&](cadre::output_archive& out) { out(a...); });
    };
    asked(detail::where_request{}, detail::actor_place{}, 0);
    asked(detail::keep_actor_request{}, place, std::uint32_t{1},
          detail::sent_actor{.label = "l", .arguments = bytes(8)}, on);
    asked(detail::forget_actor_request{}, place, std::string("n"));
    asked(detail::keep_state_request{}, place, std::uint64_t{1}, bytes(8));
    asked(detail::name_request{}, detail::name_question::find, std::string("c"), std::string(), place);
    asked(detail::activity_request{});
    const auto object = put(std::vector<int>{1, 2, 3});
    const std::uint64_t key = detail::object_ref_access::key(object);
    asked(detail::object_request{}, key, std::uint64_t{0}, std::uint64_t{0});
    asked(detail::object_request{}, key, std::uint64_t{4}, std::uint64_t{8});
    asked(detail::return_request{}, key, std::uint32_t{1});
    asked(detail::want_request{}, key);
    j.cancel(other_, 1);
    j.mention<detail::circle_request>(other_, 1, [&](cadre::output_archive& out) {
      out(j.rank(), std::uint64_t{1}, std::int64_t{1}, std::uint32_t{1}, std::uint32_t{1}, std::uint64_t{1},
          std::string("a path"));
    });
    make_group();
    recorded_group_ = group_;
    const cadre::placement in_it = cadre::in_group(group_, other_);
    const std::vector<detail::bundle_table::part> parts{{7, bundle()}, {8, {{"slot", 1}}}};
    asked(detail::room_request{});
    asked(detail::more_request{});
    asked(detail::set_aside_request{}, group_, std::string("g"), parts);
    asked(detail::drop_group_request{}, group_, std::string("why"), std::vector<std::uint32_t>{7, 8});
    asked(detail::find_group_request{}, group_);
    asked(detail::placed_request{}, group_, std::vector<int>{other_});
    make({.on = in_it, .resources = bundle()}).kill();
    asked(detail::given_back_request{}, on, bundle());
    asked(detail::given_back_request{}, in_it, bundle());
    for (std::size_t i = 0; i < asks; ++i) {
      ask(i);
      while (!futures_.empty() && !futures_.back()->ready()) way_->poll();
    }
    futures_.clear();
    asked(detail::remove_group_request{}, group_);
    const auto is_idle = [&] { return j.look().still; };
    while (way_->poll() || !is_idle()) {}
    way_->recorded.push_back({written({.what = kind::shutdown, .counts = false}, {})});
    way_->records = false;
    end_groups();
    while (way_->poll() || !is_idle()) {}
    make_group();
  }

  // ---- Placement groups: one that messages speak of, and those that damaged ones make.

  cadre::future<std::uint64_t> ask_for_group(const std::vector<cadre::resource_set>& bundles) {
    return detail::ask<detail::make_group_request, std::uint64_t>(
        *core().jobs(), other_, {}, false, "a group", false, {},
        [&](cadre::output_archive& out) { out(bundles, cadre::placement_strategy::kind::spread, std::string("g")); });
  }
  /// With a bundle on each rank.
  void make_group() {
    keep(ask_for_group({bundle(), bundle()}));
    group_ = answer<std::uint64_t>();
    keep(detail::ask<detail::placed_request, std::vector<int>>(
        *core().jobs(), other_, {}, false, "a group", false, {},
        [&](cadre::output_archive& out) { out(group_, std::vector<int>{}); }));
    check(answer<std::vector<int>>().size() == 2, "a group has other bundles");
  }
  /// Also what was set aside for groups that there never were.
  void end_groups() {
    while (core().remove_some_groups()) {}
    for (const std::uint64_t g : set_aside_) core().bundles().drop(g, "the input is over");
    static_cast<void>(core().end_actors_that_hold());
    group_ = 0;
  }
  /// What was recorded speaks of one that is there.
  parcel of_this_group(parcel p) const {
    const auto was = std::as_bytes(std::span(&recorded_group_, 1)), is = std::as_bytes(std::span(&group_, 1));
    for (auto at = p.message.begin();
         (at = std::search(at, p.message.end(), was.begin(), was.end())) != p.message.end(); at += 8)
      std::copy(is.begin(), is.end(), at);
    return p;
  }
  /// Notes what a message does to groups, if it is not damaged too much for that.
  void heed_groups(const head& h, const bytes& m) {
    const auto is = [&]<class... Tag>(Tag...) { return ((h.handler == number_of<Tag>()) || ...); };
    if (h.what != kind::ask || !is(detail::make_group_request{}, detail::remove_group_request{},
                                   detail::set_aside_request{}, detail::drop_group_request{}))
      return;
    changes_groups_ = true;
    if (!is(detail::set_aside_request{}) || m.size() < head_bytes + sizeof(std::uint64_t)) return;
    std::uint64_t group = 0;
    std::memcpy(&group, m.data() + head_bytes, sizeof group);
    set_aside_.insert(group);
  }

  template <auto F, class... A>
  void ask_for(detail::sent_options how, A&&... a) {
    auto call = detail::bind_call<F>(core(), std::forward<A>(a)...);
    using settled = typename decltype(call)::settled;
    const settled all = std::move(call).settle();
    keep(detail::ask<detail::task_request<F, settled>, typename settled::result>(
        *core().jobs(), other_, {}, settled::may_hold_refs, "a task", false, {}, [&](cadre::output_archive& out) {
          out(how);
          all.save(out);
        }));
  }
  static detail::sent_options with_resources() {
    return {.name = "named", .resources = {{"cpu", 1}, {"gpu", 0.5}}, .deadline = 5'000'000'000};
  }
  static record some_record() {
    return {"r",    {"one", "two"},           {{"k", {1, 2}}}, 1.5,
            "text", {{nothing{}, nothing{}}}, {true, false},   {{1, 2}, {3, 4}}};
  }
  void sum_of(int a, const cadre::remote_options& how) { keep(submit<&sum>(how, a, 2)); }

  static constexpr std::size_t asks = 20;
  void ask(std::size_t which) {
    cadre::remote_options with{.on = cadre::on_rank(other_)};
    try {
      switch (which) {
        case 0: return ask_for<&same>(with_resources(), some_record());
        case 1: return ask_for<&same>(with_resources(), record{});
        case 2: return sum_of(40, with);
        case 3: return sum_of(-1, with);
        case 4:
          with.max_retries = 3;
          with.retry_on = cadre::errors<std::runtime_error>();
          with.priority = cadre::priority::low;
          return sum_of(-2, with);
        case 5:
        case 6: {
          const auto ref = put(std::vector<int>{7, 8});
          return ask_for<&same_ref>(with_resources(), ref, ref);
        }
        case 7: return ask_for<&told>(with_resources(), anew_, std::vector{shelf_, shelf_});
        case 8:
          if (way_->holds) keep(shelf_.stop());
          return;
        case 9: return keep(counter_.call<&counter::add>(3));
        case 10: return keep(counter_.call<&counter::add>(-1));
        case 11: return keep(anew_.call<&counter::add>(1));
        case 12: return anew_.tell<&counter::add>(1);
        case 13: return keep(submit<&same_numbers>(with, many_numbers()));
        case 14: return keep(counter_.call<&counter::same>(long_text()));
        case 15: return shelf_.tell<&shelf::hold>(std::vector<std::uint64_t>(detail::smallest_block / 8));
        case 16: return ask_for<&sum>({.resources = bundle(), .on = cadre::in_group(group_, other_)}, 1, 2);
        case 17: return ask_for<&sum>({.resources = {{"disk", 1}}, .on = cadre::in_group(group_)}, 1, 2);
        case 18: {  // for which each rank has room, but not both, as what they have is the same
          const std::vector<cadre::resource_set> two(2, {{"slot", 9}});
          return keep(ask_for_group(two));
        }
        default: sum_of(1, with); futures_.back()->cancel();
      }
    } catch (const cadre::error&) {  // no room in the store
    }
  }

  // ---- Damage

  static constexpr std::array<std::uint64_t, 16> odd_numbers{
      0,        1,          2,          3,          0x7f,       0xff,       0xffff,     0x10000,
      1u << 24, 0x7fffffff, 0x80000000, 0xffffffff, 1ull << 32, 1ull << 60, ~0ull >> 1, ~0ull};
  void damage(choices& choose, parcel& p) const {
    bytes& m = p.message;
    const auto put_at = [&](std::size_t at, std::uint64_t value, std::size_t size) {
      for (std::size_t i = 0; i < size && at + i < m.size(); ++i) m[at + i] = static_cast<std::byte>(value >> 8 * i);
    };
    for (std::size_t times = choose.below(5); times != 0 && !m.empty(); --times) {
      const std::size_t body = std::min(head_bytes, m.size() - 1);
      const auto anywhere = [&] { return choose.below(m.size()); };
      const auto in_body = [&] { return body + choose.below(m.size() - body); };
      switch (choose.below(16)) {
        case 0: m.resize(anywhere()); break;
        case 1: m.resize(in_body()); break;
        case 2: m[in_body()] = static_cast<std::byte>(choose.byte()); break;
        case 3: m[in_body()] ^= static_cast<std::byte>(1u << choose.below(8)); break;
        case 4: put_at(in_body(), odd_numbers[choose.below(odd_numbers.size())], 4); break;
        case 5: put_at(in_body(), odd_numbers[choose.below(odd_numbers.size())], 8); break;
        case 6: put_at(handler_at, choose.below(detail::handler::all().size() + 2), 4); break;
        case 7: put_at(cell_at, choose.below(2) ? choose.byte() : odd_numbers[choose.below(16)], 4); break;
        case 8: put_at(generation_at, choose.below(2) ? choose.byte() : odd_numbers[choose.below(16)], 4); break;
        case 9: put_at(kind_at, choose.below(6), 1); break;
        case 10: put_at(flags_at + choose.below(2), choose.byte(), 1); break;
        case 11: put_at(number_at + choose.below(2) * 4, odd_numbers[choose.below(odd_numbers.size())], 4); break;
        case 12: {
          const bytes& other = way_->recorded[choose.below(way_->recorded.size())].message;
          const std::size_t from = choose.below(other.size()), at = anywhere();
          m.resize(at);
          m.insert(m.end(), other.begin() + static_cast<std::ptrdiff_t>(from), other.end());
          break;
        }
        case 13: damage_blocks(choose, p.blocks); break;
        default: {
          const std::size_t at = in_body();
          m.insert(m.begin() + static_cast<std::ptrdiff_t>(at), 1 + choose.below(32),
                   static_cast<std::byte>(choose.byte()));
        }
      }
    }
  }

  static void damage_blocks(choices& choose, std::vector<bytes>& blocks) {
    constexpr std::array<std::size_t, 4> sizes{0, 8, detail::smallest_block, detail::smallest_block + 8};
    const std::size_t size = sizes[choose.below(sizes.size())], which = choose.below(blocks.size() + 1);
    if (which == blocks.size())
      blocks.emplace_back(size);
    else if (choose.yes())
      blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(which));
    else
      blocks[which].resize(size);
  }

  /// Receives the message, damaged.
  void pass(choices& choose, parcel p) {
    damage(choose, p);
    if (way_->owes_blocks() && choose.yes()) way_->bring_blocks();
    const auto how = p.blocks.empty() ? blocks_come::at_once : static_cast<blocks_come>(choose.below(4));
    const std::optional<head> h = head_of(p.message);
    if (h) heed_groups(*h, p.message);
    if (h && h->what == kind::ask && h->number != 0 && h->handler != number_of<detail::where_request>())
      way_->expect_answer_to(h->number, h->handler == number_of<detail::placed_request>());
    const bool answers = h && (h->what == kind::answer || h->what == kind::failure) && open_.erase(h->number) != 0;
    way_->deliver(p, how);
    check(!answers || core().jobs()->open().take(h->number) == nullptr, "an answer is lost");
  }
  void pass_all(choices& choose) {
    for (int n = 0; n < 64; ++n) {
      std::optional<parcel> p = next();
      if (!p && way_->bring_blocks()) continue;
      if (!p) return;
      if (const head h = *head_of(p->message); h.what == kind::ask && h.number != 0) open_.insert(h.number);
      pass(choose, *std::move(p));
    }
  }
  /// When what was asked for is answered, or waits for an answer itself.
  std::optional<parcel> next() {
    for (const auto begun = std::chrono::steady_clock::now();; std::this_thread::yield()) {
      const bool more =
          way_->owes_answers(false) && !way_->owes_blocks() && std::chrono::steady_clock::now() - begun < 2ms;
      if (std::optional<parcel> p = way_->take(); p || !more) return p;
    }
  }
  static bytes written(const head& h, const std::array<std::string, 3>& why) {
    cadre::byte_buffer all;
    cadre::output_archive out(all);
    all.append(&h, head_bytes);
    if (h.what == kind::failure) out(why[0], why[1], why[2]);
    return all.to_vector();
  }
  /// What was lost on the way fails, so that nothing is open.
  void settle() {
    choices none(nullptr, 0);
    const auto begun = std::chrono::steady_clock::now(), end = begun + 10s;
    const auto goes_on = [&] {
      detail::serving_job& j = its_job();
      return !j.look().still || j.open().open() != 0 || way_->owes_answers() || way_->owes_blocks();
    };
    do {
      pass_all(none);
      for (const std::uint64_t n : std::exchange(open_, {}))
        way_->deliver({written({.number = n, .what = kind::failure}, {"", "it was lost", "on the way"})});
      // What waits for resources that others keep, which nothing else ends.
      const bool waits = changes_groups_ || way_->owes_answers() != way_->owes_answers(false);
      if (waits || std::chrono::steady_clock::now() - begun > 20ms) end_groups();
      if (std::chrono::steady_clock::now() < end) continue;
      check(!way_->owes_answers(), "a request is never answered");
      check(core().jobs()->open().open() == 0, "an answer is waited for that has come");
      check(false, "something goes on for ever");
    } while (goes_on());
    futures_.clear();
    if (group_ != 0) return;
    const detail::room there = core().bundles().look({});
    for (const cadre::resource_set::entry& e : core().resources().entries())
      check(there.free.find(e.name)->units == e.units, "what no group and no actor has is not free");
    set_aside_.clear();
    changes_groups_ = false;
    way_->holds = false;
    make_group();
  }

  int other_;
  mirror* way_;
  std::vector<std::unique_ptr<any_future>> futures_;
  std::set<std::uint64_t> open_;  // that were asked and not answered
  std::uint64_t group_ = 0, recorded_group_ = 0;
  std::set<std::uint64_t> set_aside_;  // groups of which bundles were
  bool changes_groups_ = false;        // what was passed
  cadre::actor<counter> counter_, anew_;
  cadre::actor<shelf> shelf_;
};

}  // namespace

/// Leaks are looked for when the ranks have ended; after each input it would take most of the time.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  static std::string no_leaks = "-detect_leaks=0";
  static std::vector<char*> all(*argv, *argv + *argc);
  all.push_back(no_leaks.data());
  *argc = static_cast<int>(all.size());
  all.push_back(nullptr);
  *argv = all.data();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr unsigned life = 1024, between_checks = 64;
  static unsigned inputs = 0;
  // Never ended with the program: their groups send as they end, which needs what this thread had.
  static auto& ranks = *new std::array<std::optional<world>, 2>;
  if (inputs % life == 0) {
    detail::list_own_requests<detail::serving_job>();
    static_cast<void>(detail::handler::all());  // numbers them
    for (std::size_t r = 0; r < ranks.size(); ++r) {
      ranks[r].reset();
      ranks[r].emplace(static_cast<int>(r));
    }
    check(__lsan_do_recoverable_leak_check() == 0, "memory leaks");
  }
  choices choose(data, size);
  world& w = *ranks[choose.below(2)];
  w.run(choose);
  if (++inputs % between_checks == 0) w.check_that_it_works();
  return 0;
}
