#include "catch.hpp"

#include <cadre/core/random.hpp>
#include <cadre/data/csv.hpp>

#include <stdlib.h>  // mkdtemp

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace csv_test {

using cadre::data::csv_error;
using cadre::data::csv_options;
using cadre::data::csv_table;
using cadre::data::parse_csv_table;
using cadre::data::read_csv_table;
using strings = std::vector<std::string>;

struct scratch {
  std::filesystem::path path;
  scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "cadre-csv-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~scratch() { std::filesystem::remove_all(path); }
  std::string write(const std::string& name, std::string_view text) const {
    std::ofstream(path / name, std::ios::binary) << text;
    return path / name;
  }
};

}  // namespace csv_test

TEST_CASE("a CSV table is read by column, as numbers or as text", "[data]") {
  using namespace csv_test;
  const csv_table t = parse_csv_table("name,x,n\nann,1.5,-3\nbob,2e3, +4 \n");
  CHECK(t.rows() == 2);
  CHECK(t.columns() == 3);
  CHECK(t.names() == strings{"name", "x", "n"});
  CHECK(t.column<std::string>("name") == strings{"ann", "bob"});
  CHECK(t.column<double>("x") == std::vector<double>{1.5, 2000});
  CHECK(t.column<float>(1) == std::vector<float>{1.5f, 2000.f});
  CHECK(t.column<std::int64_t>("n") == std::vector<std::int64_t>{-3, 4});
  CHECK(t.column<std::int8_t>(2) == std::vector<std::int8_t>{-3, 4});
  CHECK(t.text(1, 0) == "bob");
  CHECK(t.matrix<float>({"n", "x"}) == std::vector<float>{-3, 1.5f, 4, 2000});
  CHECK(t.matrix<std::string>() == strings{"ann", "1.5", "-3", "bob", "2e3", " +4 "});
  CHECK(t.matrix<double>(std::vector<std::size_t>{1}) == t.column<double>(1));
}

TEST_CASE("a number is read to the nearest value of its type, however it is written", "[data]") {
  using namespace csv_test;
  const strings written = {"0",  "-0",  "007",   "9999999", "16777217", "0.1", "-1e-7", "1e22", "123456789.123456789",
                           "+5", "+.5", " 42\t", "inf",     "nan"};
  std::string text = "x\n";
  for (const std::string& w : written) text += w + "\n";
  const csv_table t = parse_csv_table(text);
  const std::vector<double> doubles = t.column<double>(0);
  const std::vector<float> floats = t.column<float>(0);
  for (std::size_t i = 0; i + 1 < written.size(); ++i) {
    CAPTURE(written[i]);
    CHECK(doubles[i] == std::strtod(written[i].c_str(), nullptr));
    CHECK(floats[i] == std::strtof(written[i].c_str(), nullptr));
    CHECK(std::signbit(doubles[i]) == (written[i][0] == '-'));
  }
  CHECK(std::isnan(doubles.back()));
  for (const char* wrong : {"x\n1 2\n", "x\n+-5\n", "x\n+\n", "x\n \n", "x\n1e999\n", "x\n0x10\n", "x\n1,\n"})
    CHECK_THROWS_AS(parse_csv_table(wrong).column<double>(0), csv_error);
}

TEST_CASE("quoted fields hold separators, line ends and quotes (RFC 4180)", "[data]") {
  using namespace csv_test;
  const csv_table t =
      parse_csv_table("a,\"b,c\"\r\n\"one, two\",\"say \"\"hi\"\"\"\r\n\"line 1\r\nline 2\",\"\"\"\"\r\n\"\",\"7\"");
  CHECK(t.names() == strings{"a", "b,c"});
  CHECK(t.column<std::string>(0) == strings{"one, two", "line 1\r\nline 2", ""});
  CHECK(t.column<std::string>(1) == strings{"say \"hi\"", "\"", "7"});
  CHECK(parse_csv_table("x\n\"7\"\n").column<int>(0) == std::vector<int>{7});
}

TEST_CASE("line ends, empty lines and a byte-order mark make no difference", "[data]") {
  using namespace csv_test;
  for (const char* text : {"a,b\n1,2\n3,4", "a,b\n1,2\n3,4\n", "a,b\r\n1,2\r\n3,4\r\n",
                           "\xEF\xBB\xBF\n\r\na,b\n\n1,2\r\n\r\n3,4\n\n\n", "a,b\n1,2\n3,4\r"}) {
    CAPTURE(text);
    const csv_table t = parse_csv_table(text);
    CHECK(t.names() == strings{"a", "b"});
    CHECK(t.matrix<int>() == std::vector<int>{1, 2, 3, 4});
  }
}

