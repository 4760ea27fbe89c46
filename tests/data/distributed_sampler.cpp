#include "catch.hpp"

#include <cadre/data/distributed_sampler.hpp>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <numeric>
#include <ranges>
#include <set>
#include <span>
#include <tuple>
#include <type_traits>
#include <vector>

namespace distributed_sampler_test {

using cadre::data::distributed_sampler;
using cadre::data::sampler_error;
using cadre::data::sampler_options;
using cadre::data::shard;
using indices = std::vector<std::size_t>;

static_assert(std::ranges::input_range<cadre::data::sampler_batches>);
static_assert(std::is_same_v<std::ranges::range_value_t<cadre::data::sampler_batches>, std::span<const std::size_t>>);

indices pass(distributed_sampler& sampler, std::size_t batch_size = 7) {
  indices all;
  for (std::span<const std::size_t> batch : sampler.batches(batch_size))
    all.insert(all.end(), batch.begin(), batch.end());
  return all;
}

/// How often each sample was dealt to any of `world_size` ranks.
std::vector<int> dealt(std::size_t samples, int world_size, sampler_options options, std::size_t from = 0) {
  std::vector<int> counts(samples);
  for (int rank = 0; rank < world_size; ++rank) {
    distributed_sampler sampler{samples, shard{rank, world_size}, 3, options};
    sampler.set_epoch(5);
    sampler.set_position(from);
    for (std::size_t i : pass(sampler)) ++counts.at(i);
  }
  return counts;
}

/// What a context of train looks like from here.
struct context {
  int rank() const { return 1; }
  int world_size() const { return 3; }
};

/// An archive of cereal's form that remembers numbers.
template <bool Loading>
struct archive {
  using is_loading = std::bool_constant<Loading>;
  std::vector<std::uint64_t>& stored;
  std::size_t next = 0;
  template <class... T>
  void operator()(T&... values) {
    (one(values), ...);
  }
  template <class T>
  void one(T& value) {
    if constexpr (Loading)
      value = static_cast<T>(stored.at(next++));
    else
      stored.push_back(static_cast<std::uint64_t>(value));
  }
};

}  // namespace distributed_sampler_test

TEST_CASE("all ranks together are dealt every sample once, and equally many each", "[data]") {
  using namespace distributed_sampler_test;
  for (std::size_t samples : {0u, 1u, 5u, 64u, 65u, 1000u, 4099u})
    for (int world_size : {1, 2, 3, 4, 7}) {
      CAPTURE(samples, world_size);
      const auto n = static_cast<std::size_t>(world_size);
      const std::vector<int> counts = dealt(samples, world_size, {});
      const auto sum = static_cast<std::size_t>(std::accumulate(counts.begin(), counts.end(), 0));
      CHECK(sum == (samples + n - 1) / n * n);
      if (samples > 0) {
        const auto [least, most] = std::minmax_element(counts.begin(), counts.end());
        CHECK(*least >= 1);
        if (samples >= n) CHECK(*most <= 2);
      }
      const std::vector<int> dropped = dealt(samples, world_size, {.drop_last = true});
      CHECK(static_cast<std::size_t>(std::accumulate(dropped.begin(), dropped.end(), 0)) == samples / n * n);
      CHECK(std::all_of(dropped.begin(), dropped.end(), [](int c) { return c <= 1; }));
      for (int rank = 0; rank < world_size; ++rank) {
        CHECK(distributed_sampler{samples, shard{rank, world_size}}.size() == (samples + n - 1) / n);
        CHECK(distributed_sampler{samples, shard{rank, world_size}, 0, {.drop_last = true}}.size() == samples / n);
      }
    }
}

TEST_CASE("the padding repeats the epoch from its start", "[data]") {
  using namespace distributed_sampler_test;
  distributed_sampler first{5, shard{0, 4}, 1}, second{5, shard{1, 4}, 1}, last{5, shard{3, 4}, 1};
  const indices a = pass(first), b = pass(second), d = pass(last);
  REQUIRE(a.size() == 2);
  distributed_sampler whole{5, shard{}, 1};
  const indices order = pass(whole);
  CHECK(a == indices{order[0], order[4]});
  CHECK(b == indices{order[1], order[0]});
  CHECK(d == indices{order[3], order[2]});
  distributed_sampler tiny{2, shard{4, 5}, 1};
  CHECK(pass(tiny).size() == 1);
}

