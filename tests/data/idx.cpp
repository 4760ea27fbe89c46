#include "catch.hpp"

#include <cadre/core/random.hpp>
#include <cadre/data/idx.hpp>

#include <stdlib.h>  // mkdtemp

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <vector>

namespace idx_test {

using cadre::data::idx_array;
using cadre::data::idx_error;
using cadre::data::labelled;
using cadre::data::parse_idx;
using bytes = std::vector<std::byte>;

bytes make(std::initializer_list<int> values) {
  bytes b;
  for (int v : values) b.push_back(static_cast<std::byte>(v));
  return b;
}

template <class T>
std::vector<T> values(const idx_array& array) {
  const auto span = array.as<T>();
  return {span.begin(), span.end()};
}

const bytes images = make({0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255});

struct scratch {
  std::filesystem::path path;
  scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "cadre-idx-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~scratch() { std::filesystem::remove_all(path); }
};

}  // namespace idx_test

TEST_CASE("an IDX array of bytes is read with its shape", "[data]") {
  using namespace idx_test;
  const idx_array a = parse_idx(images);
  CHECK(a.type() == cadre::data_type::uint8);
  CHECK(std::vector<std::size_t>(a.shape().begin(), a.shape().end()) == std::vector<std::size_t>{2, 1, 3});
  CHECK(a.rows() == 2);
  CHECK(a.row_size() == 3);
  CHECK(values<std::uint8_t>(a) == std::vector<std::uint8_t>{1, 2, 3, 4, 5, 255});
  const idx_array from_span = parse_idx(std::span<const std::byte>(images), "here");
  CHECK(from_span.source() == "here");
  CHECK(values<std::uint8_t>(from_span) == values<std::uint8_t>(a));
}

TEST_CASE("IDX elements of every type come in this machine's byte order", "[data]") {
  using namespace idx_test;
  CHECK(values<std::int8_t>(parse_idx(make({0, 0, 9, 1, 0, 0, 0, 2, 1, 0xff}))) == std::vector<std::int8_t>{1, -1});
  CHECK(values<std::int16_t>(parse_idx(make({0, 0, 0xb, 1, 0, 0, 0, 2, 1, 2, 0xff, 0xfe}))) ==
        std::vector<std::int16_t>{258, -2});
  CHECK(values<std::int32_t>(parse_idx(make({0, 0, 0xc, 1, 0, 0, 0, 1, 0x80, 0, 0, 1}))) ==
        std::vector<std::int32_t>{-2147483647});
  CHECK(values<float>(parse_idx(make({0, 0, 0xd, 1, 0, 0, 0, 1, 0x40, 0x49, 0x0f, 0xdb}))) ==
        std::vector<float>{3.14159274f});
  CHECK(values<double>(parse_idx(make({0, 0, 0xe, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0xbf, 0xe0, 0, 0, 0, 0, 0, 0}))) ==
        std::vector<double>{-0.5});
}

TEST_CASE("an IDX array may be empty", "[data]") {
  using namespace idx_test;
  const idx_array a = parse_idx(make({0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 5}));
  CHECK(a.rows() == 0);
  CHECK(a.row_size() == 5);
  CHECK(a.as<std::uint8_t>().empty());
  CHECK(parse_idx(make({0, 0, 8, 3, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255})).as<std::uint8_t>().empty());
}

TEST_CASE("bytes that are no IDX are refused, saying what was found", "[data]") {
  using namespace idx_test;
  const std::string magic = "[cadre.data.711] f is not IDX: it must begin with 00 00 <type> <dimensions>, found ";
  CHECK_THROWS_WITH(parse_idx(make({1, 0, 8, 1, 0, 0}), "f"), magic + "01 00 08 01");
  CHECK_THROWS_WITH(parse_idx(make({0x1f, 0x8b, 8, 0}), "f"),
                    magic + "1f 8b 08 00, which is gzip: read it with read_idx_gz of <cadre/zlib.hpp>");
  CHECK_THROWS_WITH(parse_idx(make({0, 0, 8, 0}), "f"), magic + "00 00 08 00");
  CHECK_THROWS_WITH(parse_idx(make({0, 0}), "f"), magic + "00 00");
  CHECK_THROWS_WITH(parse_idx(bytes{}, "f"), magic + "nothing");
  CHECK_THROWS_WITH(parse_idx(make({0, 0, 0xa, 1, 0, 0, 0, 0}), "f"),
                    "[cadre.data.712] f: unknown IDX element type 0a: expected 08, 09, 0b, 0c, 0d or 0e");
  CHECK_THROWS_WITH(parse_idx(make({0, 0, 8, 3, 0, 0, 0, 2, 0}), "f"),
                    "[cadre.data.713] f is truncated: expected 16 bytes, found 9");
  CHECK_THROWS_WITH(parse_idx(make({0, 0, 0xc, 1, 0, 0, 0, 2, 0}), "f"),
                    "[cadre.data.713] f is truncated: expected 16 bytes, found 9");
  CHECK_THROWS_WITH(parse_idx(make({0, 0, 8, 1, 0, 0, 0, 1, 0, 0}), "f"),
                    "[cadre.data.714] f has trailing bytes: expected 9 bytes, found 10");
  CHECK_THROWS_WITH(parse_idx(make({0, 0, 0xe, 2, 255, 255, 255, 255, 255, 255, 255, 255}), "f"),
                    "[cadre.data.715] f claims 4294967295 x 4294967295 elements, more than can be addressed");
  CHECK_THROWS_WITH(parse_idx(images, "f").as<float>(),
                    "[cadre.data.716] f was asked for elements of type float32 but holds uint8");
}

