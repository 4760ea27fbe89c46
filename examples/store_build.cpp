// An object is built where it will lie, by several threads, and read by one who waits for it.
#include <cadre/store.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <span>
#include <thread>
#include <utility>
#include <vector>

int main() {
  using namespace cadre::literals;
  auto store = cadre::object_store::open({.capacity = 64_MiB});

  auto squares = store.create<std::int64_t>(1'000'000);
  const cadre::object_ref<std::vector<std::int64_t>> early = squares.ref();  // before there is anything to read

  std::int64_t sum = 0;
  std::thread reader([&] {
    const auto view = store.get(early, 10s);  // waits for seal()
    sum = std::accumulate(view->begin(), view->end(), std::int64_t{0});
  });

  const std::span<std::int64_t> all = squares.span();
  const auto fill = [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) all[i] = static_cast<std::int64_t>(i * i);
  };
  std::thread half([&] { fill(0, 500'000); });
  fill(500'000, 1'000'000);
  half.join();
  const auto ref = std::move(squares).seal();  // never changes from here on

  reader.join();
  std::printf("%lld\n", static_cast<long long>(sum));
  std::printf("%s\n", ref == early ? "the same object" : "another object");
}
