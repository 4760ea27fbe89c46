#ifndef CADRE_ACTOR_DETAIL_WORKER_PROCESS_HPP
#define CADRE_ACTOR_DETAIL_WORKER_PROCESS_HPP

#include <cadre/actor/detail/argument.hpp>
#include <cadre/actor/detail/error_codec.hpp>
#include <cadre/actor/detail/runtime_core.hpp>
#include <cadre/actor/detail/signature.hpp>
#include <cadre/actor/detail/stream_message.hpp>
#include <cadre/archive/byte_buffer.hpp>
#include <cadre/archive/input_archive.hpp>
#include <cadre/archive/output_archive.hpp>
#include <cadre/core/function.hpp>

#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

template <class T>
class actor;

namespace detail {

/// What a worker process can be asked for; there before main() if it is used anywhere. Workers are copies of the process
/// as it was when the zygote was forked, so the address is theirs too, unless it came later, with a library.
class worker_function {
 public:
  using action = void (*)(input_archive&, output_archive&);

  explicit worker_function(action a) noexcept : run_(a), number_(made().fetch_add(1) + 1) {}
  worker_function(const worker_function&) = delete;
  worker_function& operator=(const worker_function&) = delete;

  [[nodiscard]] action run() const noexcept { return run_; }
  [[nodiscard]] std::uint32_t number() const noexcept { return number_; }
  /// How many there are.
  static std::atomic<std::uint32_t>& made() noexcept {
    static constinit std::atomic<std::uint32_t> n{0};
    return n;
  }

 private:
  action run_;
  std::uint32_t number_;
};

template <class T>
inline constexpr bool is_actor = false;
template <class T>
inline constexpr bool is_actor<actor<T>> = true;
/// What only the process that made it can use.
template <class T>
inline constexpr bool is_of_this_process = is_object_ref<T> || is_actor<T> || is_future<T>;

template <auto F, class... A>
consteval void check_worker_call() {
  using known = signature_of<F>;
  static_assert(
      !known::takes_stop,
      "cadre: a function that runs in a worker process takes no std::stop_token, as nobody could use it: give "
      "the process_pool a .timeout");
  static_assert(
      (!is_of_this_process<std::decay_t<A>> && ...) && !is_of_this_process<typename known::result> &&
          !known::gives_future,
      "cadre: a worker process has no runtime: its function takes and gives values, not futures, object_refs or "
      "actors");
}

/// A call of F in a worker process, with what it takes and gives in archives.
template <auto F, class Parameters>
struct worker_call;
template <auto F, class... P>
struct worker_call<F, parameter_list<P...>> {
  using result = typename signature_of<F>::result;

  template <class... A>
  static auto written(A&&... arguments) {
    byte_buffer bytes;
    output_archive out(bytes);
    (argument<P, A>(std::forward<A>(arguments)).save(out), ...);
    return bytes;
  }
  static void run(input_archive& in, output_archive& out) {
    std::tuple<value_argument<P>...> all{value_argument<P>(from_archive{}, in)...};  // in braces: in this order
    in.expect_end();
    const auto call = [](value_argument<P>&... a) -> result {
      [[maybe_unused]] const int no_core = 0;
      return detail::invoke(F, a.give(no_core, false)...);
    };
    if constexpr (std::is_void_v<result>)
      std::apply(call, all);
    else
      out(std::apply(call, all));
  }
  static inline worker_function entry{&run};
};

/// From the pool to a worker, and back.
struct task_head {
  std::uint64_t number, bytes;
  worker_function::action run;
};
struct answer_head {
  std::uint64_t number, bytes, failed;
};

/// What a worker process does: the tasks that come, one by one, until there is nobody who could send one. Its memory is its
/// own: what a task damages is lost with it.
inline void work_for(int socket) {
  message_reader<task_head> task;
  message_writer<answer_head> answer;
  using state = message_reader<task_head>::state;
  while (task.read(socket, 0) == state::complete) {
    byte_buffer bytes;
    bool failed = false;
    try {
      input_archive in(task.body());
      output_archive out(bytes);
      task.head().run(in, out);
    } catch (...) {
      const sent_error e = send_error(std::current_exception(), "the worker process " + std::to_string(::getpid()) +
                                                                    " on host '" + runtime_core::host() + "'");
      failed = true;
      bytes = byte_buffer();
      output_archive out(bytes);
      out(e.type, e.text, e.where);
    }
    std::fflush(nullptr);  // what the task has printed is out when its result is there
    answer.begin({.number = task.head().number, .bytes = 0, .failed = failed}, bytes);
    if (answer.write(socket, 0) != 0) return;
    task.next();
  }
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
