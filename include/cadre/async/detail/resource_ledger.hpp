#ifndef CADRE_ASYNC_DETAIL_RESOURCE_LEDGER_HPP
#define CADRE_ASYNC_DETAIL_RESOURCE_LEDGER_HPP

#include <cadre/async/detail/task.hpp>
#include <cadre/async/error.hpp>
#include <cadre/async/resources.hpp>
#include <cadre/core/function.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What one task asked for. Guarded by the mutex of the ledger, but `devices` does not change its ids once granted. A
/// template as the ledger is.
template <class Request>
struct holding {
  /// A device, or a part of one, and how much of that nobody has.
  struct device {
    int id;
    std::int64_t free;
  };
  task* who = nullptr;                         // null when the task has ended, and for one of take_all()
  std::vector<std::int64_t> wants;             // by kind
  std::vector<std::int64_t> free;              // by kind: what children that borrow have left of it
  std::vector<std::shared_ptr<holding>> from;  // by kind: whose it is a part of, or null for the pool's
  std::vector<device> devices;                 // of kind gpu
  bool granted = false;
  bool lending = false;              // the task waits, so its children may use what it has
  std::atomic<bool> refused{false};  // the ledger has been closed
};

/// What a pool has and who holds it. A request is granted as a whole. It is served before later ones that want any of the
/// same kinds; those of other kinds pass it by. What a task holds its descendants may use while it waits: else a task that
/// waits for a child that wants the same would wait for ever. A share goes back when its task and all who borrow from it
/// have ended.
///
/// A part of what a ledger has can be set aside as a ledger of its own, of which tasks take then: see take_all(), fill() and
/// close().
///
/// A template so that only those who submit with resources pay to compile it.
template <class Request = resource_set>
class resource_ledger {
  using holding = detail::holding<Request>;
  using device = typename holding::device;

 public:
  /// Of the pool, whose `resources()` are what there is. Throws impossible_request (209).
  template <class Pool>
  explicit resource_ledger(const Pool& pool) {
    const Request& total = pool.resources();
    for (const resource_set::entry& e : total.entries()) {
      if (e.name == "gpu") {
        if (e.units % resource_set::one != 0)
          throw impossible_request("a pool that has " + total.text() + "; give it a whole number of gpu");
        gpu_ = kinds_.size();
        for (int d = 0; d < e.units / resource_set::one; ++d) devices_.push_back({d, resource_set::one});
      }
      kinds_.push_back({e.name, e.units, false});
      free_.push_back(e.units);
    }
  }

  /// Of a part that others will have set aside: nothing is granted before fill(). `what`, for errors, has it and says what to do.
  struct part {
    const Request& resources;
    std::string what, remedy;
  };
  explicit resource_ledger(part p)
      : is_filled_(false), what_(std::move(p.what)), remedy_(std::move(p.remedy)), free_(p.resources.entries().size()) {
    for (const resource_set::entry& e : p.resources.entries()) {
      if (e.name == "gpu") gpu_ = kinds_.size();
      kinds_.push_back({e.name, e.units, false});
    }
  }

  /// Of a pool, before anybody asks: what this_task::gpus() calls the devices, of which there are as many.
  void number_devices(const std::vector<int>& numbers) {
    const std::lock_guard lock(mutex_);
    for (std::size_t d = 0; d < devices_.size(); ++d) devices_[d].id = numbers[d];
  }

  /// Throws impossible_request (209).
  [[nodiscard]] std::shared_ptr<holding> ask(const Request& request, task* who) const {
    auto h = std::make_shared<holding>();
    h->who = who;
    h->wants.assign(kinds_.size(), 0);
    h->from.resize(kinds_.size());
    for (const resource_set::entry& e : request.entries()) {
      if (e.units == 0) continue;
      std::size_t k = 0;
      while (k < kinds_.size() && kinds_[k].name != e.name) ++k;
      if (k == kinds_.size() || e.units > kinds_[k].units) throw impossible_request(too_much(request));
      if (k == gpu_ && e.units > resource_set::one && e.units % resource_set::one != 0)
        throw impossible_request(request.text() + "; ask for a part of one gpu, or for whole ones");
      h->wants[k] = e.units;
    }
    h->free = h->wants;
    return h;
  }

