#ifndef CADRE_TUNE_DETAIL_STUDY_LOG_HPP
#define CADRE_TUNE_DETAIL_STUDY_LOG_HPP

#include <cadre/archive/to_bytes.hpp>
#include <cadre/persist/journal.hpp>
#include <cadre/tune/error.hpp>
#include <cadre/tune/scheduler.hpp>
#include <cadre/tune/trial_state.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune::detail {

/// What identifies a study, as names and texts: two studies with equal lists make equal decisions.
using study_identity = std::vector<std::pair<std::string, std::string>>;

/// Throws study_differs (910), naming each difference.
inline void check_identity(const study_identity& stored, const study_identity& given, const std::string& path) {
  std::string differences;
  const auto text_of = [](const study_identity& list, const std::string& name) -> const std::string* {
    for (const auto& [key, text] : list)
      if (key == name) return &text;
    return nullptr;
  };
  const auto note = [&differences](const std::string& name, const std::string* was, const std::string* is) {
    differences += "; " + name + " was " + (was ? *was : "absent") + ", is " + (is ? *is : "absent");
  };
  for (const auto& [name, text] : stored)
    if (const std::string* now = text_of(given, name); !now || *now != text) note(name, &text, now);
  for (const auto& [name, text] : given)
    if (!text_of(stored, name)) note(name, nullptr, &text);
  if (differences.empty() && stored != given) differences = "; the order of the parameters has changed";
  if (!differences.empty())
    throw study_differs("the study in '" + path + "' was made with other settings" + differences +
                        "; use the old settings, or another .storage");
}

/// The journal of a study: what was asked, reported and ended, in order. Kinds and fields never change their meaning;
/// new kinds get new numbers. A template so that only those who tune pay to compile it.
template <class Journal = journal>
class study_log {
 public:
  enum class kind : std::uint8_t { identity = 0, start = 1, resume = 2, report = 3, end = 4 };

  void open(const std::string& path, auto&& each) {
    journal_.emplace(Journal::open(path, {.sync = journal_sync::on_request}, each));
  }
  [[nodiscard]] bool is_open() const noexcept { return journal_.has_value(); }
  [[nodiscard]] bool empty() const noexcept { return !journal_ || journal_->size() == 0; }
  void sync() {
    if (journal_) journal_->sync();
  }

  void identity(const study_identity& settings) { append(kind::identity, settings); }
  void start(trial_id id, const point& where) { append(kind::start, std::uint64_t{id}, where); }
  void resume(trial_id id) { append(kind::resume, std::uint64_t{id}); }
  void report(trial_id id, double t, const metric_map& metrics, decision d) {
    if (!journal_) return;
    std::vector<std::string> names;
    std::vector<double> values;
    for (const metric& m : metrics) {
      names.push_back(m.name);
      values.push_back(m.value);
    }
    append(kind::report, std::uint64_t{id}, t, names, values, static_cast<std::uint8_t>(d));
  }
  void end(trial_id id, trial_state state, double seconds, const std::string& error) {
    append(kind::end, std::uint64_t{id}, static_cast<std::uint8_t>(state), seconds, error);
  }

 private:
  template <class... Fields>
  void append(kind what, const Fields&... fields) {
    if (journal_) journal_->append(to_bytes(static_cast<std::uint8_t>(what), fields...));
  }

  std::optional<Journal> journal_;
};

}  // namespace tune::detail
CADRE_NAMESPACE_END

#endif
