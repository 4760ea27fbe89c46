#ifndef CADRE_TESTS_ASYNC_MODEL_EXPLORE_HPP
#define CADRE_TESTS_ASYNC_MODEL_EXPLORE_HPP

// Runs a program of a few threads once for each way in which their atomic operations can follow each other. The threads
// are fibers on one thread, which change places only before an atomic operation, a lock, or a call of the kernel; a run is
// the list of the choices made at those points, and the next run changes the last one that has an alternative left.
//
//  - settings::all explores every order, leaving out those that differ from one explored only in the order of operations
//    that do not touch each other (sleep sets: P. Godefroid, "Partial-order methods", 1996);
//  - otherwise at most `budget` times a run lets another thread go on than the one that could (context bounding:
//    M. Musuvathi, S. Qadeer, "Iterative context bounding", PLDI 2007), or reads what a buffered store has not yet changed.
//
// settings::store_buffers gives each thread a buffer of stores, as x86's and SPARC's TSO have it: what is not sequentially
// consistent reaches the others later, in its order. A buffered store is put off until another thread comes to the same
// place, where both are tried.
//
// mutation breaks the program under test by hand, so that a test can show that the explorer finds out.

#include "sanitizers.hpp"

#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#if CADRE_TESTS_WITH_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#if CADRE_TESTS_WITH_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace explore {

enum class action : std::uint8_t { start, load, store, update, barrier, lock, sleep, wake, yield, settle, join };

struct mutation {
  bool no_barrier = false;      ///< seldom_barrier() does nothing
  bool no_second_look = false;  ///< from seldom_barrier() to the next sleep or lock a thread sees what it saw before
  bool weak_stores = false;     ///< sequentially consistent stores are buffered
  bool torn_updates = false;    ///< a read-modify-write is a load, and later a store
  std::uint64_t subtract_hides = 0;  ///< these bits of what fetch_sub returns are 0
};
struct settings {
  bool all = false;
  int budget = 2;
  bool store_buffers = false;
  mutation broken = {};
};
struct report {
  std::uint64_t runs = 0;
  std::string failure;  ///< of the last run, with what led to it; empty if there is none
};

class explorer {
 public:
  static explorer*& current() noexcept {
    static explorer* e = nullptr;
    return e;
  }
  /// `locals`: what each fiber is to have of its own of the thread that they share.
  explicit explorer(std::span<std::byte> locals) noexcept : locals_(locals) {}

  report run(settings s, const std::function<void()>& program) {
    settings_ = s;
    report result;
    current() = this;
    const auto once = [&] {
      ++result.runs;
      run_once(program);
      return failure_.empty();
    };
    // The first, in one order, makes what is made once in a process, so that no explored run differs by that.
    if (once()) {
      may_explore_ = true;
      while (once() && next()) {}
    }
    current() = nullptr;
    result.failure = failure_;
    return result;
  }

  // ---- For the program ------------------------------------------------------------------------------------------

  /// A further thread; its number.
  std::size_t spawn(std::function<void()> body) {
    fibers_.push_back(make_fiber(std::move(body)));
    return fibers_.size() - 1;
  }
  void join(std::size_t thread) {
    me().subject = thread;
    point(action::join, nullptr);
    flush(*fibers_[thread]);
  }
  /// Waits until nobody else can go on.
  void settle() { point(action::settle, nullptr); }
  /// Before explore_from_here() and after no_further() there is one order only.
  void explore_from_here() noexcept {
    exploring_ = may_explore_;
    spent_ = 0;
  }
  void no_further() noexcept { exploring_ = false; }
  void require(bool condition, const char* text) {
    if (!condition) fail(text);
  }

  // ---- For what stands in for atomics and the kernel ----------------------------------------------------------------

