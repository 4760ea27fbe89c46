#ifndef CADRE_OBSERVE_METRICS_HPP
#define CADRE_OBSERVE_METRICS_HPP

#include <cadre/observe/counter.hpp>
#include <cadre/observe/detail/early_counters.hpp>
#include <cadre/observe/detail/shards.hpp>
#include <cadre/observe/error.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// A number that goes up and down: queue length, bytes in use. Any thread.
class gauge {
 public:
  gauge() = default;
  gauge(const gauge&) = delete;
  gauge& operator=(const gauge&) = delete;

  void set(double value) noexcept { value_.store(value, std::memory_order_relaxed); }
  void add(double amount) noexcept { value_.fetch_add(amount, std::memory_order_relaxed); }
  [[nodiscard]] double value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  alignas(64) std::atomic<double> value_{0};
};

/// The upper bounds of a histogram's buckets: first, first * factor, first * factor^2, ...; a last bucket takes the
/// rest. The default spans 10 us to 84 s when what is observed are seconds.
struct histogram_buckets {
  double first = 1e-5;
  double factor = 2;
  std::size_t count = 24;

  friend bool operator==(const histogram_buckets&, const histogram_buckets&) = default;
};

/// How observations are distributed: seconds per task, bytes per message. Any thread; two relaxed additions and a
/// search among the bounds.
class histogram {
 public:
  /// Throws invalid_metric (1051) unless first > 0, factor > 1, 1 <= count <= 64, and all bounds are finite.
  explicit histogram(histogram_buckets buckets = {}) {
    if (!(buckets.first > 0) || !(buckets.factor > 1) || buckets.count < 1 || buckets.count > most)
      throw invalid_metric("a histogram's buckets need first > 0, factor > 1 and a count from 1 to 64");
    double bound = buckets.first;
    for (std::size_t i = 0; i < buckets.count; ++i, bound *= buckets.factor) bounds_.push_back(bound);
    if (!std::isfinite(bounds_.back()))
      throw invalid_metric("a histogram's buckets grow beyond what a double holds; choose a smaller factor or count");
  }
  histogram(const histogram&) = delete;
  histogram& operator=(const histogram&) = delete;

  /// A NaN counts in the last bucket and makes the sum NaN, as it does in Prometheus' own clients.
  void observe(double value) noexcept {
    std::size_t bucket = bounds_.size();
    if (value <= bounds_.back())
      bucket = static_cast<std::size_t>(std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin());
    const std::size_t place = detail::metric_shard();
    shard& mine = shards_[place];
    detail::add_to_shard(mine.counts[bucket], place, std::uint64_t{1});
    detail::add_to_shard(mine.sum, place, value);
  }

  /// Upper bounds, inclusive, without that of the last bucket, which is infinite.
  [[nodiscard]] const std::vector<double>& bounds() const noexcept { return bounds_; }
  /// One count per bound and one for the rest.
  [[nodiscard]] std::vector<std::uint64_t> counts() const {
    std::vector<std::uint64_t> total(bounds_.size() + 1);
    for (const shard& s : shards_)
      for (std::size_t i = 0; i < total.size(); ++i) total[i] += s.counts[i].load(std::memory_order_relaxed);
    return total;
  }
  [[nodiscard]] double sum() const noexcept {
    double total = 0;
    for (const shard& s : shards_) total += s.sum.load(std::memory_order_relaxed);
    return total;
  }

 private:
  static constexpr std::size_t most = 64;
  struct alignas(64) shard {
    std::array<std::atomic<std::uint64_t>, most + 1> counts{};
    std::atomic<double> sum{0};
  };
  std::vector<double> bounds_;
  std::array<shard, detail::metric_shards> shards_;
};

/// What tells apart the metrics of one name: {{"room", "pool"}, {"kind", "steal"}}. The order does not matter.
using metric_labels = std::vector<std::pair<std::string, std::string>>;

enum class metric_kind : std::uint8_t { counter, gauge, histogram };

[[nodiscard]] constexpr std::string_view to_string(metric_kind kind) noexcept {
  return kind == metric_kind::counter ? "counter" : kind == metric_kind::gauge ? "gauge" : "histogram";
}

/// One metric as it stood when a snapshot was taken.
struct metric_sample {
  std::string name, help;
  metric_kind kind;
  metric_labels labels;                 ///< sorted by name
  double value = 0;                     ///< of a counter or gauge; the number of observations of a histogram
  double sum = 0;                       ///< of a histogram's observations
  std::vector<double> bounds{};         ///< of a histogram's buckets
  std::vector<std::uint64_t> counts{};  ///< per bucket, not cumulative; one more than bounds
};

/// Metrics by name and labels. Registering takes a lock and happens once; keep the reference, which stays good as long
/// as the registry, and count through it without a lock:
///
///     static cadre::counter& stolen = cadre::metrics().counter("cadre_pool_stolen_total", "tasks taken from others");
///     stolen.add();
///
/// Names are Prometheus': [a-zA-Z_:][a-zA-Z0-9_:]*, for labels without the colon and not beginning with two
/// underscores; else invalid_metric (1051). The same name and labels give the same metric; the same name as another
/// kind, or a histogram with other buckets, is metric_mismatch (1050). A help text given later fills an empty one.
///
/// A template so that only those who count pay to compile it; its name is metrics_registry.
template <class Labels = metric_labels>
class basic_metrics_registry {
 public:
  basic_metrics_registry() = default;
  basic_metrics_registry(const basic_metrics_registry&) = delete;
  basic_metrics_registry& operator=(const basic_metrics_registry&) = delete;

