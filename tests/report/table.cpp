#include "catch.hpp"

#include <cadre/report/table.hpp>

#include <limits>
#include <string>
#include <vector>

TEST_CASE("a table has a rule, numbers to the right and texts to the left") {
  const std::vector<cadre::record> rows{{{"trial", 7}, {"state", "finished"}, {"val_loss", 0.312499}, {"best", true}},
                                        {{"trial", 12}, {"state", "stopped"}, {"lr", 1.23456e-5}},
                                        {{"val_loss", std::numeric_limits<double>::quiet_NaN()}, {"lr", 0.1}}};
  CHECK(cadre::format_table(rows) ==
        "trial  state     val_loss  best         lr\n"
        "-----  --------  --------  ----  ---------\n"
        "    7  finished    0.3125  yes           -\n"
        "   12  stopped          -  -     1.235e-05\n"
        "    -  -              nan  -           0.1\n");
}

TEST_CASE("integer digits of a real are not rounded away") {
  const std::vector<cadre::record> rows{
      {{"x", 123456.7}}, {{"x", 10000.0}}, {{"x", 0.0}}, {{"x", -2.5}}, {{"x", 1e20}}};
  CHECK(cadre::format_table(rows, {.digits = 3}) ==
        "     x\n"
        "------\n"
        "123457\n"
        " 10000\n"
        "     0\n"
        "  -2.5\n"
        " 1e+20\n");
}

TEST_CASE("nothing makes an empty table") {
  CHECK(cadre::format_table({}).empty());
  CHECK(cadre::format_table(std::vector<cadre::record>(2)).empty());
}

TEST_CASE("a table that is too wide has texts shortened first and columns left out then") {
  const std::vector<cadre::record> rows{{{"error", "a long text\nwith a line feed"}, {"a", 1}, {"b", 2}}};
  CHECK(cadre::format_table(rows, {.max_width = 20}) ==
        "error           a  b\n"
        "--------------  -  -\n"
        "a long text...  1  2\n");
  CHECK(cadre::format_table(rows, {.max_width = 13}) ==
        "error     ...\n"
        "--------  ---\n"
        "a lon...\n");
  CHECK(cadre::format_table(rows, {.max_width = 0}) ==
        "error                         a  b\n"
        "----------------------------  -  -\n"
        "a long text with a line feed  1  2\n");
}

TEST_CASE("letters beyond ASCII take one column each and are not cut in two") {
  const std::vector<cadre::record> rows{
      {{"n", "\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc"}, {"x", 1}}};
  CHECK(cadre::format_table(rows, {.max_width = 11}) ==
        "n         x\n"
        "--------  -\n"
        "\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc...  1\n");
}