  template <class T>
  T load(const T* where) {
    point(action::load, where);
    T value;
    if (const buffered* mine = newest(me(), where)) {
      std::memcpy(&value, &mine->bits, sizeof value);
    } else {
      settle_buffers(where);
      std::memcpy(&value, where, sizeof value);
    }
    if (me().blind)
      if (const auto seen = me().seen.find(where); seen != me().seen.end())
        std::memcpy(&value, &seen->second, sizeof value);
    knows(where, value);
    return value;
  }
  template <class T>
  void store(T* where, T value, std::memory_order order) {
    const bool strong = order == std::memory_order_seq_cst && !settings_.broken.weak_stores;
    point(strong ? action::update : action::store, where);
    knows(where, value);
    if (settings_.store_buffers && !strong && exploring_) {
      buffered b{where, sizeof value, 0, 0};
      std::memcpy(&b.bits, &value, sizeof value);
      me().buffer.push_back(b);
      return;
    }
    flush(me());
    settle_buffers(where);
    std::memcpy(where, &value, sizeof value);
  }
  /// `change(T& value)` says whether to write.
  template <class T, class Change>
  T update(T* where, Change change) {
    point(action::update, where);
    flush(me());
    settle_buffers(where);
    T value, old;
    std::memcpy(&old, where, sizeof old);
    value = old;
    const bool writes = change(value);
    knows(where, value);
    if (!writes) return old;
    if (settings_.broken.torn_updates) point(action::update, where);
    std::memcpy(where, &value, sizeof value);
    return old;
  }
  std::uint64_t subtract_hides() const noexcept { return settings_.broken.subtract_hides; }

  void seldom_barrier() {
    if (!settings_.broken.no_barrier) {
      point(action::barrier, nullptr);
      for (auto& f : fibers_) flush(*f);
    }
    me().blind = settings_.broken.no_second_look;
  }
  void own_barrier() {
    point(action::barrier, &me());
    flush(me());
  }
  void lock(const void* mutex, const bool& taken) {
    me().taken = &taken;
    point(action::lock, mutex);
    flush(me());
    me().blind = false;
  }
  void unlock() { flush(me()); }
  void yield() { point(action::yield, nullptr); }
  void sleep(const std::uint32_t* word, std::uint32_t expected) {
    point(action::sleep, word);
    flush(me());
    settle_buffers(word);
    me().blind = false;
    if (*word != expected) return;
    me().asleep_on = word;
    choose();
  }
  void wake_one(const std::uint32_t* word) {
    point(action::wake, word);
    flush(me());
    for (auto& f : fibers_)
      if (f->asleep_on == word) {
        f->asleep_on = nullptr;
        return;
      }
  }

 private:
  struct buffered {
    void* where;
    std::size_t size;
    std::uint64_t bits;
    std::uint32_t missed = 0;  // how often
  };
  struct fiber {
    ucontext_t context{};
    std::vector<char> stack;
    std::function<void()> body;
    std::size_t number = 0;
    action next = action::start;  // what it is about to do
    const void* where = nullptr;
    std::size_t subject = 0;      // of join
    const bool* taken = nullptr;  // of lock
    const void* asleep_on = nullptr;
    bool yielded = false;
    bool finished = false;
    bool blind = false;
    std::vector<buffered> buffer;
    std::map<const void*, std::uint64_t> seen;
    std::vector<std::byte> locals;
    void* asan = nullptr;
    void* tsan = nullptr;
  };
  struct footprint {
    std::size_t thread;
    bool touches_all;
    std::vector<std::pair<const void*, bool>> places;  // and whether it writes there
  };
  struct choice {
    std::size_t taken, of;
  };
  struct step {
    std::size_t thread;
    action what;
    const void* where;
  };

  fiber& me() noexcept { return *fibers_[running_]; }

  template <class T>
  void knows(const T* where, const T& value) {
    if (settings_.broken.no_second_look) std::memcpy(&me().seen[where], &value, sizeof value);
  }

  // ---- One run ----------------------------------------------------------------------------------------------------

  void run_once(const std::function<void()>& program) {
    failure_.clear();
    steps_.clear();
    asleep_.clear();
    position_ = 0;
    spent_ = 0;
    alone_ = 0;
    exploring_ = false;
    redundant_ = false;
    fibers_.clear();
    fibers_.push_back(make_fiber(program));
    running_ = 0;
    const std::vector<std::byte> outer(locals_.begin(), locals_.end());
    give_locals(me());
#if CADRE_TESTS_WITH_TSAN
    tsan_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(me().tsan, 0);
#endif
#if CADRE_TESTS_WITH_ASAN
    __sanitizer_start_switch_fiber(&asan_, me().stack.data(), me().stack.size());
#endif
    ::swapcontext(&home_, &me().context);
#if CADRE_TESTS_WITH_ASAN
    __sanitizer_finish_switch_fiber(asan_, nullptr, nullptr);
#endif
    std::copy(outer.begin(), outer.end(), locals_.begin());
    // What stands on the stacks of a failed run stays there, and is reachable, so that nobody calls it a leak.
    for (auto& f : fibers_) (f->finished ? spare_ : graveyard()).push_back(std::move(f));
    fibers_.clear();
  }
  static std::vector<std::unique_ptr<fiber>>& graveyard() {
    static auto& g = *new std::vector<std::unique_ptr<fiber>>;
    return g;
  }