  /// Calls `start(task&)`, outside of the lock, for those that can begin now: this one, if it can, or if it is refused. False
  /// if it has ended.
  template <class Start>
  bool enqueue(std::shared_ptr<holding> h, Start&& start) {
    {
      std::unique_lock lock(mutex_);
      if (h->who == nullptr) return false;
      if (why_ != nullptr) {
        h->refused.store(true, std::memory_order_relaxed);
        task& refused = *h->who;
        refused.retain();
        lock.unlock();
        start(refused);
        refused.release();
        return true;
      }
      waiting_.push_back(std::move(h));
    }
    serve(start);
    return true;
  }
  /// The task has ended, whether it was granted anything or not. Calls `start` for those that can begin now. True if it
  /// was still waiting. `quietly`: who looks for more is not told.
  template <class Start>
  bool leave(const std::shared_ptr<holding>& h, Start&& start, bool quietly = false) {
    bool waited = false;
    move_only_function<void()> tell, over;
    {
      const std::lock_guard lock(mutex_);
      waited = std::erase(waiting_, h) != 0;
      h->who = nullptr;
      h->lending = false;
      give_back_if_over(h);
      if (!quietly) tell = std::exchange(when_more_, {});
      if (is_over()) over = std::exchange(when_over_, {});
    }
    serve(start);
    if (tell) tell();
    if (over) over();
    return waited;
  }
  /// The task begins, or ends, a wait.
  template <class Start>
  void lend(holding& h, bool on, Start&& start) {
    {
      const std::lock_guard lock(mutex_);
      h.lending = on && h.granted;
      if (!h.lending || waiting_.empty()) return;
    }
    serve(start);
  }

  // ---- Parts that are set aside

