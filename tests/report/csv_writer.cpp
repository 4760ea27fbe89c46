#include "catch.hpp"
#include "report/comma_locale.hpp"
#include "report/temporary_folder.hpp"

#include <cadre/observe/log.hpp>
#include <cadre/report/csv_writer.hpp>

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

using test_report::content;
using test_report::put;
using test_report::temporary_folder;

TEST_CASE("a CSV file has a header, shortest numbers, and cells quoted where they must be") {
  const temporary_folder folder;
  const std::string path = folder / "a.csv";
  cadre::csv_writer csv(path);
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  csv.write({{"id", 1}, {"a,b", 0.1}, {"text", "say \"hi\""}, {"ok", true}, {"x", nan}});
  csv.write({{"x", -nan}, {"id", -9223372036854775807 - 1}, {"text", "two\nlines"}, {"ok", false}});
  csv.write({{"text", ""}, {"x", inf}});
  csv.write({{"x", -inf}, {"text", "plain text"}, {"a,b", 1e300}});
  csv.write({});
  CHECK(content(path) ==
        "id,\"a,b\",text,ok,x\n"
        "1,0.1,\"say \"\"hi\"\"\",true,nan\n"
        "-9223372036854775808,,\"two\nlines\",false,nan\n"
        ",,\"\",,inf\n"
        ",1e+300,plain text,,-inf\n"
        ",,,,\n");
  CHECK(csv.columns() == std::vector<std::string>{"id", "a,b", "text", "ok", "x"});
}

TEST_CASE("the locale of the host does not change a CSV file") {
  const test_report::comma_locale german;
  if (!german) {
    WARN("skipped: needs a locale with a comma (Debian: locales)");
    return;
  }
  const temporary_folder folder;
  cadre::csv_writer csv(folder / "a.csv");
  csv.write({{"x", 1234.5}});
  CHECK(content(folder / "a.csv") == "x\n1234.5\n");
}

TEST_CASE("columns given at construction are written at once, and an absent sole cell still makes a row") {
  const temporary_folder folder;
  cadre::csv_writer csv(folder / "a.csv", {.columns = {"x"}});
  CHECK(content(folder / "a.csv") == "x\n");
  csv.write({});
  csv.write({{"x", ""}});
  CHECK(content(folder / "a.csv") == "x\n\"\"\n\"\"\n");
}

TEST_CASE("a field without a column is an error and the file stays as it was") {
  const temporary_folder folder;
  const std::string path = folder / "a.csv";
  cadre::csv_writer csv(path);
  csv.write({{"a", 1}, {"b", 2}});
  CHECK_THROWS_WITH(csv.write({{"a", 1}, {"c", 2}}),
                    "[cadre.report.1002] '" + path +
                        "' has no column 'c'; its columns are 'a', 'b', fixed by its first row or when it was opened");
  csv.write({{"b", 3}});
  CHECK(content(path) == "a,b\n1,2\n,3\n");
}

TEST_CASE("appending goes on with the columns of the file") {
  const temporary_folder folder;
  const std::string path = folder / "a.csv";
  cadre::csv_writer(path).write({{"a \"x\", y", 1}, {"b", 2}});
  cadre::csv_writer again(path, {.mode = cadre::open_mode::append});
  CHECK(again.columns() == std::vector<std::string>{"a \"x\", y", "b"});
  again.write({{"b", 3}});
  CHECK(content(path) == "\"a \"\"x\"\", y\",b\n1,2\n,3\n");
  const cadre::csv_writer_options same{.columns = {"a \"x\", y", "b"}, .mode = cadre::open_mode::append};
  cadre::csv_writer(path, same).write({{"b", 4}});
  CHECK(content(path).ends_with(",3\n,4\n"));
  const cadre::csv_writer_options other{.columns = {"z"}, .mode = cadre::open_mode::append};
  CHECK_THROWS_WITH(cadre::csv_writer(path, other),
                    "[cadre.report.1003] '" + path +
                        "' has the columns 'a \"x\", y', 'b', and rows of 'z' were to be appended; use another file or "
                        "the same columns");
  cadre::csv_writer(path).write({{"new", 1}});
  CHECK(content(path) == "new\n1\n");
}