  // One that has ended, waiting for another body, or a new one.
  std::unique_ptr<fiber> make_fiber(std::function<void()> body) {
    std::unique_ptr<fiber> f;
    if (!spare_.empty()) {
      f = std::move(spare_.back());
      spare_.pop_back();
      f->next = action::start;
      f->finished = f->yielded = f->blind = false;
      f->seen.clear();
      std::fill(f->locals.begin(), f->locals.end(), std::byte{});
    } else {
      f = std::make_unique<fiber>();
      f->locals.resize(locals_.size());
      f->stack.resize(256 * 1024);
      ::getcontext(&f->context);
      f->context.uc_stack.ss_sp = f->stack.data();
      f->context.uc_stack.ss_size = f->stack.size();
      f->context.uc_link = nullptr;
      ::makecontext(&f->context, &explorer::entry, 0);
#if CADRE_TESTS_WITH_TSAN
      f->tsan = __tsan_create_fiber(0);
#endif
    }
    f->body = std::move(body);
    f->number = fibers_.size();
    return f;
  }
  static void entry() {
#if CADRE_TESTS_WITH_ASAN
    const void* stack = nullptr;
    std::size_t size = 0;
    __sanitizer_finish_switch_fiber(nullptr, &stack, &size);
    if (current()->home_stack_ == nullptr) {  // the very first
      current()->home_stack_ = stack;
      current()->home_size_ = size;
    }
#endif
    for (;;) {
      fiber& f = current()->me();
      f.body();
      f.body = nullptr;
      f.finished = true;
      current()->choose();
    }
  }

  void give_locals(fiber& f) noexcept { std::copy(f.locals.begin(), f.locals.end(), locals_.begin()); }
  void switch_to(fiber& to) {
    fiber& from = me();
    if (&from == &to) return;
    std::copy(locals_.begin(), locals_.end(), from.locals.begin());
    running_ = to.number;
    give_locals(to);
#if CADRE_TESTS_WITH_TSAN
    __tsan_switch_to_fiber(to.tsan, 0);
#endif
#if CADRE_TESTS_WITH_ASAN
    __sanitizer_start_switch_fiber(&from.asan, to.stack.data(), to.stack.size());
#endif
    ::swapcontext(&from.context, &to.context);
#if CADRE_TESTS_WITH_ASAN
    __sanitizer_finish_switch_fiber(me().asan, nullptr, nullptr);
#endif
  }
  // Comes back in another run, if this fiber has ended.
  void go_home() {
#if CADRE_TESTS_WITH_TSAN
    __tsan_switch_to_fiber(tsan_, 0);
#endif
#if CADRE_TESTS_WITH_ASAN
    __sanitizer_start_switch_fiber(&me().asan, home_stack_, home_size_);
#endif
    ::swapcontext(&me().context, &home_);
#if CADRE_TESTS_WITH_ASAN
    __sanitizer_finish_switch_fiber(me().asan, nullptr, nullptr);
#endif
  }

  // ---- Choosing -----------------------------------------------------------------------------------------------------

