// ranks: 1 2 4 8
// What of a node each of its ranks has, where the options do not say: dealt in made-up nodes, and found in this one.
#include "catch.hpp"
#include "catch_main.hpp"

#include <cadre/mpi.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace node_share_test {

using cadre::mpi::detail::node_view;
using numbers = std::vector<int>;

/// A rank that may use the processors from `first` up to `last`, and sees GPUs of these names.
node_view view(std::size_t first, std::size_t last, const std::vector<std::string>& gpus = {},
               const char* host = "node1") {
  node_view v{.node = cadre::hash_text(host),
              .memory = 1000,
              .wants_processors = true,
              .wants_gpus = true,
              .wants_memory = true};
  std::strcpy(v.host.data(), host);
  for (std::size_t p = first; p < last; ++p) v.processors.set(p);
  for (const std::string& name : gpus) v.gpus[v.gpu_count++] = cadre::hash_text(name);
  return v;
}
std::vector<cadre::runtime_options> dealt(const std::vector<node_view>& all) {
  std::vector<cadre::runtime_options> shares;
  for (std::size_t r = 0; r < all.size(); ++r) shares.push_back(cadre::mpi::detail::with_share(all, r, {}));
  return shares;
}
std::vector<std::size_t> threads(const std::vector<node_view>& all) {
  std::vector<std::size_t> of_each;
  for (const auto& share : dealt(all)) of_each.push_back(share.threads);
  return of_each;
}
std::vector<numbers> gpus(const std::vector<node_view>& all) {
  std::vector<numbers> of_each;
  for (const auto& share : dealt(all)) of_each.push_back(share.gpus);
  return of_each;
}
std::vector<node_view> copies(std::size_t n, const node_view& v) { return std::vector<node_view>(n, v); }

using counts = std::vector<std::size_t>;
using devices = std::vector<numbers>;

}  // namespace node_share_test

TEST_CASE("Ranks that may use the same processors deal them, and each has one thread at least", "[node_share]") {
  using namespace node_share_test;
  CHECK(threads({view(0, 8)}) == counts{8});
  CHECK(threads(copies(2, view(0, 8))) == counts{4, 4});
  CHECK(threads(copies(3, view(0, 8))) == counts{2, 3, 3});
  CHECK(threads(copies(4, view(0, 2))) == counts{1, 1, 1, 1});
  CHECK(threads({view(0, 8), view(0, 8), view(0, 6, {}, "node2")}) == counts{4, 4, 6});
}

TEST_CASE("Ranks that are bound apart have what they are bound to", "[node_share]") {
  using namespace node_share_test;
  CHECK(threads({view(0, 4), view(4, 8)}) == counts{4, 4});
  CHECK(threads({view(0, 6), view(6, 8)}) == counts{6, 2});
  // Two sockets of two ranks each.
  CHECK(threads({view(0, 4), view(4, 8), view(0, 4), view(4, 8)}) == counts{2, 2, 2, 2});
  // One rank that is not bound beside one that is.
  CHECK(threads({view(0, 8), view(7, 8)}) == counts{4, 1});
  CHECK(threads({view(0, 4), view(2, 6), view(4, 8), view(100, 103)}) == counts{2, 3, 3, 3});
}

TEST_CASE("The quota of the cgroups is dealt too", "[node_share]") {
  using namespace node_share_test;
  auto all = copies(2, view(0, 8));
  for (node_view& v : all) v.quota = 3;
  CHECK(threads(all) == counts{1, 2});
  all = {view(0, 4), view(4, 8)};
  for (node_view& v : all) v.quota = 4;
  CHECK(threads(all) == counts{2, 2});
  all = copies(4, view(0, 4));
  for (node_view& v : all) v.quota = 2;
  CHECK(threads(all) == counts{1, 1, 1, 1});
  all = copies(2, view(0, 4));
  for (node_view& v : all) v.quota = 100;
  CHECK(threads(all) == counts{2, 2});
}

