#ifndef CADRE_ACTOR_DETAIL_RUNTIME_CORE_HPP
#define CADRE_ACTOR_DETAIL_RUNTIME_CORE_HPP

#include <cadre/actor/detail/actor_table.hpp>
#include <cadre/actor/detail/bundles.hpp>
#include <cadre/actor/detail/groups_used.hpp>
#include <cadre/actor/detail/job_groups.hpp>
#include <cadre/actor/detail/producers.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/async/blocking.hpp>
#include <cadre/async/thread_pool.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/store/object_store.hpp>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

class runtime;

namespace detail {

class job;

/// Gets objects of other nodes.
class fetches_objects {
 public:
  /// Done when the object of that key, of this node's store, can be read; nothing if it is not for this process to see to that.
  virtual std::optional<shared_future<void>> want(std::uint64_t key) = 0;

 protected:
  ~fetches_objects() = default;
};

/// What a runtime is made of. Thread-safety: all functions, from any thread.
class runtime_core : public std::enable_shared_from_this<runtime_core> {
 public:
  /// Throws thread_error (151), impossible_request (209).
  explicit runtime_core(runtime_options options, runtime& face)
      : store_options_(std::move(options.store)),
        packs_(options.round_trip),
        actors_(take_table()),
        bundles_(actors_),
        face_(face) {
    try {
      declare_gpus(options);
      pool_.emplace(thread_pool_options{.threads = options.threads,
                                        .on_unobserved_error = std::move(options.on_unobserved_error),
                                        .resources = std::move(options.resources),
                                        .report_waits_after = options.report_waits_after});
      home_ = scheduler_of(*pool_).id();
      gpus_ = std::move(options.gpus);
      if (!gpus_.empty()) ledger()->number_devices(gpus_);
      bundles_.begin(ledger());
      enter();  // last: others find what is whole
    } catch (...) {
      give_back(actors_);
      throw;
    }
  }
  runtime_core(const runtime_core&) = delete;
  runtime_core& operator=(const runtime_core&) = delete;
  /// Runs what has been submitted, then ends the actors, those earlier for whose resources something waits. Tasks that depend
  /// on what comes later keep the rest of this.
  void end() noexcept {
    const bool has_threads = this_worker() == nullptr && !scheduler_of(*pool_).left_behind();
    for (bool again = has_threads; again && waiting_for_resources() != 0;) {
      while (!scheduler_of(*pool_).is_idle()) std::this_thread::sleep_for(std::chrono::microseconds(100));
      again = waiting_for_resources() == 0 || end_actors_that_hold() || remove_some_groups();
    }
    pool_.reset();
    {
      const std::lock_guard lock(all().mutex);
      has_ended_ = true;
    }
    while (remove_some_groups()) {}
    bundles_.end();
    actors_.end_all("its runtime has ended");  // whose destructors may still call others
    leave();
    give_back(actors_);
  }

