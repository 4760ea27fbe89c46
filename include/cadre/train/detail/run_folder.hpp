#ifndef CADRE_TRAIN_DETAIL_RUN_FOLDER_HPP
#define CADRE_TRAIN_DETAIL_RUN_FOLDER_HPP

#include <cadre/archive/to_bytes.hpp>
#include <cadre/core/direction.hpp>
#include <cadre/core/metric_map.hpp>
#include <cadre/observe/log.hpp>
#include <cadre/os/detail/temporary_file.hpp>
#include <cadre/os/file_error.hpp>
#include <cadre/persist/checkpoint_reader.hpp>
#include <cadre/persist/checkpoint_writer.hpp>
#include <cadre/persist/error.hpp>
#include <cadre/persist/journal.hpp>
#include <cadre/report/detail/number.hpp>
#include <cadre/report/progress.hpp>
#include <cadre/train/error.hpp>
#include <cadre/train/report_handler.hpp>
#include <cadre/train/result.hpp>
#include <cadre/train/run_options.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train::detail {

/// One report, as the journal and the checkpoints hold it.
struct kept_report {
  std::uint64_t number = 0;
  metric_map metrics;
  bool checkpoint = false;

  template <class Archive>
  void save(Archive& archive) const {
    std::vector<std::string> names;
    std::vector<double> values;
    for (const metric& m : metrics) {
      names.push_back(m.name);
      values.push_back(m.value);
    }
    archive(number, checkpoint, names, values);
  }
  template <class Archive>
  void load(Archive& archive) {
    std::vector<std::string> names;
    std::vector<double> values;
    archive(number, checkpoint, names, values);
    metrics = {};
    for (std::size_t i = 0; i < std::min(names.size(), values.size()); ++i) metrics.set(names[i], values[i]);
  }
};

/// The run's reports and checkpoints; rank 0 has one. With a storage they lie in
///
///     <storage>/<name>/reports.journal            one record per report
///     <storage>/<name>/checkpoints/000001.cadre   the checkpoint of report 1, with the report itself in it
///
/// A report with a checkpoint counts from the moment at which the checkpoint's file is there: a process killed between
/// that and the journal's record finds the report in the file. Continuing from checkpoint n forgets the reports after
/// n, since they are made again; a record of a number that the journal has already replaces that one and those after.
///
/// A template so that only those who train pay to compile it.
template <class Options = run_options, class Report = kept_report, class Checkpoint = kept_checkpoint>
class run_folder final : public report_handler {
 public:
  static constexpr std::string_view report_name = "cadre.report";

  explicit run_folder(const Options& options) : options_(options) {
    check_name(options.name);
    if (!options.storage.empty()) open();
    if (options.progress) bar_.emplace();
  }

  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// The newest intact checkpoint, null if there is none. Damaged ones after it are named in a warning and put aside,
  /// and the reports after it are forgotten. Throws where an older one would be the wrong answer: a file that is there
  /// and cannot be opened, or that a later version wrote.
  [[nodiscard]] std::shared_ptr<const checkpoint_reader> newest() {
    while (!checkpoints_.empty()) {
      try {
        auto reader = std::make_shared<const checkpoint_reader>(checkpoints_.back().open());
        continue_after(checkpoints_.back().number, *reader);
        drop_surplus();
        return reader;
      } catch (const checkpoint_too_new&) {
        throw;
      } catch (const checkpoint_error& e) {
        put_newest_aside(e.what());
      } catch (const file_not_found& e) {
        put_newest_aside(e.what());
      }
    }
    reports_.clear();
    last_ = 0;
    return nullptr;
  }

  void begin_attempt(int attempt) noexcept { attempt_ = attempt; }

  bool report(const metric_map& metrics, saver* save) override {
    Report entry{last_ + 1, metrics, save != nullptr};
    if (save) keep_checkpoint(entry, *save);
    if (journal_) {
      journal_->append(std::span<const std::byte>(to_bytes(entry)));
      if (save) journal_->sync();
    }
    last_ = entry.number;
    reports_.push_back(std::move(entry));
    if (save) drop_surplus();
    if (bar_) bar_->update(options_.name, line(), importance::important);
    options_.on_report({last_, attempt_, reports_.back().metrics, save != nullptr});
    return true;
  }