TEST_CASE("separator, quote, header and names can be chosen", "[data]") {
  using namespace csv_test;
  const csv_table t = parse_csv_table("1;'a;b'\n2;c", {.separator = ';', .header = false, .quote = '\''});
  CHECK(t.names() == strings{"c0", "c1"});
  CHECK(t.column<std::string>("c1") == strings{"a;b", "c"});
  CHECK(parse_csv_table("1\t5\" pipe\n", {.separator = '\t', .header = false, .quote = '\0'}).text(0, 1) == "5\" pipe");
  CHECK(parse_csv_table("1,2\n", {.header = false, .names = {"x", "y"}}).column<int>("y") == std::vector<int>{2});
  CHECK(parse_csv_table("a,b\n").rows() == 0);
  CHECK(parse_csv_table("a,b\n").column<double>("b").empty());
  CHECK(parse_csv_table("\n\n", {.header = false}).rows() == 0);
  CHECK(parse_csv_table(",\n", {.header = false}).matrix<std::string>() == strings{"", ""});
}

TEST_CASE("a missing value is NaN, or what is asked for in its place, or an error", "[data]") {
  using namespace csv_test;
  const csv_table t = parse_csv_table("a,b,c\n1,,NA\n,2,\"\"\n", {}, "f");
  CHECK(t.is_missing(0, 1));
  CHECK(t.is_missing(0, 2));
  CHECK(t.is_missing(1, 2));
  CHECK_FALSE(t.is_missing(0, 0));
  CHECK(std::isnan(t.column<float>("b")[0]));
  CHECK(t.column<float>("b", -1.f) == std::vector<float>{-1, 2});
  CHECK(t.column<int>("a", 9) == std::vector<int>{1, 9});
  CHECK(t.column<std::string>("c") == strings{"NA", ""});
  CHECK(t.column<std::string>("c", "none") == strings{"none", "none"});
  CHECK_THROWS_WITH(t.column<int>("a"),
                    "[cadre.data.725] f:3:1: a value of column 'a' is missing, and type int32 has none "
                    "for that: pass one to put in its place");
  const csv_table sentinel = parse_csv_table("a\n-999\n5\n", {.missing = {"-999"}});
  CHECK(std::isnan(sentinel.column<double>(0)[0]));
  CHECK(sentinel.column<int>(0, 0) == std::vector<int>{0, 5});
}

TEST_CASE("a CSV mistake names file, line, column and the offending text", "[data]") {
  using namespace csv_test;
  const csv_table t = parse_csv_table("a,b\n\"x\ny\",1\nz,2.5x\nw,300\n", {}, "f.csv");
  CHECK_THROWS_WITH(t.column<double>("b"), "[cadre.data.724] f.csv:4:3: not a value of type float64: '2.5x'");
  CHECK_THROWS_WITH(t.column<std::string>("q"), "[cadre.data.726] f.csv:1:1: no column 'q'; there are: 'a' 'b'");
  CHECK_THROWS_WITH(t.text(0, 2), "[cadre.data.726] f.csv:1:1: no column '2'; there are 2");
  CHECK_THROWS_WITH(parse_csv_table("a\n300\n", {}, "f").column<std::uint8_t>(0),
                    "[cadre.data.724] f:2:1: not a value of type uint8: '300'");
  CHECK_THROWS_WITH(parse_csv_table("a\n1.5\n", {}, "f").column<int>(0),
                    "[cadre.data.724] f:2:1: not a value of type int32: '1.5'");
  CHECK_THROWS_WITH(parse_csv_table("a,b\n1,2\n3,\"4\n5,6\n", {}, "f"),
                    "[cadre.data.721] f:3:3: this quoted field never ends: '\"4'");
  CHECK_THROWS_WITH(parse_csv_table("a,b\n1,x\"y\n", {}, "f"),
                    "[cadre.data.722] f:2:4: a quote must enclose a whole field and be doubled inside one: 'x\"y'");
  CHECK_THROWS_WITH(parse_csv_table("a,b\n\"1\"2,3\n", {}, "f"),
                    "[cadre.data.722] f:2:4: a quote must enclose a whole field and be doubled inside one: '\"1\"2,3'");
  CHECK_THROWS_WITH(parse_csv_table("a,b\n1,2\n3\n", {}, "f"),
                    "[cadre.data.723] f:3:1: expected 2 fields, found 1: '3'");
  CHECK_THROWS_WITH(parse_csv_table("a,b\r\n1,2,3\r\n", {}, "f"),
                    "[cadre.data.723] f:2:1: expected 2 fields, found 3: '1,2,3'");
  CHECK_THROWS_WITH(parse_csv_table("", {}, "f"), "[cadre.data.727] f:1:1: there is no header line");
  CHECK_THROWS_WITH(parse_csv_table("a,a\n", {}, "f"), "[cadre.data.727] f:1:1: two columns are named 'a'");
  CHECK_THROWS_WITH(parse_csv_table("a", {.separator = '"'}),
                    "[cadre.data.728] a CSV separator and quote must differ from each other and from line ends");
  try {
    (void)t.column<int>("b");
    FAIL("2.5x was taken for an integer");
  } catch (const csv_error& e) {
    CHECK(e.where().file == "f.csv");
    CHECK(e.where().line == 4);
    CHECK(e.where().column == 3);
  }
}