  [[nodiscard]] thread_pool& pool() noexcept { return *pool_; }
  [[nodiscard]] pool_id home() const noexcept { return home_; }
  [[nodiscard]] actor_table& actors() noexcept { return actors_; }
  [[nodiscard]] producers& results() noexcept { return producers_; }
  [[nodiscard]] runtime& face() noexcept { return face_; }
  /// Of a job of several ranks; else null.
  [[nodiscard]] job* jobs() const noexcept { return job_.get(); }
  /// `fetcher` is part of it, and null where all ranks are of one node.
  void join(std::shared_ptr<job> j, fetches_objects* fetcher) noexcept {
    job_ = std::move(j);
    fetcher_ = fetcher;
  }
  /// Its number in the job, which is that of its rank if it began with the job: see class link.
  [[nodiscard]] int rank() const noexcept { return rank_; }
  void set_rank(int rank) noexcept { rank_ = rank; }
  [[nodiscard]] std::shared_ptr<resource_ledger<>> ledger() {
    return scheduler_of(*pool_).part<resource_ledger<>>(&scheduler::ledger);
  }
  /// What of this rank is set aside for placement groups.
  [[nodiscard]] bundle_table& bundles() noexcept { return bundles_; }
  /// Those that this rank sends to.
  [[nodiscard]] class groups_used& groups_used() noexcept { return groups_used_; }
  /// On rank 0: all of the job. `make()` makes them, for the first.
  template <class Groups, class Make>
  [[nodiscard]] Groups& groups(Make&& make) {
    const std::lock_guard lock(mutex_);
    if (groups_ == nullptr) groups_ = make();
    return static_cast<Groups&>(*groups_);
  }
  /// At the end, when all that goes on waits for what they hold. True if there were any.
  bool end_actors_that_hold() { return actors_.end_all_of(nullptr, "its runtime has ended"); }
  void place_groups_again() {
    if (job_groups* const all = groups_if_any()) all->try_again();
  }
  void lose_bundles_on(int rank) {
    if (job_groups* const all = groups_if_any()) all->lose(rank);
  }
  /// At the end too. False if there were none.
  bool remove_some_groups() {
    job_groups* const all = groups_if_any();
    return all != nullptr && all->remove_some("its runtime has ended");
  }
  /// How many tasks, actors and groups.
  [[nodiscard]] std::size_t waiting_for_resources() {
    job_groups* const all = groups_if_any();
    return bundles_.waiting() + (all != nullptr ? all->waiting() : 0);
  }
  /// As CUDA numbers them; empty if the options do not say.
  [[nodiscard]] const std::vector<int>& gpus() const noexcept { return gpus_; }
  [[nodiscard]] const resource_set& resources() const { return scheduler_of(*pool_).resources(); }
  /// One job of several ranks from now on: handles of all of them have the same number, and the ranks of a node one store.
  void begin_job(std::uint32_t number, const std::string& store) {
    store_options_.name = store_options_.name.empty() ? store : store_options_.name;
    store_options_.rank = rank_;
    const std::lock_guard lock(all().mutex);
    place& slot = all().jobs[number % most_jobs];
    if (slot.core.load(std::memory_order_relaxed) != nullptr)
      throw impossible_request("a job beside 16 others of this process; end one of them");
    place_of(number_).clear();
    all().jobs_made = number;
    number_ = number | of_job;
    slot.set(*this);
  }
  /// How many jobs this process has been in, at least.
  [[nodiscard]] static std::uint32_t jobs_made() noexcept {
    const std::lock_guard lock(all().mutex);
    return all().jobs_made;
  }
  /// Whether arguments and results are written and read back though they stay in this process.
  [[nodiscard]] bool packs() const noexcept { return packs_; }
  /// Throws store_unreachable (309), mapping_error (159), spill_folder_unusable (312).
  [[nodiscard]] object_store& store() {
    if (object_store* const there = ready_store_.load(std::memory_order_acquire)) [[likely]]
      return *there;
    const std::lock_guard lock(mutex_);
    if (store_ == nullptr) store_ = std::make_shared<object_store>(object_store::open(store_options_));
    ready_store_.store(&*store_, std::memory_order_release);
    return *store_;
  }
  /// Throws what the task threw that was to make it.
  template <class T>
  [[nodiscard]] view<T> get(const object_ref<T>& ref) {
    wait_for_producer_of(ref);
    if (fetcher_ != nullptr) wait_for_producer_of(ref);  // it was made, on another node
    return get_from_store(ref, std::chrono::nanoseconds::max());
  }
  /// Of whom this process knows no task that makes it. Where this one waits on a thread of a pool, another thread takes tasks
  /// meanwhile: one of those may make it.
  template <class T>
  [[nodiscard]] view<T> get_from_store(const object_ref<T>& ref, std::chrono::nanoseconds timeout) {
    if (this_worker() == nullptr || store().contains(ref)) return store().get(ref, timeout);
    return blocking([&] { return store().get(ref, timeout); });
  }
  template <class T>
  void wait_for_producer_of(const object_ref<T>& ref) {
    if (const auto producer = find_producer(ref)) producer->get();
  }
  /// Not for its bytes, where they are on another node.
  template <class T>
  void wait_for_maker_of(const object_ref<T>& ref) {
    if (const auto maker = producers_.find(ref)) maker->get();
  }
  /// Of a task that makes the object, or brings it from another node, if this process knows of one.
  template <class T>
  [[nodiscard]] std::optional<shared_future<void>> find_producer(const object_ref<T>& ref) {
    if (fetcher_ == nullptr || !ref || store().contains(ref)) return producers_.find(ref);
    return fetcher_->want(object_ref_access::key(ref));
  }
  /// Whether objects may be on other nodes.
  [[nodiscard]] bool brings_objects() const noexcept { return fetcher_ != nullptr; }
  [[nodiscard]] std::optional<shared_future<void>> want(std::uint64_t key) {
    return fetcher_ == nullptr ? std::nullopt : fetcher_->want(key);
  }
  /// That task; only one that makes it, if it is not wanted `here`.
  template <class T>
  [[nodiscard]] task_ref<task> producer_of(const object_ref<T>& ref, bool here) {
    const auto producer = here ? find_producer(ref) : producers_.find(ref);
    return producer ? future_access::task_of(*producer) : task_ref<task>();
  }

