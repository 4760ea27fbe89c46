#ifndef CADRE_TESTS_ASYNC_COUNTED_NEW_HPP
#define CADRE_TESTS_ASYNC_COUNTED_NEW_HPP

#include <atomic>
#include <cstddef>

/// How often the program has called operator new, on any thread.
namespace counted_new {
extern std::atomic<std::size_t> calls;
}

#endif
