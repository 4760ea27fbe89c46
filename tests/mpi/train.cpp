// ranks: 1 2 3 4
// The trainer over MPI's ranks: the bits of threads, failures agreed on, and resumed runs.
#include "catch.hpp"

#include <cadre/eigen.hpp>
#include <cadre/mpi.hpp>
#include <cadre/train.hpp>

#include <cstdlib>
#include <exception>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

namespace mpi_train {

namespace train = cadre::train;
namespace fs = std::filesystem;

struct job {
  int steps = 12;
  int fail_step = -1, fail_rank = -1;
};

struct matrices {
  std::vector<float> staged, in_place;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(staged, in_place);
  }
};

/// Both kinds of parameters, momentum, and gradients that depend on rank and step.
void learn(train::context& ctx, const job& cfg) {
  std::vector<float> w(1000, 1.f), g(1000);
  train::parameters p{ctx.comm()};
  p.add("staged", w, g);
  auto [m, dm] = p.make<Eigen::MatrixXf>("in_place", 40, 30);
  train::data_parallel ddp{ctx.comm(), p, {.bucket = 1500, .first_bucket = 600}};
  train::sgd optimizer{p, {.lr = 0.1, .momentum = 0.9}};
  int first = 0;
  if (auto c = ctx.checkpoint()) (*c)("step", first)("parameters", p)("optimizer", optimizer);
  for (int t = first; t < cfg.steps; ++t) {
    auto step = ddp.begin();
    for (std::size_t i = 0; i < g.size(); ++i)
      g[i] = w[i] * 0.37f + static_cast<float>((i * 7 + static_cast<std::size_t>(ctx.rank() + t)) % 11) * 0.013f;
    for (Eigen::Index i = 0; i < dm.size(); ++i)
      dm.data()[i] =
          m.data()[i] * 0.11f + static_cast<float>((static_cast<int>(i) * 3 + ctx.rank() * 5 + t) % 13) * 0.017f;
    if (t == cfg.fail_step && ctx.rank() == cfg.fail_rank && ctx.attempt() == 1) throw std::runtime_error("power cut");
    step.ready("in_place");
    step.ready("staged");
    step.finish();
    optimizer.step();
    const matrices now{w, {m.data(), m.data() + m.size()}};
    ctx.report({{"step", t}, {"norm", train::gradient_norm(p)}}, [&](train::checkpoint_writer& c) {
      c("step", t + 1)("parameters", p)("optimizer", optimizer)("weights", now);
    });
  }
}

matrices weights_of(const train::result& r) { return r.checkpoints.back().open().get<matrices>("weights"); }

bool same(const matrices& a, const matrices& b) { return a.staged == b.staged && a.in_place == b.in_place; }

/// A folder that all ranks know and rank 0 removes.
class shared_folder {
 public:
  explicit shared_folder(cadre::mpi::communicator& comm) : comm_(comm) {
    std::vector<char> name(256);
    if (comm.rank() == 0) {
      std::string pattern = (fs::temp_directory_path() / "cadre-mpi-XXXXXX").string();
      if (!::mkdtemp(pattern.data())) throw std::runtime_error("mkdtemp");
      pattern.copy(name.data(), name.size() - 1);
    }
    comm.broadcast(name, 0);
    path_ = name.data();
  }
  ~shared_folder() {
    std::error_code failure;
    if (comm_.rank() == 0) fs::remove_all(path_, failure);
  }
  shared_folder(const shared_folder&) = delete;
  shared_folder& operator=(const shared_folder&) = delete;
  const std::string& path() const { return path_; }

 private:
  cadre::mpi::communicator& comm_;
  std::string path_;
};

}  // namespace mpi_train

TEST_CASE("training over ranks gives the bits of training over threads", "[mpi]") {
  using namespace mpi_train;
  for (int ranks_per_node : {0, 2}) {
    cadre::mpi::communicator world(cadre::mpi::communicator_options{.ranks_per_node = ranks_per_node});
    const auto ranks = train::trainer{learn, job{}}.fit(world);
    CHECK_FALSE(ranks.error);
    const auto threads = train::trainer{learn, job{}, train::scaling{.workers = world.world_size()}}.fit();
    CHECK(same(weights_of(ranks), weights_of(threads)));
    CHECK(ranks.history == threads.history);
    world.barrier();
  }
}

TEST_CASE("a rank that fails is named on every rank, and a retry ends in the same weights", "[mpi]") {
  using namespace mpi_train;
  cadre::mpi::communicator world;
  const int last = world.world_size() - 1;
  const auto whole = train::trainer{learn, job{}}.fit(world);
  {
    const auto broken = train::trainer{learn, job{.fail_step = 5, .fail_rank = last}}.fit(world);
    REQUIRE(broken.error);
    CHECK(broken.history.size() == 5);
    if (world.rank() == last)
      CHECK_THROWS_WITH(std::rethrow_exception(broken.error), "power cut");
    else
      CHECK_THROWS_WITH(std::rethrow_exception(broken.error),
                        "[cadre.train.808] rank " + std::to_string(last) + " failed: power cut");
  }
  const shared_folder folder(world);
  const auto retried =
      train::trainer{learn, job{.fail_step = 7, .fail_rank = last}, train::scaling{},
                     train::run_options{
                         .storage = folder.path(), .checkpoint = {.num_to_keep = 2}, .failure = {.max_failures = 1}}}
          .fit(world);
  CHECK_FALSE(retried.error);
  CHECK(retried.attempts == 2);
  CHECK(retried.history == whole.history);
  CHECK(same(weights_of(retried), weights_of(whole)));
  world.barrier();
}

TEST_CASE("a run over ranks resumes from its folder", "[mpi]") {
  using namespace mpi_train;
  cadre::mpi::communicator world;
  const auto whole = train::trainer{learn, job{}}.fit(world);
  const shared_folder folder(world);
  const train::run_options options{.storage = folder.path(), .resume = true};
  (void)train::trainer{learn, job{.steps = 4}, train::scaling{}, options}.fit(world);
  const auto rest = train::trainer{learn, job{}, train::scaling{}, options}.fit(world);
  CHECK(rest.history == whole.history);
  CHECK(same(weights_of(rest), weights_of(whole)));
  world.barrier();
}
