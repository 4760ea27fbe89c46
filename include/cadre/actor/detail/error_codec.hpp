#ifndef CADRE_ACTOR_DETAIL_ERROR_CODEC_HPP
#define CADRE_ACTOR_DETAIL_ERROR_CODEC_HPP

#include <cadre/actor/error.hpp>
#include <cadre/async/error.hpp>
#include <cadre/core/error.hpp>
#include <cadre/store/error.hpp>

#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <typeinfo>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// An exception on its way to another rank.
struct sent_error {
  std::string type;  ///< as the compiler calls it
  std::string text;
  std::string where;  ///< the rank and host that it comes from, for types that are not known
};

inline sent_error send_error(const std::exception_ptr& error, std::string where) {
  try {
    std::rethrow_exception(error);
  } catch (const remote_error& e) {  // goes on as what it was
    return {std::string(e.type()), std::string(e.text()), std::string(e.where())};
  } catch (const std::exception& e) {
    return {typeid(e).name(), e.what(), std::move(where)};
  } catch (...) {
    return {"", "an error that is not a std::exception", std::move(where)};
  }
}

template <class... E>
std::exception_ptr received_as(const sent_error& e) {
  std::exception_ptr made;
  const auto one = [&]<class T>(const T*) {
    if (made || e.type != typeid(T).name()) return;
    if constexpr (std::derived_from<T, error>)
      made = std::make_exception_ptr(T(received_text{e.text}));
    else if constexpr (std::is_constructible_v<T, std::string>)
      made = std::make_exception_ptr(T(e.text));
    else
      made = std::make_exception_ptr(T());
  };
  (one(static_cast<const E*>(nullptr)), ...);
  return made;
}

/// With its type, if that is one of the standard library or one of cadre that travels; else a remote_error.
inline std::exception_ptr receive_error(const sent_error& e) {
  std::exception_ptr made =
      received_as<std::runtime_error, std::logic_error, std::invalid_argument, std::domain_error, std::length_error,
                  std::out_of_range, std::range_error, std::overflow_error, std::underflow_error, std::bad_alloc,
                  task_cancelled, deadline_passed, wait_cycle, impossible_request, bad_task_option, actor_died,
                  worker_died, no_actor, unsaved_state, no_such_actor, actor_name_taken, wrong_actor_type,
                  too_many_calls, empty_actor, no_runtime, placement_group_gone, empty_placement_group, object_gone,
                  store_full, owner_died, channel_closed>(e);
  return made ? made : std::make_exception_ptr(remote_error(e.type, e.text, e.where));
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
