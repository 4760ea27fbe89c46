// ranks: 1 2 4 8
// Objects and refs between ranks; on several hosts (hosts.sh) between nodes.
#include "actor/stream.cpp"
#include "catch.hpp"
#include "over_ranks.hpp"

#include <cadre/eigen.hpp>
#include <cadre/mpi.hpp>

#include <Eigen/Core>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace mpi_actor_objects {

using namespace std::chrono_literals;
using ints = std::vector<std::int64_t>;
using ref = cadre::object_ref<ints>;

ints numbers(std::size_t n) {
  ints all(n);
  std::iota(all.begin(), all.end(), 0);
  return all;
}
std::int64_t sum(std::span<const std::int64_t> all) { return std::accumulate(all.begin(), all.end(), std::int64_t{0}); }
std::int64_t expected(std::int64_t n) { return n * (n - 1) / 2; }
std::uint64_t here_used() { return cadre::this_task::runtime().store().stats().used; }

/// The rank of another node, if the job has one; else the last.
int far_rank(cadre::runtime& rt) { return rt.world_size() - 1; }
std::string host_here() { return cadre::detail::runtime_core::host(); }
bool is_far(cadre::runtime& rt) {
  return rt.submit<&host_here>({.on = cadre::on_rank(far_rank(rt))}).get() != host_here();
}
template <class Done>
void eventually(Done&& done) {
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (!done()) {
    REQUIRE(std::chrono::steady_clock::now() < end);
    std::this_thread::sleep_for(1ms);
  }
}

TEST_CASE("An object is shown to a task of any rank where it lies", "[mpi]") {
  job rt;
  const auto r = rt->put(numbers(1000));
  const cadre::object_ref<Eigen::MatrixXf> m = rt->put(Eigen::MatrixXf::Constant(30, 40, 2.f).eval());
  const cadre::object_ref<std::string> t = rt->put("text");
  for (int k = 0; k < rt->world_size(); ++k) {
    CHECK(rt->submit<&sum>({.on = cadre::on_rank(k)}, r).get() == expected(1000));
    CHECK(rt->submit<[](Eigen::Map<const Eigen::MatrixXf> all) { return all.sum(); }>({.on = cadre::on_rank(k)}, m)
              .get() == 2400.f);
    CHECK(rt->submit<[](std::string_view s) { return std::string(s); }>({.on = cadre::on_rank(k)}, t).get() == "text");
  }
}

TEST_CASE("A large object comes whole", "[mpi]") {
  job rt;
  const auto r = rt->put(numbers(5'000'000));
  CHECK(rt->submit<&sum>({.on = cadre::on_rank(far_rank(*rt))}, r).get() == expected(5'000'000));
}

TEST_CASE("An object comes to another node once, whoever uses it there", "[mpi]") {
  job rt;
  const int far = far_rank(*rt);
  const auto used = [&] { return rt->submit<&here_used>({.on = cadre::on_rank(far)}).get(); };
  const std::uint64_t before = used();
  const auto r = rt->put(numbers(1 << 20));
  const std::uint64_t mine = rt->store().stats().used;
  std::vector<cadre::future<std::int64_t>> all;
  for (int k = 0; k < 30; ++k) all.push_back(rt->submit<&sum>({.on = cadre::on_rank(k % 2 == 0 ? far : far / 2)}, r));
  for (auto& f : all) CHECK(f.get() == expected(1 << 20));
  if (is_far(*rt)) CHECK(used() <= before + (9u << 20));
  CHECK(rt->store().stats().used <= mine + (9u << 20));
}

struct keeper {
  std::optional<ref> kept;
  void keep(ref r) { kept = std::move(r); }
  void drop() { kept.reset(); }
  ref give() const { return *kept; }
  void send(cadre::actor<keeper> to) const { to.call<&keeper::keep>(*kept).get(); }
  std::int64_t total() const {
    const auto v = cadre::this_task::runtime().get(*kept);
    return sum(*v);
  }
};

