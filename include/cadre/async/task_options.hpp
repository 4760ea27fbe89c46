#ifndef CADRE_ASYNC_TASK_OPTIONS_HPP
#define CADRE_ASYNC_TASK_OPTIONS_HPP

#include <cadre/config/config.hpp>

#include <source_location>
#include <string>

CADRE_NAMESPACE_BEGIN

/// How one task is to be run: `pool.submit({.name = "load"}, f)`.
struct task_options {
  /// Said where the task's error is reported.
  std::string name = {};
  /// Where it is submitted; says so by itself.
  std::source_location at = std::source_location::current();
};

CADRE_NAMESPACE_END

#endif
