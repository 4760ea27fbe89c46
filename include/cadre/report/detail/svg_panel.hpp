#ifndef CADRE_REPORT_DETAIL_SVG_PANEL_HPP
#define CADRE_REPORT_DETAIL_SVG_PANEL_HPP

#include <cadre/report/detail/chart_axis.hpp>
#include <cadre/report/detail/text.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// One curve. Points whose x or y is not finite (or not positive on a logarithmic axis) are gaps in it.
struct chart_series {
  std::string name{};       ///< in the legend; a series without a name is a thin grey line behind the others
  std::vector<double> y{};  ///< in the order in which the curve is drawn
  std::vector<double> x{};  ///< as many; empty: 1, 2, 3, ...
};

/// One pair of axes with its curves.
struct chart_panel {
  std::string title{}, x_label{}, y_label{};
  std::vector<chart_series> series{};
  bool log_y = false;
};

namespace detail {

inline std::string xml_escaped(std::string_view text) {
  std::string out;
  for (char c : without_controls(valid_utf8(text))) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

inline std::string svg_number(double value) {
  std::string out;
  append_fixed(out, value, 2);
  while (out.ends_with('0')) out.pop_back();
  if (out.ends_with('.')) out.pop_back();
  return out;
}

inline std::string svg_text(double x, double y, std::string_view text, const std::string& attributes) {
  return "<text x=\"" + svg_number(x) + "\" y=\"" + svg_number(y) + "\" " + attributes + '>' + xml_escaped(text) +
         "</text>\n";
}

/// Draws one panel: title, legend, grid, axes, curves. A template so that only those who draw pay to compile it.
template <class Panel>
class svg_panel {
 public:
  svg_panel(const Panel& panel, int width, int height) : panel_(panel), y_(panel.log_y) {
    for (const chart_series& s : panel_.series)
      for (std::size_t i = 0; i < length(s); ++i)
        if (shown(s, i)) {
          x_.include(x_of(s, i));
          y_.include(s.y[i]);
        }
    no_data_ = y_.empty();
    x_.settle(0);
    y_.settle(0.05);
    y_ticks_ = y_.ticks(6, false);
    std::size_t widest = 1;
    for (const chart_tick& t : y_ticks_) widest = std::max(widest, t.label.size());
    left_ = 22 + 6.5 * static_cast<double>(widest) + (panel_.y_label.empty() ? 0 : 18);
    // The last label of the x axis is centred on a tick that may stand at the very end.
    x_ticks_ = x_.ticks(width < 400 ? 5 : 8, true);
    const std::size_t last = x_ticks_.empty() ? 0 : x_ticks_.back().label.size();
    right_ = width - std::max(18.0, 6 + 3.4 * static_cast<double>(last));
    lay_out_legend();
    top_ = (panel_.title.empty() ? 8.0 : 28.0) + 17 * static_cast<double>(legend_rows_) + (legend_rows_ ? 5 : 0);
    bottom_ = height - (panel_.x_label.empty() ? 30.0 : 46.0);
    if (top_ > bottom_ - 60) top_ = bottom_ - 60;
  }

  void draw(std::string& out) const {
    if (!panel_.title.empty())
      out += svg_text((left_ + right_) / 2, 18, panel_.title,
                      "text-anchor=\"middle\" font-size=\"13\" font-weight=\"bold\" fill=\"#1f2933\"");
    draw_axes(out);
    if (no_data_)
      out += svg_text((left_ + right_) / 2, (top_ + bottom_) / 2, "no data",
                      "text-anchor=\"middle\" font-size=\"13\" fill=\"#9aa5b1\"");
    for (const chart_series& s : panel_.series)
      if (s.name.empty()) draw_curve(out, s, "stroke=\"#c3cad3\" stroke-width=\"1\"", "#c3cad3", 1.5);
    std::size_t index = 0;
    for (const chart_series& s : panel_.series)
      if (!s.name.empty()) {
        draw_curve(out, s, "stroke=\"" + std::string(colour(index)) + "\" stroke-width=\"1.8\"" + dashes(index),
                   colour(index), 2.2);
        ++index;
      }
    draw_legend(out);
  }

 private:
  struct legend_entry {
    std::string text;
    double x;
    std::size_t row;
  };

  static constexpr std::array<std::string_view, 8> palette = {"#2b6cb0", "#dd6b20", "#2f855a", "#805ad5",
                                                              "#b7791f", "#0d98a6", "#c53074", "#4a5568"};
  static constexpr std::size_t most_legend_rows = 3;

  static std::string_view colour(std::size_t index) noexcept { return palette[index % palette.size()]; }
  /// Curves beyond the palette are told apart by their dashes.
  static std::string dashes(std::size_t index) {
    constexpr std::array<std::string_view, 3> patterns = {"", " stroke-dasharray=\"6 3\"", " stroke-dasharray=\"2 3\""};
    return std::string(patterns[index / palette.size() % patterns.size()]);
  }

  static std::size_t length(const chart_series& s) noexcept {
    return s.x.empty() ? s.y.size() : std::min(s.x.size(), s.y.size());
  }
  static double x_of(const chart_series& s, std::size_t i) noexcept {
    return s.x.empty() ? static_cast<double>(i + 1) : s.x[i];
  }
  bool shown(const chart_series& s, std::size_t i) const noexcept { return x_.shows(x_of(s, i)) && y_.shows(s.y[i]); }

  double across(double x) const noexcept { return left_ + (right_ - left_) * x_.position(x); }
  double up(double y) const noexcept { return bottom_ - (bottom_ - top_) * y_.position(y); }

  void draw_axes(std::string& out) const {
    const std::string l = svg_number(left_), r = svg_number(right_), t = svg_number(top_), b = svg_number(bottom_);
    out += "<g stroke=\"#e4e7eb\" stroke-width=\"1\">\n";
    for (const chart_tick& tick : y_ticks_) {
      const std::string y = svg_number(up(tick.value));
      out += "<path d=\"M" + l + ' ' + y + 'H' + r + "\"/>\n";
    }
    for (const chart_tick& tick : x_ticks_) {
      const std::string x = svg_number(across(tick.value));
      out += "<path d=\"M" + x + ' ' + t + 'V' + b + "\"/>\n";
    }
    out += "</g>\n<path d=\"M" + l + ' ' + t + 'V' + b + 'H' + r + "\" fill=\"none\" stroke=\"#7b8794\"/>\n";
    out += "<g fill=\"#52606d\">\n";
    for (const chart_tick& tick : y_ticks_)
      out += svg_text(left_ - 7, up(tick.value) + 4, tick.label, "text-anchor=\"end\"");
    for (const chart_tick& tick : x_ticks_)
      out += svg_text(across(tick.value), bottom_ + 17, tick.label, "text-anchor=\"middle\"");
    if (!panel_.x_label.empty())
      out += svg_text((left_ + right_) / 2, bottom_ + 36, panel_.x_label, "text-anchor=\"middle\" font-size=\"12\"");
    if (!panel_.y_label.empty()) {
      const std::string y = svg_number((top_ + bottom_) / 2);
      out += svg_text(17, (top_ + bottom_) / 2, panel_.y_label,
                      "text-anchor=\"middle\" font-size=\"12\" transform=\"rotate(-90 17 " + y + ")\"");
    }
    out += "</g>\n";
  }

  /// Each unbroken run of points is a path, a lonely point a dot; the points of a few short curves are
  /// dotted too.
  void draw_curve(std::string& out, const chart_series& s, const std::string& stroke, std::string_view fill,
                  double radius) const {
    const std::size_t n = length(s);
    const auto dot = [&](std::size_t i) {
      out += "<circle cx=\"" + svg_number(across(x_of(s, i))) + "\" cy=\"" + svg_number(up(s.y[i])) + "\" r=\"" +
             svg_number(radius) + "\" fill=\"" + std::string(fill) + "\"/>\n";
    };
    for (std::size_t begin = 0; begin < n; ++begin) {
      if (!shown(s, begin)) continue;
      std::size_t end = begin;
      while (end < n && shown(s, end)) ++end;
      if (end - begin > 1) {
        out += "<path fill=\"none\" stroke-linejoin=\"round\" stroke-linecap=\"round\" " + stroke + " d=\"";
        char command = 'M';
        for (std::size_t i : thinned(s, begin, end)) {
          out += command + svg_number(across(x_of(s, i))) + ' ' + svg_number(up(s.y[i]));
          command = 'L';
        }
        out += "\"/>\n";
      }
      if (end - begin == 1 || (n <= 24 && !s.name.empty() && legend_.size() <= 4))
        for (std::size_t i = begin; i < end; ++i) dot(i);
      begin = end;
    }
  }

  /// The indices in [begin, end) that the pixels can tell apart: of each run of points within one pixel column the
  /// first, the least, the greatest and the last.
  std::vector<std::size_t> thinned(const chart_series& s, std::size_t begin, std::size_t end) const {
    std::vector<std::size_t> kept;
    for (std::size_t i = begin; i < end;) {
      const double column = std::floor(across(x_of(s, i)));
      std::size_t least = i, greatest = i, next = i;
      for (; next < end && std::floor(across(x_of(s, next))) == column; ++next) {
        if (s.y[next] < s.y[least]) least = next;
        if (s.y[next] > s.y[greatest]) greatest = next;
      }
      for (std::size_t k : {i, std::min(least, greatest), std::max(least, greatest), next - 1})
        if (kept.empty() || kept.back() < k) kept.push_back(k);
      i = next;
    }
    return kept;
  }

  void lay_out_legend() {
    std::size_t named = 0;
    for (const chart_series& s : panel_.series) named += s.name.empty() ? 0 : 1;
    double x = left_;
    std::size_t row = 0;
    for (const chart_series& s : panel_.series) {
      if (s.name.empty()) continue;
      std::string text = clip(without_controls(valid_utf8(s.name)), 32);
      const double width = 30 + 6.4 * static_cast<double>(display_width(text));
      if (x > left_ && x + width > right_) {
        x = left_;
        ++row;
      }
      if (row == most_legend_rows) {
        legend_left_out_ = named - legend_.size();
        break;
      }
      legend_.push_back({std::move(text), x, row});
      x += width + 12;
    }
    legend_rows_ = legend_.empty() ? 0 : legend_.back().row + 1 + (legend_left_out_ ? 1 : 0);
  }

  void draw_legend(std::string& out) const {
    const double first = panel_.title.empty() ? 16.0 : 36.0;
    for (std::size_t i = 0; i < legend_.size(); ++i) {
      const legend_entry& e = legend_[i];
      const double y = first + 17 * static_cast<double>(e.row);
      out += "<path d=\"M" + svg_number(e.x) + ' ' + svg_number(y - 4) + "h20\" stroke-width=\"2.4\" stroke=\"" +
             std::string(colour(i)) + '"' + dashes(i) + "/>\n";
      out += svg_text(e.x + 26, y, e.text, "fill=\"#323f4b\"");
    }
    if (legend_left_out_)
      out += svg_text(left_, first + 17 * static_cast<double>(legend_rows_ - 1),
                      "and " + std::to_string(legend_left_out_) + " more", "fill=\"#7b8794\"");
  }

  const Panel& panel_;
  chart_axis<> x_{false}, y_;
  std::vector<chart_tick> x_ticks_, y_ticks_;
  double left_ = 0, right_ = 0, top_ = 0, bottom_ = 0;
  std::vector<legend_entry> legend_;
  std::size_t legend_rows_ = 0, legend_left_out_ = 0;
  bool no_data_ = false;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif
