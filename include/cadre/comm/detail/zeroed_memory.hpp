#ifndef CADRE_COMM_DETAIL_ZEROED_MEMORY_HPP
#define CADRE_COMM_DETAIL_ZEROED_MEMORY_HPP

#include <cadre/os/mapping.hpp>

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// Zeroed memory of this process, aligned to 64 bytes; large blocks in huge pages where the system has them.
inline std::shared_ptr<std::byte> zeroed_memory(std::size_t bytes) {
  if (bytes >= mapping::huge_page) {
    const auto memory = std::make_shared<mapping>(mapping::anonymous(bytes));
    return {memory, memory->data()};
  }
  auto* const memory = static_cast<std::byte*>(::operator new(bytes, std::align_val_t{64}));
  std::memset(memory, 0, bytes);
  return {memory, [](std::byte* p) { ::operator delete(p, std::align_val_t{64}); }};
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif
