#ifndef CADRE_ACTOR_DETAIL_ARRIVING_CALL_HPP
#define CADRE_ACTOR_DETAIL_ARRIVING_CALL_HPP

#include <cadre/actor/detail/message_parts.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/async/promise.hpp>
#include <cadre/async/shared_future.hpp>

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A settled bound_call that has come from another rank, the blocks of which are still on their way: it keeps its place among
/// others, and waits for them when it is called.
template <class Call>
class arriving_call {
 public:
  using result = typename Call::result;
  static constexpr bool gives_future = Call::gives_future;
  using given = typename Call::given;

  /// Throws archive_error (501-504).
  template <class Core>
  static arriving_call read(Core& core, input_archive& in, std::string_view name) {
    arriving_call a(std::make_shared<parts>(Call::read(core, in), name));
    auto* const message = dynamic_cast<incoming_parts*>(in.extension());
    if (message == nullptr || !message->has_blocks()) return a;
    promise<bool> there(core.pool());
    a.all_->there = there.get_future().share();
    message->receive(a.all_, [there = std::move(there)](bool all) mutable { there.set_value(all); });
    return a;
  }

  template <class... Front>
  given operator()(bool again, Front&&... front) {
    if (all_->there.valid() && !all_->there.get())
      throw worker_died(all_->name, "its caller has died while it sent the arguments");
    return all_->call(again, std::forward<Front>(front)...);
  }
  void pack(auto& r) { all_->call.pack(r); }
  void add_sources(std::vector<task_ref<task>>& to, bool here) const {
    if (all_->there.valid() && !all_->there.ready()) to.push_back(future_access::task_of(all_->there));
    all_->call.add_sources(to, here);
  }

 private:
  struct parts {
    parts(Call c, std::string_view n) : call(std::move(c)), name(n) {}
    Call call;
    std::string_view name;
    shared_future<bool> there;  // false: its caller has died
  };
  explicit arriving_call(std::shared_ptr<parts> all) noexcept : all_(std::move(all)) {}

  std::shared_ptr<parts> all_;  // the memory that is written to
};

/// A settled bound_call that has come from another rank. Throws archive_error (501-504).
template <class Call, class Core>
auto read_call(Core& core, input_archive& in, std::string_view name) {
  if constexpr (Call::may_have_blocks)
    return arriving_call<Call>::read(core, in, name);
  else
    return Call::read(core, in);
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
