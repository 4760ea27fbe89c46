#ifndef CADRE_REPORT_PROGRESS_HPP
#define CADRE_REPORT_PROGRESS_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/report/detail/text.hpp>

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Whether lines are rewritten in place (`live`) or printed one below the other without a control character (`plain`).
/// `automatic` is live on a terminal that can (TERM is set and not "dumb").
enum class progress_style : std::uint8_t { automatic, live, plain };

/// An `important` update is never skipped: a live line shows it at once, and a plain stream prints it.
enum class importance : std::uint8_t { routine, important };

/// Where and how often progress is shown.
struct progress_options {
  std::FILE* stream = stderr;  ///< not owned; must outlive the progress
  progress_style style = progress_style::automatic;
  std::chrono::milliseconds interval{100};  ///< the shortest time between two routine redraws
};

/// What a person sees while work goes on: one line per key, "key: text", rewritten in place on a terminal; elsewhere
/// only what matters, line by line.
///
///     cadre::progress bar;
///     bar.update("trial 3", "epoch 4  val_loss 0.312");
///     bar.finish("trial 3", "stopped at epoch 4");          // its last line; it stays above the live ones
///     bar.print("best so far: trial 3");                    // so does this one
///
/// Any thread may call any function. Colours are not used. Nothing of the terminal or the stream is changed for good,
/// and write errors are ignored. What others print to the same terminal between two calls disturbs the picture; let
/// it go through `print`, a log sink's records above all. Never call it from a signal handler.
class progress {
 public:
  explicit progress(progress_options options = {})
      : options_(options),
        live_(options.style == progress_style::live ||
              (options.style == progress_style::automatic && can_rewrite(options.stream))) {}
  ~progress() {
    try {
      finish();
    } catch (...) {  // out of memory; the lines drawn so far stay
    }
  }
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

  /// True if lines are rewritten in place.
  [[nodiscard]] bool live() const noexcept { return live_; }

  /// Sets the line of `key`, new keys below the others. A routine update that comes within `interval` of the last
  /// redraw is shown with the next one. An empty key shows the text alone.
  void update(std::string_view key, std::string_view text, importance how = importance::routine) {
    const std::lock_guard<std::mutex> lock(mutex_);
    line& l = find_or_add(key);
    l.text = detail::without_controls(text);
    l.pending = true;
    if (live_) {
      const auto now = std::chrono::steady_clock::now();
      if (how == importance::important || !last_draw_ || now - *last_draw_ >= options_.interval) draw({}, now);
    } else if (how == importance::important) {
      print_plain(l);
    }
  }

  /// The last text of `key`: printed for good above the live lines, from which the key goes.
  void finish(std::string_view key, std::string_view text) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const line last{detail::without_controls(key), detail::without_controls(text), false};
    std::erase_if(lines_, [&](const line& l) { return l.key == last.key; });
    put(joined(last, 0) + '\n');
  }

  /// Prints text for good, above the live lines; line feeds in it begin new lines.
  void print(std::string_view text) {
    std::string out;
    for (;;) {
      const std::size_t end = text.find('\n');
      out += detail::without_controls(text.substr(0, end)) + '\n';
      if (end == text.npos || end + 1 == text.size()) break;
      text.remove_prefix(end + 1);
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    put(out);
  }

  /// Leaves the last text of every key on the screen, now whole, and forgets the keys. The destructor does the same.
  void finish() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (live_ && !lines_.empty()) {
      std::string whole;
      const std::size_t width = key_width(lines_.size());
      for (const line& l : lines_) whole += joined(l, width) + '\n';
      lines_.clear();
      draw(whole, std::chrono::steady_clock::now());
    }
    for (line& l : lines_)
      if (l.pending) print_plain(l);
    lines_.clear();
  }

 private:
  struct line {
    std::string key, text;
    bool pending;  // the text has not been shown yet
  };

  static bool can_rewrite(std::FILE* stream) noexcept {
    const char* terminal = std::getenv("TERM");
    return ::isatty(::fileno(stream)) == 1 && terminal && *terminal && std::string_view(terminal) != "dumb";
  }

  line& find_or_add(std::string_view key) {
    std::string clean = detail::without_controls(key);
    for (line& l : lines_)
      if (l.key == clean) return l;
    lines_.push_back({std::move(clean), {}, false});
    return lines_.back();
  }

  // Of the first `shown` lines.
  std::size_t key_width(std::size_t shown) const noexcept {
    std::size_t width = 0;
    for (std::size_t i = 0; i < shown; ++i) width = std::max(width, detail::display_width(lines_[i].key));
    return width;
  }

  static std::string joined(const line& l, std::size_t key_width) {
    if (l.key.empty()) return l.text;
    const std::size_t own = detail::display_width(l.key);
    return l.key + ':' + std::string(1 + (key_width > own ? key_width - own : 0), ' ') + l.text;
  }

  void print_plain(line& l) {
    write(joined(l, 0) + '\n');
    l.pending = false;
  }

  void put(const std::string& lines) {
    if (live_)
      draw(lines, std::chrono::steady_clock::now());
    else
      write(lines);
  }

  // One write: up to the first live line, the permanent lines over it, then the live lines again. Lines do not wrap
  // while it lasts, so that one of wide characters cannot make the block taller than was counted.
  void draw(std::string_view permanent, std::chrono::steady_clock::time_point now) {
    winsize size{};
    const bool known = ::ioctl(::fileno(options_.stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0;
    const std::size_t columns = known ? size.ws_col : 80, rows = known ? size.ws_row : 24;

    std::string out = drawn_ ? "\r\x1b[" + std::to_string(drawn_) + "A" : "\r";
    while (!permanent.empty()) {
      const std::size_t end = permanent.find('\n');
      (out += permanent.substr(0, end)) += "\x1b[K\n";
      permanent.remove_prefix(end + 1);
    }
    // The cursor's own line needs a row, and so does the note on the lines left out.
    const std::size_t room = rows > 3 ? rows - 2 : 1;
    const std::size_t shown = lines_.size() <= room ? lines_.size() : room - (room > 1 ? 1 : 0);
    const std::size_t width = key_width(shown);
    out += "\x1b[?7l";
    for (line& l : lines_) l.pending = false;
    for (std::size_t i = 0; i < shown; ++i) out += detail::clip(joined(lines_[i], width), columns - 1) + "\x1b[K\n";
    if (shown < lines_.size() && room > 1)
      out += detail::clip("... and " + std::to_string(lines_.size() - shown) + " more", columns - 1) + "\x1b[K\n";
    out += "\x1b[?7h\x1b[J";
    drawn_ = shown + (shown < lines_.size() && room > 1 ? 1 : 0);
    last_draw_ = now;
    write(out);
  }

  void write(const std::string& text) noexcept {
    (void)std::fwrite(text.data(), 1, text.size(), options_.stream);
    (void)std::fflush(options_.stream);
  }

  progress_options options_;
  bool live_;
  std::mutex mutex_;
  std::vector<line> lines_;
  std::size_t drawn_ = 0;  // lines of the live block on the screen
  std::optional<std::chrono::steady_clock::time_point> last_draw_;
};

CADRE_NAMESPACE_END

#endif
