// Merge sort: invoke() calls both halves at once where a thread is free, and costs some nanoseconds where none is.
#include <cadre/async.hpp>
#include <cadre/async/invoke.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <span>
#include <vector>

void merge_sort(std::span<std::uint32_t> values) {
  if (values.size() <= 512) {
    std::sort(values.begin(), values.end());
    return;
  }
  const auto left = values.first(values.size() / 2);
  const auto right = values.last(values.size() - left.size());
  cadre::invoke([&] { merge_sort(left); }, [&] { merge_sort(right); });
  std::inplace_merge(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(left.size()), values.end());
}

int main() {
  cadre::thread_pool pool;
  std::vector<std::uint32_t> values(200'000);
  std::uint32_t x = 1;
  for (std::uint32_t& v : values) v = x = x * 1664525u + 1013904223u;
  pool.invoke([&] { merge_sort(values); });
  std::printf("%zu values, %s\n", values.size(),
              std::is_sorted(values.begin(), values.end()) ? "sorted" : "not sorted");
}
