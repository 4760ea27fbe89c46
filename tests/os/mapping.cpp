#include "catch.hpp"

#include <cadre/os/mapping.hpp>

#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

TEST_CASE("two mappings of one memory file see each other's writes", "[os]") {
  for (const std::size_t bytes : {std::size_t{100}, std::size_t{4096}, std::size_t{5} << 20}) {
    const cadre::file_descriptor file = cadre::make_memory_file("cadre-test", bytes);
    cadre::mapping one = cadre::mapping::shared(file, bytes), two = cadre::mapping::shared(file, bytes);
    REQUIRE(one.size() == bytes);
    REQUIRE(one.data() != two.data());
    one.reserve(0, bytes);
    CHECK(two.data()[bytes - 1] == std::byte{0});
    one.data()[bytes - 1] = std::byte{7};
    CHECK(two.data()[bytes - 1] == std::byte{7});
  }
}

TEST_CASE("large mappings begin at a huge page", "[os]") {
  for (int i = 0; i < 4; ++i) {
    const auto memory = cadre::mapping::anonymous((std::size_t{2} << 20) + 4096 * static_cast<std::size_t>(i) + 1);
    CHECK(reinterpret_cast<std::uintptr_t>(memory.data()) % cadre::mapping::huge_page == 0);
    std::memset(memory.data(), 1, memory.size());
  }
}

TEST_CASE("a part in the middle of a mapping can be reserved", "[os]") {
  const std::size_t bytes = std::size_t{9} << 20;
  auto memory = cadre::mapping::anonymous(bytes);
  memory.reserve(5000, bytes - 10000);
  memory.reserve(0, 0);
  for (std::size_t i = 0; i < bytes; i += 4096) REQUIRE(memory.data()[i] == std::byte{0});
}

TEST_CASE("a mapping moves and unmaps once", "[os]") {
  auto one = cadre::mapping::anonymous(4096);
  std::byte* const data = one.data();
  cadre::mapping two = std::move(one);
  CHECK(two.data() == data);
  cadre::mapping three;
  three = std::move(two);
  CHECK(three.data() == data);
  CHECK(cadre::mapping{}.size() == 0);
}

TEST_CASE("memory that cannot be had is an error, not a signal", "[os]") {
  const auto text = [](auto&& call) {
    try {
      call();
    } catch (const cadre::mapping_error& error) {
      return std::string(error.what());
    }
    return std::string("nothing was thrown");
  };
  CHECK(text([] { (void)cadre::mapping::anonymous(0); }) == "[cadre.os.159] cannot map 0 bytes: Invalid argument");
  CHECK(text([] { (void)cadre::mapping::anonymous(std::numeric_limits<std::size_t>::max()); }) ==
        "[cadre.os.159] cannot map 18446744073709551615 bytes: Cannot allocate memory");
  const cadre::file_descriptor file = cadre::make_memory_file("cadre-test", 4096);
  // More is mapped than the file has: touching it would be a SIGBUS, reserving it says so.
  auto memory = cadre::mapping::shared(file, 16384);
  CHECK(text([&] { memory.reserve(8192, 4096); }).starts_with("[cadre.os.159] cannot reserve 4096 bytes of memory: "));
}