TEST_CASE("What the options name is not dealt", "[node_share]") {
  using namespace node_share_test;
  cadre::runtime_options named{.threads = 3, .resources = {{"memory", 10}, {"gpu", 2}}, .gpus = {5, 7}};
  const node_view mine = cadre::mpi::detail::view_of_node(named);
  CHECK_FALSE(mine.wants_processors);
  CHECK_FALSE(mine.wants_gpus);
  CHECK_FALSE(mine.wants_memory);
  named = cadre::mpi::detail::with_share({mine}, 0, std::move(named));
  CHECK(named.threads == 3);
  CHECK(named.gpus == numbers{5, 7});
  CHECK(named.resources.amount("memory") == 10);
  CHECK_FALSE(cadre::mpi::detail::view_of_node({.resources = {{"gpu", 0}}}).wants_gpus);
  CHECK_FALSE(cadre::mpi::detail::view_of_node({.gpus = {1}}).wants_gpus);

  // The others have what such a rank leaves to them.
  auto all = copies(3, view(0, 8, {"0", "1"}));
  all[0].wants_processors = all[0].wants_gpus = all[0].wants_memory = false;
  const auto shares = dealt(all);
  CHECK(shares[0].threads == 0);
  CHECK(shares[0].gpus.empty());
  CHECK(shares[0].resources.find("memory") == nullptr);
  CHECK(shares[1].threads + shares[2].threads == 8);
  CHECK(shares[1].gpus == numbers{0});
  CHECK(shares[2].gpus == numbers{1});
  CHECK(shares[1].resources.amount("memory") == 500);
}

TEST_CASE("The memory of a node is dealt among its ranks", "[node_share]") {
  using namespace node_share_test;
  std::vector<double> of_each;
  auto all = copies(3, view(0, 8));
  all.push_back(view(0, 8, {}, "node2"));
  for (const auto& share : dealt(all)) of_each.push_back(share.resources.amount("memory"));
  CHECK(of_each == std::vector<double>{333, 333, 334, 1000});
}

TEST_CASE("Each rank has GPUs of its own, which it calls as CUDA does there", "[node_share]") {
  using namespace node_share_test;
  CHECK(gpus({view(0, 8)}) == devices{{}});
  CHECK(gpus({view(0, 8, {"0", "1"})}) == devices{{0, 1}});
  CHECK(gpus(copies(2, view(0, 8, {"0", "1", "2", "3"}))) == devices{{0, 1}, {2, 3}});
  CHECK(gpus(copies(3, view(0, 8, {"0", "1", "2", "3"}))) == devices{{0}, {1}, {2, 3}});
  CHECK(gpus(copies(2, view(0, 8, {"GPU-a", "GPU-b"}))) == devices{{0}, {1}});
  // A launcher has shown each its own.
  CHECK(gpus({view(0, 8, {"0", "1"}), view(0, 8, {"2", "3"})}) == devices{{0, 1}, {0, 1}});
  CHECK(gpus({view(0, 8, {"0"}), view(0, 8, {"0"}, "node2"), view(0, 8, {}, "node3")}) == devices{{0}, {0}, {}});
  CHECK(gpus(copies(3, view(0, 8, {"0", "1"}))) == devices{{0}, {1}, {}});
}

TEST_CASE("More ranks than may share a GPU are an error on all ranks", "[node_share]") {
  using namespace node_share_test;
  const auto error = [](const std::vector<node_view>& all) {
    std::string text;
    for (std::size_t r = 0; r < all.size(); ++r) {
      std::string mine;
      try {
        static_cast<void>(cadre::mpi::detail::with_share(all, r, {}));
      } catch (const cadre::mpi::mpi_error& e) {
        mine = e.what();
      }
      if (r == 0) text = mine;
      CHECK(mine == text);
    }
    return text;
  };
  auto all = copies(5, view(0, 8, {"0", "1"}));
  all.push_back(view(0, 8, {"0"}, "node2"));
  CHECK(error(all).empty());
  for (node_view& v : all) v.most_ranks_per_gpu = 1;
  CHECK(
      error(all) ==
      "[cadre.mpi.1110] node1 has 2 GPUs for 5 ranks: 3 would have the same one, where 1 may; start fewer ranks there, "
      "allow it by .most_ranks_per_gpu = 3 in runtime_options, or, if the job needs none, hide them by an empty "
      "CUDA_VISIBLE_DEVICES");
  for (node_view& v : all) v.most_ranks_per_gpu = 2;
  CHECK_THAT(error(all), Catch::Contains("3 would have the same one, where 2 may; "));
  for (node_view& v : all) v.most_ranks_per_gpu = 3;
  CHECK(error(all).empty());
  CHECK(gpus(all) == devices{{0}, {0}, {0}, {1}, {1}, {0}});
  // The strictest rank counts.
  all[4].most_ranks_per_gpu = 1;
  CHECK_THAT(error(all), Catch::Contains("3 would have the same one, where 1 may; "));
  // One that wants none is not counted, nor one that names its own.
  const auto strict = [](node_view v) {
    v.most_ranks_per_gpu = 1;
    return v;
  };
  all = copies(2, strict(view(0, 8, {"0"})));
  CHECK_THAT(error(all), Catch::Contains("node1 has 1 GPU for 2 ranks: 2 would have the same one, where 1 may; "));
  all[0].wants_gpus = false;
  CHECK(error(all).empty());
  CHECK(gpus(all) == devices{{}, {0}});
  // Those that see more than the other share with it nevertheless.
  CHECK_THAT(error({strict(view(0, 8, {"0", "1"})), strict(view(0, 8, {"1"}))}),
             Catch::Contains("node1 has 2 GPUs for 2 ranks: 2 would have the same one, where 1 may; "));
}