  /// Forces the reports of a training that went well to the disk, and prints the last progress line.
  void finish(bool well) {
    if (journal_ && well) journal_->sync();
    if (!bar_) return;
    std::string text = (well ? "finished after " : "failed after ") + std::to_string(last_) + " reports";
    if (bar_->live()) text += last_metrics();  // elsewhere they stand in the line above
    bar_->finish(options_.name, text);
  }
  void note(std::string_view what) {
    if (bar_) bar_->print(options_.name + ": " + std::string(what));
  }

  /// Fills in what is known of the run.
  void describe(result& r) const {
    r.path = path_;
    r.history.clear();
    for (const Report& entry : reports_) r.history.push_back(entry.metrics);
    if (!r.history.empty()) r.metrics = r.history.back();
    r.checkpoints = checkpoints_;
    const std::vector<std::size_t> ranked = by_score();
    if (!ranked.empty()) r.best = ranked.front();
  }

 private:
  static void check_name(const std::string& name) {
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos)
      throw option_invalid("run_options::name is '" + name +
                           "'; it names a folder, so it must be neither empty, '.' nor '..', and without '/'");
  }

  void open() {
    namespace fs = std::filesystem;
    const fs::path folder = fs::path(options_.storage) / options_.name;
    path_ = folder.string();
    const fs::path journal_path = folder / "reports.journal";
    std::error_code failure;
    fs::create_directories(folder / "checkpoints", failure);
    if (failure)
      throw run_folder_error("cannot make the run's folder '" + path_ + "': " + failure.message() +
                             "; check run_options::storage and its permissions");
    find_checkpoints(folder / "checkpoints");
    // The journal is opened first of all that could change something: its lock keeps a second process out.
    journal_ = journal::open(journal_path.string(), {.sync = journal_sync::on_request},
                             [&](std::span<const std::byte> record) { replay(from_bytes<Report>(record)); });
    if (!options_.resume && (!reports_.empty() || !checkpoints_.empty()))
      throw run_exists("'" + path_ + "' already holds a run of " + std::to_string(reports_.size()) + " reports and " +
                       std::to_string(checkpoints_.size()) +
                       " checkpoints; set run_options::resume to continue it, take another name, or remove the folder");
    cadre::detail::remove_leftovers((folder / "checkpoints").string());
    for (Checkpoint& c : checkpoints_)
      for (const Report& entry : reports_)
        if (entry.number == c.number) c.metrics = entry.metrics;
  }

  void find_checkpoints(const std::filesystem::path& folder) {
    std::error_code failure;
    for (std::filesystem::directory_iterator it(folder, failure), end; !failure && it != end; it.increment(failure)) {
      const std::string name = it->path().filename().string();
      std::uint64_t number = 0;
      const auto [rest, bad] = std::from_chars(name.data(), name.data() + name.size(), number);
      if (bad == std::errc() && std::string_view(rest) == suffix && number > 0)
        checkpoints_.push_back({number, it->path().string(), {}, {}});
    }
    if (failure) throw run_folder_error("cannot read the folder '" + folder.string() + "': " + failure.message());
    std::ranges::sort(checkpoints_, {}, &Checkpoint::number);
  }

  void forget_from(std::uint64_t number) {
    std::erase_if(reports_, [&](const Report& r) { return r.number >= number; });
  }
  void replay(Report entry) {
    forget_from(entry.number);
    last_ = entry.number;
    reports_.push_back(std::move(entry));
  }

  // Under another name, so that no later resume takes it for a checkpoint of the reports that are made again.
  void put_newest_aside(const std::string& why) {
    const Checkpoint& damaged = checkpoints_.back();
    std::string where;
    if (std::error_code failure; !damaged.path.empty()) {
      std::filesystem::rename(damaged.path, damaged.path + ".damaged", failure);
      if (!failure) where = " (it is now '" + damaged.path + ".damaged')";
    }
    log(log_level::warning, "train",
        "checkpoint " + std::to_string(damaged.number) + " of run '" + options_.name +
            "' cannot be read, so an older one is used" + where + ": " + why);
    checkpoints_.pop_back();
  }

  void continue_after(std::uint64_t number, const checkpoint_reader& reader) {
    forget_from(number + 1);
    last_ = number;
    if (reports_.empty() || reports_.back().number != number) {
      auto entry = reader.get<Report>(report_name);
      if (journal_) journal_->append(std::span<const std::byte>(to_bytes(entry)));
      checkpoints_.back().metrics = entry.metrics;
      reports_.push_back(std::move(entry));
    }
  }

  void keep_checkpoint(const Report& entry, saver& save) {
    if (!options_.checkpoint.score.empty()) (void)entry.metrics.at(options_.checkpoint.score);
    checkpoint_writer writer;
    writer(report_name, entry);
    save(writer);
    Checkpoint fresh{entry.number, {}, entry.metrics, {}};
    if (path_.empty()) {
      fresh.memory = checkpoint_reader::from_bytes(writer.bytes(), "of report " + std::to_string(entry.number));
    } else {
      std::string digits = std::to_string(entry.number);
      if (digits.size() < 6) digits.insert(0, 6 - digits.size(), '0');
      fresh.path = (std::filesystem::path(path_) / "checkpoints" / (digits + std::string(suffix))).string();
      writer.save(fresh.path);
    }
    checkpoints_.push_back(std::move(fresh));
  }

  /// Indices into checkpoints_, the best first; of equals the newer first.
  [[nodiscard]] std::vector<std::size_t> by_score() const {
    std::vector<std::size_t> ranked(checkpoints_.size());
    for (std::size_t i = 0; i < ranked.size(); ++i) ranked[i] = ranked.size() - 1 - i;
    if (const std::string& score = options_.checkpoint.score; !score.empty())
      std::ranges::stable_sort(ranked, [&](std::size_t a, std::size_t b) {
        const double* left = checkpoints_[a].metrics.find(score);
        const double* right = checkpoints_[b].metrics.find(score);
        return left && (!right || better(options_.checkpoint.order, *left, *right));
      });
    return ranked;
  }

  void drop_surplus() {
    const std::size_t keep = options_.checkpoint.num_to_keep;
    if (keep == 0 || checkpoints_.size() <= keep) return;
    const std::vector<std::size_t> ranked = by_score();
    std::vector<bool> drop(checkpoints_.size(), true);
    for (std::size_t i = 0; i < keep; ++i) drop[ranked[i]] = false;
    drop.back() = false;
    std::vector<Checkpoint> kept;
    for (std::size_t i = 0; i < checkpoints_.size(); ++i) {
      if (drop[i]) {
        std::error_code failure;
        if (!checkpoints_[i].path.empty()) std::filesystem::remove(checkpoints_[i].path, failure);
        if (failure)
          log(log_level::warning, "train",
              [&] { return "cannot remove '" + checkpoints_[i].path + "': " + failure.message(); });
      } else {
        kept.push_back(std::move(checkpoints_[i]));
      }
    }
    checkpoints_ = std::move(kept);
  }

  // The number is left out where the report itself begins with it: "epoch 3", as a rule.
  [[nodiscard]] std::string line() const {
    const metric_map& metrics = reports_.back().metrics;
    std::string text = last_metrics();
    if (metrics.begin() == metrics.end() || metrics.begin()->value != static_cast<double>(last_))
      text.insert(0, "report " + std::to_string(last_));
    else
      text.erase(0, 2);
    if (attempt_ > 1) text += "  (attempt " + std::to_string(attempt_) + ")";
    return text;
  }
  [[nodiscard]] std::string last_metrics() const {
    std::string text;
    if (reports_.empty()) return text;
    for (const metric& m : reports_.back().metrics) {
      text += "  " + m.name + " ";
      cadre::detail::append_significant(text, m.value, 6);
    }
    return text;
  }

  static constexpr std::string_view suffix = ".cadre";

  Options options_;
  std::string path_;
  std::optional<journal> journal_;
  std::vector<Report> reports_;
  std::vector<Checkpoint> checkpoints_;  // by number
  std::uint64_t last_ = 0;               // the number of the last report
  int attempt_ = 1;
  std::optional<progress> bar_;
};

}  // namespace train::detail
CADRE_NAMESPACE_END

#endif
