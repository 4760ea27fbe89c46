#ifndef CADRE_ASYNC_DETAIL_RESOURCE_LEDGER_HPP
#define CADRE_ASYNC_DETAIL_RESOURCE_LEDGER_HPP

#include <cadre/async/detail/task.hpp>
#include <cadre/async/error.hpp>
#include <cadre/async/resources.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
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
  task* who = nullptr;                         // null when the task has ended
  std::vector<std::int64_t> wants;             // by kind
  std::vector<std::int64_t> free;              // by kind: what children that borrow have left of it
  std::vector<std::shared_ptr<holding>> from;  // by kind: whose it is a part of, or null for the pool's
  std::vector<device> devices;                 // of kind gpu
  bool granted = false;
  bool lending = false;  // the task waits, so its children may use what it has
};

/// What a pool has and who holds it. A request is granted as a whole. It is served before later ones that want any of the
/// same kinds; those of other kinds pass it by. What a task holds its descendants may use while it waits: else a task that
/// waits for a child that wants the same would wait for ever. A share goes back when its task and all who borrow from it
/// have ended.
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

  /// Calls `start(task&)`, outside of the lock, for those that can begin now: this one, if it can. False if it has ended.
  template <class Start>
  bool enqueue(std::shared_ptr<holding> h, Start&& start) {
    {
      const std::lock_guard lock(mutex_);
      if (h->who == nullptr) return false;
      waiting_.push_back(std::move(h));
    }
    serve(start);
    return true;
  }
  /// The task has ended, whether it was granted anything or not. Calls `start` for those that can begin now. True if it
  /// was still waiting.
  template <class Start>
  bool leave(const std::shared_ptr<holding>& h, Start&& start) {
    bool waited = false;
    {
      const std::lock_guard lock(mutex_);
      waited = std::erase(waiting_, h) != 0;
      h->who = nullptr;
      h->lending = false;
      give_back_if_over(h);
    }
    serve(start);
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

 private:
  [[nodiscard]] std::string too_much(const Request& request) const {
    Request total;
    for (const kind& k : kinds_) total.set(k.name, k.units);
    return request.text() + "; this pool has " + total.text() +
           ". Ask for less, or declare more in the pool's .resources";
  }

  template <class Start>
  void serve(Start&& start) {
    std::vector<task*> ready;
    {
      const std::lock_guard lock(mutex_);
      for (kind& k : kinds_) k.reserved = false;
      for (std::size_t i = 0; i < waiting_.size();) {
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
        if (lender->lending && has_free(lender->free, lender->devices, k, h->wants[k]) &&
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
  std::mutex mutex_;
  std::vector<std::int64_t> free_;  // by kind
  std::vector<device> devices_;     // of kind gpu
  std::vector<std::shared_ptr<holding>> granted_;
  std::vector<std::shared_ptr<holding>> waiting_;  // in the order of their asking
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
