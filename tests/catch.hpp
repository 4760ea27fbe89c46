#ifndef CADRE_TESTS_CATCH_HPP
#define CADRE_TESTS_CATCH_HPP

// Catch2 2.13 (Debian 12) and 3 (newer machines) behind one name.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;
#else
#include <catch2/catch.hpp>
inline auto ContainsSubstring(const std::string& text) { return Catch::Matchers::Contains(text); }
#endif

#endif
