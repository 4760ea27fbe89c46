#ifndef CADRE_TUNE_DETAIL_TUNING_LOG_HPP
#define CADRE_TUNE_DETAIL_TUNING_LOG_HPP

#include <cadre/os/file_error.hpp>
#include <cadre/report/csv_writer.hpp>
#include <cadre/report/detail/number.hpp>
#include <cadre/report/json_lines_writer.hpp>
#include <cadre/report/progress.hpp>
#include <cadre/tune/detail/study_core.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>

CADRE_NAMESPACE_BEGIN
namespace tune::detail {

/// What a tuning leaves for people and programs: reports.jsonl line by line while it runs, trials.csv and trials.jsonl
/// at its end, and lines on the screen if asked for. A template so that only those who tune pay to compile it.
template <class Study = study_core<>>
class tuning_log {
 public:
  /// `folder` empty: no files.
  tuning_log(const Study& study, std::string folder, bool show) : study_(study), folder_(std::move(folder)) {
    if (show) screen_.emplace();
  }

  /// A report of the journal or a new one; the file is written anew by each run, so that the journal alone counts.
  void write(trial_id id, double t, const metric_map& metrics) {
    if (folder_.empty()) return;
    open();
    record line{{"trial", id}, {"t", t}};
    for (const metric& m : metrics) line.set(line.contains(m.name) ? "metric_" + m.name : m.name, m.value);
    reports_->write(line);
  }

  /// The journal has been read: the file takes the place of the one before.
  void begin() {
    if (folder_.empty()) return;
    open();
    take_place("reports.jsonl");
  }

  void reported(trial_id id, const metric_map& metrics) {
    const trial_history& h = study_.trials()[id];
    write(id, h.t, metrics);
    if (screen_ && h.state == trial_state::running) screen_->update(key(id), text(h));
  }

  /// A run has ended, as `how` says; a paused trial may run again by now.
  void ended(trial_id id, std::string_view how) {
    if (!screen_) return;
    const trial_history& h = study_.trials()[id];
    screen_->finish(key(id), std::string(how) + "  " + (h.state == trial_state::failed ? h.error : text(h)));
  }

  void end(std::span<const record> rows) {
    if (screen_) screen_->finish();
    if (folder_.empty()) return;
    replace<csv_writer>("trials.csv", rows);
    replace<json_lines_writer>("trials.jsonl", rows);
  }

 private:
  void open() {
    if (!reports_) reports_.emplace(fresh("reports.jsonl"));
  }

  template <class Writer>
  void replace(const std::string& name, std::span<const record> rows) {
    try {
      Writer writer(fresh(name));
      for (const record& row : rows) writer.write(row);
      take_place(name);
    } catch (...) {
      std::error_code ignored;
      std::filesystem::remove(fresh(name), ignored);
      throw;
    }
  }

  [[nodiscard]] std::string fresh(const std::string& name) const { return folder_ + "/." + name + ".new"; }
  void take_place(const std::string& name) const {
    std::error_code failure;
    std::filesystem::rename(fresh(name), folder_ + "/" + name, failure);
    if (failure) file_error::raise("write", folder_ + "/" + name, failure.value());
  }

  static std::string key(trial_id id) { return "trial " + std::to_string(id); }

  std::string text(const trial_history& h) const {
    std::string line = "t " + number_text(h.t);
    for (const metric& m : h.metrics) {
      line += "  " + m.name + " ";
      cadre::detail::append_significant(line, m.value, 4);
    }
    for (const auto& field : study_.space().show(h.where)) {
      line += "  " + field.name + "=";
      if (const auto* s = std::get_if<std::string>(&field.value)) line += *s;
      if (const auto* n = std::get_if<std::int64_t>(&field.value)) line += std::to_string(*n);
      if (const auto* b = std::get_if<bool>(&field.value)) line += *b ? "true" : "false";
      if (const auto* x = std::get_if<double>(&field.value)) cadre::detail::append_significant(line, *x, 3);
    }
    return line;
  }

  const Study& study_;
  std::string folder_;
  std::optional<json_lines_writer> reports_;
  std::optional<progress> screen_;
};

}  // namespace tune::detail
CADRE_NAMESPACE_END

#endif