TEST_CASE("A ref that nobody looks at does not move its object", "[mpi]") {
  job rt;
  const int far = far_rank(*rt);
  const auto used = [&] { return rt->submit<&here_used>({.on = cadre::on_rank(far)}).get(); };
  const auto k = rt->actor<keeper>({.on = cadre::on_rank(far)});
  const std::uint64_t before = used();
  k.call<&keeper::keep>(rt->put(numbers(1 << 20))).get();
  if (is_far(*rt)) CHECK(used() < before + (1u << 20));
  // The only ref is on the other rank by now.
  CHECK(k.call<&keeper::total>().get() == expected(1 << 20));
  k.stop().get();
}

TEST_CASE("A ref comes home as what it was", "[mpi]") {
  job rt;
  const auto k = rt->actor<keeper>({.on = cadre::on_rank(far_rank(*rt))});
  const ref r = rt->put(numbers(10));
  k.call<&keeper::keep>(r).get();
  CHECK(k.call<&keeper::give>().get() == r);
  k.stop().get();
}

TEST_CASE("An object ends when its last ref goes, on whichever node that was", "[mpi]") {
  job rt;
  const auto k = rt->actor<keeper>({.on = cadre::on_rank(far_rank(*rt))});
  for (const bool looked_at : {false, true}) {
    k.call<&keeper::keep>(rt->put(numbers(1 << 20))).get();
    if (looked_at) CHECK(k.call<&keeper::total>().get() == expected(1 << 20));
    if (!looked_at) CHECK(rt->store().stats().used >= (8u << 20));
    k.call<&keeper::drop>().get();
    eventually([&] { return rt->store().stats().used < (8u << 20); });
  }
  k.stop().get();
}

TEST_CASE("A ref that is passed on and on brings its object to where it is looked at", "[mpi]") {
  job rt;
  const int n = rt->world_size();
  std::vector<cadre::actor<keeper>> all;
  for (int k = 0; k < n; ++k) all.push_back(rt->actor<keeper>({.on = cadre::on_rank(k)}));
  all[0].call<&keeper::keep>(rt->put(numbers(1000))).get();
  for (int round = 0; round < 3; ++round)
    for (int k = 0; k < n; ++k) {
      auto& to = all[static_cast<std::size_t>((k + 1) % n)];
      // The one who has it sends it itself, and drops it.
      to.call<&keeper::keep>(all[static_cast<std::size_t>(k)].call<&keeper::give>()).get();
      if (n > 1) all[static_cast<std::size_t>(k)].call<&keeper::drop>().get();
    }
  CHECK(all[0].call<&keeper::total>().get() == expected(1000));
  for (const auto& a : all) a.stop().get();
}

TEST_CASE("An object that has gone where it was comes from who has lent it, and has a copy", "[mpi]") {
  job rt;
  const int n = rt->world_size();
  const auto copies = rt->actor<keeper>({.on = cadre::on_rank(n / 2)}),
             last = rt->actor<keeper>({.on = cadre::on_rank(n - 1)});
  const std::uint64_t before = rt->store().stats().used;
  copies.call<&keeper::keep>(rt->put(numbers(1 << 20))).get();
  if (n > 2) copies.call<&keeper::send>(last).get();
  if (n <= 2) last.call<&keeper::keep>(copies.call<&keeper::give>()).get();
  if (n > 2) CHECK(copies.call<&keeper::total>().get() == expected(1 << 20));
  if (n > 2 && is_far(*rt) && rt->submit<&host_here>({.on = cadre::on_rank(n / 2)}).get() != host_here())
    eventually([&] { return rt->store().stats().used <= before; });
  CHECK(last.call<&keeper::total>().get() == expected(1 << 20));
  copies.stop().get();
  last.stop().get();
}

ints make(std::int64_t n) { return numbers(static_cast<std::size_t>(n)); }
ints fails() { throw std::out_of_range("made nothing"); }
ints doubled(std::span<const std::int64_t> all) {
  ints two(all.begin(), all.end());
  for (auto& x : two) x *= 2;
  return two;
}

