#ifndef CADRE_ACTOR_DETAIL_RUNTIME_CORE_HPP
#define CADRE_ACTOR_DETAIL_RUNTIME_CORE_HPP

#include <cadre/actor/detail/actor_table.hpp>
#include <cadre/actor/detail/producers.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/async/thread_pool.hpp>
#include <cadre/store/object_store.hpp>

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN

class runtime;

namespace detail {

/// What a runtime is made of. Thread-safety: all functions, from any thread.
class runtime_core {
 public:
  /// Throws thread_error (151), impossible_request (209).
  explicit runtime_core(runtime_options options, runtime& face)
      : store_options_(std::move(options.store)), packs_(options.round_trip), number_(enter(*this)), face_(face) {
    try {
      pool_.emplace(thread_pool_options{.threads = options.threads,
                                        .on_unobserved_error = std::move(options.on_unobserved_error),
                                        .resources = std::move(options.resources),
                                        .report_waits_after = options.report_waits_after});
    } catch (...) {
      leave();
      throw;
    }
    scheduler_ = &scheduler_of(*pool_);
  }
  runtime_core(const runtime_core&) = delete;
  runtime_core& operator=(const runtime_core&) = delete;
  /// Runs what has been submitted, then ends the actors.
  ~runtime_core() {
    pool_.reset();
    leave();
    actors_.end_all("its runtime has ended");
  }

  [[nodiscard]] thread_pool& pool() noexcept { return *pool_; }
  [[nodiscard]] pool_id home() const noexcept { return scheduler_->id(); }
  [[nodiscard]] actor_table& actors() noexcept { return actors_; }
  [[nodiscard]] producers& results() noexcept { return producers_; }
  [[nodiscard]] runtime& face() noexcept { return face_; }
  /// Whether arguments and results are written and read back though they stay in this process.
  [[nodiscard]] bool packs() const noexcept { return packs_; }
  /// Throws store_unreachable (309), mapping_error (159), spill_folder_unusable (312).
  [[nodiscard]] object_store& store() {
    if (object_store* const there = ready_store_.load(std::memory_order_acquire)) [[likely]]
      return *there;
    const std::lock_guard lock(mutex_);
    if (!store_) store_.emplace(object_store::open(store_options_));
    ready_store_.store(&*store_, std::memory_order_release);
    return *store_;
  }
  /// Throws what the task threw that was to make it.
  template <class T>
  [[nodiscard]] view<T> get(const object_ref<T>& ref) {
    if (const auto producer = producers_.find(ref)) producer->get();
    return store().get(ref);
  }
  template <class T>
  [[nodiscard]] task_ref<task> producer_of(const object_ref<T>& ref) {
    const auto producer = producers_.find(ref);
    if (!producer) return {};
    task* const t = future_access::get(*producer);
    t->retain();
    return task_ref<task>(t);
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
  [[nodiscard]] static runtime_core* find(std::uint32_t number) noexcept {
    runtime_core* const c = all().cores[number % most].load(std::memory_order_acquire);
    return c != nullptr && c->number_ == number ? c : nullptr;
  }
  /// The one of that pool; null if there is none.
  [[nodiscard]] static runtime_core* of_pool(pool_id pool) noexcept {
    const std::lock_guard lock(all().mutex);
    for (std::uint32_t n = 0; n < all().begun; ++n)
      if (runtime_core* const c = all().cores[n].load(std::memory_order_relaxed);
          c != nullptr && c->scheduler_ != nullptr && c->home() == pool)
        return c;
    return nullptr;
  }

 private:
  static constexpr std::uint32_t most = 256;
  struct registry {
    std::mutex mutex;
    std::array<std::atomic<runtime_core*>, most> cores{};
    std::uint32_t begun = 0, made = 0;
  };
  // Never destroyed: a static of the program may have a handle.
  static registry& all() noexcept {
    static registry& only = *new registry;
    return only;
  }
  static std::uint32_t enter(runtime_core& core) {
    const std::lock_guard lock(all().mutex);
    for (std::uint32_t n = 0; n < most; ++n)
      if (all().cores[n].load(std::memory_order_relaxed) == nullptr) {
        all().cores[n].store(&core, std::memory_order_release);
        if (n == all().begun) ++all().begun;
        return n + most * ++all().made;
      }
    throw impossible_request("a runtime beside 256 others of this process; end one of them");
  }
  void leave() noexcept {
    const std::lock_guard lock(all().mutex);
    all().cores[number_ % most].store(nullptr, std::memory_order_release);
  }

  std::mutex mutex_;
  const store_options store_options_;
  const bool packs_;
  std::optional<object_store> store_;
  std::atomic<object_store*> ready_store_{nullptr};
  producers producers_;
  actor_table actors_;
  const std::uint32_t number_;
  runtime& face_;
  scheduler* scheduler_ = nullptr;
  std::optional<thread_pool> pool_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
