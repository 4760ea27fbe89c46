// libFuzzer: two ranks of a job that is mirrored, so that what each sends comes back to it as if from the other one. The bytes
// say what is asked for, and how each message is damaged on its way. Whatever comes, the job goes on: who was sent an answer
// or a request with a whole head hears of it, memory stays bounded, and calls that nobody damages give what they should.

#include "choices.hpp"

#include <cadre/actor.hpp>

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

/// To the other rank and back; messages wait until somebody takes them.
class mirror final : public detail::link {
 public:
  explicit mirror(int rank) : rank_(rank) {}
  int rank() const noexcept override { return rank_; }
  int world_size() const noexcept override { return 2; }
  void start(detail::message_sink& sink) override { sink_ = &sink; }
  void send(int to, std::span<const std::byte> message, detail::urgency) override {
    check(to == 1 - rank_, "a message to no rank");
    const head h = *head_of(message);
    const std::lock_guard lock(mutex_);
    if (h.what == kind::answer || h.what == kind::failure) unanswered_.erase(h.number);
    under_way_.emplace_back(message.begin(), message.end());
  }
  void send(int to, detail::outgoing&& message, detail::urgency how) override {
    send(to, message.bytes.to_vector(), how);
  }
  void flush() override {}
  bool poll() noexcept override {
    // Who waits takes it, or the input says when it comes: no thread of the pool that looks for work.
    if (holds || (detail::this_worker() != nullptr && detail::current_task() == nullptr)) return false;
    const std::unique_lock one_at_a_time(polls_, std::try_to_lock);
    std::optional<bytes> next = one_at_a_time ? take() : std::nullopt;
    if (!next) return false;
    if (recorded.size() < 200) recorded.push_back(*next);
    deliver(*next);
    return true;
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

  std::optional<bytes> take() {
    const std::lock_guard lock(mutex_);
    if (under_way_.empty()) return std::nullopt;
    bytes first = std::move(under_way_.front());
    under_way_.pop_front();
    return first;
  }
  void deliver(const bytes& message) noexcept {
    // Of its own size, so that a read behind its end is seen.
    const auto exact = std::make_unique<std::byte[]>(message.size());
    std::copy(message.begin(), message.end(), exact.get());
    detail::incoming in(std::span<const std::byte>(exact.get(), message.size()), {});
    sink_->receive(1 - rank_, in);
    sink_->batch_ends();
  }

  /// Until there is an answer.
  void expect_answer_to(std::uint64_t number) {
    const std::lock_guard lock(mutex_);
    unanswered_.insert(number);
  }
  [[nodiscard]] bool owes_answers() {
    const std::lock_guard lock(mutex_);
    return !unanswered_.empty();
  }

  std::atomic<bool> holds{false};  // nothing is received but by deliver()
  std::vector<bytes> recorded;

 private:
  const int rank_;
  std::mutex mutex_, polls_;
  std::deque<bytes> under_way_;
  std::set<std::uint64_t> unanswered_;
  detail::message_sink* sink_ = nullptr;
};

template <class Tag>
std::uint32_t number_of() {
  return detail::handler_of<Tag>::entry.id();
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
                        .resources = {{"gpu", 2}},
                        .store = {.capacity = std::size_t{4} << 20, .put_timeout = std::chrono::nanoseconds(1)},
                        .on_unobserved_error = [](const cadre::unobserved_error&) {}}),
        other_(1 - rank) {
    core().set_rank(rank);
    auto link = std::make_unique<mirror>(rank);
    way_ = link.get();
    // To rank 0 the other one is of its node, to rank 1 of another.
    std::vector<detail::peer_facts> facts(2, {"here", 1, core().resources()});
    if (rank == 1) facts[0] = {"there", 2, core().resources()};
    const auto j = std::make_shared<detail::job>(core(), std::move(link), facts);
    core().join(j, rank == 1 ? j.get() : nullptr);
    core().jobs()->start();
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
        pass(choose, way_->recorded[choose.below(way_->recorded.size())]);
      pass_all(choose);
    }
    settle();
  }
  /// Calls that nobody damages give what they should.
  void check_that_it_works() {
    way_->holds = false;
    ask(2);
    check(answer<int>() == 42, "a task gives something else");
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
  cadre::actor<counter> make(cadre::actor_options o) { return actor<counter>(std::move(o), 1, std::string("text")); }
  /// Uses of all that ranks ask each other for; their messages are recorded.
  void begin() {
    const auto on = cadre::on_rank(other_);
    detail::job& j = *core().jobs();
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
    asked(detail::return_request{}, key, std::uint32_t{1});
    asked(detail::want_request{}, key);
    j.cancel(other_, 1);
    for (std::size_t i = 0; i < asks; ++i) {
      ask(i);
      while (!futures_.empty() && !futures_.back()->ready()) way_->poll();
    }
    futures_.clear();
    while (way_->poll() || !detail::scheduler_of(pool()).is_idle()) {}
    way_->recorded.push_back(message({.what = kind::shutdown, .counts = false}, {}));
  }

  template <auto F, class... A>
  void ask_for(A&&... a) {
    auto call = detail::bind_call<F>(core(), std::forward<A>(a)...);
    using settled = typename decltype(call)::settled;
    const settled all = std::move(call).settle();
    keep(detail::ask<detail::task_request<F, settled>, typename settled::result>(
        *core().jobs(), other_, {}, settled::may_hold_refs, "a task", false, {}, [&](cadre::output_archive& out) {
          out(detail::sent_options{
              .name = "named", .resources = {{"cpu", 1}, {"gpu", 0.5}}, .deadline = 5'000'000'000});
          all.save(out);
        }));
  }
  static record some_record() {
    return {"r",    {"one", "two"},           {{"k", {1, 2}}}, 1.5,
            "text", {{nothing{}, nothing{}}}, {true, false},   {{1, 2}, {3, 4}}};
  }
  void sum_of(int a, const cadre::remote_options& how) { keep(submit<&sum>(how, a, 2)); }

  static constexpr std::size_t asks = 14;
  void ask(std::size_t which) {
    cadre::remote_options with{.on = cadre::on_rank(other_)};
    try {
      switch (which) {
        case 0: return ask_for<&same>(some_record());
        case 1: return ask_for<&same>(record{});
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
          return ask_for<&same_ref>(ref, ref);
        }
        case 7: return ask_for<&told>(anew_, std::vector{shelf_, shelf_});
        case 8:
          if (way_->holds) keep(shelf_.stop());
          return;
        case 9: return keep(counter_.call<&counter::add>(3));
        case 10: return keep(counter_.call<&counter::add>(-1));
        case 11: return keep(anew_.call<&counter::add>(1));
        case 12: return anew_.tell<&counter::add>(1);
        default: sum_of(1, with); futures_.back()->cancel();
      }
    } catch (const cadre::error&) {  // no room in the store
    }
  }

  // ---- Damage

  static constexpr std::array<std::uint64_t, 16> odd_numbers{
      0,        1,          2,          3,          0x7f,       0xff,       0xffff,     0x10000,
      1u << 24, 0x7fffffff, 0x80000000, 0xffffffff, 1ull << 32, 1ull << 60, ~0ull >> 1, ~0ull};
  void damage(choices& choose, bytes& m) const {
    const auto put_at = [&](std::size_t at, std::uint64_t value, std::size_t size) {
      for (std::size_t i = 0; i < size && at + i < m.size(); ++i) m[at + i] = static_cast<std::byte>(value >> 8 * i);
    };
    for (std::size_t times = choose.below(5); times != 0 && !m.empty(); --times) {
      const std::size_t body = std::min(head_bytes, m.size() - 1);
      const auto anywhere = [&] { return choose.below(m.size()); };
      const auto in_body = [&] { return body + choose.below(m.size() - body); };
      switch (choose.below(14)) {
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
          const bytes& other = way_->recorded[choose.below(way_->recorded.size())];
          const std::size_t from = choose.below(other.size()), at = anywhere();
          m.resize(at);
          m.insert(m.end(), other.begin() + static_cast<std::ptrdiff_t>(from), other.end());
          break;
        }
        default: {
          const std::size_t at = in_body();
          m.insert(m.begin() + static_cast<std::ptrdiff_t>(at), 1 + choose.below(32),
                   static_cast<std::byte>(choose.byte()));
        }
      }
    }
  }

  /// Receives the message, damaged.
  void pass(choices& choose, bytes m) {
    damage(choose, m);
    const std::optional<head> h = head_of(m);
    if (h && h->what == kind::ask && h->number != 0 && h->handler != number_of<detail::where_request>())
      way_->expect_answer_to(h->number);
    const bool answers = h && (h->what == kind::answer || h->what == kind::failure) && open_.erase(h->number) != 0;
    way_->deliver(m);
    check(!answers || core().jobs()->open().take(h->number) == nullptr, "an answer is lost");
  }
  void pass_all(choices& choose) {
    for (int n = 0; n < 64; ++n) {
      std::optional<bytes> m = next();
      if (!m) return;
      if (const head h = *head_of(*m); h.what == kind::ask && h.number != 0) open_.insert(h.number);
      pass(choose, *std::move(m));
    }
  }
  /// When what was asked for is answered, or waits for an answer itself.
  std::optional<bytes> next() {
    for (const auto begun = std::chrono::steady_clock::now();; std::this_thread::yield()) {
      const bool more = way_->owes_answers() && std::chrono::steady_clock::now() - begun < 2ms;
      if (std::optional<bytes> m = way_->take(); m || !more) return m;
    }
  }
  static bytes message(const head& h, const std::array<std::string, 3>& why) {
    cadre::byte_buffer all;
    cadre::output_archive out(all);
    all.append(&h, head_bytes);
    if (h.what == kind::failure) out(why[0], why[1], why[2]);
    return all.to_vector();
  }
  /// What was lost on the way fails, so that nothing is open.
  void settle() {
    choices none(nullptr, 0);
    const auto end = std::chrono::steady_clock::now() + 10s;
    const auto goes_on = [&] {
      return !detail::scheduler_of(pool()).is_idle() || core().jobs()->open().open() != 0 || way_->owes_answers();
    };
    do {
      pass_all(none);
      for (const std::uint64_t n : std::exchange(open_, {}))
        way_->deliver(message({.number = n, .what = kind::failure}, {"", "it was lost", "on the way"}));
      if (std::chrono::steady_clock::now() < end) continue;
      check(!way_->owes_answers(), "a request is never answered");
      check(core().jobs()->open().open() == 0, "an answer is waited for that has come");
      check(false, "something goes on for ever");
    } while (goes_on());
    futures_.clear();
  }

  int other_;
  mirror* way_;
  std::vector<std::unique_ptr<any_future>> futures_;
  std::set<std::uint64_t> open_;  // that were asked and not answered
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
  static std::optional<world> ranks[2];
  if (inputs % life == 0) {
    static_cast<void>(detail::handler::all());  // numbers them
    for (int r = 0; r < 2; ++r) {
      ranks[r].reset();
      ranks[r].emplace(r);
    }
    check(__lsan_do_recoverable_leak_check() == 0, "memory leaks");
  }
  choices choose(data, size);
  world& w = *ranks[choose.below(2)];
  w.run(choose);
  if (++inputs % between_checks == 0) w.check_that_it_works();
  return 0;
}
