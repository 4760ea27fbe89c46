#ifndef CADRE_TRAIN_DETAIL_BUCKET_HPP
#define CADRE_TRAIN_DETAIL_BUCKET_HPP

#include <cadre/core/data_type.hpp>
#include <cadre/train/parameters.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train::detail {

/// Gradients that are reduced together: parameters first .. last of one type, which become ready from last to first.
struct bucket {
  std::size_t first, last;
  data_type type;
  std::byte* in_place;  // where they lie side by side, with the gaps of alignment between them; null: they are staged
  std::size_t count;    // elements of the run or of the staging memory
};

/// Whether the gradient of `next` begins where that of `p`, padded to 64 bytes, ends.
inline bool adjacent(const parameter& p, const parameter& next) noexcept {
  return p.arena >= 0 && p.arena == next.arena && p.gradient + (p.bytes() + 63) / 64 * 64 == next.gradient;
}

/// Cuts the list into buckets from its end. A bucket ends when it would exceed its size, where the element type changes
/// and where gradients that lie side by side meet others.
inline std::vector<bucket> make_buckets(const parameters& list, std::uint64_t first_size, std::uint64_t size) {
  std::vector<bucket> buckets;
  for (std::size_t i = list.size(); i-- > 0;) {
    const parameter& p = list[i];
    const bool made = p.arena >= 0;
    if (!buckets.empty()) {
      bucket& b = buckets.back();
      const std::uint64_t limit = buckets.size() == 1 ? first_size : size;
      if (b.type == p.type && made == (b.in_place != nullptr) && (!made || adjacent(p, list[i + 1]))) {
        const std::size_t gained = made ? static_cast<std::size_t>(b.in_place - p.gradient) : p.bytes();
        if (b.count * size_of(b.type) + gained <= limit) {
          b.count += gained / size_of(b.type);
          b.first = i;
          if (made) b.in_place = p.gradient;
          continue;
        }
      }
    }
    buckets.push_back({i, i, p.type, made ? p.gradient : nullptr, p.count});
  }
  return buckets;
}

/// Calls f(piece of staging memory, array) for the arrays of a staged bucket, in the order of the list.
template <class F>
void each_staged(const bucket& b, const parameters& list, std::byte* staging, F&& f) {
  for (std::size_t i = b.first; i <= b.last; ++i) {
    f(staging, list[i]);
    staging += list[i].bytes();
  }
}

}  // namespace train::detail
CADRE_NAMESPACE_END

#endif
