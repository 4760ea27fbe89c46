#ifndef CADRE_TRAIN_RESULT_HPP
#define CADRE_TRAIN_RESULT_HPP

#include <cadre/core/direction.hpp>
#include <cadre/core/metric_map.hpp>
#include <cadre/persist/checkpoint_reader.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train {

/// A checkpoint that was kept.
struct kept_checkpoint {
  std::uint64_t number = 0;  ///< that of the report it came with
  std::string path = {};     ///< empty if the run keeps its checkpoints in memory
  metric_map metrics = {};
  std::optional<checkpoint_reader> memory = {};  ///< without a path: the checkpoint itself

  /// Reads and verifies it; throws what checkpoint_reader::open does (513-516, 155-158).
  [[nodiscard]] checkpoint_reader open() const { return memory ? *memory : checkpoint_reader::open(path); }
};

/// What a training came to: the same on every rank, but for the type of the error.
struct result {
  metric_map metrics;                        ///< of the last report; empty if there was none
  std::vector<metric_map> history;           ///< of every report, in order, each once, those before a resume included
  std::vector<kept_checkpoint> checkpoints;  ///< by number
  std::exception_ptr error;                  ///< of the last attempt; null if it ended well
  std::string path;                          ///< the run's folder; empty if it keeps nothing on disk
  int attempts = 0;
  std::optional<std::size_t> best;  ///< index of the best checkpoint by the run's score, else of the newest

  /// The best kept checkpoint by the run's score, the newest without one; nothing if none was made. Throws what
  /// checkpoint_reader::open does.
  [[nodiscard]] std::optional<checkpoint_reader> checkpoint() const {
    if (!best) return std::nullopt;
    return checkpoints[*best].open();
  }
};

}  // namespace train
CADRE_NAMESPACE_END

#endif