  void point(action a, const void* where) {
    me().next = a;
    me().where = where;
    // Who looks again and again for what another is about to do lets it go on some time, as on a real machine.
    me().yielded = a == action::yield || ++alone_ % 256 == 0;
    choose();
    fiber& f = me();
    f.yielded = false;
    if (steps_.empty() || steps_.back().thread != f.number) alone_ = 0;
    for (auto& other : fibers_)
      if (other.get() != &f) other->yielded = false;
    steps_.push_back({f.number, a, where});
    if (steps_.size() > 20'000) fail("the threads go on for ever");
  }

  [[nodiscard]] bool can_go_on(const fiber& f) const noexcept {
    if (f.finished || f.asleep_on != nullptr || f.yielded) return false;
    switch (f.next) {
      case action::lock: return !*f.taken;
      case action::join: return fibers_[f.subject]->finished;
      case action::settle:
        return std::none_of(fibers_.begin(), fibers_.end(), [&](const auto& other) {
          return other.get() != &f && other->next != action::settle && (can_go_on(*other) || other->yielded);
        });
      default: return true;
    }
  }

  // Which thread makes the next step; returns on the stack of one that may go on.
  void choose() {
    std::vector<std::size_t>& options = options_;
    options.clear();
    const bool mine = can_go_on(me());
    if (mine) options.push_back(running_);
    for (std::size_t i = 1; i < fibers_.size(); ++i) {  // in turn, so that nobody waits for ever behind two who yield
      const std::size_t other = (running_ + i) % fibers_.size();
      if (can_go_on(*fibers_[other])) options.push_back(other);
    }
    if (options.empty())
      for (auto& f : fibers_)
        if (!f->finished && f->yielded) options.push_back(f->number);
    if (options.empty()) {
      if (std::all_of(fibers_.begin(), fibers_.end(), [](const auto& f) { return f->finished; })) {
        for (auto& f : fibers_) f->buffer.clear();
        go_home();
        return;
      }
      fail("nobody can go on");
    }
    std::size_t next = options.front();
    if (exploring_) next = settings_.all ? choose_of_all(options) : choose_in_budget(options, mine || me().yielded);
    switch_to(*fibers_[next]);
  }
  std::size_t choose_in_budget(const std::vector<std::size_t>& options, bool costs) {
    if (costs && spent_ >= settings_.budget) return options.front();
    const std::size_t c = decide(options.size());
    if (costs && c != 0) ++spent_;
    return options[c];
  }
  std::size_t choose_of_all(const std::vector<std::size_t>& options) {
    std::vector<footprint> all;
    for (const std::size_t o : options) all.push_back(footprint_of(*fibers_[o]));
    std::vector<std::size_t> awake;
    if (!redundant_)
      for (std::size_t i = 0; i < options.size(); ++i)
        if (std::none_of(asleep_.begin(), asleep_.end(), [&](const auto& z) { return z.thread == options[i]; }))
          awake.push_back(i);
    if (awake.empty()) {  // all that may follow has been seen elsewhere
      redundant_ = true;
      return options.front();
    }
    const std::size_t c = decide(awake.size());
    for (std::size_t i = 0; i < c; ++i) asleep_.push_back(all[awake[i]]);
    const footprint& chosen = all[awake[c]];
    std::erase_if(asleep_, [&](const footprint& z) { return depend(z, chosen); });
    return options[awake[c]];
  }

  std::size_t decide(std::size_t of) {
    if (of == 1) return 0;
    if (position_ == trail_.size()) trail_.push_back({0, of});
    if (trail_[position_].of != of) fail("this run had other choices than the one before, which began in the same way");
    return trail_[position_++].taken;
  }
  bool next() {
    while (!trail_.empty() && trail_.back().taken + 1 == trail_.back().of) trail_.pop_back();
    if (trail_.empty()) return false;
    ++trail_.back().taken;
    return true;
  }

  footprint footprint_of(const fiber& f) const {
    footprint p{f.number, false, {}};
    switch (f.next) {
      case action::start: return p;
      case action::load: p.places.emplace_back(f.where, false); break;
      case action::store: p.places.emplace_back(f.where, true); break;
      case action::update: p.places.emplace_back(f.where, true); break;
      default: p.touches_all = true; return p;
    }
    if (f.next == action::update)
      for (const buffered& b : f.buffer) p.places.emplace_back(b.where, true);
    for (const auto& other : fibers_)
      if (other.get() != &f && newest(*other, f.where) != nullptr)
        for (const buffered& b : other->buffer) p.places.emplace_back(b.where, true);
    return p;
  }
  static bool depend(const footprint& a, const footprint& b) noexcept {
    if (a.thread == b.thread || a.touches_all || b.touches_all) return true;
    for (const auto& [place, writes] : a.places)
      for (const auto& [other_place, other_writes] : b.places)
        if (place == other_place && (writes || other_writes)) return true;
    return false;
  }

  // ---- Store buffers --------------------------------------------------------------------------------------------------

  static const buffered* newest(const fiber& f, const void* where) noexcept {
    for (auto b = f.buffer.rbegin(); b != f.buffer.rend(); ++b)
      if (b->where == where) return &*b;
    return nullptr;
  }
  static void commit(fiber& f, std::size_t n) noexcept {
    for (std::size_t i = 0; i < n; ++i) std::memcpy(f.buffer[i].where, &f.buffer[i].bits, f.buffer[i].size);
    f.buffer.erase(f.buffer.begin(), f.buffer.begin() + static_cast<std::ptrdiff_t>(n));
  }
  static void flush(fiber& f) noexcept { commit(f, f.buffer.size()); }

  // The running thread is about to look at `where`: what others have stored there may have arrived, or not.
  void settle_buffers(const void* where) {
    for (auto& f : fibers_) {
      if (f->number == running_ || newest(*f, where) == nullptr) continue;
      std::vector<std::size_t> cuts;  // how many of its stores have arrived: what costs nothing is first
      std::uint32_t missed = 0;
      for (std::size_t i = f->buffer.size(); i-- > 0;)
        if (f->buffer[i].where == where) {
          cuts.push_back(i + 1);
          missed = f->buffer[i].missed;  // at last: of the oldest
        }
      const bool explored = exploring_ && !redundant_ && missed < often;
      const bool held = explored && missed != 0;  // somebody has paid for missing it
      if (explored) cuts.insert(held ? cuts.begin() : cuts.end(), 0);
      std::size_t c = 0;
      if (explored && (settings_.all || held || spent_ < settings_.budget)) {
        c = decide(cuts.size());
        if (c != 0 && !held) ++spent_;
      }
      commit(*f, cuts[c]);
      for (buffered& left : f->buffer) left.missed += left.where == where;
    }
  }

  // ---- Failure ----------------------------------------------------------------------------------------------------------

  [[noreturn]] void fail(const std::string& text) {
    failure_ = text + "\n";
    for (const auto& f : fibers_) {
      failure_ += "  thread " + std::to_string(f->number) + ": ";
      failure_ += f->finished ? "ended" : f->asleep_on ? "sleeps" : name_of(f->next);
      if (!f->buffer.empty()) failure_ += ", " + std::to_string(f->buffer.size()) + " stores buffered";
      failure_ += "\n";
    }
    std::map<const void*, std::size_t> places;
    const std::size_t from = steps_.size() > 80 ? steps_.size() - 80 : 0;
    for (std::size_t i = from; i < steps_.size(); ++i) {
      const auto place = places.try_emplace(steps_[i].where, places.size()).first->second;
      failure_ += std::string(steps_[i].thread * 24, ' ') + std::to_string(steps_[i].thread) + " " +
                  name_of(steps_[i].what) + " @" + std::to_string(place) + "\n";
    }
    go_home();
    __builtin_unreachable();
  }
  static const char* name_of(action a) noexcept {
    constexpr const char* names[] = {"start", "load", "store", "update", "barrier", "lock",
                                     "sleep", "wake", "yield", "settle", "join"};
    return names[static_cast<std::size_t>(a)];
  }

  static constexpr std::uint32_t often = 8;  // a store arrives some time
  const std::span<std::byte> locals_;
  settings settings_;
  std::vector<std::unique_ptr<fiber>> fibers_;
  std::vector<std::unique_ptr<fiber>> spare_;
  std::size_t running_ = 0;
  std::vector<choice> trail_;
  std::size_t position_ = 0;
  int spent_ = 0;
  std::size_t alone_ = 0;  // steps of the last thread without another's
  bool may_explore_ = false;
  bool exploring_ = false;
  bool redundant_ = false;
  std::vector<footprint> asleep_;
  std::vector<std::size_t> options_;
  std::vector<step> steps_;
  std::string failure_;
  ucontext_t home_{};
  void* asan_ = nullptr;
  void* tsan_ = nullptr;
  const void* home_stack_ = nullptr;
  std::size_t home_size_ = 0;
};

inline std::size_t spawn(std::function<void()> body) { return explorer::current()->spawn(std::move(body)); }
inline void join(std::size_t thread) { explorer::current()->join(thread); }
inline void settle() { explorer::current()->settle(); }
inline void explore_from_here() { explorer::current()->explore_from_here(); }
inline void no_further() { explorer::current()->no_further(); }
inline void require(bool condition, const char* text) { explorer::current()->require(condition, text); }
/// Runs the bodies as threads, in every order, until all have ended.
template <class... Body>
void together(Body... body) {
  const std::size_t threads[] = {spawn(std::move(body))...};
  explore_from_here();
  for (const std::size_t t : threads) join(t);
  no_further();
}

// ---- What the headers under test are given in the place of std::atomic, std::atomic_ref and std::mutex ------------------

template <class T>
class places {
 public:
  explicit constexpr places(T* where) noexcept : where_(where) {}

