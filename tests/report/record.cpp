#include "catch.hpp"

#include <cadre/report/record.hpp>

#include <cstdint>
#include <limits>
#include <string>
#include <variant>

TEST_CASE("a record keeps names in the order in which they were first set, and the last value of each") {
  cadre::record r{{"trial", 3}, {"lr", 1e-3}, {"state", "running"}, {"ok", true}};
  r.set("state", std::string("finished")).set("epoch", 7u).set("lr", 0.5f);
  std::string names;
  for (const cadre::record::field& f : r) names += f.name + ' ';
  CHECK(names == "trial lr state ok epoch ");
  CHECK(std::get<std::int64_t>(r.at("trial")) == 3);
  CHECK(std::get<double>(r.at("lr")) == 0.5);
  CHECK(std::get<std::string>(r.at("state")) == "finished");
  CHECK(std::get<bool>(r.at("ok")));
  CHECK(std::get<std::int64_t>(r.at("epoch")) == 7);
  CHECK(r.size() == 5);
  CHECK(r.find("absent") == nullptr);
  CHECK(r.contains("lr"));
}

TEST_CASE("integers beyond 64 signed bits are kept digit by digit") {
  const cadre::record r{{"most", std::numeric_limits<std::int64_t>::max()},
                        {"seed", std::numeric_limits<std::uint64_t>::max()}};
  CHECK(std::get<std::int64_t>(r.at("most")) == std::numeric_limits<std::int64_t>::max());
  CHECK(std::get<std::string>(r.at("seed")) == "18446744073709551615");
}

TEST_CASE("a record is made of metrics and merged with them") {
  const cadre::metric_map metrics{{"val_loss", 0.25}, {"epoch", 7}};
  cadre::record r(metrics);
  CHECK(r == cadre::record{{"val_loss", 0.25}, {"epoch", 7.0}});
  cadre::record row{{"trial", 1}, {"epoch", 0}};
  row.merge(metrics).merge(cadre::record{{"state", "paused"}}).merge(row);
  CHECK(row == cadre::record{{"trial", 1}, {"epoch", 7.0}, {"val_loss", 0.25}, {"state", "paused"}});
}

TEST_CASE("a field that is not there is an error that names those that are") {
  const cadre::record r{{"a", 1}, {"b", 2}};
  CHECK_THROWS_WITH(r.at("c"), "[cadre.report.1001] no field 'c' in the record; there are: 'a' 'b'");
  CHECK_THROWS_WITH(cadre::record{}.at("c"), "[cadre.report.1001] no field 'c' in the record; there is none");
  CHECK_THROWS_AS(r.at("c"), cadre::no_such_field);
}

static_assert(cadre::record_cell<char[4]> && cadre::record_cell<long> && cadre::record_cell<cadre::record_value>);
static_assert(!cadre::record_cell<char> && !cadre::record_cell<void*>);
