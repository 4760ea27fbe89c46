#include "catch.hpp"
#include "report/comma_locale.hpp"
#include "report/temporary_folder.hpp"

#include <cadre/report/svg_chart.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace test_svg_chart {

/// Empty if every tag of the document is closed in order, every attribute quoted, and every entity a known one.
std::string fault_of(std::string_view svg) {
  std::vector<std::string> open;
  int roots = 0;
  for (std::size_t i = 0; i < svg.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(svg[i]);
    if (c < 0x20 && c != '\n') return "control character";
    if (c == '&') {
      const std::string_view rest = svg.substr(i);
      if (!rest.starts_with("&amp;") && !rest.starts_with("&lt;") && !rest.starts_with("&gt;") &&
          !rest.starts_with("&quot;"))
        return "entity at " + std::to_string(i);
    }
    if (c == '>') return "stray > at " + std::to_string(i);
    if (c != '<') continue;
    const std::size_t end = svg.find('>', i);
    if (end == svg.npos) return "unfinished tag";
    std::string tag(svg.substr(i + 1, end - i - 1));
    if (tag.find('<') != tag.npos) return "< in a tag";
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0) return "odd quotes in " + tag;
    const std::string name =
        tag.substr(tag.front() == '/' ? 1 : 0, tag.find_first_of(" /", 1) - (tag.front() == '/' ? 1 : 0));
    if (tag.front() == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return "closes " + tag;
      open.pop_back();
    } else {
      if (open.empty()) ++roots;
      if (tag.back() != '/') open.push_back(name);
    }
    i = end;
  }
  if (!open.empty()) return "left open: " + open.back();
  return roots == 1 ? "" : "roots: " + std::to_string(roots);
}

std::size_t count(std::string_view text, std::string_view what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++n;
  return n;
}

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

}  // namespace test_svg_chart

TEST_CASE("a chart of two panels is well-formed and says what it shows") {
  const cadre::chart c{.title = "a < b & \"c\"\x01",
                       .panels = {{.title = "loss",
                                   .x_label = "epoch",
                                   .y_label = "nats",
                                   .series = {{.name = "train", .y = {3, 2, 1}}, {.name = "val", .y = {3, 2.5, 2}}}},
                                  {.title = "accuracy", .series = {{.name = "val", .y = {0.5, 0.75, 0.9}}}}}};
  const std::string svg = cadre::to_svg(c);
  CHECK(test_svg_chart::fault_of(svg) == "");
  CHECK(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1040\" height=\"378\" "));
  for (const char* text :
       {"a &lt; b &amp; &quot;c&quot; ", ">loss<", ">accuracy<", ">epoch<", ">nats<", ">train<", ">val<"})
    CHECK_THAT(svg, ContainsSubstring(text));
  CHECK(test_svg_chart::count(svg, "<circle") == 9);
}

TEST_CASE("a small chart is, byte for byte, what it was") {
  const cadre::chart c{
      .panels = {{.series = {{.name = "y", .y = {0, 1, 4}}}}}, .panel_width = 240, .panel_height = 180};
  CHECK(
      cadre::to_svg(c) ==
      R"svg(<svg xmlns="http://www.w3.org/2000/svg" width="240" height="188" viewBox="0 0 240 188" font-family="Helvetica, Arial, 'DejaVu Sans', sans-serif" font-size="11">
<title>chart</title>
<rect width="240" height="188" fill="#ffffff"/>
<g transform="translate(0 8)">
<g stroke="#e4e7eb" stroke-width="1">
<path d="M28.5 144.55H222"/>
<path d="M28.5 117.27H222"/>
<path d="M28.5 90H222"/>
<path d="M28.5 62.73H222"/>
<path d="M28.5 35.45H222"/>
<path d="M28.5 30V150"/>
<path d="M125.25 30V150"/>
<path d="M222 30V150"/>
</g>
<path d="M28.5 30V150H222" fill="none" stroke="#7b8794"/>
<g fill="#52606d">
<text x="21.5" y="148.55" text-anchor="end">0</text>
<text x="21.5" y="121.27" text-anchor="end">1</text>
<text x="21.5" y="94" text-anchor="end">2</text>
<text x="21.5" y="66.73" text-anchor="end">3</text>
<text x="21.5" y="39.45" text-anchor="end">4</text>
<text x="28.5" y="167" text-anchor="middle">1</text>
<text x="125.25" y="167" text-anchor="middle">2</text>
<text x="222" y="167" text-anchor="middle">3</text>
</g>
<path fill="none" stroke-linejoin="round" stroke-linecap="round" stroke="#2b6cb0" stroke-width="1.8" d="M28.5 144.55L125.25 117.27L222 35.45"/>
<circle cx="28.5" cy="144.55" r="2.2" fill="#2b6cb0"/>
<circle cx="125.25" cy="117.27" r="2.2" fill="#2b6cb0"/>
<circle cx="222" cy="35.45" r="2.2" fill="#2b6cb0"/>
<path d="M28.5 12h20" stroke-width="2.4" stroke="#2b6cb0"/>
<text x="54.5" y="16" fill="#323f4b">y</text>
</g>
</svg>
)svg");
}

TEST_CASE("the same chart gives the same bytes, whatever the locale") {
  std::vector<double> y;
  for (int i = 0; i < 100; ++i) y.push_back(std::sin(i) * 1234.5);
  const cadre::chart c{.title = "t", .panels = {{.series = {{.name = "s", .y = y}}}}};
  const std::string first = cadre::to_svg(c);
  const test_report::comma_locale german;
  if (german)
    CHECK(cadre::to_svg(c) == first);
  else
    WARN("skipped: needs a locale with a comma (Debian: locales)");
}

