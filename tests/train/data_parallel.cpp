#include "catch.hpp"

#include <cadre/comm/local_team.hpp>
#include <cadre/core/random.hpp>
#include <cadre/core/units.hpp>
#include <cadre/eigen.hpp>
#include <cadre/train/data_parallel.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace train_data_parallel {

namespace train = cadre::train;
using namespace cadre::literals;

/// A communicator of one's own that counts what it is asked for: data_parallel needs no more than the concept.
class counting : public cadre::collectives<counting> {
 public:
  struct counts {
    int reductions = 0, allocations = 0, broadcasts = 0;
    std::vector<std::size_t> sizes;
  };
  counting(int ranks, std::shared_ptr<counts> into) : ranks_(ranks), counts_(std::move(into)) {}
  int rank() const { return 0; }
  int world_size() const { return ranks_; }
  void barrier() {}
  void barrier(std::chrono::nanoseconds) {}
  void all_reduce_bytes(void* data, std::size_t count, cadre::data_type type, cadre::reduce_op) {
    ++counts_->reductions;
    counts_->sizes.push_back(count * cadre::size_of(type));
    last = data;
  }
  void broadcast_bytes(void*, std::size_t, int) { ++counts_->broadcasts; }
  void reduce_scatter_bytes(const void*, void*, std::size_t, cadre::data_type, cadre::reduce_op) {}
  void all_gather_bytes(const void* in, void* out, std::size_t bytes) {
    for (int r = 0; r < ranks_; ++r)
      std::memcpy(static_cast<char*>(out) + static_cast<std::size_t>(r) * bytes, in, bytes);
  }
  std::shared_ptr<std::byte> allocate_bytes(std::size_t bytes) {
    ++counts_->allocations;
    return alone_.allocate_bytes(bytes);
  }
  counting split(int, int) { return counting(ranks_, counts_); }
  void abort(std::string_view) noexcept {}
  void set_timeout(std::chrono::nanoseconds) {}
  std::string_view backend() const { return "counting"; }
  void* last = nullptr;

 private:
  int ranks_;
  std::shared_ptr<counts> counts_;
  cadre::local_communicator alone_;
};

/// Ten parameters, of which those of odd number are made where `mixed`, of two types where `types`.
struct model {
  std::vector<std::vector<float>> values, gradients;
  std::vector<std::vector<double>> doubles, double_gradients;
  train::parameters list;

  model(cadre::local_communicator& comm, bool make, bool add, bool types) : list(comm) {
    values.reserve(10), gradients.reserve(10), doubles.reserve(10), double_gradients.reserve(10);
    for (std::size_t i = 0; i < 10; ++i) {
      const std::string name = "p" + std::to_string(i);
      const std::size_t n = 1 + i * 37;
      if (types && i % 4 == 3) {
        doubles.emplace_back(n), double_gradients.emplace_back(n);
        list.add(name, doubles.back(), double_gradients.back());
      } else if (make && (!add || i % 2 == 1)) {
        (void)list.make<std::vector<float>>(name, n);
      } else {
        values.emplace_back(n), gradients.emplace_back(n);
        list.add(name, values.back(), gradients.back());
      }
    }
  }
  void fill(int rank, int round) {
    for (std::size_t k = 0; k < list.size(); ++k)
      train::visit_real(list[k].type, [&]<class T>(T) {
        auto g = list[k].gradients<T>();
        for (std::size_t i = 0; i < g.size(); ++i) g[i] = static_cast<T>(gradient(rank, round, k, i));
      });
  }
  static double gradient(int rank, int round, std::size_t k, std::size_t i) {
    return static_cast<double>((rank + 1) * (round + 1)) + static_cast<double>(k) * 0.5 + static_cast<double>(i % 7);
  }
  // With numbers that a float holds exactly, any order of the sum gives the same.
  bool averaged(int ranks, int round, bool average = true) const {
    for (std::size_t k = 0; k < list.size(); ++k) {
      const bool good = train::visit_real(list[k].type, [&]<class T>(T) {
        auto g = list[k].gradients<T>();
        for (std::size_t i = 0; i < g.size(); ++i) {
          double sum = 0;
          for (int r = 0; r < ranks; ++r) sum += gradient(r, round, k, i);
          const T want = average ? static_cast<T>(sum) * static_cast<T>(1.0 / ranks) : static_cast<T>(sum);
          if (g[i] != want) return false;
        }
        return true;
      });
      if (!good) return false;
    }
    return true;
  }
};

void require(bool condition, const char* what) {
  if (!condition) throw std::logic_error(what);
}

TEST_CASE("gradients are averaged over any number of ranks, however they lie and in whatever order they are ready") {
  for (int ranks = 1; ranks <= 4; ++ranks)
    for (int kind = 0; kind < 4; ++kind)
      for (std::uint64_t bucket : {std::uint64_t{1}, std::uint64_t{700}, std::uint64_t{25_MiB}}) {
        INFO(ranks << " ranks, kind " << kind << ", buckets of " << bucket);
        cadre::local_team team{ranks};
        REQUIRE_NOTHROW(team.run([&](cadre::local_communicator& comm) {
          model m(comm, kind != 0, kind != 1, kind == 3);
          train::data_parallel ddp{comm, m.list, {.bucket = bucket, .first_bucket = bucket / 2 + 1}};
          for (int round = 0; round < 4; ++round) {
            m.fill(comm.rank(), round);
            auto step = ddp.begin();
            if (round == 0)
              for (std::size_t i = m.list.size(); i-- > 0;) step.ready(m.list[i].name);
            else if (round == 1)
              for (std::size_t i = 0; i < m.list.size(); ++i) step.ready(i);
            else if (round == 2)  // every rank in an order of its own
              for (std::size_t i = 0; i < m.list.size(); ++i)
                step.ready((i + static_cast<std::size_t>(comm.rank()) * 3) % m.list.size());
            else
              step.ready_all();
            step.finish();
            require(m.averaged(ranks, round), "gradients are not the mean");
          }
          require(ddp.steps() == 4, "steps");
        }));
      }
}

TEST_CASE("without averaging the sum is left, and gradient_scale says what is missing") {
  cadre::local_team team{3};
  team.run([](cadre::local_communicator& comm) {
    model m(comm, true, true, false);
    train::data_parallel ddp{comm, m.list, {.average = false}};
    require(ddp.gradient_scale() == 1.0 / 3, "scale");
    m.fill(comm.rank(), 0);
    auto step = ddp.begin();
    step.ready_all();
    step.finish();
    require(m.averaged(3, 0, false), "gradients are not the sum");
  });
}

TEST_CASE("rank 0's values reach every rank at construction, unless that is turned off") {
  for (bool broadcast : {true, false}) {
    cadre::local_team team{3};
    team.run([&](cadre::local_communicator& comm) {
      model m(comm, true, true, true);
      for (const auto& p : m.list)
        train::visit_real(p.type,
                          [&]<class T>(T) { std::ranges::fill(p.values<T>(), static_cast<T>(comm.rank() + 5)); });
      train::data_parallel ddp{comm, m.list, {.bucket = 500, .broadcast_parameters = broadcast}};
      for (const auto& p : m.list)
        train::visit_real(p.type, [&]<class T>(T) {
          for (T x : p.values<T>()) require(x == static_cast<T>(broadcast ? 5 : comm.rank() + 5), "values");
        });
    });
  }
}

TEST_CASE("made parameters are reduced where they lie, as one run per bucket") {
  const auto counts = std::make_shared<counting::counts>();
  counting comm(2, counts);
  train::parameters p{comm};
  for (int i = 0; i < 4; ++i) (void)p.make<std::vector<float>>("p" + std::to_string(i), 20);  // 128 bytes each, padded
  REQUIRE(counts->allocations == 2);
  train::data_parallel ddp{comm, p, {.bucket = 1000, .first_bucket = 300}};
  CHECK(counts->allocations == 2);  // no staging memory
  CHECK(counts->broadcasts == 1);   // all values at once
  CHECK(ddp.buckets() == 2);
  auto step = ddp.begin();
  step.ready("p3");
  CHECK(counts->reductions == 0);
  step.ready("p0");
  step.ready("p1");
  CHECK(counts->reductions == 0);
  step.ready("p2");  // the first bucket is complete, and the second behind it
  CHECK(counts->reductions == 2);
  step.finish();
  CHECK(counts->sizes == std::vector<std::size_t>{208, 208});
  CHECK(comm.last == p[0].gradient);
}

