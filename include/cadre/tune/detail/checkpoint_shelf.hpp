#ifndef CADRE_TUNE_DETAIL_CHECKPOINT_SHELF_HPP
#define CADRE_TUNE_DETAIL_CHECKPOINT_SHELF_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/persist/checkpoint.hpp>
#include <cadre/tune/trial.hpp>

#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace tune::detail {

/// The newest checkpoint of each trial that may run again: in memory, or as files of a folder. Any thread may call it;
/// one trial's checkpoint is for one thread at a time. A template so that only those who tune pay to compile it.
template <class Reader = checkpoint_reader>
class checkpoint_shelf {
 public:
  /// The trial's t, written among the user's values.
  static constexpr const char* t_name = "cadre.tune.t";

  /// `folder` is there already, or empty: in memory.
  explicit checkpoint_shelf(std::string folder) : folder_(std::move(folder)) {}

  void save(trial_id id, const checkpoint_writer& writer) {
    if (folder_.empty()) {
      auto reader = Reader::from_bytes(writer.bytes(), "of trial " + std::to_string(id));
      const std::lock_guard lock(mutex_);
      in_memory_.insert_or_assign(id, std::move(reader));
    } else {
      writer.save(path_of(id));
    }
  }

  /// Nothing if there is none.
  [[nodiscard]] std::optional<Reader> load(trial_id id) {
    if (!folder_.empty())
      return std::filesystem::exists(path_of(id)) ? std::optional(Reader::open(path_of(id))) : std::nullopt;
    const std::lock_guard lock(mutex_);
    const auto found = in_memory_.find(id);
    return found == in_memory_.end() ? std::nullopt : std::optional(found->second);
  }

  /// The trial has ended for good.
  void remove(trial_id id) noexcept {
    if (!folder_.empty()) {
      std::error_code ignored;  // a file that stays is in nobody's way
      std::filesystem::remove(path_of(id), ignored);
    } else {
      const std::lock_guard lock(mutex_);
      in_memory_.erase(id);
    }
  }

 private:
  [[nodiscard]] std::string path_of(trial_id id) const { return folder_ + "/trial-" + std::to_string(id) + ".ckpt"; }

  std::string folder_;
  std::mutex mutex_;
  std::map<trial_id, Reader> in_memory_;
};

}  // namespace tune::detail
CADRE_NAMESPACE_END

#endif
