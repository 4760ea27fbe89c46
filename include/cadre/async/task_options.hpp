#ifndef CADRE_ASYNC_TASK_OPTIONS_HPP
#define CADRE_ASYNC_TASK_OPTIONS_HPP

#include <cadre/config/config.hpp>

#include <string>

CADRE_NAMESPACE_BEGIN

/// How one task is to be run: `pool.submit({.name = "load"}, f)`.
struct task_options {
  /// Said where the task's error is reported.
  std::string name = {};
};

CADRE_NAMESPACE_END

#endif