  T load(std::memory_order = std::memory_order_seq_cst) const noexcept { return inside() ? e().load(where_) : *where_; }
  void store(T value, std::memory_order order = std::memory_order_seq_cst) const noexcept {
    inside() ? e().store(where_, value, order) : void(*where_ = value);
  }
  T exchange(T value, std::memory_order = std::memory_order_seq_cst) const noexcept {
    return change([&](T& now) { return now = value, true; });
  }
  bool compare_exchange_strong(T& expected, T value, std::memory_order = std::memory_order_seq_cst,
                               std::memory_order = std::memory_order_seq_cst) const noexcept {
    const T wanted = expected;
    expected = change([&](T& now) { return now == wanted ? (now = value, true) : false; });
    return expected == wanted;
  }
  bool compare_exchange_weak(T& expected, T value, std::memory_order = std::memory_order_seq_cst,
                             std::memory_order = std::memory_order_seq_cst) const noexcept {
    return compare_exchange_strong(expected, value);
  }
  T fetch_add(T n, std::memory_order = std::memory_order_seq_cst) const noexcept {
    return change([&](T& now) { return now = static_cast<T>(now + n), true; });
  }
  T fetch_sub(T n, std::memory_order = std::memory_order_seq_cst) const noexcept {
    const T old = change([&](T& now) { return now = static_cast<T>(now - n), true; });
    if constexpr (sizeof(T) == 8)
      if (inside()) return old & ~e().subtract_hides();
    return old;
  }
  T fetch_or(T n, std::memory_order = std::memory_order_seq_cst) const noexcept {
    return change([&](T& now) { return now = static_cast<T>(now | n), true; });
  }
  T fetch_and(T n, std::memory_order = std::memory_order_seq_cst) const noexcept {
    return change([&](T& now) { return now = static_cast<T>(now & n), true; });
  }

