#ifndef CADRE_ACTOR_DETAIL_FETCH_HPP
#define CADRE_ACTOR_DETAIL_FETCH_HPP

#include <cadre/actor/detail/ask.hpp>
#include <cadre/actor/detail/serving_job.hpp>
#include <cadre/actor/detail/way_back.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/async/blocking.hpp>
#include <cadre/async/coroutine.hpp>
#include <cadre/async/promise.hpp>
#include <cadre/store/detail/held_object.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A rank of another node asks for bytes of an object: none to hear how many it has, when it is there.
struct object_request : own_request {
  static void serve(request& r) {
    std::uint64_t key = 0, offset = 0, bytes = 0;
    read_all(r, key, offset, bytes);
    job& j = r.at;
    j.core().pool().post([&j, key, offset, bytes, to = r.from, number = r.number] {
      try {
        const auto pinned = std::make_shared<pinned_object>(find(j.core(), key));
        const std::span<const std::byte> all = pinned->bytes();
        if (offset > all.size() || bytes > all.size() - offset)
          throw archive_corrupt(std::to_string(bytes) + " bytes from " + std::to_string(offset) + " of an object of " +
                                    std::to_string(all.size()),
                                0);
        enclosed with;
        if (bytes != 0) with = {pinned, all.subspan(offset, bytes)};
        j.answer(
            to, number, false, [&](output_archive& out) { out(std::uint64_t{all.size()}); }, {}, std::move(with));
      } catch (...) {
        j.fail(to, number, std::current_exception());
      }
    });
  }

 private:
  // When it is there. Throws what the task threw that was to make it.
  static pinned_object find(runtime_core& core, std::uint64_t key) {
    held_object it = far_entries(object_ref_access::core(core.store())).hold(key);
    if (!it) throw object_gone("an object was asked for by a rank of another node when it had gone");
    if (const auto maker = core.results().find(key)) maker->get();
    if (const auto comes = core.want(key)) comes->get();
    return blocking([&] { return pinned_object(std::move(it)); });
  }
};

/// Loans come back from a rank of another node.
struct return_request : own_request {
  static void serve(request& r) {
    std::uint64_t key = 0;
    std::uint32_t times = 0;
    read_all(r, key, times);
    way_back(r).with([&] { serving(r).far().take_back(r.from, key, times); });
  }
};

/// Another rank of this node waits for an object that this one is to bring.
struct want_request : own_request {
  static void serve(request& r) {
    std::uint64_t key = 0;
    read_all(r, key);
    way_back(r).with([&] { static_cast<void>(serving(r).want(key)); });
  }
};

/// A piece of an object that comes. Ends itself.
class piece_of_object final : public waits_for_answer {
 public:
  /// `keep` is let go when nothing writes to the memory any more.
  static future<void> ask(job& j, const far_objects::source& from, std::uint64_t offset, std::span<std::byte> memory,
                          std::shared_ptr<void> keep) {
    auto* const self = new piece_of_object(j, memory, std::move(keep));
    future<void> done = self->done_.get_future();
    j.ask_for<object_request>(*self, from.rank,
                              [&](output_archive& out) { out(from.key, offset, std::uint64_t{memory.size()}); });
    return done;
  }

  void arrive(input_archive&, incoming& message) noexcept override {
    const auto sizes = message.block_sizes();
    if (sizes.size() != 1 || sizes[0] != memory_.size())
      return fail(std::make_exception_ptr(archive_corrupt("a piece of an object that is of another size", 0)));
    message.receive_blocks({.into = {memory_}, .keep = std::move(keep_), .done = [this](bool all) {
                              if (!all) return lost("it died while it sent");
                              done_.set_value();
                              delete this;
                            }});
  }
  void fail(std::exception_ptr why) noexcept override {
    done_.set_error(std::move(why));
    delete this;
  }
  void lost(std::string_view how) noexcept override { fail(std::make_exception_ptr(worker_died(what(), how))); }
  [[nodiscard]] std::string_view what() const noexcept override { return "an object of another node"; }

 private:
  piece_of_object(job& j, std::span<std::byte> memory, std::shared_ptr<void> keep)
      : done_(j.core().pool()), memory_(memory), keep_(std::move(keep)) {}
  ~piece_of_object() = default;

  promise<void> done_;
  std::span<std::byte> memory_;
  std::shared_ptr<void> keep_;
};

