#ifndef CADRE_REPORT_SVG_CHART_HPP
#define CADRE_REPORT_SVG_CHART_HPP

#include <cadre/os/atomic_file.hpp>
#include <cadre/report/detail/svg_panel.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// How the panels of a chart stand to one another.
enum class chart_layout : std::uint8_t { row, column };

/// Panels side by side (`row`) or one below the other (`column`).
///
///     cadre::save_svg("curves.svg", {.title = "fashion", .panels = {
///         {.title = "loss", .x_label = "epoch", .series = {{.name = "train", .y = a}, {.name = "validation", .y = b}}},
///         {.title = "accuracy", .x_label = "epoch", .series = {{.name = "validation", .y = c}}}}});
struct chart {
  std::string title{};
  std::vector<chart_panel> panels{};
  chart_layout layout = chart_layout::row;
  int panel_width = 520;   ///< pixels; at least 240
  int panel_height = 340;  ///< pixels; at least 180
};

/// The chart as one self-contained SVG document: no script, no font, no reference. The same chart gives the same bytes,
/// in every locale. Curves of many points are thinned to what the pixels can show: the first, least, greatest and last
/// of each pixel column.
///
/// A template so that only those who call it pay to compile it.
template <class Chart = chart>
[[nodiscard]] std::string to_svg(const Chart& c) {
  const int panel_width = std::max(c.panel_width, 240), panel_height = std::max(c.panel_height, 180);
  const int count = std::max(1, static_cast<int>(c.panels.size()));
  const int columns = c.layout == chart_layout::row ? count : 1, rows = count / columns;
  const int head = c.title.empty() ? 8 : 38;
  const int width = columns * panel_width, height = head + rows * panel_height;

  const std::string w = std::to_string(width), h = std::to_string(height);
  std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + w + "\" height=\"" + h +
                    "\" viewBox=\"0 0 " + w + ' ' + h +
                    "\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" font-size=\"11\">\n";
  out += "<title>" + detail::xml_escaped(c.title.empty() ? "chart" : c.title) + "</title>\n";
  out += "<rect width=\"" + w + "\" height=\"" + h + "\" fill=\"#ffffff\"/>\n";
  if (!c.title.empty())
    out += detail::svg_text(width / 2.0, 25, c.title,
                            "text-anchor=\"middle\" font-size=\"16\" font-weight=\"bold\" fill=\"#1f2933\"");
  const chart_panel empty;
  for (int i = 0; i < count; ++i) {
    const int x = i % columns * panel_width, y = head + i / columns * panel_height;
    out += "<g transform=\"translate(" + std::to_string(x) + ' ' + std::to_string(y) + ")\">\n";
    detail::svg_panel(c.panels.empty() ? empty : c.panels[static_cast<std::size_t>(i)], panel_width, panel_height)
        .draw(out);
    out += "</g>\n";
  }
  return out += "</svg>\n";
}

/// Replaces the file at `path` by the chart, atomically. Throws file_error (155 to 158).
template <class Chart = chart>
void save_svg(const std::string& path, const Chart& c) {
  const auto svg = to_svg(c);
  write_file_atomically(path, std::as_bytes(std::span(svg)));
}

CADRE_NAMESPACE_END

#endif
