#ifndef CADRE_ACTOR_DETAIL_WAY_BACK_HPP
#define CADRE_ACTOR_DETAIL_WAY_BACK_HPP

#include <cadre/actor/detail/argument.hpp>
#include <cadre/actor/detail/block.hpp>
#include <cadre/actor/detail/job.hpp>
#include <cadre/async/future.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Reads all that a request has. Throws archive_error (501-504).
template <class... A>
void read_all(request& r, A&... all) {
  r.in(all...);
  r.in.expect_end();
}

/// The way back of a request, which is answered once: by with(), or as cancelled when this ends.
class way_back {
 public:
  /// `name`, of what was asked for, lives as long as the program.
  explicit way_back(const request& r, std::string_view name = {}) noexcept
      : job_(&r.at), from_(r.from), number_(r.number), name_(name) {}
  /// Of a letter, whose answer may wait for those of others.
  way_back(job& at, const letter& l) noexcept
      : job_(&at), from_(l.from), number_(l.number), name_(l.opened_by->called()), waits_(l.among != nullptr) {}
  way_back(way_back&& other) noexcept
      : job_(std::exchange(other.job_, nullptr)),
        from_(other.from_),
        number_(other.number_),
        name_(other.name_),
        waits_(other.waits_) {}
  way_back& operator=(way_back&&) = delete;
  ~way_back() {
    if (job_ != nullptr && number_ != 0)
      job_->fail(from_, number_, std::make_exception_ptr(task_cancelled("a call from another rank")));
  }

  template <class F>
  void with(F&& f) noexcept {
    job* const j = std::exchange(job_, nullptr);
    try {
      using value = std::invoke_result_t<F&>;
      if constexpr (std::is_void_v<value>) {
        f();
        j->answer(from_, number_, false, flat_nothing(), how());
      } else {
        answer(*j, f());
      }
    } catch (...) {
      job_ = j;
      fail(std::current_exception());
    }
  }
  void fail(const std::exception_ptr& why) noexcept {
    job* const j = std::exchange(job_, nullptr);
    if (j == nullptr) return;
    if (number_ != 0)
      j->fail(from_, number_, why);
    else
      j->tell_of(why, name_);
  }

 private:
  [[nodiscard]] how_to_answer how() const noexcept { return {.waits = waits_}; }
  template <class R>
  void answer(job& j, R&& value) {
    constexpr bool refs = !holds_no_refs<R>;
    if constexpr (flat<R>) {
      j.answer(from_, number_, false, flat_value<R>{value}, how());
    } else if (is_block(value)) {
      const auto kept = std::make_shared<const R>(std::move(value));
      j.answer(from_, number_, refs, [&](output_archive& out) { write_value(out, *kept); }, how(), {kept, {}});
    } else {
      j.answer(
          from_, number_, refs, [&](output_archive& out) { write_value(out, value); }, how());
    }
  }

  job* job_;
  int from_;
  std::uint64_t number_;
  std::string_view name_;
  bool waits_ = false;
};

/// Answers when a task is done; ends itself then.
template <class R>
class answer_when_done final : public continuation {
 public:
  /// `name`: see way_back.
  static void of(const request& r, future<R> f, std::string_view name = {}) {
    auto* const self = new answer_when_done(r, future_access::take(std::move(f)), name);
    r.at.served().add(r.from, r.number, *self->done_);
    if (!self->done_->add(*self)) fire(*self, wish::fire);
  }

 private:
  answer_when_done(const request& r, task_ref<state<R>> t, std::string_view name) noexcept
      : continuation(&fire), back_(r, name), done_(std::move(t)) {}
  static task* fire(continuation& c, wish w) noexcept {
    if (w == wish::name_owner) return nullptr;
    auto& self = static_cast<answer_when_done&>(c);
    self.back_.with([&]() -> R { return take_result(*self.done_); });
    delete &self;
    return nullptr;
  }

  way_back back_;
  task_ref<state<R>> done_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