/// The writer's part of an entry: ends what was not sealed.
class unsealed_object {
 public:
  unsealed_object(store_core& core, std::uint32_t i) noexcept : core_(core), index_(i) {}
  unsealed_object(const unsealed_object&) = delete;
  unsealed_object& operator=(const unsealed_object&) = delete;
  ~unsealed_object() {
    if (!sealed_) core_.abort(index_);
  }
  /// Throws object_gone (301) if it was erased meanwhile.
  void seal() {
    core_.seal(index_);
    sealed_ = true;
    core_.drop_ref(index_);
  }

 private:
  store_core& core_;
  std::uint32_t index_;
  bool sealed_ = false;
};

/// How many bytes an object has, when it is there.
inline future<std::uint64_t> ask_for_size(job& j, const far_objects::source& from) {
  return ask<object_request, std::uint64_t>(
      j, from.rank, {}, false, "an object of another node", false, {},
      [&](output_archive& out) { out(from.key, std::uint64_t{0}, std::uint64_t{0}); });
}

struct fetch_end {
  serving_job& j;
  std::uint64_t key;
  ~fetch_end() { j.far().end_fetch(key); }
};

/// Brings the bytes of an object, which this process alone does. Pieces are asked for before others have come, and are
/// received where they are to lie. `Job` is class serving_job: g++ at -O0 emits every coroutine that is instantiated, and this one
/// only where a job may begin.
template <class Job>
future<void> fetch_object(thread_pool&, Job& j, std::uint64_t key, far_objects::sources all) {
  constexpr std::uint64_t piece = std::uint64_t{4} << 20;
  constexpr std::size_t window = 4;
  store_core& core = object_ref_access::core(j.core().store());
  const std::uint32_t i = far_entries::index(key);
  const auto entry = std::make_shared<unsealed_object>(core, i);
  const fetch_end at_end{j, key};
  far_objects::source from = all.origin;
  try {
    std::optional<std::uint64_t> known;
    try {
      known = co_await ask_for_size(j, from);
    } catch (const object_gone&) {
      if (all.lender == from) throw;
    }
    if (!known) {
      from = all.lender;
      known = co_await ask_for_size(j, from);
    }
    const std::uint64_t bytes = *known;
    std::byte* const memory = blocking([&] { return core.attach(i, bytes); });
    std::deque<future<void>> open;
    for (std::uint64_t asked = 0; asked < bytes || !open.empty();) {
      if (asked < bytes && open.size() < window) {
        const std::span<std::byte> next(memory + asked, static_cast<std::size_t>(std::min(piece, bytes - asked)));
        open.push_back(piece_of_object::ask(j, from, asked, next, entry));
        asked += next.size();
      } else {
        co_await std::move(open.front());
        open.pop_front();
      }
    }
    entry->seal();
    j.core().results().finish(key);
  } catch (const worker_died& e) {
    throw owner_died(j.rank_of(from.rank), e.what());
  }
}

/// fetch_object<serving_job>, where a job may begin: see own_requests.hpp.
using object_fetcher = future<void>(thread_pool&, serving_job&, std::uint64_t, far_objects::sources);
inline constinit object_fetcher* job_fetcher = nullptr;

inline std::optional<shared_future<void>> serving_job::begin_fetch(std::uint64_t key) {
  if (const auto from = far_.begin_fetch(key)) {
    shared_future<void> comes = job_fetcher(core_.pool(), *this, key, *from).share();
    core_.results().add(key, comes);
    return comes;
  }
  if (auto comes = core_.results().find(key)) return comes;  // somebody has just begun
  store_core& store = object_ref_access::core(core_.store());
  if (const auto who = far_entries(store).rank_of_writer(key); who && is_alive(*who)) {
    try {
      ask<want_request>(*who, {}, false, [&](output_archive& out) { out(key); });
      way_->flush();
    } catch (const error&) {  // it has died just now, which whoever waits for the object hears from the store
    }
  }
  return std::nullopt;
}

inline void serving_job::end_loan(int lender, std::uint64_t key, std::uint32_t times) noexcept {
  try {
    if (is_alive(lender)) ask<return_request>(lender, {}, false, [&](output_archive& out) { out(key, times); });
  } catch (const std::exception&) {  // it has died: nothing is lent by it any more
  }
}

inline void serving_job::lose_objects_of(int rank, std::string_view how) noexcept {
  try {
    for (const std::uint64_t key : far_.lose(rank)) {
      promise<void> never(core_.pool());
      core_.results().add(key, never.get_future().share());
      never.set_error(owner_died(rank_of(rank), how));
      object_ref_access::core(core_.store()).abort(far_entries::index(key));
    }
  } catch (const std::exception& e) {
    log(log_level::error, "actor", [&] { return std::string("objects of a lost rank are not ended: ") + e.what(); });
  }
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
