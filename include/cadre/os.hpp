#ifndef CADRE_OS_HPP
#define CADRE_OS_HPP

/// What the operating system gives, behind typed errors.

#include <cadre/os/atomic_file.hpp>
#include <cadre/os/file_error.hpp>
#include <cadre/os/file_lock.hpp>
#include <cadre/os/futex.hpp>
#include <cadre/os/gpus.hpp>
#include <cadre/os/heap.hpp>
#include <cadre/os/mapping.hpp>
#include <cadre/os/memory_limit.hpp>
#include <cadre/os/processors.hpp>
#include <cadre/os/robust_mutex.hpp>
#include <cadre/os/thread.hpp>

#endif
