#include "catch.hpp"

#include <cadre/archive.hpp>
#include <cadre/core/random.hpp>

#include <cereal/types/base_class.hpp>
#include <cereal/types/map.hpp>
#include <cereal/types/memory.hpp>
#include <cereal/types/polymorphic.hpp>
#include <cereal/types/tuple.hpp>
#include <cereal/types/unordered_map.hpp>

#include <array>
#include <complex>
#include <cstddef>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

namespace archive_test {

struct point {
  double x = 0;
  int y = 0;  // four bytes of padding follow
  friend bool operator==(const point&, const point&) = default;
};
enum class colour : std::uint8_t { red, green };

struct settings {
  std::string name;
  std::vector<point> points;
  std::map<std::string, std::vector<int>> table;
  std::optional<double> limit;
  std::vector<std::string> words;
  std::vector<bool> flags;
  colour tint = colour::red;
  template <class Archive>
  void serialize(Archive& ar) {
    ar(cereal::make_nvp("name", name), points, table, limit, words, flags, tint);
  }
  friend bool operator==(const settings&, const settings&) = default;
};

settings sample() {
  return {"lr",         {{1, 2}, {3, 4}}, {{"a", {1, 2, 3}}, {"b", {}}}, 0.5, {"x", "", "yy"}, {true, false, true},
          colour::green};
}

struct tracked {  // trivially copyable, and yet written by its own rule
  int value = 0;
  template <class Archive>
  void serialize(Archive& ar) {
    ++calls;
    ar(value);
  }
  static inline int calls = 0;
};

struct celsius {
  float degrees = 0;
};
template <class Archive>
float save_minimal(const Archive&, const celsius& c) {
  return c.degrees;
}
template <class Archive>
void load_minimal(const Archive&, celsius& c, const float& degrees) {
  c.degrees = degrees;
}

struct versioned {
  int a = 1, b = 2;
  template <class Archive>
  void serialize(Archive& ar, std::uint32_t version) {
    ar(a);
    if (version >= 2) ar(b);
  }
};

struct foreign {  // a type that cannot be changed
  std::unique_ptr<int> hidden = std::make_unique<int>(0);
};

struct shape {
  virtual ~shape() = default;
  int sides = 0;
  template <class Archive>
  void serialize(Archive& ar) {
    ar(sides);
  }
};
struct square : shape {
  float edge = 0;
  template <class Archive>
  void serialize(Archive& ar) {
    ar(cereal::base_class<shape>(this), edge);
  }
};
struct unregistered : shape {
  template <class Archive>
  void serialize(Archive& ar) {
    ar(cereal::base_class<shape>(this));
  }
};

struct stateless {
  stateless() {}
  template <class Archive>
  void serialize(Archive&) {}
};

template <class T>
T round_trip(const T& value) {
  return cadre::from_bytes<T>(cadre::to_bytes(value));
}

}  // namespace archive_test

template <>
struct cadre::portable<archive_test::foreign> {
  static void save(auto& archive, const archive_test::foreign& f) { archive(*f.hidden); }
  static void load(auto& archive, archive_test::foreign& f) { archive(*f.hidden); }
};

CEREAL_CLASS_VERSION(archive_test::versioned, 2)
CEREAL_REGISTER_TYPE(archive_test::square)
CEREAL_REGISTER_POLYMORPHIC_RELATION(archive_test::shape, archive_test::square)

