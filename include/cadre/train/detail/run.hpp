#ifndef CADRE_TRAIN_DETAIL_RUN_HPP
#define CADRE_TRAIN_DETAIL_RUN_HPP

#include <cadre/archive/to_bytes.hpp>
#include <cadre/comm/any_communicator.hpp>
#include <cadre/comm/detail/on_behalf_of.hpp>
#include <cadre/observe/log.hpp>
#include <cadre/train/attempt.hpp>
#include <cadre/train/detail/agreement.hpp>
#include <cadre/train/detail/run_folder.hpp>
#include <cadre/train/result.hpp>
#include <cadre/train/run_options.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train::detail {

struct run_outcome {
  result training;  // complete on rank 0; elsewhere error and attempts
  int failed_rank = -1;
};

/// Attempts until one ends well or the permitted failures are used up. Every rank of `world` calls it.
template <class Options, class Body>
run_outcome run_training(any_communicator& world, const Options& options, Body&& body) {
  if (options.failure.max_failures < -1)
    throw option_invalid("failure_options::max_failures is " + std::to_string(options.failure.max_failures) +
                         "; give the number of failures to survive, or -1 for any number");
  run_outcome outcome;
  std::optional<run_folder<Options>> folder;
  on_rank_0(world, "opening the run's folder", [&] { folder.emplace(options); });
  for (;;) {
    const int attempt = ++outcome.training.attempts;
    std::shared_ptr<const checkpoint_reader> from;
    on_rank_0(world, "looking for the newest checkpoint", [&] {
      folder->begin_attempt(attempt);
      from = folder->newest();
    });
    const attempt_outcome ended = run_attempt(world,
                                              {.handler = folder ? &*folder : nullptr,
                                               .checkpoint = std::move(from),
                                               .attempt = attempt,
                                               .stop = options.stop},
                                              options.timeout, body);
    outcome.training.error = ended.error;
    outcome.failed_rank = ended.failed_rank;
    const bool again = !ended && (options.failure.max_failures < 0 || attempt <= options.failure.max_failures);
    if (folder && !ended) {
      const std::string what = "attempt " + std::to_string(attempt) + " failed on rank " +
                               std::to_string(ended.failed_rank) + (again ? ", trying again: " : ": ") + ended.message;
      log(again ? log_level::warning : log_level::error, "train", "run '" + options.name + "': " + what);
      folder->note(what);
    }
    if (!again) break;
  }
  on_rank_0(world, "ending the run", [&] {
    folder->finish(outcome.failed_rank < 0);
    folder->describe(outcome.training);
  });
  return outcome;
}

/// Gives every rank what rank 0 knows of the run. Checkpoints on disk travel as their paths.
/// A template so that only those who train with ranks pay to compile it.
void share_result(auto& world, auto& r) {
  const auto report_of = [](const metric_map& metrics) { return kept_report{0, metrics, false}; };
  std::vector<std::byte> bytes;
  if (world.rank() == 0) {
    std::vector<kept_report> history, metrics;
    std::vector<std::uint64_t> numbers;
    std::vector<std::string> paths;
    std::vector<std::vector<std::byte>> memory;
    for (const metric_map& m : r.history) history.push_back(report_of(m));
    for (const kept_checkpoint& c : r.checkpoints) {
      numbers.push_back(c.number);
      paths.push_back(c.path);
      metrics.push_back(report_of(c.metrics));
      memory.emplace_back();
      if (c.memory) memory.back().assign(c.memory->bytes().begin(), c.memory->bytes().end());
    }
    bytes = to_bytes(history, numbers, paths, metrics, memory, r.best, r.path);
  }
  const cadre::detail::on_behalf_of fit("trainer::fit");
  broadcast_sized(world, bytes, 0);
  if (world.rank() == 0) return;
  std::vector<kept_report> history, metrics;
  std::vector<std::uint64_t> numbers;
  std::vector<std::string> paths;
  std::vector<std::vector<std::byte>> memory;
  from_bytes(bytes, history, numbers, paths, metrics, memory, r.best, r.path);
  for (kept_report& entry : history) r.history.push_back(std::move(entry.metrics));
  if (!r.history.empty()) r.metrics = r.history.back();
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    r.checkpoints.push_back({numbers[i], std::move(paths[i]), std::move(metrics[i].metrics), {}});
    if (!memory[i].empty())
      r.checkpoints.back().memory =
          checkpoint_reader::from_bytes(std::move(memory[i]), "of report " + std::to_string(numbers[i]));
  }
}

}  // namespace train::detail
CADRE_NAMESPACE_END

#endif
