#ifndef CADRE_DATA_DISTRIBUTED_SAMPLER_HPP
#define CADRE_DATA_DISTRIBUTED_SAMPLER_HPP

#include <cadre/core/permutation.hpp>
#include <cadre/data/error.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace data {

/// Which part of the samples: that of `rank` among `world_size`.
struct shard {
  int rank = 0;
  int world_size = 1;
};

struct sampler_options {
  bool shuffle = true;     ///< false: samples come in their own order, the same in every epoch
  bool drop_last = false;  ///< true: drop the tail that does not fill all ranks; false: pad it from the epoch's start
};

/// Anything that knows its rank among its peers: a communicator, a train::context.
template <class T>
concept ranked = requires(const T& t) {
  { t.rank() } -> std::convertible_to<int>;
  { t.world_size() } -> std::convertible_to<int>;
};

class sampler_batches;

/// Deals the indices 0 .. samples-1 of a data set to the ranks, in a new order every epoch, so that all ranks have
/// equally many and together cover every sample once.
///
///     for (int epoch = 0; epoch < epochs; ++epoch) {
///       sampler.set_epoch(epoch);
///       for (std::span<const std::size_t> batch : sampler.batches(64)) ...
///     }
///
/// The order of an epoch is a permutation keyed by (seed, epoch) alone; rank r of N takes its positions r, r + N,
/// r + 2N, ... So batch k of all ranks together holds the same samples for every N that divides the global batch.
/// To give the same micro-batches, in the same order within each, to 1, 2 or 4 workers, sample 4 shards and let worker
/// w of N handle shards w * 4 / N to (w + 1) * 4 / N.
///
/// The order is computed as it is walked: memory is one batch, whatever the number of samples. One thread at a time.
/// Every rank must be given the same size, seed and options, and the same calls.
class distributed_sampler {
 public:
  /// Throws sampler_error 706 (rank not in 0 .. world_size-1) or 707 (negative size).
  template <std::integral Size, std::integral Seed = std::uint64_t>
  distributed_sampler(Size samples, shard part, Seed seed = 0, sampler_options options = {})
      : seed_(static_cast<std::uint64_t>(seed)), options_(options), order_(0, 0) {
    if constexpr (std::signed_integral<Size>)
      if (samples < 0) throw sampler_error::negative_size();
    if (part.rank < 0 || part.rank >= part.world_size) throw sampler_error::bad_shard(part.rank, part.world_size);
    samples_ = static_cast<std::size_t>(samples);
    rank_ = static_cast<std::size_t>(part.rank);
    world_size_ = static_cast<std::size_t>(part.world_size);
    enter(0, 0);
  }
  /// Rank and world size are read once, here.
  template <std::integral Size, ranked Context, std::integral Seed = std::uint64_t>
  distributed_sampler(Size samples, const Context& context, Seed seed = 0, sampler_options options = {})
      : distributed_sampler(samples, shard{context.rank(), context.world_size()}, seed, options) {}

  /// Enters an epoch. Another epoch than the present one begins at its first sample; entering the present one again
  /// changes nothing, so that a restored position survives the loop's own call.
  void set_epoch(std::integral auto epoch) {
    const auto e = static_cast<std::uint64_t>(epoch);
    if (e == epoch_) return;
    enter(e, 0);
  }

  /// One pass over this rank's samples of this epoch, `batch_size` indices at a time (fewer in the last): a range of
  /// `std::span<const std::size_t>`, each valid until the next is taken. The pass begins at the position that was set
  /// or restored, else at the first sample. Throws sampler_error 708 if batch_size is 0.
  [[nodiscard]] sampler_batches batches(std::size_t batch_size);

  /// Samples of this rank in a whole epoch: the same on every rank.
  [[nodiscard]] std::size_t size() const noexcept { return share(0); }
  [[nodiscard]] std::size_t samples() const noexcept { return samples_; }
  [[nodiscard]] std::uint64_t epoch() const noexcept { return epoch_; }
  [[nodiscard]] std::uint64_t seed() const noexcept { return seed_; }

  /// Samples of this epoch that all ranks together have been given, equal on every rank after equally many batches. A
  /// batch counts as soon as it is handed out, so a checkpoint taken after its step resumes with the next one.
  [[nodiscard]] std::size_t position() const noexcept { return position_; }
  /// The next pass begins after the first `position` samples of the epoch; each of the others is dealt exactly once,
  /// also when this world has another size than the one that stopped there. Throws sampler_error 709 beyond the end.
  void set_position(std::size_t position) {
    if (position > samples_) throw sampler_error::bad_position(position, samples_);
    start_ = position_ = position;
  }