TEST_CASE("values that cannot be drawn are gaps, and lonely points are dots") {
  using namespace test_svg_chart;
  const std::vector<double> y{1, 2, not_a_number, 3, infinity, -infinity, 2, 1e200, 1, 2};
  const std::string svg = cadre::to_svg({.panels = {{.series = {{.name = "", .y = y}}}}});
  CHECK(fault_of(svg) == "");
  CHECK(count(svg, "stroke-linejoin") == 2);  // 1 2 and 1 2
  CHECK(count(svg, "<circle") == 2);          // 3 and 2
  CHECK(count(svg, "nan") + count(svg, "inf") == 0);
  const std::string log =
      cadre::to_svg({.panels = {{.series = {{.name = "a", .y = {10, 0, -1, 1000}}}, .log_y = true}}});
  CHECK(fault_of(log) == "");
  CHECK(count(log, "<circle") == 2);
  for (const char* label : {">10<", ">100<", ">1000<"}) CHECK_THAT(log, ContainsSubstring(label));
}

TEST_CASE("charts without data, with one point or with one value are drawn") {
  using namespace test_svg_chart;
  for (const cadre::chart& c : {cadre::chart{}, cadre::chart{.panels = {{}}}, cadre::chart{.panels = {{.log_y = true}}},
                                cadre::chart{.panels = {{.series = {{.name = "a", .y = {not_a_number}}}}}}}) {
    const std::string svg = cadre::to_svg(c);
    CHECK(fault_of(svg) == "");
    CHECK(count(svg, "no data") == 1);
  }
  for (double value : {0.0, 1.0, -5.0, 1e-300, 1e149, -1e149, 123456789.0, 1e-8}) {
    INFO(value);
    const std::string one = cadre::to_svg({.panels = {{.series = {{.name = "a", .y = {value}}}}}});
    CHECK(fault_of(one) == "");
    CHECK(count(one, "no data") + count(one, "nan") + count(one, "inf") == 0);
    CHECK(count(one, "<circle") == 1);
    const std::string flat = cadre::to_svg({.panels = {{.series = {{.name = "a", .y = {value, value, value}}}}}});
    CHECK(fault_of(flat) == "");
    CHECK(count(flat, "nan") + count(flat, "inf") == 0);
  }
}

TEST_CASE("ticks stand at steps of 1, 2 or 5") {
  using cadre::detail::chart_axis;
  const auto labels = [](double low, double high, bool log, bool whole) {
    chart_axis axis(log);
    axis.include(low);
    axis.include(high);
    axis.settle(0);
    std::string all;
    for (const cadre::detail::chart_tick& t : axis.ticks(6, whole)) all += t.label + ' ';
    return all;
  };
  CHECK(labels(0, 1, false, false) == "0.0 0.2 0.4 0.6 0.8 1.0 ");
  CHECK(labels(1, 30, false, true) == "5 10 15 20 25 30 ");
  CHECK(labels(1, 3, false, true) == "1 2 3 ");
  CHECK(labels(-1e-5, 1e-5, false, false) == "-1e-5 -5e-6 0 5e-6 1e-5 ");
  CHECK(labels(0, 2.5e7, false, false) == "0 5e6 1e7 1.5e7 2e7 2.5e7 ");
  CHECK(labels(1e-8, 1, true, false) == "1e-8 1e-6 0.0001 0.01 1 ");
  CHECK(labels(0.1, 2, true, false) == "0.1 0.2 0.5 1 2 ");
}

TEST_CASE("a curve of many points is thinned, its extremes kept") {
  using namespace test_svg_chart;
  std::vector<double> y(200000, 0.5);
  y[77777] = 1;
  y[123456] = 0;
  const std::string svg = cadre::to_svg({.panels = {{.series = {{.name = "a", .y = y}}}}});
  CHECK(svg.size() < 60000);
  const std::string top = cadre::to_svg({.panels = {{.series = {{.name = "a", .y = {0, 1}}}}}});
  const std::string highest = top.substr(top.find(" d=\"M", top.find("linejoin")) + 5);
  const std::string y_of_one = highest.substr(highest.rfind(' ', highest.find('"')) + 1,
                                              highest.find('"') - highest.rfind(' ', highest.find('"')) - 1);
  CHECK_THAT(svg, ContainsSubstring(" " + y_of_one + "L"));
}

TEST_CASE("a legend that would take the whole panel is cut and says so") {
  cadre::chart_panel p{.title = "trials"};
  for (int i = 0; i < 60; ++i) p.series.push_back({.name = "trial " + std::to_string(i), .y = {1.0 * i, 2.0 * i}});
  const std::string svg = cadre::to_svg({.panels = {p}});
  CHECK(test_svg_chart::fault_of(svg) == "");
  CHECK_THAT(svg, ContainsSubstring(" more</text>"));
}

TEST_CASE("a chart is saved atomically, and a folder that is not there is a numbered error") {
  const test_report::temporary_folder folder;
  const cadre::chart c{.panels = {{.series = {{.name = "a", .y = {1, 2}}}}}};
  cadre::save_svg(folder / "a.svg", c);
  CHECK(test_report::content(folder / "a.svg") == cadre::to_svg(c));
  CHECK_THROWS_WITH(cadre::save_svg(folder / "no/a.svg", c), ContainsSubstring("[cadre.os.155]"));
}