TEST_CASE("IDX files are read from disk, and errors name the path", "[data]") {
  using namespace idx_test;
  scratch dir;
  const std::string path = dir.path / "images";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(images.data()), std::streamsize(images.size()));
  CHECK(cadre::data::read_idx(path).rows() == 2);
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(images.data()), 20);
  CHECK_THROWS_WITH(cadre::data::read_idx(path),
                    "[cadre.data.713] " + path + " is truncated: expected 22 bytes, found 20");
  CHECK_THROWS_WITH(cadre::data::read_idx(path + "?"),
                    "[cadre.data.701] cannot read " + path + "?: No such file or directory");
  CHECK_THROWS_WITH(cadre::data::read_idx(dir.path),
                    "[cadre.data.701] cannot read " + dir.path.string() + ": Is a directory");
}

TEST_CASE("samples and labels that do not belong together are refused", "[data]") {
  using namespace idx_test;
  auto labels = [](std::initializer_list<int> l) {
    bytes b = make({0, 0, 8, 1, 0, 0, 0, static_cast<int>(l.size())});
    for (int v : l) b.push_back(static_cast<std::byte>(v));
    return parse_idx(b, "labels");
  };
  const labelled ok{parse_idx(images, "images"), labels({3, 9}), 10};
  CHECK(ok.size() == 2);
  CHECK(ok.samples().source() == "images");
  CHECK(ok.labels().as<std::uint8_t>()[1] == 9);
  CHECK_NOTHROW(labelled{parse_idx(images), labels({3, 255})});
  CHECK_THROWS_WITH((labelled{parse_idx(images, "images"), labels({1, 2, 3})}),
                    "[cadre.data.717] images has 2 samples but labels has 3 labels");
  CHECK_THROWS_WITH((labelled{parse_idx(images, "images"), labels({1, 10}), 10}),
                    "[cadre.data.718] labels holds no labels: label 10 of sample 1 is not one of 10 classes");
  CHECK_THROWS_WITH(
      (labelled{parse_idx(images, "images"), parse_idx(make({0, 0, 9, 1, 0, 0, 0, 2, 0, 255}), "labels"), 10}),
      "[cadre.data.718] labels holds no labels: label -1 of sample 1 is not one of 10 classes");
  CHECK_THROWS_WITH((labelled{parse_idx(images, "images"), parse_idx(images, "labels")}),
                    "[cadre.data.718] labels holds no labels: it has 3 dimensions");
  CHECK_THROWS_WITH(
      (labelled{parse_idx(images), parse_idx(make({0, 0, 0xd, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0}), "labels")}),
      "[cadre.data.718] labels holds no labels: its elements are of type float32");
}

TEST_CASE("an IDX array that was damaged anywhere is read whole or refused whole", "[data][fuzz]") {
  using namespace idx_test;
  cadre::random_stream random{1, "idx fuzz"};
  for (std::size_t length = 0; length < images.size(); ++length)
    CHECK_THROWS_AS(parse_idx(bytes(images.begin(), images.begin() + std::ptrdiff_t(length))), idx_error);
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    bytes damaged = images;
    for (std::uint64_t flips = 1 + random.below(3); flips > 0; --flips)
      damaged[random.below(damaged.size())] ^= static_cast<std::byte>(1u << random.below(8));
    try {
      const idx_array a = parse_idx(damaged);
      if (a.bytes().size() != a.rows() * a.row_size() * size_of(a.type())) FAIL("the shape disagrees with the bytes");
    } catch (const idx_error&) {
      ++refused;
    }
  }
  CHECK(refused > 5000);
}