  cadre::counter& counter(std::string_view name, std::string_view help = {}, Labels labels = {}) {
    return find_or_add(&family::counters, name, help, metric_kind::counter, std::move(labels), {});
  }

  cadre::gauge& gauge(std::string_view name, std::string_view help = {}, Labels labels = {}) {
    return find_or_add(&family::gauges, name, help, metric_kind::gauge, std::move(labels), {});
  }

  cadre::histogram& histogram(std::string_view name, std::string_view help = {}, Labels labels = {},
                              histogram_buckets buckets = {}) {
    return find_or_add(&family::histograms, name, help, metric_kind::histogram, std::move(labels), buckets, buckets);
  }

  /// A counter that was there before this registry, and is of none: it has no labels. Throws as counter().
  void adopt(std::string_view name, std::string_view help, std::unique_ptr<cadre::counter> c) {
    const std::lock_guard<std::mutex> lock(mutex_);
    family_of(name, help, metric_kind::counter, {}).counters.try_emplace(Labels(), std::move(c));
  }

  /// All metrics, ordered by name and labels. Counting goes on meanwhile; each number was right at some instant.
  [[nodiscard]] std::vector<metric_sample> snapshot() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<metric_sample> samples;
    for (const auto& [name, f] : families_) {
      for (const auto& [labels, c] : f.counters)
        samples.push_back({name, f.help, f.kind, labels, static_cast<double>(c->value())});
      for (const auto& [labels, g] : f.gauges) samples.push_back({name, f.help, f.kind, labels, g->value()});
      for (const auto& [labels, h] : f.histograms) {
        std::vector<std::uint64_t> counts = h->counts();
        std::uint64_t all = 0;
        for (std::uint64_t n : counts) all += n;
        samples.push_back(
            {name, f.help, f.kind, labels, static_cast<double>(all), h->sum(), h->bounds(), std::move(counts)});
      }
    }
    return samples;
  }

 private:
  template <class Metric>
  using by_labels = std::map<Labels, std::unique_ptr<Metric>>;

  struct family {
    metric_kind kind;
    std::string help;
    histogram_buckets buckets;
    by_labels<cadre::counter> counters{};
    by_labels<cadre::gauge> gauges{};
    by_labels<cadre::histogram> histograms{};
  };

  static bool valid_name(std::string_view name, bool colon) noexcept {
    const auto letter = [&](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (colon && c == ':');
    };
    return !name.empty() && letter(name.front()) &&
           std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
  }

  family& family_of(std::string_view name, std::string_view help, metric_kind kind, histogram_buckets buckets) {
    if (!valid_name(name, true))
      throw invalid_metric("'" + std::string(name) +
                           "' is no name for a metric; it must match [a-zA-Z_:][a-zA-Z0-9_:]*");
    family& f = families_.try_emplace(std::string(name), kind, std::string(), buckets).first->second;
    if (f.kind != kind)
      throw metric_mismatch("metric '" + std::string(name) + "' is a " + std::string(to_string(f.kind)) +
                            " and was asked for as a " + std::string(to_string(kind)) + "; choose another name");
    if (f.buckets != buckets)
      throw metric_mismatch("histogram '" + std::string(name) +
                            "' was registered with other buckets; all of one name share them");
    if (f.help.empty()) f.help = help;
    return f;
  }

  static void check_and_sort(Labels& labels, metric_kind kind) {
    std::sort(labels.begin(), labels.end());
    for (std::size_t i = 0; i < labels.size(); ++i) {
      const std::string& label = labels[i].first;
      if (!valid_name(label, false) || label.starts_with("__") || (kind == metric_kind::histogram && label == "le"))
        throw invalid_metric("'" + label +
                             "' is no name for a label; it must match [a-zA-Z_][a-zA-Z0-9_]*, not begin with '__', and "
                             "not be 'le' on a histogram");
      if (i > 0 && labels[i - 1].first == label) throw invalid_metric("label '" + label + "' is given twice");
    }
  }

  template <class Metric, class... Arguments>
  Metric& find_or_add(by_labels<Metric> family::*metrics, std::string_view name, std::string_view help,
                      metric_kind kind, Labels labels, histogram_buckets buckets, const Arguments&... arguments) {
    check_and_sort(labels, kind);
    auto made = std::make_unique<Metric>(arguments...);  // refuses bad buckets before the name is taken
    const std::lock_guard<std::mutex> lock(mutex_);
    return *(family_of(name, help, kind, buckets).*metrics)
                .try_emplace(std::move(labels), std::move(made))
                .first->second;
  }

  mutable std::mutex mutex_;
  std::map<std::string, family> families_;
};

using metrics_registry = basic_metrics_registry<>;

/// The registry of the process, which cadre's own rooms count in. Never destroyed, so that threads may count until the
/// very end.
template <class Registry = metrics_registry>
[[nodiscard]] Registry& metrics() {
  static Registry& registry = []() -> Registry& {
    Registry& made = *new Registry;
    if constexpr (std::is_same_v<Registry, metrics_registry>) detail::early_counters::of_process().join(made);
    return made;
  }();
  return registry;
}

CADRE_NAMESPACE_END

#endif
