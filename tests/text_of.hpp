#ifndef CADRE_TESTS_TEXT_OF_HPP
#define CADRE_TESTS_TEXT_OF_HPP

#include <string>

/// What an E that `f` throws says.
template <class E, class F>
std::string text_of(F f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "nothing was thrown";
}

#endif