namespace node_share_test {

cadre::runtime* spanning = nullptr;

std::size_t threads_here() { return cadre::this_task::runtime().pool().size(); }
double here_of(const std::string& name) {
  return cadre::detail::scheduler_of(cadre::this_task::runtime().pool()).resources().amount(name);
}
std::size_t processors_here() { return cadre::usable_processors(); }

/// From rank to rank and back, each waiting for the next, so that with one thread each must run others while it waits.
int round_trips(int left) {
  cadre::runtime& rt = cadre::this_task::runtime();
  if (left == 0) return rt.rank();
  return rt.submit<&round_trips>({.on = cadre::on_rank((rt.rank() + 1) % rt.world_size())}, left - 1).get();
}
struct relay {
  int pass(int left) {
    cadre::runtime& rt = cadre::this_task::runtime();
    return left == 0
               ? 0
               : 1 + rt.submit<&relay::further>({.on = cadre::on_rank((rt.rank() + 1) % rt.world_size())}, left - 1)
                         .get();
  }
  static int further(int left) {
    cadre::runtime& rt = cadre::this_task::runtime();
    const auto next = rt.actor<relay>({.on = cadre::on_rank(rt.rank())});
    const int passed = next.call<&relay::pass>(left).get();
    next.stop().get();
    return passed;
  }
};

}  // namespace node_share_test

TEST_CASE("The ranks of this node have its processors and memory together", "[mpi]") {
  using namespace node_share_test;
  cadre::runtime& rt = *spanning;
  std::size_t threads = 0, most = 0;
  double memory = 0;
  for (int r = 0; r < rt.world_size(); ++r) {
    const cadre::remote_options there{.on = cadre::on_rank(r)};
    const std::size_t n = rt.submit<&threads_here>(there).get();
    CHECK(n >= 1);
    CHECK(rt.submit<&here_of>(there, "cpu").get() == static_cast<double>(n));
    threads += n;
    most = std::max(most, rt.submit<&processors_here>(there).get());
    memory += rt.submit<&here_of>(there, "memory").get();
  }
  CHECK(threads == std::max(most, static_cast<std::size_t>(rt.world_size())));
  CHECK(memory == static_cast<double>(cadre::usable_memory()));
}

TEST_CASE("Ranks of few threads wait for each other round and round", "[mpi]") {
  using namespace node_share_test;
  cadre::runtime& rt = *spanning;
  std::vector<cadre::future<int>> all;
  for (int k = 0; k < 20; ++k) all.push_back(rt.submit<&round_trips>({.on = cadre::on_rank(0)}, 5 * rt.world_size()));
  for (auto& f : all) CHECK(f.get() == 0);
  std::vector<cadre::future<int>> passed;
  for (int k = 0; k < 10; ++k) passed.push_back(rt.submit<&relay::further>(8));
  for (auto& f : passed) CHECK(f.get() == 8);
}

int main(int argc, char** argv) {
  return cadre::mpi::run(argc, argv, [&](cadre::runtime& rt) {
    node_share_test::spanning = &rt;
    return run_tests(argc, argv, "*");
  });
}