TEST_CASE("an epoch's order depends on seed and epoch and on nothing else", "[data]") {
  using namespace distributed_sampler_test;
  distributed_sampler a{1000, shard{}, 7}, b{1000, shard{}, 7}, c{1000, shard{}, 8};
  const indices first = pass(a);
  CHECK(pass(a, 1) == first);  // a second pass over the same epoch; another batch size
  CHECK(pass(b, 999) == first);
  CHECK(pass(c) != first);
  a.set_epoch(1);
  CHECK(pass(a) != first);
  b.set_epoch(9);
  (void)pass(b);
  b.set_epoch(0);
  CHECK(pass(b) == first);
}

TEST_CASE("a sampler told not to shuffle keeps the samples' own order", "[data]") {
  using namespace distributed_sampler_test;
  distributed_sampler sampler{7, shard{1, 2}, 7, {.shuffle = false}};
  CHECK(pass(sampler, 3) == indices{1, 3, 5, 0});
  sampler.set_epoch(4);
  CHECK(pass(sampler, 3) == indices{1, 3, 5, 0});
}

TEST_CASE("a sampler takes its rank from anything that has one", "[data]") {
  using namespace distributed_sampler_test;
  distributed_sampler from_context{100, context{}, 7},
      from_shard{100u, shard{.rank = 1, .world_size = 3}, std::int64_t{7}};
  CHECK(pass(from_context) == pass(from_shard));
}

TEST_CASE("batches have the size asked for, and the last one what is left", "[data]") {
  using namespace distributed_sampler_test;
  distributed_sampler sampler{20, shard{0, 2}, 1};
  std::vector<std::size_t> sizes;
  auto batches = sampler.batches(4);
  CHECK(batches.size() == 3);
  for (auto batch : batches) sizes.push_back(batch.size());
  CHECK(sizes == std::vector<std::size_t>{4, 4, 2});
  distributed_sampler none{0, shard{}, 1};
  CHECK(none.batches(4).size() == 0);
  CHECK(pass(none).empty());
}

TEST_CASE("a step's samples are the same for 1, 2 and 4 workers that share the global batch", "[data]") {
  using namespace distributed_sampler_test;
  constexpr std::size_t samples = 1003, global_batch = 64;
  auto steps = [&](int workers) {
    std::vector<std::multiset<std::size_t>> union_of(17);
    for (int w = 0; w < workers; ++w) {
      distributed_sampler sampler{samples, shard{w, workers}, 11};
      std::size_t k = 0;
      for (auto batch : sampler.batches(global_batch / static_cast<std::size_t>(workers)))
        union_of.at(k++).insert(batch.begin(), batch.end());
    }
    union_of.resize(samples / global_batch);  // the tail holds padding, which depends on the number of workers
    return union_of;
  };
  CHECK(steps(1) == steps(2));
  CHECK(steps(1) == steps(4));
}

TEST_CASE("four micro shards give the same micro-batches in the same order to 1, 2 and 4 workers", "[data]") {
  using namespace distributed_sampler_test;
  constexpr int micro = 4;
  using key = std::pair<std::size_t, int>;  // step, micro-batch
  auto run = [&](int workers) {
    std::map<key, indices> seen;
    for (int w = 0; w < workers; ++w)
      for (int m = w * micro / workers; m < (w + 1) * micro / workers; ++m) {
        distributed_sampler sampler{1003, shard{m, micro}, 11};
        sampler.set_epoch(2);
        std::size_t step = 0;
        for (auto batch : sampler.batches(16)) seen[{step++, m}] = indices(batch.begin(), batch.end());
      }
    return seen;
  };
  const auto one = run(1);
  CHECK(one.size() == 16 * micro);
  CHECK(one == run(2));
  CHECK(one == run(4));
}

