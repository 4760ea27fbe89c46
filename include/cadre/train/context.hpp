#ifndef CADRE_TRAIN_CONTEXT_HPP
#define CADRE_TRAIN_CONTEXT_HPP

#include <cadre/comm/any_communicator.hpp>
#include <cadre/comm/detail/on_behalf_of.hpp>
#include <cadre/core/metric_map.hpp>
#include <cadre/persist/checkpoint_reader.hpp>
#include <cadre/train/detail/agreement.hpp>
#include <cadre/train/error.hpp>
#include <cadre/train/report_handler.hpp>

#include <concepts>
#include <cstdint>
#include <exception>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train {

using cadre::checkpoint_reader;

enum class device_kind : std::uint8_t { cpu, cuda };

/// Where a worker computes.
struct device {
  device_kind kind = device_kind::cpu;
  int index = 0;
  friend bool operator==(const device&, const device&) = default;
};

/// What a context is made of; the trainer and the tuner fill it in.
struct context_options {
  report_handler* handler = nullptr;                              ///< on rank 0: keeps the reports; null keeps none
  std::shared_ptr<const checkpoint_reader> checkpoint = nullptr;  ///< where to continue; null at a fresh start
  int attempt = 1;
  std::stop_token stop = {};
  train::device device = {};
};

/// A worker's window onto its training: who it is, its peers, where to continue, and how to report. One per rank and
/// attempt, for the thread that trains.
class context {
 public:
  context(any_communicator comm, context_options options) : comm_(std::move(comm)), options_(std::move(options)) {}
  context(const context&) = delete;
  context& operator=(const context&) = delete;

  [[nodiscard]] int rank() const { return comm_.rank(); }
  [[nodiscard]] int world_size() const { return comm_.world_size(); }

  /// The communicator of this attempt's workers. When one of them throws, calls on it throw communicator_aborted (402).
  [[nodiscard]] any_communicator& comm() noexcept { return comm_; }

  [[nodiscard]] train::device device() const noexcept { return options_.device; }

  /// The checkpoint to continue from, the same on every rank; null at a fresh start:
  ///
  ///     if (auto c = ctx.checkpoint()) (*c)("epoch", first)("model", model);
  [[nodiscard]] std::shared_ptr<const checkpoint_reader> checkpoint() const noexcept { return options_.checkpoint; }

  /// 1 for the first attempt, one more after each failure.
  [[nodiscard]] int attempt() const noexcept { return options_.attempt; }

  /// Whether a stop was requested, as seen by this rank now. Ranks may see it at different times, so leave a loop by
  /// what report() returns, which all agree on.
  [[nodiscard]] bool stop_requested() const noexcept { return options_.stop.stop_requested(); }

  /// Hands in one report: a collective, to be called equally often by every rank. Rank 0's metrics are kept (average
  /// over the ranks first: mean(), or aggregate of train/metrics.hpp). Returns whether to go on, the same on every rank;
  /// false says that the caller asked to stop, or the tuner has seen enough.
  ///
  /// Throws reports_diverge (809) on every rank when one has already returned from the train function; on rank 0 what
  /// keeping the report threw, and then report_failed (810) on the others. Costs one all_gather of 16 bytes and one
  /// broadcast, and the ranks wait until rank 0 has kept the report.
  bool report(const metric_map& metrics) { return report(metrics, static_cast<saver*>(nullptr)); }

  /// The same with a checkpoint: `save(checkpoint_writer&)` adds its values, and is called on rank 0 alone.
  template <std::invocable<checkpoint_writer&> Save>
  bool report(const metric_map& metrics, Save&& save) {
    saver erased([&save](checkpoint_writer& w) { save(w); });
    return report(metrics, &erased);
  }

  /// The mean of `value` over the ranks, each counting `weight` times (samples it has seen, say). A collective. NaN if
  /// the weights sum to 0.
  [[nodiscard]] double mean(double value, double weight = 1) {
    const cadre::detail::on_behalf_of mean("context::mean");
    double sums[2] = {value * weight, weight};
    comm_.all_reduce_bytes(sums, 2, data_type::float64, sum);
    return sums[0] / sums[1];
  }

  /// Reports handed in during this attempt.
  [[nodiscard]] std::uint64_t reports() const noexcept { return reports_; }

  /// Says that this rank reports no more: called by whoever called the train function, after it returned, on every
  /// rank. Throws reports_diverge (809) on every rank if another rank is in report().
  void finish() {
    const cadre::detail::on_behalf_of end("training's end");
    (void)meet(detail::meeting::end);
  }

 private:
  bool report(const metric_map& metrics, saver* save) {
    const cadre::detail::on_behalf_of report("context::report");
    const bool stop = meet(detail::meeting::report);
    ++reports_;
    bool go_on = true;
    std::exception_ptr failure;
    std::string what;
    if (rank() == 0 && options_.handler != nullptr) {
      try {
        go_on = options_.handler->report(metrics, save);
      } catch (...) {
        failure = std::current_exception();
        what = detail::text_of(failure);
      }
    }
    enum : std::uint8_t { ends, goes_on, failed };
    const std::uint8_t verdict = comm_.broadcast(static_cast<std::uint8_t>(failure          ? failed
                                                                           : go_on && !stop ? goes_on
                                                                                            : ends),
                                                 0);
    if (verdict == failed) {
      what = detail::broadcast_text(comm_, what, 0);
      if (failure) std::rethrow_exception(failure);
      throw report_failed("report " + std::to_string(reports_) +
                          " of this attempt could not be kept by rank 0: " + what);
    }
    return verdict == goes_on;
  }

  /// Makes sure that all ranks do the same, and tells whether one of them was asked to stop.
  bool meet(detail::meeting::purpose why) {
    const auto all = comm_.all_gather(detail::meeting{reports_, why, stop_requested() ? 1u : 0u});
    detail::require_same_purpose(all);
    bool stop = false;
    for (const detail::meeting& m : all) stop = stop || m.stop != 0;
    return stop;
  }

  any_communicator comm_;
  context_options options_;
  std::uint64_t reports_ = 0;
};

}  // namespace train
CADRE_NAMESPACE_END

#endif
