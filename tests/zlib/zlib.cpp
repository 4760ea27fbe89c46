#include "catch.hpp"

#include <cadre/core/random.hpp>
#include <cadre/zlib.hpp>

#include <stdlib.h>  // mkdtemp

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace zlib_test {

using cadre::gunzip;
using cadre::gzip_error;
using bytes = std::vector<std::byte>;

bytes from(std::string_view text) {
  bytes b(text.size());
  std::transform(text.begin(), text.end(), b.begin(), [](char c) { return static_cast<std::byte>(c); });
  return b;
}

bytes gzip(const bytes& plain) {
  z_stream s{};
  REQUIRE(deflateInit2(&s, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  bytes packed(deflateBound(&s, plain.size()) + 64);
  s.next_in = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(plain.data()));
  s.avail_in = static_cast<uInt>(plain.size());
  s.next_out = reinterpret_cast<unsigned char*>(packed.data());
  s.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(deflate(&s, Z_FINISH) == Z_STREAM_END);
  packed.resize(s.total_out);
  deflateEnd(&s);
  return packed;
}

bytes operator+(bytes a, const bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// Text that shrinks to about a third.
bytes sample(std::size_t n) {
  cadre::random_stream random{1, "gzip sample"};
  bytes b(n);
  for (std::byte& v : b) v = static_cast<std::byte>('a' + random.below(6));
  return b;
}

struct scratch {
  std::filesystem::path path;
  scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "cadre-zlib-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~scratch() { std::filesystem::remove_all(path); }
  std::string write(const std::string& name, const bytes& content) const {
    std::ofstream(path / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(content.data()), std::streamsize(content.size()));
    return path / name;
  }
};

const bytes idx = {std::byte{0}, std::byte{0}, std::byte{8}, std::byte{1}, std::byte{0},
                   std::byte{0}, std::byte{0}, std::byte{2}, std::byte{5}, std::byte{6}};

}  // namespace zlib_test

TEST_CASE("what gzip packed is unpacked", "[zlib]") {
  using namespace zlib_test;
  for (std::size_t n : {0u, 1u, 1000u, 100000u, 3000000u}) {
    const bytes plain = sample(n);
    CHECK((gunzip(gzip(plain)) == plain));
  }
  const bytes zeros(5000000);  // 1,000 to 1: beyond any guess from the packed size
  CHECK((gunzip(gzip(zeros)) == zeros));
}

TEST_CASE("members one after the other make one result, and zeros after the last are padding", "[zlib]") {
  using namespace zlib_test;
  const bytes a = sample(70000), b = from("tail"), none;
  CHECK((gunzip(gzip(a) + gzip(b)) == a + b));
  CHECK((gunzip(gzip(b) + gzip(a)) == b + a));
  CHECK((gunzip(gzip(none) + gzip(b) + gzip(none)) == b));
  CHECK((gunzip(gzip(a) + bytes(512)) == a));
}

TEST_CASE("gzip data that cannot be trusted are refused", "[zlib]") {
  using namespace zlib_test;
  const bytes packed = gzip(sample(1000));
  const std::string size = std::to_string(packed.size());
  CHECK_THROWS_WITH(gunzip(from("plain text"), "f"), "[cadre.zlib.1402] f is not gzip: it must begin with 1f 8b 08");
  CHECK_THROWS_WITH(gunzip(from("p"), "f"), "[cadre.zlib.1402] f is not gzip: it must begin with 1f 8b 08");
  CHECK_THROWS_WITH(gunzip(bytes(packed.begin(), packed.end() - 9), "f"),
                    "[cadre.zlib.1403] f is truncated: the gzip data go on after its " +
                        std::to_string(packed.size() - 9) + " bytes");
  CHECK_THROWS_WITH(gunzip(packed + bytes(packed.begin(), packed.begin() + 2), "f"),
                    "[cadre.zlib.1403] f is truncated: the gzip data go on after its " +
                        std::to_string(packed.size() + 2) + " bytes");
  CHECK_THROWS_WITH(gunzip(bytes{}, "f"), "[cadre.zlib.1403] f is truncated: the gzip data go on after its 0 bytes");
  bytes wrong_checksum = packed, wrong_length = packed, wrong_code = packed;
  wrong_checksum[packed.size() - 8] ^= std::byte{1};
  wrong_length[packed.size() - 1] ^= std::byte{1};
  wrong_code[10] = std::byte{0xff};
  CHECK_THROWS_WITH(gunzip(wrong_checksum, "f"), ContainsSubstring("[cadre.zlib.1404] f is corrupt at byte ") &&
                                                     ContainsSubstring(": incorrect data check"));
  CHECK_THROWS_WITH(gunzip(wrong_length, "f"),
                    ContainsSubstring("[cadre.zlib.1404]") && ContainsSubstring("incorrect length check"));
  CHECK_THROWS_WITH(gunzip(wrong_code, "f"),
                    ContainsSubstring("[cadre.zlib.1404]") && ContainsSubstring("invalid block type"));
  CHECK_THROWS_WITH(gunzip(packed + from("junk"), "f"),
                    "[cadre.zlib.1404] f is corrupt at byte " + size + ": bytes after the end that are no gzip member");
}

TEST_CASE("no more is unpacked than allowed", "[zlib]") {
  using namespace zlib_test;
  const bytes plain = sample(1000);
  CHECK((gunzip(gzip(plain), "f", {.max_bytes = 1000}) == plain));
  CHECK_THROWS_WITH(gunzip(gzip(plain), "f", {.max_bytes = 999}),
                    "[cadre.zlib.1405] f unpacks to more than the 999 bytes allowed: raise gzip_options::max_bytes if "
                    "it is to be trusted");
  CHECK_THROWS_AS(gunzip(gzip(bytes(50000000)), "bomb", {.max_bytes = 1000}), gzip_error);
  CHECK((gunzip(gzip(bytes{}), "f", {.max_bytes = 0}).empty()));
  CHECK((gunzip(gzip(plain) + gzip(bytes{}), "f", {.max_bytes = 1000}) == plain));
}

TEST_CASE("gzip files are read, and errors name the path", "[zlib]") {
  using namespace zlib_test;
  scratch dir;
  const bytes plain = sample(5000);
  CHECK((cadre::read_gzip(dir.write("a.gz", gzip(plain))) == plain));
  const std::string text = dir.write("text", plain), missing = dir.path / "none.gz";
  CHECK_THROWS_WITH(cadre::read_gzip(text), "[cadre.zlib.1402] " + text + " is not gzip: it must begin with 1f 8b 08");
  CHECK_THROWS_WITH(cadre::read_gzip(missing),
                    "[cadre.zlib.1401] cannot read " + missing + ": No such file or directory");
}

TEST_CASE("an IDX file is read whether packed or not", "[zlib]") {
  using namespace zlib_test;
  scratch dir;
  for (const std::string& path : {dir.write("l.gz", gzip(idx)), dir.write("l", idx)}) {
    const cadre::data::idx_array a = cadre::data::read_idx_gz(path);
    CHECK(a.source() == path);
    CHECK(a.as<std::uint8_t>()[1] == 6);
  }
  const std::string wrong = dir.write("w.gz", gzip(from("not idx at all")));
  CHECK_THROWS_WITH(
      cadre::data::read_idx_gz(wrong),
      "[cadre.data.711] " + wrong + " is not IDX: it must begin with 00 00 <type> <dimensions>, found 6e 6f 74 20");
  CHECK_THROWS_WITH(cadre::data::read_idx(dir.path / "l.gz"),
                    ContainsSubstring("which is gzip: read it with read_idx_gz"));
}

TEST_CASE("Fashion-MNIST has 70,000 labelled images, each class equally often", "[zlib]") {
  using namespace zlib_test;
  const std::string dir = "/usr/share/datasets/fashion-mnist/";
  if (!std::filesystem::exists(dir)) {
    WARN("skipped: needs " << dir << " (Debian package dataset-fashion-mnist)");
    return;
  }
  for (const auto& [name, count] : {std::pair<std::string, std::size_t>{"train", 60000}, {"t10k", 10000}}) {
    const cadre::data::labelled set{cadre::data::read_idx_gz(dir + name + "-images-idx3-ubyte.gz"),
                                    cadre::data::read_idx_gz(dir + name + "-labels-idx1-ubyte.gz"), 10};
    CHECK(set.size() == count);
    CHECK(set.samples().row_size() == 784);
    CHECK(set.samples().as<std::uint8_t>().size() == count * 784);
    const auto shape = set.samples().shape();
    CHECK(std::vector<std::size_t>(shape.begin(), shape.end()) == std::vector<std::size_t>{count, 28, 28});
    std::array<std::size_t, 10> histogram{};
    for (std::uint8_t label : set.labels().as<std::uint8_t>()) ++histogram[label];
    CHECK(std::all_of(histogram.begin(), histogram.end(), [&](std::size_t n) { return n == count / 10; }));
  }
  CHECK_THROWS_WITH((cadre::data::labelled{cadre::data::read_idx_gz(dir + "train-images-idx3-ubyte.gz"),
                                           cadre::data::read_idx_gz(dir + "t10k-labels-idx1-ubyte.gz")}),
                    "[cadre.data.717] " + dir + "train-images-idx3-ubyte.gz has 60000 samples but " + dir +
                        "t10k-labels-idx1-ubyte.gz has 10000 labels");
}

TEST_CASE("gzip data that were damaged anywhere are unpacked whole or refused whole", "[zlib][fuzz]") {
  using namespace zlib_test;
  const bytes plain = sample(600), packed = gzip(plain);
  for (std::size_t length = 0; length < packed.size(); ++length)
    CHECK_THROWS_AS(gunzip(std::span(packed).first(length)), gzip_error);
  cadre::random_stream random{1, "gzip fuzz"};
  int refused = 0;
  for (int round = 0; round < 5000; ++round) {
    bytes damaged = packed;
    for (std::uint64_t n = 1 + random.below(3); n > 0; --n)
      damaged[random.below(damaged.size())] ^= static_cast<std::byte>(1u << random.below(8));
    try {
      if (gunzip(damaged, "f", {.max_bytes = 100000}) != plain) FAIL("damaged data were taken for good");
    } catch (const gzip_error&) {
      ++refused;
    }
  }
  CHECK(refused > 4000);  // the rest is damage in the header's time and system, which mean nothing
}
