// Monte Carlo pi: tasks by name, wherever there are processors; the same digits whatever their number.
#include <cadre/actor.hpp>
#include <cadre/core/random.hpp>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

std::int64_t hits(std::uint64_t seed, int part, std::int64_t darts) {
  cadre::random_stream random{seed, "pi", part};
  std::int64_t inside = 0;
  for (std::int64_t i = 0; i < darts; ++i) {
    const double x = random.uniform(), y = random.uniform();
    inside += x * x + y * y < 1 ? 1 : 0;
  }
  return inside;
}

int main(int argc, char** argv) {
  return cadre::run(argc, argv, [](cadre::runtime& rt) {
    constexpr int parts = 64;
    constexpr std::int64_t darts = 20'000;
    std::vector<cadre::future<std::int64_t>> all;
    for (int part = 0; part < parts; ++part)
      all.push_back(rt.submit<&hits>({.on = cadre::spread, .max_retries = 2}, 7u, part, darts));
    std::int64_t inside = 0;
    for (const std::int64_t n : cadre::get(all)) inside += n;
    std::printf("%.2f\n", 4.0 * static_cast<double>(inside) / (parts * darts));
  });
}
