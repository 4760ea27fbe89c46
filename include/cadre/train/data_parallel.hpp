#ifndef CADRE_TRAIN_DATA_PARALLEL_HPP
#define CADRE_TRAIN_DATA_PARALLEL_HPP

#include <cadre/comm/any_communicator.hpp>
#include <cadre/comm/detail/on_behalf_of.hpp>
#include <cadre/train/detail/bucket.hpp>
#include <cadre/train/detail/initial_sync.hpp>
#include <cadre/train/detail/kernels.hpp>
#include <cadre/train/error.hpp>
#include <cadre/train/parameters.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train {

struct data_parallel_options {
  std::uint64_t bucket = std::uint64_t{25} << 20;  ///< bytes of gradients that are reduced together
  std::uint64_t first_bucket = std::uint64_t{1}
                               << 20;  ///< the same for those ready first: small, so that reducing begins early
  bool average = true;                 ///< divide the sum by the number of ranks; false: leave it, see gradient_scale()
  bool broadcast_parameters = true;    ///< give every rank the values of rank 0 at construction
};

struct step_options {
  bool synchronize = true;  ///< false: gradients stay this rank's own, to be added to by the next step
};

class gradient_step;
class no_sync_scope;

/// Averages the gradients of a model's replicas, one per rank, in buckets, from the last parameter to the first:
///
///     train::data_parallel ddp{comm, p};
///     for (...) {
///       auto step = ddp.begin();
///       ... backward: as soon as a gradient is complete, step.ready("w2"); step.ready("w1");
///       step.finish();               // gradients are now the mean over all ranks
///       optimizer.step();
///     }
///
/// Every rank makes it, and makes the same steps. A bucket is reduced when all its gradients are ready and all buckets
/// before it are done: in the same order on every rank, whatever the order of the calls of ready. It is reduced by the
/// thread that calls ready or finish.
///
/// Gradients of made parameters are reduced where they lie; those of added ones are copied to memory of the communicator
/// and back, as large as the largest bucket. With one rank nothing is copied or reduced. Sums are the communicator's:
/// the same bits in every run. Neither copyable nor movable, since steps refer to it; for one thread.
class data_parallel {
 public:
  /// A collective: compares the ranks' parameters, then broadcasts rank 0's values. Throws parameters_disagree (803) on
  /// every rank, option_invalid (807), and what collectives throw.
  data_parallel(any_communicator comm, parameters list, data_parallel_options options = {})
      : comm_(std::move(comm)), parameters_(std::move(list)), options_(options) {
    if (options.bucket == 0 || options.first_bucket == 0)
      throw option_invalid("data_parallel's bucket and first_bucket must be above 0");
    parameters_.check();
    parameters_.freeze();
    const cadre::detail::on_behalf_of by("data_parallel");
    if (comm_.world_size() > 1) detail::require_same_parameters(comm_, parameters_);
    buckets_ = detail::make_buckets(parameters_, options.first_bucket, options.bucket);
    bucket_of_.resize(parameters_.size());
    for (std::size_t b = 0; b < buckets_.size(); ++b)
      for (std::size_t i = buckets_[b].first; i <= buckets_[b].last; ++i) bucket_of_[i] = b;
    pending_.resize(buckets_.size());
    ready_.resize(parameters_.size());
    if (comm_.world_size() == 1) return;
    std::size_t staging = 0;
    for (const detail::bucket& b : buckets_)
      if (!b.in_place) staging = std::max(staging, b.count * size_of(b.type));
    if (staging != 0) staging_ = comm_.allocate_bytes(staging);
    if (options.broadcast_parameters) detail::broadcast_values(comm_, parameters_, options.bucket);
  }
  data_parallel(const data_parallel&) = delete;
  data_parallel& operator=(const data_parallel&) = delete;

  /// Begins a step: gradients may be written from now on. Throws parameter_changed (802), and step_misused (804) while
  /// another step is open.
  [[nodiscard]] gradient_step begin(step_options options = {});

  /// While it lives, steps leave gradients as this rank made them: accumulate several micro-batches, and let the last
  /// step, outside, reduce the sum.
  [[nodiscard]] no_sync_scope no_sync();

  /// What an optimizer multiplies gradients by to average them if options.average is false: 1 / world_size. It costs
  /// nothing there, while averaging here costs a pass over the gradients of made parameters.
  [[nodiscard]] double gradient_scale() const { return options_.average ? 1.0 : 1.0 / comm_.world_size(); }

  /// Buckets per step.
  [[nodiscard]] std::size_t buckets() const noexcept { return buckets_.size(); }
  /// Steps that were finished with a reduction.
  [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }

 private:
  friend class gradient_step;
  friend class no_sync_scope;

  std::size_t index_of(std::string_view name) const {
    // Gradients mostly become ready from the last parameter to the first.
    if (guess_ < parameters_.size() && parameters_[guess_].name == name) return guess_;
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      if (parameters_[i].name == name) return i;
    std::string message = "there is no parameter '" + std::string(name) + "'; there are:";
    for (const parameter& p : parameters_) message += " '" + p.name + "'";
    throw step_misused(message);
  }

  void mark_ready(std::size_t i) {
    if (ready_[i])
      throw step_misused("parameter '" + parameters_[i].name + "' is ready for the second time in this step");
    ready_[i] = 1;
    guess_ = i - 1;  // beyond the last one after the first
    --pending_[bucket_of_[i]];
    launch();
  }

  void launch() {
    while (next_ < buckets_.size() && pending_[next_] == 0) {
      if (reduces_) reduce(buckets_[next_]);
      ++next_;
    }
  }