ints doubled_values(const ints& all) { return doubled(all); }

TEST_CASE("The result of submit_ref is made on the rank that is asked, and found from all", "[mpi]") {
  job rt;
  for (int k = 0; k < rt->world_size(); ++k) {
    const ref made = rt->submit_ref<&make>({.on = cadre::on_rank(k)}, 1000);
    const ref next = rt->submit_ref<&doubled>({.on = cadre::on_rank(k)}, made);
    const auto v = rt->get(next);
    CHECK(sum(*v) == 2 * expected(1000));
    CHECK(rt->submit<&sum>({.on = cadre::on_rank(far_rank(*rt))}, made).get() == expected(1000));
    CHECK(rt->submit<&sum>({.on = cadre::on_rank(0)}, next).get() == 2 * expected(1000));
  }
}

TEST_CASE("What submit_ref makes on another node stays there while nobody here looks at it", "[mpi]") {
  job rt;
  if (!is_far(*rt)) return;
  const std::uint64_t before = rt->store().stats().used;
  const cadre::remote_options there{.on = cadre::on_rank(far_rank(*rt))};
  const ref made = rt->submit_ref<&make>(there, 1 << 20);
  CHECK(rt->submit<&sum>(there, made).get() == expected(1 << 20));
  CHECK(rt->store().stats().used < before + (1u << 20));
  const auto v = rt->get(made);
  CHECK(sum(*v) == expected(1 << 20));
}

std::string host_of(std::span<const std::int64_t>) { return host_here(); }
std::string host_of_two(std::span<const std::int64_t>, std::span<const std::int64_t>) { return host_here(); }