TEST_CASE("added parameters share one piece of staging memory, and buckets follow the given sizes") {
  const auto counts = std::make_shared<counting::counts>();
  counting comm(2, counts);
  std::vector<std::vector<float>> w(6, std::vector<float>(25)), g = w;
  train::parameters p;
  for (std::size_t i = 0; i < 6; ++i) p.add("p" + std::to_string(i), w[i], g[i]);
  train::data_parallel ddp{comm, p, {.bucket = 250, .first_bucket = 100}};
  CHECK(counts->allocations == 1);
  CHECK(ddp.buckets() == 4);
  auto step = ddp.begin();
  step.ready_all();
  step.finish();
  CHECK(counts->sizes == std::vector<std::size_t>{100, 200, 200, 100});
}

TEST_CASE("one rank alone reduces and copies nothing") {
  const auto counts = std::make_shared<counting::counts>();
  counting comm(1, counts);
  std::vector<float> w(3), g{1, 2, 3};
  train::parameters p;
  p.add("w", w, g);
  train::data_parallel ddp{comm, p};
  auto step = ddp.begin();
  step.ready("w");
  step.finish();
  CHECK(counts->reductions + counts->allocations + counts->broadcasts == 0);
  CHECK(g == std::vector<float>{1, 2, 3});
}

TEST_CASE("accumulated gradients are reduced once, by the step outside no_sync") {
  cadre::local_team team{2};
  team.run([](cadre::local_communicator& comm) {
    std::vector<float> w(3), g(3);
    train::parameters p{comm};
    p.add("w", w, g);
    train::data_parallel ddp{comm, p};
    const auto micro_batch = [&](train::step_options options) {
      auto step = ddp.begin(options);
      for (float& x : g) x += static_cast<float>(comm.rank() + 1);
      step.ready("w");
      step.finish();
    };
    {
      auto quiet = ddp.no_sync();
      micro_batch({});
      require(g[0] == static_cast<float>(comm.rank() + 1), "reduced too early");
    }
    micro_batch({.synchronize = false});
    micro_batch({});
    require(g[2] == 4.5f, "not the mean of the sums");
    require(ddp.steps() == 1, "steps");
  });
}

TEST_CASE("a step that is misused says how, and can still be finished") {
  std::vector<float> w(3), g(3), v(2), h(2);
  train::parameters p;
  p.add("w", w, g).add("v", v, h);
  train::data_parallel ddp{cadre::local_communicator{}, p};
  auto step = ddp.begin();
  step.ready("v");
  CHECK_THROWS_MATCHES(
      step.ready("v"), train::step_misused,
      Catch::Matchers::Message("[cadre.train.804] parameter 'v' is ready for the second time in this step"));
  CHECK_THROWS_MATCHES(step.ready("x"), train::step_misused,
                       Catch::Matchers::Message("[cadre.train.804] there is no parameter 'x'; there are: 'w' 'v'"));
  CHECK_THROWS_WITH(step.ready(2), ContainsSubstring("there is no parameter 2; there are 2"));
  CHECK_THROWS_WITH((void)ddp.begin(), ContainsSubstring("a step is open"));
  CHECK_THROWS_MATCHES(
      step.finish(), train::parameters_not_ready,
      Catch::Matchers::Message("[cadre.train.805] finish() with parameters whose gradients were not ready: 'w'; "
                               "call ready for each in every step, also where a gradient is zero"));
  step.ready("w");
  step.finish();
  CHECK_THROWS_WITH(step.finish(), ContainsSubstring("this step is finished"));
  CHECK_THROWS_WITH(step.ready("w"), ContainsSubstring("this step is finished"));
  g.resize(5);
  CHECK_THROWS_AS((void)ddp.begin(), train::parameter_changed);
  CHECK_THROWS_AS((train::data_parallel{cadre::local_communicator{}, train::parameters{}, {.bucket = 0}}),
                  train::option_invalid);
}

/// Runs `body` on each rank of a team and gives what each threw.
template <class Body>
std::vector<std::string> texts_of(int ranks, Body&& body) {
  std::vector<std::string> texts(static_cast<std::size_t>(ranks));
  cadre::local_team team{ranks};
  team.run([&](cadre::local_communicator& comm) {
    cadre::local_communicator own = comm.split(0, comm.rank());
    try {
      body(own);
    } catch (const std::exception& e) {
      texts[static_cast<std::size_t>(comm.rank())] = e.what();
    }
    comm.barrier();
  });
  return texts;
}

