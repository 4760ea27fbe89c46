#ifndef CADRE_ASYNC_DETAIL_UNOBSERVED_HPP
#define CADRE_ASYNC_DETAIL_UNOBSERVED_HPP

#include <cadre/core/function.hpp>
#include <cadre/observe/log.hpp>

#include <exception>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// What a pool's handler is given: the error of a task that nobody asked for its result. Valid during the call.
struct unobserved_error {
  std::exception_ptr error;
  std::string_view task;    ///< its name, or empty
  std::source_location at;  ///< where it was submitted
};

namespace detail {

using unobserved_handler = move_only_function<void(const unobserved_error&)>;

/// "'load' submitted at train.cpp:88"
[[gnu::cold]] inline std::string describe(std::string_view name, const std::source_location& at) {
  std::string text = "a task";
  if (!name.empty()) text.assign("'").append(name).append("'");
  if (at.line() != 0)
    text.append(" submitted at ").append(at.file_name()).append(":").append(std::to_string(at.line()));
  return text;
}

[[gnu::cold]] inline void log_unobserved(const unobserved_error& e) noexcept {
  log(log_level::error, "async", [&] {
    std::string text = "nobody observed the error of ";
    text += describe(e.task, e.at);
    try {
      std::rethrow_exception(e.error);
    } catch (const std::exception& x) {
      text.append(": ").append(x.what());
    } catch (...) {
      text += ": not a std::exception";
    }
    return text;
  });
}

/// To the handler, which may be null or empty, or to the log. Never throws: a handler that does is itself reported to the
/// log. What a posted task throws has no other way out, so without a handler it ends the program, as what leaves a thread
/// does.
[[gnu::cold]] inline void report_unobserved(const unobserved_error& e,
                                            const std::shared_ptr<unobserved_handler>& handler, bool posted) noexcept {
  if (handler && *handler) {
    try {
      (*handler)(e);
      return;
    } catch (...) {
      log_unobserved({std::current_exception(), "the handler of unobserved errors", {}});
      log_unobserved(e);
      return;
    }
  }
  log_unobserved(e);
  if (posted) std::rethrow_exception(e.error);  // out of a noexcept function: std::terminate, with the error current
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