namespace archive_test {

TEST_CASE("Values of every kind come back from their bytes") {
  CHECK(round_trip(sample()) == sample());
  CHECK(round_trip(42) == 42);
  CHECK(round_trip(true));
  CHECK(round_trip(colour::green) == colour::green);
  CHECK(round_trip(point{1.5, 7}) == point{1.5, 7});
  CHECK(round_trip(std::string(100'000, 'x')).size() == 100'000);
  CHECK(round_trip(std::vector<double>{1, 2, 3}) == std::vector<double>{1, 2, 3});
  CHECK(round_trip(std::vector<std::vector<float>>{{1}, {}, {2, 3}}) ==
        std::vector<std::vector<float>>{{1}, {}, {2, 3}});
  CHECK(round_trip(std::array<point, 2>{point{1, 2}, point{3, 4}})[1] == point{3, 4});
  CHECK(round_trip(std::complex<double>{1, 2}) == std::complex<double>{1, 2});
  CHECK(round_trip(std::pair<int, std::string>{1, "a"}).second == "a");
  CHECK(round_trip(std::tuple<int, bool, std::string>{1, true, "t"}) ==
        std::tuple<int, bool, std::string>{1, true, "t"});
  CHECK(std::get<std::string>(round_trip(std::variant<int, std::string>{"v"})) == "v");
  CHECK_FALSE(round_trip(std::optional<point>{}).has_value());
  CHECK(round_trip(std::unordered_map<int, std::string>{{1, "a"}}).at(1) == "a");
  CHECK(*round_trip(foreign{std::make_unique<int>(9)}).hidden == 9);
  CHECK(round_trip(celsius{21.5f}).degrees == 21.5f);
  CHECK(round_trip(versioned{5, 6}).b == 6);
  CHECK(round_trip(std::vector<stateless>(100)).size() == 100);
}

TEST_CASE("A type's own serialize takes precedence over a copy of its bytes") {
  tracked::calls = 0;
  CHECK(round_trip(tracked{3}).value == 3);
  CHECK(tracked::calls == 2);
}

TEST_CASE("Pointers keep their sharing and their dynamic type") {
  auto shared = std::make_shared<int>(5);
  auto [a, b] = round_trip(std::pair{shared, shared});
  CHECK(a == b);
  CHECK(*a == 5);
  auto s = std::make_shared<square>();
  s->sides = 4;
  s->edge = 2;
  const auto back = round_trip(std::shared_ptr<shape>(s));
  REQUIRE(dynamic_cast<square*>(back.get()) != nullptr);
  CHECK(back->sides == 4);
  CHECK(static_cast<square&>(*back).edge == 2);
  CHECK(*round_trip(std::make_unique<int>(3)) == 3);
}

TEST_CASE("Several values follow one another, and the archive knows where it stands") {
  const auto bytes = cadre::to_bytes(1, 2.0, std::string("x"));
  CHECK(bytes.size() == 4 + 8 + 8 + 1);
  cadre::input_archive in(bytes);
  int i = 0;
  double d = 0;
  std::string s;
  in(i);
  CHECK(in.offset() == 4);
  in& d;
  in >> s;
  CHECK((i == 1 && d == 2 && s == "x"));
  CHECK(in.left() == 0);
  CHECK_NOTHROW(in.expect_end());
}

TEST_CASE("Equal values have equal bytes, padding included") {
  alignas(point) std::byte a[sizeof(point)], b[sizeof(point)];
  std::memset(a, 0x11, sizeof a);
  std::memset(b, 0x22, sizeof b);
  const point& one = *new (a) point(point{1, 2});
  const point& other = *new (b) point(point{1, 2});
#if defined(__GNUC__) && !defined(__clang__)
  CHECK(cadre::to_bytes(one) == cadre::to_bytes(other));
  CHECK(cadre::to_bytes(std::vector<point>{one}) == cadre::to_bytes(std::vector<point>{other}));
#endif
  CHECK(round_trip(one) == round_trip(other));
}

TEST_CASE("Elements that are there already are read in place") {
  std::vector<std::vector<float>> values{std::vector<float>(4), std::vector<float>(4)};
  const auto bytes = cadre::to_bytes(values);
  const float* before = values[1].data();
  cadre::from_bytes(bytes, values);
  CHECK(values[1].data() == before);
  std::vector<std::string> longer{"a", "b", "c"};
  cadre::from_bytes(cadre::to_bytes(std::vector<std::string>{"z"}), longer);
  CHECK(longer == std::vector<std::string>{"z"});
}

TEST_CASE("A byte buffer keeps every byte in order, whatever the sizes") {
  cadre::random_stream random{1, "buffer"};
  cadre::byte_buffer buffer;
  std::vector<std::byte> expected;
  for (int i = 0; i < 500; ++i) {
    std::vector<std::byte> part(random.below(i % 50 == 0 ? 200'000 : 40));
    for (std::byte& b : part) b = static_cast<std::byte>(random());
    buffer.append(part.data(), part.size());
    expected.insert(expected.end(), part.begin(), part.end());
    REQUIRE(buffer.size() == expected.size());
  }
  CHECK(buffer.to_vector() == expected);
  cadre::byte_buffer moved = std::move(buffer);
  CHECK(moved.to_vector() == expected);
  CHECK(buffer.size() == 0);
  buffer.append("ab", 2);
  buffer = std::move(moved);
  CHECK(buffer.size() == expected.size());
  CHECK(cadre::byte_buffer{}.to_vector().empty());
  CHECK(cadre::byte_buffer{}.pieces().empty());
}

TEST_CASE("Data that end too early are an error that says where") {
  const auto bytes = cadre::to_bytes(std::string("hello"));
  std::string s;
  CHECK_THROWS_WITH(cadre::from_bytes(std::span(bytes).first(3), s),
                    "[cadre.archive.501] the data end too early: 8 bytes wanted at offset 0, 3 left; they were cut "
                    "off, or written as "
                    "another type");
  CHECK_THROWS_AS(cadre::from_bytes(std::span(bytes).first(10), s), cadre::archive_truncated);
  CHECK_THROWS_WITH(cadre::from_bytes<int>(bytes),
                    "[cadre.archive.504] 9 of 13 bytes are left after the value was read; it was written as another "
                    "type, or by another "
                    "version of its serialize function");
}

TEST_CASE("A size that cannot be true is an error before anything is allocated") {
  const auto bytes = cadre::to_bytes(std::uint64_t{1} << 61, 7);
  CHECK_THROWS_WITH(cadre::from_bytes<std::vector<double>>(bytes),
                    "[cadre.archive.502] a container of 2305843009213693952 elements with 4 bytes left at offset 0; "
                    "the data are damaged, "
                    "or were written as another type");
  CHECK_THROWS_AS(cadre::from_bytes<std::string>(bytes), cadre::archive_corrupt);
  CHECK_THROWS_AS(cadre::from_bytes<std::vector<std::string>>(bytes), cadre::archive_corrupt);
  CHECK_THROWS_AS(cadre::from_bytes<std::vector<bool>>(bytes), cadre::archive_corrupt);
  CHECK_THROWS_AS(cadre::from_bytes<std::vector<stateless>>(bytes), cadre::archive_corrupt);
  CHECK_THROWS_AS((cadre::from_bytes<std::unordered_map<int, int>>(bytes)), cadre::archive_corrupt);
  CHECK_THROWS_WITH(cadre::from_bytes<bool>(cadre::to_bytes(std::uint8_t{2})),
                    ContainsSubstring("a bool of value 2 at offset 0"));
}

TEST_CASE("The exceptions of cereal arrive as numbered errors") {
  CHECK_THROWS_AS(cadre::to_bytes(std::shared_ptr<shape>(std::make_shared<unregistered>())),
                  cadre::serialization_failed);
  CHECK_THROWS_WITH((cadre::from_bytes<std::variant<int, std::string>>(cadre::to_bytes(std::int32_t{9}, 0))),
                    ContainsSubstring("[cadre.archive.503] cereal: "));
}

struct everything {
  settings s = sample();
  std::variant<int, std::string> v = "text";
  std::vector<std::vector<std::string>> nested{{"a", "b"}, {}, {"c"}};
  std::unordered_map<int, std::string> u{{1, "one"}, {2, "two"}};
  std::shared_ptr<shape> p = std::make_shared<square>();
  std::unique_ptr<int> q = std::make_unique<int>(1);
  std::array<std::vector<point>, 2> a{std::vector<point>(3), std::vector<point>(1)};
  template <class Archive>
  void serialize(Archive& ar) {
    ar(s, v, nested, u, p, q, a);
  }
};

TEST_CASE("Damaged data are read to an error or to some value, never out of bounds") {
  const auto good = cadre::to_bytes(everything{});
  cadre::random_stream random{1, "fuzz"};
  int read = 0, refused = 0;
  const auto attempt = [&](std::span<const std::byte> bytes) {
    everything e;
    try {
      cadre::from_bytes(bytes, e);
      ++read;
    } catch (const cadre::error&) {
      ++refused;
    }
  };
  for (std::size_t cut = 0; cut < good.size(); ++cut) {
    const std::vector<std::byte> exact(good.begin(),
                                       good.begin() + static_cast<std::ptrdiff_t>(cut));  // so that ASan sees its end
    attempt(exact);
  }
  CHECK(refused == static_cast<int>(good.size()));
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::byte> bad(good);
    for (std::uint64_t n = 1 + random.below(4); n != 0; --n) {
      std::byte& hit = bad[random.below(bad.size())];
      hit = random.bernoulli(0.3) ? std::byte{0xFF} : hit ^ static_cast<std::byte>(1u << random.below(8));
    }
    if (random.bernoulli(0.2)) bad.resize(random.below(bad.size()));
    bad.shrink_to_fit();
    attempt(bad);
  }
  CHECK(read > 100);
  CHECK(refused > 1000);
}

TEST_CASE("A type's label is its name in source code, without versions of namespaces") {
  CHECK(cadre::type_label<int>::get() == "int");
  CHECK(cadre::type_label<cadre::byte_buffer>::get() == "cadre::byte_buffer");
  CHECK(cadre::type_label<settings>::get() == "archive_test::settings");
  CHECK_THAT(cadre::type_label<std::string>::get(), ContainsSubstring("std::basic_string<char"));
}

}  // namespace archive_test