TEST_CASE("ranks with different parameters get one error that names the first difference") {
  const auto with = [](auto&& build) {
    return texts_of(3, [&](cadre::local_communicator& comm) {
      train::parameters p{comm};
      build(p, comm.rank());
      train::data_parallel ddp{comm, p};
    });
  };
  const auto all_are = [](const std::vector<std::string>& texts, const std::string& want) {
    for (const std::string& text : texts) CHECK(text == want);
  };
  const std::string front = "[cadre.train.803] ranks have different parameters: parameter ";
  const std::string back = "; add the same ones in the same order on every rank";
  all_are(with([](train::parameters& p, int rank) {
            (void)p.make<Eigen::MatrixXf>("w", 2, 3);
            if (rank == 2)
              (void)p.make<Eigen::MatrixXf>("v", 3, 2);
            else
              (void)p.make<Eigen::MatrixXf>("v", 2, 3);
          }),
          front + "2 is 'v' float32 [2, 3] made on rank 0, but 'v' float32 [3, 2] made on rank 2" + back);
  all_are(with([](train::parameters& p, int rank) {
            (void)p.make<std::vector<float>>("w", 2);
            if (rank != 1) (void)p.make<std::vector<float>>("v", 2);
          }),
          front + "2 is 'v' float32 [2] made on rank 0, but nothing on rank 1" + back);
  all_are(with([](train::parameters& p, int rank) {
            if (rank == 0)
              (void)p.make<std::vector<float>>("w", 2);
            else
              (void)p.make<std::vector<double>>("w", 2);
          }),
          front + "1 is 'w' float32 [2] made on rank 0, but 'w' float64 [2] made on rank 1" + back);
}

TEST_CASE("a rank that leaves a step by an exception frees its peers") {
  const auto texts = texts_of(3, [](cadre::local_communicator& comm) {
    comm.set_timeout(30s);
    std::vector<float> w(3), g(3);
    train::parameters p{comm};
    p.add("w", w, g);
    train::data_parallel ddp{comm, p};
    for (int i = 0; i < 3; ++i) {
      auto step = ddp.begin();
      if (i == 1 && comm.rank() == 1) throw std::runtime_error("out of data");
      step.ready("w");
      step.finish();
    }
  });
  CHECK(texts[1] == "out of data");
  for (std::size_t rank : {0u, 2u}) {
    CHECK_THAT(texts[rank], ContainsSubstring("[cadre.comm.402]"));
    CHECK_THAT(texts[rank], ContainsSubstring("rank 1 left gradient step 2 by an exception"));
  }
}

TEST_CASE("a step that is dropped without finish frees the peers") {
  const auto texts = texts_of(2, [](cadre::local_communicator& comm) {
    comm.set_timeout(30s);
    train::parameters p{comm};
    (void)p.make<std::vector<float>>("w", 3);
    train::data_parallel ddp{comm, p};
    {
      auto step = ddp.begin();
      if (comm.rank() == 0) return;
      step.ready("w");
      step.finish();
    }
  });
  CHECK(texts[0].empty());
  CHECK_THAT(texts[1], ContainsSubstring("rank 0 left gradient step 1 without finish()"));
}

TEST_CASE("bucketed sums are the communicator's own, bit by bit") {
  for (int ranks : {2, 3, 4}) {
    cadre::local_team team{ranks};
    REQUIRE_NOTHROW(team.run([](cadre::local_communicator& comm) {
      model m(comm, true, true, true);
      cadre::random_stream draw(17, static_cast<std::uint64_t>(comm.rank()));
      std::vector<std::vector<double>> want(m.list.size());
      for (std::size_t k = 0; k < m.list.size(); ++k)
        train::visit_real(m.list[k].type, [&]<class T>(T) {
          for (T& x : m.list[k].gradients<T>()) x = static_cast<T>(static_cast<double>(draw() >> 40) * 1e-5 - 50);
          std::vector<T> copy(m.list[k].gradients<T>().begin(), m.list[k].gradients<T>().end());
          comm.all_reduce(copy, cadre::sum);
          want[k].assign(copy.begin(), copy.end());
        });
      train::data_parallel ddp{comm, m.list, {.bucket = 900, .first_bucket = 900, .average = false}};
      auto step = ddp.begin();
      step.ready_all();
      step.finish();
      for (std::size_t k = 0; k < m.list.size(); ++k)
        train::visit_real(m.list[k].type, [&]<class T>(T) {
          for (std::size_t i = 0; i < m.list[k].count; ++i)
            require(static_cast<double>(m.list[k].gradients<T>()[i]) == want[k][i], "other bits");
        });
    }));
  }
}

}  // namespace train_data_parallel
