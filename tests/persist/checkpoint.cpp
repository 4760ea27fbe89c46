#include "catch.hpp"

#include <cadre/core/random.hpp>
#include <cadre/persist/checkpoint.hpp>

#include <cereal/types/map.hpp>

#include <atomic>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace checkpoint_test {

namespace fs = std::filesystem;

class folder {
 public:
  folder() {
    std::string name = (fs::temp_directory_path() / "cadre-checkpoint-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~folder() { fs::remove_all(path_); }
  std::string operator/(std::string_view name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

struct model {
  std::vector<float> weights;
  std::map<std::string, int> layers;
  template <class Archive>
  void serialize(Archive& ar) {
    ar(weights, layers);
  }
  friend bool operator==(const model&, const model&) = default;
};

struct longer_model {  // what model has become in a later version of the program
  std::vector<float> weights;
  std::map<std::string, int> layers;
  double momentum = 0;
  template <class Archive>
  void serialize(Archive& ar) {
    ar(weights, layers, momentum);
  }
};

struct stubborn {
  bool refuse = false;
  int state = 0;
  template <class Archive>
  void serialize(Archive& ar) {
    ar(state);
    if (refuse) throw std::logic_error("not now");
  }
};

}  // namespace checkpoint_test

template <>
struct cadre::type_label<checkpoint_test::longer_model> : cadre::type_label<checkpoint_test::model> {};

namespace checkpoint_test {

model sample() { return {{1, 2, 3}, {{"in", 784}, {"out", 10}}}; }

cadre::checkpoint_writer written() {
  cadre::checkpoint_writer w;
  w("epoch", 3)("model", sample());
  w.write("loss", 0.25);
  return w;
}

std::string text_of(std::span<const std::byte> bytes) {
  try {
    const auto c = cadre::checkpoint_reader::from_bytes({bytes.begin(), bytes.end()}, "'test'");
  } catch (const cadre::checkpoint_error& e) {
    return e.what();
  }
  return "read";
}

TEST_CASE("Values are read back from a file by name, in any order and any number of times") {
  folder dir;
  written().save(dir / "a.ckpt");
  const auto c = cadre::checkpoint_reader::open(dir / "a.ckpt");
  model m;
  int epoch = 0;
  c("model", m)("epoch", epoch);
  CHECK(m == sample());
  CHECK(epoch == 3);
  CHECK(c.get<double>("loss") == 0.25);
  CHECK(c.get<int>("epoch") == 3);
  CHECK(c.names() == std::vector<std::string>{"epoch", "model", "loss"});
  CHECK(c.contains("loss"));
  CHECK_FALSE(c.contains("los"));
  CHECK(c.type_of("model") == "checkpoint_test::model");
  CHECK(fs::file_size(dir / "a.ckpt") == c.bytes().size());
}

TEST_CASE("A checkpoint in memory has the bytes of the file, and equal values give equal bytes") {
  folder dir;
  const auto bytes = written().bytes();
  written().save(dir / "a.ckpt");
  CHECK(cadre::read_file(dir / "a.ckpt") == bytes);
  CHECK(cadre::checkpoint_reader::from_bytes(bytes).get<model>("model") == sample());
  CHECK(cadre::checkpoint_reader::from_bytes(cadre::checkpoint_writer{}.bytes()).names().empty());
}

TEST_CASE("A value may change after it was written, and a copy of a reader outlives the first") {
  cadre::checkpoint_writer w;
  int epoch = 1;
  w("epoch", epoch);
  epoch = 2;
  CHECK(w.size() == 1);
  cadre::checkpoint_reader copy = [&] { return cadre::checkpoint_reader::from_bytes(w.bytes()); }();
  CHECK(copy.get<int>("epoch") == 1);
}

TEST_CASE("Text is read back as a string, whether it was a literal, an array, a pointer or a view") {
  const char* pointer = "of the run";
  char buffer[8] = "mutable";
  char* into_buffer = buffer;
  const char no_end[3] = {'a', 'b', 'c'};
  cadre::checkpoint_writer w;
  w("literal", "text")("embedded", "a\0b")("pointer", pointer)("into buffer", into_buffer)("array", no_end);
  w.write("view", std::string_view("a part").substr(2)).write("empty", "")("string", std::string("whole"));
  w("buffer", buffer);
  CHECK_THROWS_AS(w("null", static_cast<const char*>(nullptr)), std::logic_error);
  const auto c = cadre::checkpoint_reader::from_bytes(w.bytes());
  CHECK(c.get<std::string>("literal") == "text");
  CHECK(c.get<std::string>("embedded") == std::string("a\0b", 3));
  CHECK(c.get<std::string>("pointer") == "of the run");
  CHECK(c.get<std::string>("into buffer") == "mutable");
  CHECK(c.get<std::string>("array") == "abc");
  CHECK(c.get<std::string>("view") == "part");
  CHECK(c.get<std::string>("empty").empty());
  CHECK(c.get<std::string>("string") == "whole");
  CHECK(c.type_of("literal") == c.type_of("string"));
  CHECK_FALSE(c.contains("null"));
  char again[8] = "";
  c("buffer", again);
  CHECK(std::string(again) == "mutable");
}

TEST_CASE("A name is written once") {
  auto w = written();
  CHECK_THROWS_WITH(w("epoch", 4),
                    "[cadre.persist.517] the checkpoint already has a value 'epoch'; names must be unique");
  CHECK(cadre::checkpoint_reader::from_bytes(w.bytes()).get<int>("epoch") == 3);
}

TEST_CASE("A value that fails to be written leaves the others as they were") {
  auto w = written();
  CHECK_THROWS_AS(w("bad", stubborn{true, 1}), std::logic_error);
  CHECK_FALSE(w.contains("bad"));
  CHECK(w.bytes() == written().bytes());
}

TEST_CASE("A reader is unchanged by a read that fails") {
  cadre::checkpoint_writer w;
  w("s", stubborn{false, 5});
  const auto c = cadre::checkpoint_reader::from_bytes(w.bytes());
  stubborn s{true, 0};
  CHECK_THROWS_AS(c("s", s), std::logic_error);
  s.refuse = false;
  c("s", s);
  CHECK(s.state == 5);
}

TEST_CASE("A missing name is an error that lists the names there are") {
  folder dir;
  written().save(dir / "a.ckpt");
  const auto c = cadre::checkpoint_reader::open(dir / "a.ckpt");
  CHECK_THROWS_WITH(c.get<int>("epok"), "[cadre.persist.511] checkpoint '" + (dir / "a.ckpt") +
                                            "' has no value 'epok'; there are: 'epoch' 'model' 'loss'");
  CHECK_THROWS_WITH(cadre::checkpoint_reader::from_bytes(cadre::checkpoint_writer{}.bytes()).get<int>("x"),
                    "[cadre.persist.511] checkpoint in memory has no value 'x'; there is none");
}

TEST_CASE("Reading a value as another type is an error that names both and the file") {
  folder dir;
  written().save(dir / "a.ckpt");
  const auto c = cadre::checkpoint_reader::open(dir / "a.ckpt");
  CHECK_THROWS_WITH(
      c.get<int>("loss"),
      "[cadre.persist.512] checkpoint '" + (dir / "a.ckpt") +
          "': value 'loss' was written as double and is read as int; read it as the type that was written");
  CHECK_THROWS_AS(c.get<long>("epoch"), cadre::checkpoint_type_mismatch);
}

TEST_CASE("A value whose serialize has changed is an error that names the value and the cause") {
  const auto c = cadre::checkpoint_reader::from_bytes(written().bytes());
  longer_model m;
  CHECK_THROWS_WITH(
      c("model", m),
      ContainsSubstring("[cadre.persist.518] checkpoint in memory: value 'model' of type checkpoint_test::model "
                        "cannot be read: [cadre.archive.501] the data end too early"));
  try {
    c("model", m);
  } catch (const cadre::checkpoint_value_unreadable& e) {
    CHECK_THROWS_AS(std::rethrow_if_nested(e), cadre::archive_truncated);
  }
}

TEST_CASE("A truncated checkpoint is an error at every length") {
  const auto bytes = written().bytes();
  CHECK(text_of(std::span(bytes).first(0)) ==
        "[cadre.persist.514] checkpoint 'test' is empty; it is damaged, use an older one");
  CHECK(text_of(std::span(bytes).first(20)) ==
        "[cadre.persist.514] checkpoint 'test' has 20 bytes, fewer than its header; it is damaged, use an older one");
  CHECK(text_of(std::span(bytes).first(100)) == "[cadre.persist.514] checkpoint 'test' has 100 of " +
                                                    std::to_string(bytes.size()) +
                                                    " bytes; it is damaged, use an older one");
  for (std::size_t n = 0; n < bytes.size(); ++n)
    REQUIRE_THAT(text_of(std::span(bytes).first(n)), ContainsSubstring("persist.514"));
}

TEST_CASE("Each single bit that is wrong in a checkpoint is noticed") {
  const auto good = written().bytes();
  for (std::size_t at = 0; at < good.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      auto bad = good;
      bad[at] ^= static_cast<std::byte>(1 << bit);
      REQUIRE(text_of(bad) != "read");
    }
  auto bad = good;
  bad.back() ^= std::byte{1};
  CHECK(text_of(bad) ==
        "[cadre.persist.515] checkpoint 'test': value 'loss' does not match its checksum; it is damaged, use an older "
        "one");
  bad = good;
  bad[60] ^= std::byte{1};
  CHECK(text_of(bad) ==
        "[cadre.persist.515] checkpoint 'test': the table of values does not match its checksum; it is damaged, use an "
        "older one");
  bad = good;
  bad[24] ^= std::byte{1};
  CHECK(
      text_of(bad) ==
      "[cadre.persist.515] checkpoint 'test': the header does not match its checksum; it is damaged, use an older one");
  bad = good;
  bad.push_back(std::byte{});
  CHECK(text_of(bad) == "[cadre.persist.515] checkpoint 'test' has 1 bytes too many; it is damaged, use an older one");
}

TEST_CASE("A checkpoint with right checksums and a false table is refused without reading out of bounds") {
  namespace format = cadre::detail::checkpoint_format;
  const auto good = written().bytes();
  cadre::random_stream random{1, "forge"};
  for (int i = 0; i < 5000; ++i) {
    auto bad = good;
    format::header header{};
    std::memcpy(&header, bad.data(), sizeof header);
    for (std::uint64_t n = 1 + random.below(3); n != 0; --n) {
      const std::size_t at = sizeof header + random.below(header.table_size);
      bad[at] = random.bernoulli(0.5) ? std::byte{0xFF} : static_cast<std::byte>(random());
    }
    if (random.bernoulli(0.2)) header.value_count = random.below(10);
    if (random.bernoulli(0.2)) header.table_size = random.below(bad.size() * 2);
    const auto there = std::min<std::size_t>(header.table_size, bad.size() - sizeof header);
    header.table_checksum = cadre::hash_bytes(std::span(bad).subspan(sizeof header, there));
    header.header_checksum = format::checksum_of(header);
    std::memcpy(bad.data(), &header, sizeof header);
    static_cast<void>(text_of(bad));  // any text will do; ASan watches
  }
}

TEST_CASE("A file of another kind and a file of a later version say what they are") {
  folder dir;
  const std::string text = "epoch,loss\n1,0.5\n";
  cadre::write_file_atomically(dir / "b.csv", std::as_bytes(std::span(text)));
  CHECK_THROWS_WITH(cadre::checkpoint_reader::open(dir / "b.csv"),
                    "[cadre.persist.513] checkpoint '" + (dir / "b.csv") +
                        "' is not a checkpoint of cadre: it begins with other bytes; check the path");
  auto later = written().bytes();
  later[8] = std::byte{9};
  CHECK(text_of(later) ==
        "[cadre.persist.516] checkpoint 'test' has format version 9, and this program knows versions up to 1; read it "
        "with the release of "
        "cadre that wrote it, or a later one");
  CHECK_THROWS_AS(cadre::checkpoint_reader::open(dir / "none"), cadre::file_not_found);
  CHECK_THROWS_AS(cadre::checkpoint_reader::open(dir / ""), cadre::file_error);
}

TEST_CASE("A checkpoint that cannot be saved leaves the older one") {
  folder dir;
  written().save(dir / "a.ckpt");
  CHECK_THROWS_AS(written().save(dir / "no/a.ckpt"), cadre::file_not_found);
  CHECK(cadre::checkpoint_reader::open(dir / "a.ckpt").get<int>("epoch") == 3);
}

TEST_CASE("Several threads read one checkpoint") {
  const auto c = cadre::checkpoint_reader::from_bytes(written().bytes());
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) right += c.get<model>("model") == sample();
    });
  for (std::thread& t : threads) t.join();
  CHECK(right == 400);
}

}  // namespace checkpoint_test
