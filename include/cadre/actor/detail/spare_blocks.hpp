#ifndef CADRE_ACTOR_DETAIL_SPARE_BLOCKS_HPP
#define CADRE_ACTOR_DETAIL_SPARE_BLOCKS_HPP

#include <cadre/config/config.hpp>

#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Large values of a type that have been used, whose memory the next ones that come are to have: fresh pages take longer to
/// be had, and to be set to zero, than to be filled. Kept until the process ends. Thread-safety: all functions, from any
/// thread.
template <class T>
class spare_blocks {
 public:
  /// Bytes of each type, at most.
  static constexpr std::size_t most = std::size_t{64} << 20;

  /// The last that has `bytes` bytes of memory or more, not much more; or an empty value.
  static T take(std::size_t bytes) {
    shelf& s = the_shelf();
    const std::lock_guard lock(s.mutex);
    for (std::size_t i = s.all.size(); i-- > 0;) {
      if (s.all[i].bytes < bytes || s.all[i].bytes / 2 > bytes) continue;
      T found = std::move(s.all[i].value);
      s.bytes -= s.all[i].bytes;
      s.all.erase(s.all.begin() + static_cast<std::ptrdiff_t>(i));
      return found;
    }
    return T();
  }
  static void give(T&& value, std::size_t bytes) noexcept {
    shelf& s = the_shelf();
    const std::lock_guard lock(s.mutex);
    if (bytes > most - s.bytes) return;
    try {
      s.all.push_back({std::move(value), bytes});
      s.bytes += bytes;
    } catch (...) {  // then it ends
    }
  }

 private:
  struct spare {
    T value;
    std::size_t bytes;
  };
  struct shelf {
    std::mutex mutex;
    std::vector<spare> all;  // the last is the one whose memory is the nearest
    std::size_t bytes = 0;
  };
  static shelf& the_shelf() {
    static shelf& s = *new shelf;  // never destroyed: threads may be about to give something when the program ends
    return s;
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