TEST_CASE("a file that is refused for its columns is not touched, its unfinished last row included") {
  const temporary_folder folder;
  const std::string path = folder / "a.csv", theirs = "x,y\n1,2\n3,4";
  put(path, theirs);
  CHECK_THROWS_AS(cadre::csv_writer(path, {.columns = {"a", "b"}, .mode = cadre::open_mode::append}),
                  cadre::columns_differ);
  CHECK(content(path) == theirs);
}

TEST_CASE("a quotation mark within a cell takes no rows with it, and what is dropped is said in the log") {
  const temporary_folder folder;
  const std::string path = folder / "a.csv", theirs = "size,y\n5\" disk,2\n3,\"a\"\"\nb\"\n";
  put(path, theirs + "7");
  std::string said;
  cadre::set_log_sink([&](const cadre::log_record& r) { said = r.message; });
  cadre::csv_writer(path, {.mode = cadre::open_mode::append}).write({{"size", 1}, {"y", 2}});
  cadre::set_log_sink(nullptr);
  CHECK(content(path) == theirs + "1,2\n");
  CHECK(said == "dropped the last 1 bytes of '" + path +
                    "': they are no whole row, as a process leaves it that is killed while it writes");
}

TEST_CASE("a column name given twice is an error before there is a file") {
  const temporary_folder folder;
  const std::string path = folder / "a.csv";
  CHECK_THROWS_WITH(
      cadre::csv_writer(path, {.columns = {"a", "b", "a"}}),
      "[cadre.report.1004] '" + path + "' was to have two columns 'a'; a row has one value for each name");
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("a CSV row torn at any byte is dropped when the file is opened to append") {
  const temporary_folder folder;
  const std::string path = folder / "a.csv", head = "a,b\n1,x\n", last = "2,\"y\nz \"\"q\"\"\"\n";
  for (std::size_t cut = 0; cut <= last.size(); ++cut) {
    put(path, head + last.substr(0, cut));
    cadre::csv_writer(path, {.mode = cadre::open_mode::append}).write({{"a", 3}});
    CHECK(content(path) == head + (cut == last.size() ? last : "") + "3,\n");
  }
  put(path, "a,");  // not even the header is whole
  cadre::csv_writer(path, {.mode = cadre::open_mode::append}).write({{"c", 3}});
  CHECK(content(path) == "c\n3\n");
  cadre::csv_writer(folder / "new.csv", {.mode = cadre::open_mode::append}).write({{"c", 3}});
  CHECK(content(folder / "new.csv") == "c\n3\n");
}

TEST_CASE("a file longer than a read chunk is repaired too") {
  const temporary_folder folder;
  const std::string path = folder / "a.csv";
  std::string rows = "a\n";
  for (int i = 0; i < 40000; ++i) rows += std::to_string(i) + '\n';
  put(path, rows + "77");
  cadre::csv_writer(path, {.mode = cadre::open_mode::append}).write({{"a", 1}});
  CHECK(content(path) == rows + "1\n");
}

TEST_CASE("a full disk and a missing folder are numbered errors that name path and cause") {
  CHECK_THROWS_WITH(cadre::csv_writer("/dev/full").write({{"a", 1}}),
                    ContainsSubstring("[cadre.os.156] cannot append a row to '/dev/full': No space left on device"));
  cadre::csv_writer full("/dev/full");
  CHECK_THROWS_AS(full.write({{"a", 1}}), cadre::disk_full);
  CHECK(full.columns().empty());  // the header was not written, so the columns are still open
  const temporary_folder folder;
  CHECK_THROWS_WITH(
      cadre::csv_writer(folder / "no/a.csv"),
      ContainsSubstring("[cadre.os.155] cannot open '" + (folder / "no/a.csv") + "': No such file or directory"));
}