TEST_CASE("an epoch that was left in the middle goes on where it stopped, also with another number of ranks",
          "[data]") {
  using namespace distributed_sampler_test;
  constexpr std::size_t samples = 1000;
  std::vector<int> counts(samples);
  std::size_t stopped_at = 0;
  for (int rank = 0; rank < 4; ++rank) {
    distributed_sampler sampler{samples, shard{rank, 4}, 3};
    sampler.set_epoch(5);
    int steps = 0;
    for (auto batch : sampler.batches(10)) {
      for (std::size_t i : batch) ++counts[i];
      if (++steps == 6) break;
    }
    CHECK(sampler.position() == 240);
    stopped_at = sampler.position();
  }
  for (int world_size : {1, 2, 5}) {  // each divides the 760 samples that are left
    std::vector<int> both = dealt(samples, world_size, {}, stopped_at);
    std::transform(both.begin(), both.end(), counts.begin(), both.begin(), std::plus<>{});
    CHECK(both == std::vector<int>(samples, 1));
  }
}

TEST_CASE("a restored position holds for one pass and survives the loop's own set_epoch", "[data]") {
  using namespace distributed_sampler_test;
  distributed_sampler whole{100, shard{}, 3};
  const indices order = pass(whole);
  CHECK(whole.position() == 100);

  distributed_sampler sampler{100, shard{}, 3};
  sampler.set_position(90);
  sampler.set_epoch(0);
  CHECK(sampler.batches(4).size() == 3);
  CHECK(pass(sampler) == indices(order.begin() + 90, order.end()));
  CHECK(pass(sampler) == order);
  sampler.set_position(90);
  sampler.set_epoch(1);
  CHECK(sampler.position() == 0);
  CHECK(pass(sampler).size() == 100);
  sampler.set_position(100);  // the epoch was finished
  CHECK(pass(sampler).empty());
}

TEST_CASE("a sampler is saved and restored through an archive, and refuses another's position", "[data]") {
  using namespace distributed_sampler_test;
  distributed_sampler saved{100, shard{}, 3};
  saved.set_epoch(6);
  for (auto batch : saved.batches(30)) {
    (void)batch;
    if (saved.position() == 60) break;
  }
  std::vector<std::uint64_t> stored;
  archive<false> out{stored};
  saved.serialize(out);

  distributed_sampler restored{100, shard{}, 3};
  archive<true> in{stored};
  restored.serialize(in);
  CHECK(restored.epoch() == 6);
  CHECK(restored.position() == 60);
  const indices rest = pass(restored), order = pass(restored);
  CHECK(rest == indices(order.begin() + 60, order.end()));

  auto restore_into = [&](distributed_sampler sampler) {
    archive<true> again{stored};
    sampler.serialize(again);
  };
  const std::string text =
      "[cadre.data.710] the saved sampler walked another order, so its position means nothing here: ";
  CHECK_THROWS_WITH(restore_into({200, shard{}, 3}), text + "samples was 100, is 200");
  CHECK_THROWS_WITH(restore_into({100, shard{}, 4}), text + "seed was 3, is 4");
  CHECK_THROWS_WITH(restore_into({100, shard{}, 3, {.shuffle = false}}), text + "shuffle was 1, is 0");
}

TEST_CASE("a sampler that cannot be is refused with its number", "[data]") {
  using namespace distributed_sampler_test;
  CHECK_THROWS_WITH((distributed_sampler{10, shard{2, 2}}),
                    "[cadre.data.706] rank 2 of 2 cannot be a shard: 0 <= rank < world_size must hold");
  CHECK_THROWS_AS((distributed_sampler{10, shard{-1, 2}}), sampler_error);
  CHECK_THROWS_AS((distributed_sampler{10, shard{0, 0}}), sampler_error);
  CHECK_THROWS_WITH((distributed_sampler{-1, shard{}}),
                    "[cadre.data.707] a sampler was asked for a negative number of samples");
  distributed_sampler sampler{10, shard{}};
  CHECK_THROWS_WITH(sampler.batches(0), "[cadre.data.708] batches of 0 samples were asked for: give at least 1");
  CHECK_THROWS_WITH(sampler.set_position(11), "[cadre.data.709] position 11 lies beyond the epoch's 10 samples");
}