TEST_CASE("A task runs on the node that has its objects, if there is room", "[mpi]") {
  job rt;
  const cadre::remote_options there{.on = cadre::on_rank(far_rank(*rt))};
  const std::string far = rt->submit<&host_here>(there).get();
  const ref here = rt->put(numbers(100)), made = rt->submit_ref<&make>(there, 10'000);
  CHECK(rt->submit<&host_of>(there, made).get() == far);  // it is made
  for (int k = 0; k < 20; ++k) {
    CHECK(rt->submit<&host_of>(made).get() == far);
    CHECK(rt->submit<&host_of>(here).get() == host_here());
    CHECK(rt->submit<&host_of_two>(here, made).get() == far);
  }
}

TEST_CASE("What the task of submit_ref throws reaches whoever asks for its object", "[mpi]") {
  job rt;
  for (int k = 0; k < rt->world_size(); ++k) {
    const ref made = rt->submit_ref<&fails>({.on = cadre::on_rank(k)});
    CHECK_THROWS_WITH(rt->get(made), "made nothing");
    CHECK_THROWS_AS(rt->submit<&sum>({.on = cadre::on_rank(k)}, made).get(), std::out_of_range);
  }
}

TEST_CASE("A wait for objects has those of other nodes brought", "[mpi]") {
  job rt;
  std::vector<ref> all;
  for (int k = 0; k < 8; ++k) all.push_back(rt->submit_ref<&make>({.on = cadre::spread}, 100));
  const auto found = rt->wait(all, all.size(), 10s);
  CHECK(found.pending.empty());
  for (const ref& r : all) {
    const auto v = rt->get(r, 0s);
    CHECK(sum(*v) == expected(100));
  }
}

TEST_CASE("An object that is wanted before its task can begin on another node is brought once it is made", "[mpi]") {
  job rt;
  cadre::promise<int> size(rt->pool());
  const std::vector<ref> made = {
      rt->submit_ref<&make>({.on = cadre::on_rank(far_rank(*rt))}, size.get_future().share())};
  CHECK(rt->wait(made, 1, 0s).ready.empty());
  size.set_value(100);
  CHECK(rt->store().wait(made, 1, 10s).pending.empty());  // which itself has nothing brought
}

struct collector {
  std::vector<std::int64_t> seen;
  std::int64_t take(ints all) {
    seen.push_back(static_cast<std::int64_t>(all.size()));
    return sum(all);
  }
  void note(int n) { seen.push_back(n); }
  std::vector<std::int64_t> all() const { return seen; }
};
Eigen::MatrixXd transposed(const Eigen::MatrixXd& m) { return m.transpose(); }
Eigen::Matrix<float, 3, Eigen::Dynamic> same_points(Eigen::Matrix<float, 3, Eigen::Dynamic> p) { return p; }
std::string twice(const std::string& s) { return s + s; }
struct padded {
  char c;
  double d;
  friend bool operator==(const padded&, const padded&) = default;
};
std::vector<padded> same_padded(std::vector<padded> all) { return all; }

TEST_CASE("Arguments and results of any size go to every rank and back", "[mpi]") {
  job rt;
  for (int k = 0; k < rt->world_size(); ++k) {
    const cadre::remote_options there{.on = cadre::on_rank(k)};
    for (const std::size_t n : {0u, 1u, 2047u, 2048u, 2049u, 100'000u, 3'000'000u}) {
      CHECK(rt->submit<&doubled_values>(there, numbers(n)).get() == doubled(numbers(n)));
      const auto rows = static_cast<Eigen::Index>(n % 1000), cols = static_cast<Eigen::Index>(n / 1000);
      const Eigen::MatrixXd m = Eigen::MatrixXd::Random(rows, cols);
      CHECK(rt->submit<&transposed>(there, m).get() == m.transpose());
      const Eigen::Matrix<float, 3, Eigen::Dynamic> p = Eigen::MatrixXf::Random(3, rows);
      CHECK(rt->submit<&same_points>(there, p).get() == p);
    }
    const std::string text(50'000, 'x');
    CHECK(rt->submit<&twice>(there, text).get() == text + text);
    const std::vector<padded> all(5000, padded{'c', 2.5});
    CHECK(rt->submit<&same_padded>(there, all).get() == all);
  }
}

TEST_CASE("A large argument is not overtaken by calls behind it", "[mpi]") {
  job rt;
  const auto c = rt->actor<collector>({.on = cadre::on_rank(far_rank(*rt))});
  std::vector<std::int64_t> in_order;
  std::vector<cadre::future<std::int64_t>> sums;
  for (int k = 0; k < 50; ++k) {
    const auto n = static_cast<std::size_t>(1 + (k % 5) * 100'000);
    if (k % 3 == 0)
      sums.push_back(c.call<&collector::take>(numbers(n)));
    else
      c.tell<&collector::take>(numbers(n));
    in_order.push_back(static_cast<std::int64_t>(n));
    c.tell<&collector::note>(k);
    in_order.push_back(k);
  }
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const auto n = static_cast<std::int64_t>(1 + (3 * i % 5) * 100'000);
    CHECK(sums[i].get() == expected(n));
  }
  CHECK(c.call<&collector::all>().get() == in_order);
  c.stop().get();
}

TEST_CASE("A large argument of a call that is refused is received all the same", "[mpi]") {
  job rt;
  const auto c = rt->actor<collector>({.on = cadre::on_rank(far_rank(*rt))});
  c.stop().get();
  for (int k = 0; k < 5; ++k) CHECK_THROWS_AS(c.call<&collector::take>(numbers(500'000)).get(), cadre::actor_died);
  CHECK(rt->submit<&doubled_values>({.on = cadre::on_rank(far_rank(*rt))}, numbers(300'000)).get() ==
        doubled(numbers(300'000)));
}

TEST_CASE("An object that was erased is an error on every node", "[mpi]") {
  job rt;
  const auto k = rt->actor<keeper>({.on = cadre::on_rank(far_rank(*rt))});
  const ref r = rt->put(numbers(10));
  k.call<&keeper::keep>(r).get();
  rt->erase(r);
  CHECK_THROWS_AS(k.call<&keeper::total>().get(), cadre::object_gone);
  k.stop().get();
}

}  // namespace mpi_actor_objects

int main(int argc, char** argv) { return run_tests_over_ranks(argc, argv); }
