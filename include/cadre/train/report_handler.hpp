#ifndef CADRE_TRAIN_REPORT_HANDLER_HPP
#define CADRE_TRAIN_REPORT_HANDLER_HPP

#include <cadre/core/function.hpp>
#include <cadre/core/metric_map.hpp>
#include <cadre/persist/checkpoint_writer.hpp>

CADRE_NAMESPACE_BEGIN
namespace train {

using cadre::checkpoint_writer;

/// Adds the values of a checkpoint to a writer.
using saver = move_only_function<void(checkpoint_writer&)>;

/// What stands behind a context on rank 0: the trainer's run, or a trial of the tuner.
class report_handler {
 public:
  virtual ~report_handler() = default;

  /// Keeps a report, and the checkpoint that `save` makes unless it is null. Called on rank 0, by the thread that
  /// trains. Returns whether training goes on; what it throws becomes an error of the attempt on every rank.
  virtual bool report(const metric_map& metrics, saver* save) = 0;
};

}  // namespace train
CADRE_NAMESPACE_END

#endif
