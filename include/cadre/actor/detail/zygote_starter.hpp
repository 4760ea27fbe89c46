#ifndef CADRE_ACTOR_DETAIL_ZYGOTE_STARTER_HPP
#define CADRE_ACTOR_DETAIL_ZYGOTE_STARTER_HPP

#include <cadre/config/config.hpp>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Forks the zygote, if this process has one thread yet: see class zygote. Set before main() in programs that make a
/// process_pool somewhere, null in all others.
using zygote_start = void (*)();
inline constinit zygote_start zygote_starter = nullptr;

}  // namespace detail
CADRE_NAMESPACE_END

#endif
