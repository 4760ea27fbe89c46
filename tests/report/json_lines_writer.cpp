#include "catch.hpp"
#include "report/temporary_folder.hpp"

#include <cadre/report/json_lines_writer.hpp>

#include <cstdlib>
#include <limits>
#include <string>

using test_report::content;
using test_report::put;
using test_report::temporary_folder;

TEST_CASE("a record becomes one JSON object with every text escaped") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  CHECK(cadre::to_json({}) == "{}");
  CHECK(cadre::to_json({{"a", 1}, {"b", 0.1}, {"c", true}, {"d", false}, {"e", nan}, {"f", -inf}, {"g", 1e21}}) ==
        R"({"a":1,"b":0.1,"c":true,"d":false,"e":null,"f":null,"g":1e+21})");
  CHECK(cadre::to_json({{"q\"\\", std::string("a\n\r\t\x01\x1f\x7f\0z", 9)}}) ==
        R"({"q\"\\":"a\n\r\t\u0001\u001f\u007f\u0000z"})");
}

TEST_CASE("text that is not UTF-8 becomes valid JSON") {
  CHECK(cadre::to_json({{"a", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"}}) ==
        "{\"a\":\"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80\"}");
  const std::string bad = "\xef\xbf\xbd";
  CHECK(cadre::to_json({{"a", "\xff|\xc3|\xc0\x80|\xed\xa0\x80|\xf4\x90\x80\x80|\xe2\x82"}}) ==
        "{\"a\":\"" + bad + '|' + bad + '|' + bad + bad + '|' + bad + bad + bad + '|' + bad + bad + bad + bad + '|' +
            bad + bad + "\"}");
}

TEST_CASE("JSON lines are written one per row and appended to, a torn one dropped") {
  const temporary_folder folder;
  const std::string path = folder / "a.jsonl";
  cadre::json_lines_writer(path).write({{"a", 1}});
  put(path, content(path) + "{\"a\":\"\\\"");
  {
    cadre::json_lines_writer again(path, cadre::open_mode::append);
    again.write({{"b", "x\ny"}});
    CHECK(content(path) == "{\"a\":1}\n{\"b\":\"x\\ny\"}\n");  // there as soon as write returns
  }
  cadre::json_lines_writer fresh(path);
  CHECK(content(path).empty());
  CHECK_THROWS_WITH(cadre::json_lines_writer("/dev/full").write({{"a", 1}}),
                    ContainsSubstring("[cadre.os.156] cannot append a row to '/dev/full': No space left on device"));
}

TEST_CASE("Python reads back what was written") {
  if (std::system("python3 -c '' 2>/dev/null") != 0) {
    WARN("skipped: needs python3");
    return;
  }
  const temporary_folder folder;
  const std::string path = folder / "a.jsonl";
  cadre::json_lines_writer json(path);
  std::string every;
  for (int c = 0; c < 256; ++c) every += static_cast<char>(c);
  json.write({{"every byte", every}, {"min", std::numeric_limits<double>::denorm_min()}, {"third", 1.0 / 3.0}});
  json.write({{"big", std::numeric_limits<std::int64_t>::min()}});
  put(folder / "check.py",
      "import json, sys\n"
      "rows = [json.loads(l) for l in open(sys.argv[1], encoding='utf-8', newline='\\n')]\n"
      "assert len(rows) == 2 and rows[0]['every byte'][:128] == ''.join(map(chr, range(128)))\n"
      "assert rows[0]['third'] == 1/3 and rows[0]['min'] == 5e-324 and rows[1]['big'] == -2**63\n");
  CHECK(std::system(("python3 '" + (folder / "check.py") + "' '" + path + "'").c_str()) == 0);
}