TEST_CASE("all CSV files that a pattern matches make one table, in the order of their names", "[data]") {
  using namespace csv_test;
  scratch dir;
  dir.write("part-2.csv", "a,b\n3,4");
  dir.write("part-1.csv", "a,b\r\n1,2\r\n");
  const std::string other = dir.write("other.csv", "a,c\n5,6\n");
  const std::string pattern = dir.path / "part-*.csv";
  CHECK(read_csv_table(pattern).matrix<int>() == std::vector<int>{1, 2, 3, 4});
  CHECK(read_csv_table(other).column<int>("c") == std::vector<int>{6});
  const std::string bad = dir.write("part-3.csv", "a,b\n5,6\n7,oops\n");
  CHECK_THROWS_WITH(read_csv_table(pattern).column<int>("b"),
                    "[cadre.data.724] " + bad + ":3:3: not a value of type int32: 'oops'");
  CHECK_THROWS_WITH(
      read_csv_table(dir.path / "*.csv"),
      "[cadre.data.727] " + dir.path.string() + "/part-1.csv:1:1: the header differs from that of " + other);
  CHECK_THROWS_WITH(read_csv_table(dir.path / "no*"), "[cadre.data.702] no file matches " + dir.path.string() + "/no*");
  CHECK_THROWS_WITH(read_csv_table(dir.path / "no"),
                    "[cadre.data.701] cannot read " + dir.path.string() + "/no: No such file or directory");
  dir.write("we[i]rd.csv", "a\n1\n");
  CHECK(read_csv_table(dir.path / "we[i]rd.csv").rows() == 1);
}

TEST_CASE("the 20,000 letters of opencv-doc are read", "[data]") {
  using namespace csv_test;
  const char* path = "/usr/share/doc/opencv-doc/examples/data/letter-recognition.data";
  if (!std::filesystem::exists(path)) {
    WARN("skipped: needs " << path << " (Debian package opencv-doc)");
    return;
  }
  const csv_table t = read_csv_table(path, {.header = false});
  CHECK(t.rows() == 20000);
  CHECK(t.columns() == 17);
  std::vector<std::size_t> features(16);
  for (std::size_t i = 0; i < 16; ++i) features[i] = i + 1;
  const std::vector<float> x = t.matrix<float>(features);
  CHECK(x.size() == 320000);
  bool in_range = true;
  for (float v : x) in_range &= v >= 0 && v <= 15;
  CHECK(in_range);
  CHECK(t.text(0, 0) == "T");
  const std::vector<std::string> letters = t.column<std::string>(0);
  CHECK(std::count(letters.begin(), letters.end(), "A") == 789);  // published with the data set
}

TEST_CASE("CSV text that was damaged anywhere is read whole or refused whole", "[data][fuzz]") {
  using namespace csv_test;
  const std::string good = "a,\"b,\"\"c\",d\r\n1,\"x\ny\",2.5\r\n\"\",NA,-7e3\n3,\"q\",4\r\n";
  const std::string alphabet = std::string(",\"\"\r\n\n1.e-NAx;\xEF\xBB\xBF", 16) + '\0';
  auto read_all = [](const std::string& text, char separator) {
    try {
      const csv_table t = parse_csv_table(text, {.separator = separator});
      std::size_t read = 0;
      for (std::size_t c = 0; c < t.columns(); ++c) {
        read += t.column<std::string>(c).size();
        try {
          (void)t.column<double>(c);
          (void)t.column<std::int32_t>(c, 0);
        } catch (const csv_error& e) {
          if (e.where().line == 0) FAIL("an error in a file without its line");
        }
      }
      if (read != t.rows() * t.columns()) FAIL("columns of different length");
      return true;
    } catch (const csv_error&) {
      return false;
    }
  };
  CHECK(read_all(good, ','));
  for (std::size_t length = 0; length < good.size(); ++length) (void)read_all(good.substr(0, length), ',');
  cadre::random_stream random{1, "csv fuzz"};
  int read = 0, refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = good;
    for (std::uint64_t n = 1 + random.below(4); n > 0; --n) {
      char& c = damaged[random.below(damaged.size())];
      c = random.below(2) == 0 ? static_cast<char>(c ^ (1 << random.below(8)))
                               : alphabet[random.below(alphabet.size())];
    }
    if (random.below(4) == 0) damaged.resize(random.below(damaged.size()));
    ++(read_all(damaged, random.below(8) == 0 ? ';' : ',') ? read : refused);
  }
  CHECK(read > 1000);
  CHECK(refused > 1000);
}
