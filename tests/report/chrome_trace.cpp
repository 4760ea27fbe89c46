#include "catch.hpp"

#include <cadre/report/chrome_trace.hpp>

#include <chrono>
#include <vector>

TEST_CASE("a timeline has one complete event per span, instants, and a process per rank") {
  using std::chrono::nanoseconds;
  const std::vector<cadre::event> events{
      {.begin = nanoseconds(1234567),
       .duration = nanoseconds(2050),
       .thread = 11,
       .rank = 1,
       .category = "train",
       .name = "say \"go\""},
      {.begin = nanoseconds(7), .instant = true, .thread = 12, .rank = 0, .category = "pool", .name = "steal\n"}};
  CHECK(cadre::chrome_trace(events) ==
        "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n"
        R"({"ph":"M","name":"process_name","pid":0,"args":{"name":"rank 0"}},)"
        "\n"
        R"({"ph":"M","name":"process_name","pid":1,"args":{"name":"rank 1"}},)"
        "\n"
        R"({"ph":"X","pid":1,"tid":11,"ts":1234.567,"dur":2.050,"cat":"train","name":"say \"go\""},)"
        "\n"
        R"({"ph":"i","s":"t","pid":0,"tid":12,"ts":0.007,"cat":"pool","name":"steal\n"})"
        "\n]}\n");
  CHECK(cadre::chrome_trace({}) == "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n]}\n");
}
