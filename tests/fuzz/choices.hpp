#ifndef CADRE_TESTS_FUZZ_CHOICES_HPP
#define CADRE_TESTS_FUZZ_CHOICES_HPP

#include <cstddef>
#include <cstdint>

/// What the input of a fuzz target decides; after its end all is 0.
class choices {
 public:
  choices(const std::uint8_t* data, std::size_t size) : next_(data), end_(data + size) {}
  [[nodiscard]] bool left() const { return next_ != end_; }
  std::uint8_t byte() { return left() ? *next_++ : std::uint8_t{0}; }
  std::size_t below(std::size_t n) {
    if (n < 2) return 0;
    std::size_t x = byte();
    if (n > 256) x = x << 8 | byte();
    return x % n;
  }
  bool yes() { return below(2) == 1; }
  /// Of up to eight bytes.
  std::uint64_t number() {
    std::uint64_t n = 0;
    for (std::size_t size = below(9); size != 0; --size) n = n << 8 | byte();
    return n;
  }

 private:
  const std::uint8_t *next_, *end_;
};

#endif