  void reduce(const detail::bucket& b) {
    const bool staged = b.in_place == nullptr;
    std::byte* const memory = staged ? staging_.get() : b.in_place;
    if (staged)
      detail::each_staged(b, parameters_, memory, [](std::byte* to, const parameter& p) {
        if (p.count != 0) std::memcpy(to, p.gradient, p.bytes());
      });
    try {
      const cadre::detail::on_behalf_of by("data_parallel");
      comm_.all_reduce_bytes(memory, b.count, b.type, sum);
    } catch (...) {
      lost_ = true;  // the peers know: no need to tell them when the step is left
      throw;
    }
    visit_real(b.type, [&]<class T>(T) {
      const T factor = options_.average ? static_cast<T>(1.0 / comm_.world_size()) : T{1};
      if (staged)
        detail::each_staged(b, parameters_, memory, [&](const std::byte* from, const parameter& p) {
          detail::copy_scaled(reinterpret_cast<const T*>(from), p.gradient_as<T>(), p.count, factor);
        });
      else if (options_.average)
        detail::scale(reinterpret_cast<T*>(memory), b.count, factor);
    });
  }

  void open(bool synchronize) {
    if (open_) throw step_misused("a step is open; finish it before the next begins");
    parameters_.check();
    open_ = true;
    lost_ = false;
    reduces_ = synchronize && comm_.world_size() > 1;
    synchronizes_ = synchronize;
    next_ = 0;
    guess_ = parameters_.size() - 1;
    std::fill(ready_.begin(), ready_.end(), char{0});
    for (std::size_t b = 0; b < buckets_.size(); ++b) pending_[b] = buckets_[b].last - buckets_[b].first + 1;
  }

  void close() {
    std::string missing;
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      if (!ready_[i]) missing += " '" + parameters_[i].name + "'";
    if (!missing.empty())
      throw parameters_not_ready("finish() with parameters whose gradients were not ready:" + missing +
                                 "; call ready for each in every step, also where a gradient is zero");
    open_ = false;
    if (synchronizes_) ++steps_;
  }

  // Peers would wait for ever in the reductions of a step that this rank has left.
  void leave(bool unwinding) noexcept {
    open_ = false;
    if (!reduces_ || lost_) return;
    try {
      comm_.abort("rank " + std::to_string(comm_.rank()) + " left gradient step " + std::to_string(steps_ + 1) +
                  (unwinding ? " by an exception" : " without finish()"));
    } catch (...) {  // no memory for the text
      comm_.abort("a rank left a gradient step");
    }
  }

  any_communicator comm_;
  parameters parameters_;
  data_parallel_options options_;
  std::vector<detail::bucket> buckets_;
  std::vector<std::size_t> bucket_of_;  // of each parameter
  std::vector<std::size_t> pending_;    // parameters of each bucket that are not ready
  std::vector<char> ready_;             // per parameter
  std::shared_ptr<std::byte> staging_;
  std::size_t next_ = 0;   // the bucket to be reduced next
  std::size_t guess_ = 0;  // the parameter that is probably ready next
  std::uint64_t steps_ = 0;
  int no_sync_ = 0;
  bool open_ = false, reduces_ = false, synchronizes_ = false, lost_ = false;
};

/// One backward pass; made by data_parallel::begin. A step that is destroyed without finish(), by an exception above
/// all, aborts the communicator, so that the peers get communicator_aborted (402) and do not hang.
class [[nodiscard]] gradient_step {
 public:
  gradient_step(gradient_step&& other) noexcept
      : ddp_(std::exchange(other.ddp_, nullptr)), exceptions_(other.exceptions_) {}
  gradient_step& operator=(gradient_step&&) = delete;
  ~gradient_step() {
    if (ddp_) ddp_->leave(std::uncaught_exceptions() > exceptions_);
  }

  /// The gradient of this parameter is complete, and must not be touched until finish(). May reduce buckets on the way.
  /// Throws step_misused (804), and what collectives throw.
  void ready(std::string_view name) { self().mark_ready(self().index_of(name)); }
  /// The same by its place in the list.
  void ready(std::size_t index) {
    if (index >= self().parameters_.size())
      throw step_misused("there is no parameter " + std::to_string(index) + "; there are " +
                         std::to_string(self().parameters_.size()));
    self().mark_ready(index);
  }
  /// All that are not yet ready are.
  void ready_all() {
    for (std::size_t i = self().parameters_.size(); i-- > 0;)
      if (!ddp_->ready_[i]) ddp_->mark_ready(i);
  }

  /// Returns when every gradient is reduced. Throws parameters_not_ready (805), naming them, and what collectives throw.
  void finish() {
    self().close();
    ddp_ = nullptr;
  }

 private:
  friend class data_parallel;
  explicit gradient_step(data_parallel* ddp) noexcept : ddp_(ddp), exceptions_(std::uncaught_exceptions()) {}

  data_parallel& self() const {
    if (!ddp_) throw step_misused("this step is finished; begin another");
    return *ddp_;
  }

  data_parallel* ddp_;
  int exceptions_;
};

/// See data_parallel::no_sync.
class [[nodiscard]] no_sync_scope {
 public:
  no_sync_scope(const no_sync_scope&) = delete;
  no_sync_scope& operator=(const no_sync_scope&) = delete;
  ~no_sync_scope() { --ddp_->no_sync_; }

 private:
  friend class data_parallel;
  explicit no_sync_scope(data_parallel* ddp) noexcept : ddp_(ddp) { ++ddp_->no_sync_; }
  data_parallel* ddp_;
};

inline gradient_step data_parallel::begin(step_options options) {
  open(options.synchronize && no_sync_ == 0);
  return gradient_step(this);
}

inline no_sync_scope data_parallel::no_sync() { return no_sync_scope(this); }

}  // namespace train
CADRE_NAMESPACE_END

#endif