 protected:
  static bool inside() noexcept { return explorer::current() != nullptr; }
  static explorer& e() noexcept { return *explorer::current(); }
  template <class Change>
  T change(Change f) const noexcept {
    if (inside()) return e().update(where_, f);
    const T old = *where_;
    f(*where_);
    return old;
  }

  T* where_;
};

template <class T>
class model_atomic_ref : public places<T> {
 public:
  explicit model_atomic_ref(T& object) noexcept : places<T>(&object) {}
};

template <class T>
class model_atomic {
 public:
  constexpr model_atomic() noexcept = default;
  constexpr model_atomic(T value) noexcept : value_(value) {}  // NOLINT: as std::atomic
  model_atomic(const model_atomic&) = delete;
  model_atomic& operator=(const model_atomic&) = delete;

  T load(std::memory_order o = std::memory_order_seq_cst) const noexcept { return here().load(o); }
  void store(T v, std::memory_order o = std::memory_order_seq_cst) noexcept { here().store(v, o); }
  T exchange(T v, std::memory_order o = std::memory_order_seq_cst) noexcept { return here().exchange(v, o); }
  bool compare_exchange_strong(T& x, T v, std::memory_order = std::memory_order_seq_cst,
                               std::memory_order = std::memory_order_seq_cst) noexcept {
    return here().compare_exchange_strong(x, v);
  }
  bool compare_exchange_weak(T& x, T v, std::memory_order = std::memory_order_seq_cst,
                             std::memory_order = std::memory_order_seq_cst) noexcept {
    return here().compare_exchange_strong(x, v);
  }
  T fetch_add(T n, std::memory_order = std::memory_order_seq_cst) noexcept { return here().fetch_add(n); }
  T fetch_sub(T n, std::memory_order = std::memory_order_seq_cst) noexcept { return here().fetch_sub(n); }
  T fetch_or(T n, std::memory_order = std::memory_order_seq_cst) noexcept { return here().fetch_or(n); }
  T fetch_and(T n, std::memory_order = std::memory_order_seq_cst) noexcept { return here().fetch_and(n); }

  const T* address() const noexcept { return &value_; }

 private:
  places<T> here() const noexcept { return places<T>(const_cast<T*>(&value_)); }
  T value_{};
};

class model_mutex {
 public:
  constexpr model_mutex() noexcept = default;
  model_mutex(const model_mutex&) = delete;
  model_mutex& operator=(const model_mutex&) = delete;
  void lock() {
    if (explorer* const e = explorer::current()) e->lock(this, taken_);
    taken_ = true;
  }
  void unlock() noexcept {
    if (explorer* const e = explorer::current()) e->unlock();
    taken_ = false;
  }

 private:
  bool taken_ = false;
};

}  // namespace explore

#endif
