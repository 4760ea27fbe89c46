#ifndef CADRE_TRAIN_METRICS_HPP
#define CADRE_TRAIN_METRICS_HPP

#include <cadre/comm/any_communicator.hpp>
#include <cadre/comm/detail/on_behalf_of.hpp>
#include <cadre/core/hash.hpp>
#include <cadre/core/metric_map.hpp>
#include <cadre/train/error.hpp>

#include <cstddef>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train {

/// A rank's share in a mean: what it added up, and how much that counts (samples, say).
struct weighted_sum {
  std::string_view name;
  double sum;
  double weight;
};

/// The means over all ranks, sum of sums by sum of weights, in one all-reduce; NaN where the weights are all 0. Every
/// rank calls it with the same names in the same order; sums are taken in the communicator's tree, so threads and ranks
/// give the same bits. Throws metrics_disagree (813) on every rank if the names differ, and collective_mismatch (403)
/// if their numbers do.
[[nodiscard]] inline metric_map aggregate(any_communicator comm, std::span<const weighted_sum> metrics) {
  // With 16 bits of a hash of the names, h, the sum of h^2 times the number of ranks equals the square of the sum of h
  // only if all ranks have the same (Cauchy and Schwarz), and both are exact in a double up to 1,448 ranks.
  std::uint64_t hash = 0;
  for (const weighted_sum& m : metrics) hash = hash_combine(hash, hash_text(m.name));
  const double h = static_cast<double>(hash % 65536);
  std::vector<double> packed{h, h * h};
  for (const weighted_sum& m : metrics) {
    packed.push_back(m.sum);
    packed.push_back(m.weight);
  }
  const cadre::detail::on_behalf_of aggregated("aggregate");
  comm.all_reduce_bytes(packed.data(), packed.size(), data_type::float64, sum);
  if (packed[1] * comm.world_size() != packed[0] * packed[0]) {
    std::string names;
    for (const weighted_sum& m : metrics) names += " '" + std::string(m.name) + "'";
    throw metrics_disagree("ranks aggregate metrics of other names, or in another order; rank " +
                           std::to_string(comm.rank()) + " has" + names);
  }
  metric_map means;
  for (std::size_t i = 0; i < metrics.size(); ++i) means.set(metrics[i].name, packed[2 + 2 * i] / packed[3 + 2 * i]);
  return means;
}

/// `aggregate(ctx.comm(), {{"loss", loss, samples}, {"accuracy", correct, samples}})`
[[nodiscard]] inline metric_map aggregate(any_communicator comm, std::initializer_list<weighted_sum> metrics) {
  return aggregate(std::move(comm), std::span<const weighted_sum>(metrics.begin(), metrics.size()));
}

}  // namespace train
CADRE_NAMESPACE_END

#endif