  /// Saves and restores epoch and position through any archive of cereal's form: `w("sampler", sampler)`. Throws
  /// sampler_error 710 if the saved sampler had another size, seed or order: its position would mean nothing here.
  template <class Archive>
  void serialize(Archive& archive) {
    std::uint64_t saved_samples = samples_, saved_seed = seed_, epoch = epoch_, position = position_;
    bool saved_shuffle = options_.shuffle;
    archive(saved_samples, saved_seed, saved_shuffle, epoch, position);
    if constexpr (Archive::is_loading::value) {
      require_equal("samples", saved_samples, samples_);
      require_equal("seed", saved_seed, seed_);
      require_equal("shuffle", saved_shuffle, options_.shuffle);
      if (position > samples_) throw sampler_error::bad_position(position, samples_);
      enter(epoch, position);
    }
  }

 private:
  friend class sampler_batches;

  static void require_equal(const char* what, std::uint64_t saved, std::uint64_t ours) {
    if (saved == ours) return;
    throw sampler_error::other_order(std::string(what) + " was " + std::to_string(saved) + ", is " +
                                     std::to_string(ours));
  }

  void enter(std::uint64_t epoch, std::size_t position) {
    order_ = permutation{samples_, seed_, epoch};
    epoch_ = epoch;
    start_ = position_ = position;
  }

  /// Samples of each rank in a pass that begins at `start`.
  [[nodiscard]] std::size_t share(std::size_t start) const noexcept {
    const std::size_t left = samples_ - start;
    return left / world_size_ + (!options_.drop_last && left % world_size_ != 0 ? 1 : 0);
  }

  /// The sample at a place of the global order; places beyond its end repeat it from the start.
  [[nodiscard]] std::size_t at(std::size_t place) const {
    if (place >= samples_) place %= samples_;
    return options_.shuffle ? static_cast<std::size_t>(order_[place]) : place;
  }

  std::size_t samples_ = 0;
  std::size_t rank_ = 0;
  std::size_t world_size_ = 1;
  std::uint64_t seed_;
  sampler_options options_;
  permutation order_;
  std::uint64_t epoch_ = 0;
  std::size_t start_ = 0;     // where the next pass begins
  std::size_t position_ = 0;  // what the present pass has handed out, over all ranks
};

/// What distributed_sampler::batches returns: an input range to be walked once, which moves the sampler's position and
/// must not outlive it.
class sampler_batches {
 public:
  class iterator {
   public:
    using value_type = std::span<const std::size_t>;
    using difference_type = std::ptrdiff_t;
    using iterator_concept = std::input_iterator_tag;

    iterator() = default;
    value_type operator*() const noexcept { return {batches_->indices_.data(), batches_->indices_.size()}; }
    iterator& operator++() {
      batches_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& it, std::default_sentinel_t) noexcept { return it.done(); }

   private:
    friend class sampler_batches;
    explicit iterator(sampler_batches* batches) noexcept : batches_(batches) {}
    [[nodiscard]] bool done() const noexcept { return batches_->indices_.empty(); }
    sampler_batches* batches_ = nullptr;
  };

  /// Begins the pass.
  [[nodiscard]] iterator begin() {
    sampler_->start_ = 0;
    next();
    return iterator{this};
  }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

  /// Batches in the whole pass: the same on every rank.
  [[nodiscard]] std::size_t size() const noexcept { return share_ / batch_size_ + (share_ % batch_size_ != 0 ? 1 : 0); }

 private:
  friend class distributed_sampler;
  sampler_batches(distributed_sampler& sampler, std::size_t batch_size)
      : sampler_(&sampler), batch_size_(batch_size), start_(sampler.start_), share_(sampler.share(start_)) {}

  void next() {
    const std::size_t n = std::min(batch_size_, share_ - taken_);
    indices_.resize(n);
    for (std::size_t& index : indices_)
      index = sampler_->at(start_ + sampler_->rank_ + taken_++ * sampler_->world_size_);
    sampler_->position_ = std::min(start_ + taken_ * sampler_->world_size_, sampler_->samples_);
  }

  distributed_sampler* sampler_;
  std::size_t batch_size_;
  std::size_t start_;
  std::size_t share_;
  std::size_t taken_ = 0;
  std::vector<std::size_t> indices_;
};

inline sampler_batches distributed_sampler::batches(std::size_t batch_size) {
  if (batch_size == 0) throw sampler_error::empty_batch();
  return sampler_batches{*this, batch_size};
}

}  // namespace data

CADRE_NAMESPACE_END

#endif