  /// Of an error that nobody asks for: to the handler of the pool, or to the log; also when the pool has ended.
  void report(std::exception_ptr error, std::string_view task) const noexcept {
    std::shared_ptr<unobserved_handler> handler;
    pool_registry::with(home_, [&](scheduler& s) { handler = s.unobserved(); });
    report_unobserved({std::move(error), task, {}}, handler, false);
  }

  /// Throws impossible_request (209) if the job has no such place.
  void check(const placement& on) const {
    if (on.what() == placement::kind::on_rank && on.rank() != 0)
      throw impossible_request("rank " + std::to_string(on.rank()) + "; this job has rank 0 alone");
    if (on.what() == placement::kind::on_node && !on.is_soft() && on.node() != host())
      throw impossible_request("node '" + on.node() + "'; this job has '" + host() + "' alone");
  }
  [[nodiscard]] static std::string host() {
    std::array<char, 256> name{};
    ::gethostname(name.data(), name.size() - 1);
    return name.data();
  }

  // ---- Which runtimes live

  /// In handles. None that a process makes has that of an earlier one.
  [[nodiscard]] std::uint32_t number() const noexcept { return number_; }
  [[nodiscard]] static runtime_core* find(std::uint32_t number) noexcept { return place_of(number).get(number); }
  /// The one of that pool; null if there is none, or its threads have ended.
  [[nodiscard]] static runtime_core* of_pool(pool_id pool) noexcept {
    const std::lock_guard lock(all().mutex);
    const auto is_it = [pool](const place& p) {
      const runtime_core* const c = p.core.load(std::memory_order_relaxed);
      return c != nullptr && c->home_ == pool && !c->has_ended_;
    };
    for (std::uint32_t n = 0; n < all().begun; ++n)
      if (is_it(all().cores[n])) return all().cores[n].core.load(std::memory_order_relaxed);
    for (const place& p : all().jobs)
      if (is_it(p)) return p.core.load(std::memory_order_relaxed);
    return nullptr;
  }

 private:
  static void declare_gpus(runtime_options& options) {
    std::vector<int>& numbers = options.gpus;
    if (numbers.empty()) return;
    std::sort(numbers.begin(), numbers.end());
    if (std::adjacent_find(numbers.begin(), numbers.end()) != numbers.end())
      throw impossible_request("the same device twice; name each once in .gpus");
    const auto units = static_cast<std::int64_t>(numbers.size()) * resource_set::one;
    if (options.resources.find("gpu") == nullptr) options.resources.set("gpu", units);
    if (options.resources.find("gpu")->units != units)
      throw impossible_request(std::to_string(numbers.size()) + " devices in .gpus, and a runtime that has " +
                               options.resources.text() + "; leave \"gpu\" to .gpus");
  }