  /// Grants all of these, which are no tasks', or none. Those that wait are not passed by. They are given back by leave().
  [[nodiscard]] bool take_all(std::span<const std::shared_ptr<holding>> all) {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (grant(all[i])) continue;
      while (i-- != 0) give_back_if_over(all[i]);
      return false;
    }
    return true;
  }
  /// What nobody has, but for kinds that somebody waits for; and of each gpu. `when_more` is called once when that may have
  /// become more, by whoever gives back.
  [[nodiscard]] Request look(std::vector<std::int64_t>& gpus, move_only_function<void()> when_more) {
    const std::lock_guard lock(mutex_);
    when_more_ = std::move(when_more);
    Request there;
    for (std::size_t k = 0; k < kinds_.size(); ++k) there.set(kinds_[k].name, kinds_[k].reserved ? 0 : free_[k]);
    gpus.clear();
    for (const device& d : devices_) gpus.push_back(gpu_ < kinds_.size() && kinds_[gpu_].reserved ? 0 : d.free);
    return there;
  }
  /// Of a part: it is set aside, as `share`.
  template <class Start>
  void fill(const holding& share, Start&& start) {
    {
      const std::lock_guard lock(mutex_);
      for (std::size_t k = 0; k < kinds_.size(); ++k) free_[k] = kinds_[k].units;
      devices_ = share.devices;
      is_filled_ = true;
    }
    serve(start);
  }
  /// Nothing is granted any more: `end(task&)` is called for all that wait or hold something, of which those that have not
  /// begun fail with `why`. `over` is called when nobody holds anything, here or later.
  template <class End>
  void close(std::exception_ptr why, End&& end, move_only_function<void()> over = {}) {
    std::vector<task*> all;
    {
      const std::lock_guard lock(mutex_);
      if (why_ != nullptr) return;
      why_ = std::move(why);
      when_over_ = std::move(over);
      for (const auto* const list : {&waiting_, &granted_})
        for (const auto& h : *list) {
          h->refused.store(true, std::memory_order_relaxed);
          if (h->who == nullptr) continue;
          h->who->retain();
          all.push_back(h->who);
        }
      over = is_over() ? std::exchange(when_over_, {}) : move_only_function<void()>();
    }
    for (task* t : all) {
      end(*t);
      t->release();
    }
    if (over) over();
  }
  [[nodiscard]] std::exception_ptr why_closed() const {
    const std::lock_guard lock(mutex_);
    return why_;
  }
  /// Whether that much is free now.
  [[nodiscard]] bool has_now(const holding& h) {
    const std::lock_guard lock(mutex_);
    for (std::size_t k = 0; k < kinds_.size(); ++k)
      if (h.wants[k] != 0 && (kinds_[k].reserved || !has_free(free_, devices_, k, h.wants[k]))) return false;
    return true;
  }
  /// How many requests wait.
  [[nodiscard]] std::size_t waiting() const {
    const std::lock_guard lock(mutex_);
    return waiting_.size();
  }

 private:
  [[nodiscard]] bool is_over() const noexcept { return why_ != nullptr && granted_.empty(); }
  [[nodiscard]] std::string too_much(const Request& request) const {
    Request total;
    for (const kind& k : kinds_) total.set(k.name, k.units);
    return request.text() + "; " + what_ + " has " + total.text() + ". " + remedy_;
  }

  template <class Start>
  void serve(Start&& start) {
    std::vector<task*> ready;
    {
      const std::lock_guard lock(mutex_);
      for (kind& k : kinds_) k.reserved = false;
      for (std::size_t i = 0; is_filled_ && i < waiting_.size();) {
        const std::shared_ptr<holding> h = waiting_[i];
        if (grant(h)) {
          h->who->retain();
          ready.push_back(h->who);
          waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
          continue;
        }
        for (std::size_t k = 0; k < kinds_.size(); ++k) kinds_[k].reserved |= h->wants[k] != 0;
        ++i;
      }
    }
    for (task* t : ready) {
      start(*t);
      t->release();
    }
  }

  bool grant(const std::shared_ptr<holding>& h) {
    for (std::size_t k = 0; k < kinds_.size(); ++k) {
      h->from[k] = nullptr;
      if (h->wants[k] == 0) continue;
      for (const auto& lender : granted_)
        if (lender->lending && h->who != nullptr && has_free(lender->free, lender->devices, k, h->wants[k]) &&
            h->who->descends_from(*lender->who))
          h->from[k] = lender;
      if (h->from[k] == nullptr && (kinds_[k].reserved || !has_free(free_, devices_, k, h->wants[k]))) return false;
    }
    for (std::size_t k = 0; k < kinds_.size(); ++k) {
      if (h->wants[k] == 0) continue;
      holding* const lender = h->from[k].get();
      (lender != nullptr ? lender->free : free_)[k] -= h->wants[k];
      if (k == gpu_) take_devices(lender != nullptr ? lender->devices : devices_, h->wants[k], h->devices);
    }
    h->granted = true;
    granted_.push_back(h);
    return true;
  }

  [[nodiscard]] bool has_free(const std::vector<std::int64_t>& free, std::vector<device>& devices, std::size_t k,
                              std::int64_t wanted) const {
    return free[k] >= wanted && (k != gpu_ || !choose(devices, wanted).empty());
  }

  // Of those with room the fullest for a part, or as many empty ones as are wanted; none if there are too few.
  static std::vector<device*> choose(std::vector<device>& devices, std::int64_t wanted) {
    std::vector<device*> found;
    if (wanted < resource_set::one) {
      device* best = nullptr;
      for (device& d : devices)
        if (d.free >= wanted && (best == nullptr || d.free < best->free)) best = &d;
      if (best != nullptr) found.push_back(best);
    } else {
      const auto needed = static_cast<std::size_t>(wanted / resource_set::one);
      for (device& d : devices)
        if (d.free == resource_set::one && found.size() < needed) found.push_back(&d);
      if (found.size() < needed) found.clear();
    }
    return found;
  }
  static void take_devices(std::vector<device>& devices, std::int64_t wanted, std::vector<device>& out) {
    const std::int64_t of_each = (wanted < resource_set::one ? wanted : resource_set::one);
    for (device* d : choose(devices, wanted)) {
      d->free -= of_each;
      out.push_back({d->id, of_each});
    }
  }

  void give_back_if_over(const std::shared_ptr<holding>& h) {
    if (!h->granted || h->who != nullptr || h->free != h->wants) return;
    h->granted = false;
    std::erase(granted_, h);
    for (std::size_t k = 0; k < kinds_.size(); ++k) {
      if (h->wants[k] == 0) continue;
      holding* const lender = h->from[k].get();
      (lender != nullptr ? lender->free : free_)[k] += h->wants[k];
      if (k != gpu_) continue;
      for (const device& mine : h->devices)
        for (device& d : lender != nullptr ? lender->devices : devices_)
          if (d.id == mine.id) d.free += mine.free;
    }
    const std::vector<std::shared_ptr<holding>> lenders = std::move(h->from);
    for (const auto& lender : lenders)
      if (lender != nullptr) give_back_if_over(lender);
  }

  struct kind {
    std::string name;
    std::int64_t units;
    bool reserved;  // in serve(): an earlier request waits for it
  };
  std::vector<kind> kinds_;
  std::size_t gpu_ = static_cast<std::size_t>(-1);  // its kind
  mutable std::mutex mutex_;
  bool is_filled_ = true;
  const std::string what_ = "this pool", remedy_ = "Ask for less, or declare more in the pool's .resources";
  std::exception_ptr why_;  // it is closed
  move_only_function<void()> when_more_, when_over_;
  std::vector<std::int64_t> free_;  // by kind
  std::vector<device> devices_;     // of kind gpu
  std::vector<std::shared_ptr<holding>> granted_;
  std::vector<std::shared_ptr<holding>> waiting_;  // in the order of their asking
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
