#ifndef CADRE_TESTS_STORE_SAME_BYTES_HPP
#define CADRE_TESTS_STORE_SAME_BYTES_HPP

#include <cstddef>
#include <cstring>
#include <span>

/// What std::equal says, which calls two functions for each byte where nothing is optimised: of hundreds of megabytes, too many.
template <class A, class B>
bool same_bytes(const A& one, const B& other) {
  const auto a = std::as_bytes(std::span(one)), b = std::as_bytes(std::span(other));
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

#endif
