#ifndef CADRE_CORE_UNITS_HPP
#define CADRE_CORE_UNITS_HPP

#include <cadre/config/config.hpp>
#include <cadre/core/chrono.hpp>

#include <cstdint>

CADRE_NAMESPACE_BEGIN

/// `using namespace cadre::literals;` gives sizes in bytes (64_KiB, 25_MiB, 8_GiB) and the standard library's times
/// (200ms, 5s).
namespace literals {

using namespace std::chrono_literals;

constexpr std::uint64_t operator""_KiB(unsigned long long n) noexcept { return n << 10; }
constexpr std::uint64_t operator""_MiB(unsigned long long n) noexcept { return n << 20; }
constexpr std::uint64_t operator""_GiB(unsigned long long n) noexcept { return n << 30; }
constexpr std::uint64_t operator""_TiB(unsigned long long n) noexcept { return n << 40; }

}  // namespace literals

CADRE_NAMESPACE_END

#endif