  static constexpr std::uint32_t most = 256, most_jobs = 16;
  static constexpr std::uint32_t of_job = 0x80000000;
  // Changes under the mutex, and is read without: a runtime may end meanwhile, whose memory nobody must look at.
  struct place {
    std::atomic<std::uint32_t> number{0};  // 0 while there is none
    std::atomic<runtime_core*> core{nullptr};

    void set(runtime_core& c) noexcept {
      core.store(&c, std::memory_order_release);
      number.store(c.number_, std::memory_order_release);
    }
    void clear() noexcept {
      number.store(0, std::memory_order_release);
      core.store(nullptr, std::memory_order_release);
    }
    [[nodiscard]] runtime_core* get(std::uint32_t wanted) const noexcept {
      if (number.load(std::memory_order_acquire) != wanted) return nullptr;
      runtime_core* const c = core.load(std::memory_order_acquire);
      return number.load(std::memory_order_acquire) == wanted ? c : nullptr;  // no number comes twice
    }
  };
  struct registry {
    std::mutex mutex;
    std::array<place, most> cores{};
    std::array<place, most_jobs> jobs{};
    std::uint32_t begun = 0, made = 0, jobs_made = 0;
    std::vector<actor_table*> tables;  // of runtimes that have ended, for the next
  };
  // Never destroyed: a static of the program may have a handle.
  static registry& all() noexcept {
    static registry& only = *new registry;
    return only;
  }
  static actor_table& take_table() {
    const std::lock_guard lock(all().mutex);
    if (all().tables.empty()) return *new actor_table;
    actor_table* const table = all().tables.back();
    all().tables.pop_back();
    return *table;
  }
  static void give_back(actor_table& table) noexcept {
    table.when_known_ends = {};
    const std::lock_guard lock(all().mutex);
    try {
      all().tables.push_back(&table);
    } catch (...) {  // it stays as it is, for nobody
    }
  }
  void enter() {
    const std::lock_guard lock(all().mutex);
    for (std::uint32_t n = 0; n < most; ++n)
      if (all().cores[n].core.load(std::memory_order_relaxed) == nullptr) {
        number_ = n + most * ++all().made;
        all().cores[n].set(*this);
        if (n == all().begun) ++all().begun;
        return;
      }
    throw impossible_request("a runtime beside 256 others of this process; end one of them");
  }
  void leave() noexcept {
    const std::lock_guard lock(all().mutex);
    place_of(number_).clear();
  }
  static place& place_of(std::uint32_t number) noexcept {
    return (number & of_job) != 0 ? all().jobs[number % most_jobs] : all().cores[number % most];
  }

  [[nodiscard]] job_groups* groups_if_any() {
    const std::lock_guard lock(mutex_);
    return groups_.get();
  }

  std::mutex mutex_;
  store_options store_options_;
  const bool packs_;
  std::vector<int> gpus_;
  std::shared_ptr<object_store> store_;  // whose end is compiled where it is opened
  std::atomic<object_store*> ready_store_{nullptr};
  producers producers_;
  actor_table& actors_;
  bundle_table bundles_;
  class groups_used groups_used_;
  std::unique_ptr<job_groups> groups_;
  std::uint32_t number_ = 0;
  runtime& face_;
  int rank_ = 0;
  std::shared_ptr<job> job_;
  fetches_objects* fetcher_ = nullptr;
  pool_id home_ = no_pool;
  bool has_ended_ = false;  // guarded by the registry's mutex
  std::optional<thread_pool> pool_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
