#include "catch.hpp"
#include "os/failing_fsync.hpp"
#include "report/captured_stderr.hpp"
#include "report/comma_locale.hpp"

#include <cadre/comm/local_team.hpp>
#include <cadre/core/random.hpp>
#include <cadre/core/units.hpp>
#include <cadre/data/distributed_sampler.hpp>
#include <cadre/observe/log.hpp>
#include <cadre/os/detail/temporary_file.hpp>
#include <cadre/train/data_parallel.hpp>
#include <cadre/train/metrics.hpp>
#include <cadre/train/optimizer.hpp>
#include <cadre/train/parameters.hpp>
#include <cadre/train/trainer.hpp>

#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace train_trainer {

namespace train = cadre::train;
namespace fs = std::filesystem;
using namespace cadre::literals;

class folder {
 public:
  folder() {
    std::string name = (fs::temp_directory_path() / "cadre-train-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
    path_ = name;
  }
  ~folder() {
    std::error_code failure;
    fs::remove_all(path_, failure);
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
  std::string string() const { return path_.string(); }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

std::string text_of(const std::exception_ptr& e) { return e ? train::detail::text_of(e) : "none"; }

std::vector<std::string> files_in(const fs::path& where) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(where)) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

/// A small data-parallel training whose weights depend on every step: five weights by AdamW, an epoch per report.
struct job {
  int epochs = 6;
  int fail_epoch = -1, fail_rank = -1, failures = 0;  // fail in the first `failures` attempts
  int report_every_batch = 0;
};

struct weights {
  std::vector<float> w = std::vector<float>(5);
  template <class Archive>
  void serialize(Archive& archive) {
    archive(w);
  }
};

void learn(train::context& ctx, const job& cfg) {
  weights model;
  std::vector<float> g(5);
  train::parameters p;
  p.add("w", model.w, g);
  train::data_parallel ddp{ctx.comm(), p};
  train::adamw optimizer{p, {.lr = 0.05}};
  cadre::data::distributed_sampler sampler{64, ctx, 3};
  int first = 0;
  if (auto c = ctx.checkpoint()) (*c)("epoch", first)("model", model)("optimizer", optimizer);
  for (int epoch = first; epoch < cfg.epochs; ++epoch) {
    double loss = 0;
    sampler.set_epoch(epoch);
    for (const auto& batch : sampler.batches(8)) {
      auto step = ddp.begin();
      std::ranges::fill(g, 0.f);
      for (std::size_t i : batch)
        for (std::size_t k = 0; k < 5; ++k) {
          const float error = model.w[k] - static_cast<float>((i * (k + 3)) % 17) * 0.1f;
          g[k] += error / static_cast<float>(batch.size());
          loss += static_cast<double>(error * error);
        }
      if (epoch == cfg.fail_epoch && ctx.rank() == cfg.fail_rank && ctx.attempt() <= cfg.failures)
        throw std::domain_error("bad batch in epoch " + std::to_string(epoch));
      step.ready("w");
      step.finish();
      optimizer.step();
    }
    loss = ctx.mean(loss);
    ctx.report({{"epoch", epoch}, {"loss", loss}},
               [&](train::checkpoint_writer& w) { w("epoch", epoch + 1)("model", model)("optimizer", optimizer); });
  }
}

std::vector<float> weights_of(const train::result& r) {
  return r.checkpoints.empty() ? std::vector<float>{} : r.checkpoints.back().open().get<weights>("model").w;
}

std::vector<double> column(const train::result& r, std::string_view name) {
  std::vector<double> values;
  for (const auto& m : r.history) values.push_back(m.at(name));
  return values;
}

TEST_CASE("a training with threads gives its history, its checkpoints and its last metrics") {
  folder at;
  for (int workers = 1; workers <= 4; ++workers) {
    const std::string name = "w" + std::to_string(workers);
    auto r = train::trainer{learn, job{}, train::scaling{.workers = workers},
                            train::run_options{.name = name, .storage = at.string()}}
                 .fit();
    CHECK(text_of(r.error) == "none");
    CHECK(r.attempts == 1);
    CHECK(column(r, "epoch") == std::vector<double>{0, 1, 2, 3, 4, 5});
    CHECK(r.metrics.at("epoch") == 5);
    CHECK(r.path == (at / name).string());
    REQUIRE(r.checkpoints.size() == 6);
    CHECK(r.checkpoints[2].number == 3);
    CHECK(r.checkpoints[2].path == (at / name / "checkpoints/000003.cadre").string());
    CHECK(r.checkpoints[2].metrics.at("epoch") == 2);
    CHECK(r.checkpoint()->get<int>("epoch") == 6);
  }
}

TEST_CASE("without a storage nothing is written, and checkpoints are kept in memory") {
  auto stored = train::trainer{learn, job{.fail_epoch = 4, .fail_rank = 0, .failures = 1}, train::scaling{.workers = 2},
                               train::run_options{.checkpoint = {.num_to_keep = 2}, .failure = {.max_failures = 1}}}
                    .fit();
  CHECK(text_of(stored.error) == "none");
  CHECK(stored.path.empty());
  CHECK(stored.attempts == 2);
  REQUIRE(stored.checkpoints.size() == 2);
  CHECK(stored.checkpoints[0].path.empty());
  CHECK(stored.checkpoint()->get<int>("epoch") == 6);
  auto none = train::trainer{[](train::context& ctx, const int&) { ctx.report({{"a", 1}}); }, 0}.fit();
  CHECK_FALSE(none.checkpoint());
  CHECK(none.history.size() == 1);
  auto nothing = train::trainer{[](train::context&, const int&) {}, 0}.fit();
  CHECK(nothing.history.empty());
  CHECK(nothing.metrics.empty());
}

TEST_CASE("a failure at any report of any rank ends, after a retry, in the same weights as no failure") {
  const auto whole = train::trainer{learn, job{}, train::scaling{.workers = 3}}.fit();
  const auto want = weights_of(whole);
  REQUIRE(want.size() == 5);
  cadre::random_stream draw(11);
  for (int trial = 0; trial < 12; ++trial) {
    const job broken{
        .fail_epoch = static_cast<int>(draw.below(6)), .fail_rank = static_cast<int>(draw.below(3)), .failures = 1};
    INFO("epoch " << broken.fail_epoch << ", rank " << broken.fail_rank);
    folder at;
    const auto r = train::trainer{learn, broken, train::scaling{.workers = 3},
                                  train::run_options{.storage = at.string(), .failure = {.max_failures = 1}}}
                       .fit();
    CHECK(text_of(r.error) == "none");
    CHECK(r.attempts == 2);
    CHECK(weights_of(r) == want);
    CHECK(r.history == whole.history);
  }
}

TEST_CASE("when failures are used up the result holds the error itself, and what was kept") {
  folder at;
  const auto r =
      train::trainer{learn, job{.fail_epoch = 3, .fail_rank = 2, .failures = 9}, train::scaling{.workers = 3},
                     train::run_options{.storage = at.string(), .failure = {.max_failures = 2}}}
          .fit();
  CHECK(r.attempts == 3);
  REQUIRE(r.error);
  CHECK_THROWS_MATCHES(std::rethrow_exception(r.error), std::domain_error,
                       Catch::Matchers::Message("bad batch in epoch 3"));
  CHECK(r.history.size() == 3);
  CHECK(r.checkpoint()->get<int>("epoch") == 3);
  const auto endless = train::trainer{learn, job{.fail_epoch = 1, .fail_rank = 0, .failures = 7},
                                      train::scaling{.workers = 2}, train::run_options{.failure = {.max_failures = -1}}}
                           .fit();
  CHECK(endless.attempts == 8);
  CHECK_FALSE(endless.error);
}

TEST_CASE("the ranks of a communicator get one result, and the failure of one by name") {
  folder at;
  cadre::local_team team{3};
  const auto results = team.run([&](cadre::local_communicator& comm) {
    return train::trainer{learn, job{.fail_epoch = 3, .fail_rank = 1, .failures = 9}, train::scaling{},
                          train::run_options{.storage = at.string(), .failure = {.max_failures = 1}}}
        .fit(comm);
  });
  for (const train::result& r : results) {
    CHECK(r.attempts == 2);
    CHECK(r.history == results[0].history);
    CHECK(r.history.size() == 3);
    CHECK(r.metrics.at("epoch") == 2);
    CHECK(r.path == (at / "run").string());
    CHECK(r.checkpoint()->get<int>("epoch") == 3);
  }
  CHECK_THROWS_AS(std::rethrow_exception(results[1].error), std::domain_error);
  for (std::size_t rank : {0u, 2u})
    CHECK_THROWS_MATCHES(std::rethrow_exception(results[rank].error), train::worker_failed,
                         Catch::Matchers::Message("[cadre.train.808] rank 1 failed: bad batch in epoch 3"));
  // In memory too, and the same bits as by threads.
  const auto in_memory = team.run([&](cadre::local_communicator& comm) {
    return train::trainer{learn, job{}}.fit(comm);
  });
  const auto threads = train::trainer{learn, job{}, train::scaling{.workers = 3}}.fit();
  for (const train::result& r : in_memory) CHECK(weights_of(r) == weights_of(threads));
}

TEST_CASE("a rank that returns while others report is named at once") {
  const auto uneven = [](train::context& ctx, const int& reports) {
    for (int i = 0; i < reports + (ctx.rank() == 1 ? 0 : 1); ++i) ctx.report({{"i", i}});
  };
  const auto before = std::chrono::steady_clock::now();
  const auto r = train::trainer{uneven, 2, train::scaling{.workers = 3}, train::run_options{.timeout = 30s}}.fit();
  CHECK(std::chrono::steady_clock::now() - before < 10s);
  REQUIRE(r.error);
  CHECK_THROWS_MATCHES(
      std::rethrow_exception(r.error), train::reports_diverge,
      Catch::Matchers::Message("[cadre.train.809] rank 1 returned from the train function after 2 reports, "
                               "while ranks 0, 2 made another report; every rank must report equally often"));
}

TEST_CASE("a rank that returns while others reduce ends the training at once") {
  const auto uneven = [](train::context& ctx, const int&) {
    std::vector<float> w(4), g(4);
    train::parameters p;
    p.add("w", w, g);
    train::data_parallel ddp{ctx.comm(), p};
    for (int i = 0; i < (ctx.rank() == 1 ? 2 : 3); ++i) {
      auto step = ddp.begin();
      step.ready("w");
      step.finish();
    }
  };
  const auto before = std::chrono::steady_clock::now();
  const auto r = train::trainer{uneven, 0, train::scaling{.workers = 3}, train::run_options{.timeout = 30s}}.fit();
  CHECK(std::chrono::steady_clock::now() - before < 10s);
  REQUIRE(r.error);
  CHECK_THROWS_AS(std::rethrow_exception(r.error), cadre::collective_mismatch);
}

TEST_CASE("a rank that throws also ends the waits of its peers in communicators split off") {
  const auto f = [](train::context& ctx, const int&) {
    auto half = ctx.comm().split(0, ctx.rank());
    if (ctx.rank() == 1) throw std::domain_error("flat battery");
    half.barrier();
  };
  const auto before = std::chrono::steady_clock::now();
  const auto r = train::trainer{f, 0, train::scaling{.workers = 2}, train::run_options{.timeout = 30s}}.fit();
  CHECK(std::chrono::steady_clock::now() - before < 10s);
  CHECK(text_of(r.error) == "flat battery");
}

TEST_CASE("a rank that reports while others reduce gets an error that names both calls") {
  const auto crossed = [](train::context& ctx, const int&) {
    if (ctx.rank() == 0)
      ctx.report({{"i", 1}});
    else
      (void)ctx.comm().all_reduce(1.0, cadre::sum);
  };
  const auto r = train::trainer{crossed, 0, train::scaling{.workers = 2}, train::run_options{.timeout = 30s}}.fit();
  REQUIRE(r.error);
  CHECK_THROWS_AS(std::rethrow_exception(r.error), cadre::collective_mismatch);
  CHECK(text_of(r.error) ==
        "[cadre.comm.403] rank 0 calls all_gather #2 of 16 bytes for context::report, but rank 1 calls all_reduce #2 "
        "of 1 "
        "float64 with sum; all ranks must make the same calls in the same order");
}

TEST_CASE("an error of ranks that call different things names the user's calls, not those made for them") {
  const auto error_of = [](auto&& one, auto&& other) {
    const auto crossed = [&](train::context& ctx, const int&) { ctx.rank() == 0 ? one(ctx) : other(ctx); };
    const std::string text = text_of(
        train::trainer{crossed, 0, train::scaling{.workers = 2}, train::run_options{.timeout = 30s}}.fit().error);
    return text.substr(0, text.find(';'));
  };
  const auto barrier = [](train::context& ctx) { ctx.comm().barrier(); };
  CHECK(error_of([](train::context& ctx) { (void)ctx.mean(1); }, barrier) ==
        "[cadre.comm.403] rank 0 calls all_reduce #2 of 2 float64 with sum for context::mean, but rank 1 calls barrier "
        "#2");
  CHECK(error_of(
            [](train::context& ctx) {
              (void)train::aggregate(ctx.comm(), {{"loss", 1, 1}});
            },
            barrier) ==
        "[cadre.comm.403] rank 0 calls all_reduce #2 of 4 float64 with sum for aggregate, but rank 1 calls barrier #2");
  CHECK(error_of([](train::context&) {}, barrier) ==
        "[cadre.comm.403] rank 0 calls all_gather #2 of 16 bytes for training's end, but rank 1 calls barrier #2");
  CHECK(error_of(
            [](train::context& ctx) {
              std::vector<float> w(4), g(4);
              train::parameters p;
              p.add("w", w, g);
              const train::data_parallel ddp{ctx.comm(), p};
            },
            barrier) ==
        "[cadre.comm.403] rank 0 calls all_gather #2 of 8 bytes for data_parallel, but rank 1 calls barrier #2");
  std::array<std::string, 2> said;
  cadre::local_team{2}.run([&](cadre::local_communicator& comm) {
    try {
      if (comm.rank() == 0)
        (void)train::trainer{[](train::context&, const int&) {}, 0}.fit(comm);
      else
        comm.barrier();
    } catch (const cadre::collective_mismatch& e) {
      said[static_cast<std::size_t>(comm.rank())] = e.what();
    }
  });
  CHECK(said[0] ==
        "[cadre.comm.403] rank 0 calls broadcast #1 of 8 bytes from root 0 for trainer::fit, but rank 1 calls barrier "
        "#1; "
        "all ranks must make the same calls in the same order");
  CHECK(said[1] == said[0]);
}

TEST_CASE("a rank that takes part in nothing more is given up after the timeout") {
  std::atomic<bool> release{false};
  const auto stuck = [&](train::context& ctx, const int&) {
    if (ctx.rank() == 1) {
      while (!release) ::usleep(1000);
      return;
    }
    try {
      ctx.report({{"i", 1}});
    } catch (const cadre::communicator_timeout&) {
      release = true;  // a thread cannot be stopped from outside
      throw;
    }
  };
  const auto r = train::trainer{stuck, 0, train::scaling{.workers = 2}, train::run_options{.timeout = 200ms}}.fit();
  REQUIRE(r.error);
  CHECK_THAT(text_of(r.error), ContainsSubstring("[cadre.comm.401]"));
}

TEST_CASE("the best checkpoints stay, and the newest besides") {
  folder at;
  const std::vector<double> scores{5, 1, 4, 2, 3};
  const auto f = [&](train::context& ctx, const int&) {
    for (double s : scores) ctx.report({{"score", s}}, [&](train::checkpoint_writer& w) { w("s", s); });
  };
  const auto numbers = [&](train::checkpoint_options keep, std::string name) {
    const auto r = train::trainer{f, 0, train::scaling{},
                                  train::run_options{.name = name, .storage = at.string(), .checkpoint = keep}}
                       .fit();
    std::vector<std::uint64_t> kept;
    for (const auto& c : r.checkpoints) kept.push_back(c.number);
    CHECK(files_in(at / name / "checkpoints").size() == kept.size());
    kept.push_back(static_cast<std::uint64_t>(r.checkpoint()->get<double>("s")));
    return kept;
  };
  using list = std::vector<std::uint64_t>;  // the numbers kept, then the best one's score
  CHECK(numbers({.num_to_keep = 2, .score = "score", .order = cadre::minimize}, "least") == list{2, 4, 5, 1});
  CHECK(numbers({.num_to_keep = 2, .score = "score", .order = cadre::maximize}, "most") == list{1, 3, 5, 5});
  CHECK(numbers({.num_to_keep = 2}, "newest") == list{4, 5, 3});
  CHECK(numbers({.num_to_keep = 3, .score = "score"}, "three") == list{2, 4, 5, 1});
  CHECK(numbers({}, "all") == list{1, 2, 3, 4, 5, 3});
  const auto r = train::trainer{f, 0, train::scaling{}, train::run_options{.checkpoint = {.score = "loss"}}}.fit();
  CHECK_THAT(text_of(r.error), ContainsSubstring("no metric 'loss' was reported; there are: 'score'"));
}

TEST_CASE("a finished run resumes to its own end, a stopped one to the end of an uninterrupted one") {
  folder at;
  const auto whole = train::trainer{learn, job{}, train::scaling{.workers = 2}}.fit();
  const auto options = [&](bool resume) {
    return train::run_options{.storage = at.string(), .checkpoint = {.num_to_keep = 2}, .resume = resume};
  };
  const auto part = train::trainer{learn, job{.epochs = 3}, train::scaling{.workers = 2}, options(true)}.fit();
  CHECK(part.history.size() == 3);
  const auto rest = train::trainer{learn, job{}, train::scaling{.workers = 2}, options(true)}.fit();
  CHECK(rest.history == whole.history);
  CHECK(weights_of(rest) == weights_of(whole));
  CHECK(rest.checkpoints.size() == 2);
  const auto again = train::trainer{learn, job{}, train::scaling{.workers = 2}, options(true)}.fit();
  CHECK(again.history == whole.history);
  CHECK(weights_of(again) == weights_of(whole));
}

TEST_CASE("a run that exists is not overwritten unless it is resumed") {
  folder at;
  const train::run_options options{.name = "a", .storage = at.string()};
  (void)train::trainer{learn, job{.epochs = 1}, train::scaling{}, options}.fit();
  CHECK_THROWS_MATCHES(
      (train::trainer{learn, job{}, train::scaling{.workers = 2}, options}.fit()), train::run_exists,
      Catch::Matchers::Message("[cadre.train.811] '" + (at / "a").string() +
                               "' already holds a run of 1 reports and 1 checkpoints; set "
                               "run_options::resume to continue it, take another name, or remove the folder"));
  CHECK(files_in(at / "a" / "checkpoints") == std::vector<std::string>{"000001.cadre"});
}

struct heard {
  std::string all;
  heard() {
    cadre::set_log_sink([this](const cadre::log_record& r) { all += std::string(r.message) + "\n"; });
  }
  ~heard() { cadre::set_log_sink(nullptr); }
};

TEST_CASE("when several ranks fail by themselves, the result holds one error and the log hears of the others") {
  heard log;
  const auto f = [](train::context& ctx, const int&) {
    throw std::domain_error("flat battery " + std::to_string(ctx.rank()));
  };
  const auto r = train::trainer{f, 0, train::scaling{.workers = 3}}.fit();
  CHECK(text_of(r.error) == "flat battery 0");
  CHECK_THAT(log.all, ContainsSubstring("rank 1 failed besides rank 0: flat battery 1\n"));
  CHECK_THAT(log.all, ContainsSubstring("rank 2 failed besides rank 0: flat battery 2\n"));
}

TEST_CASE("a damaged newest checkpoint is passed over with a warning") {
  folder at;
  const auto whole = train::trainer{learn, job{}, train::scaling{.workers = 2}}.fit();
  const auto options = [&](bool resume) {
    return train::run_options{.name = "d", .storage = at.string(), .resume = resume};
  };
  (void)train::trainer{learn, job{.epochs = 4}, train::scaling{.workers = 2}, options(false)}.fit();
  {
    std::fstream file(at / "d" / "checkpoints/000004.cadre", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-3, std::ios::end);
    file.put('\x55');
  }
  fs::resize_file(at / "d" / "checkpoints/000003.cadre", 10);
  heard log;
  const auto r = train::trainer{learn, job{}, train::scaling{.workers = 2}, options(true)}.fit();
  CHECK_THAT(log.all, ContainsSubstring("checkpoint 4 of run 'd' cannot be read, so an older one is used"));
  CHECK_THAT(log.all, ContainsSubstring("checkpoint 3 of run 'd' cannot be read"));
  CHECK(r.history == whole.history);
  CHECK(weights_of(r) == weights_of(whole));
  CHECK(files_in(at / "d" / "checkpoints") ==
        std::vector<std::string>{"000001.cadre", "000002.cadre", "000003.cadre", "000003.cadre.damaged", "000004.cadre",
                                 "000004.cadre.damaged", "000005.cadre", "000006.cadre"});
}

/// Reports `scores`, the ones named in `saved` with a checkpoint, from where it stopped.
struct scored {
  std::vector<double> scores;
  std::vector<std::size_t> saved;
};
void report_scores(train::context& ctx, const scored& cfg) {
  std::size_t next = 0;
  if (auto c = ctx.checkpoint()) (*c)("next", next);
  for (; next < cfg.scores.size(); ++next) {
    const cadre::metric_map metrics{{"score", cfg.scores[next]}};
    if (std::ranges::find(cfg.saved, next + 1) == cfg.saved.end())
      ctx.report(metrics);
    else
      ctx.report(metrics, [&](train::checkpoint_writer& w) { w("next", next + 1); });
  }
}

TEST_CASE("a damaged checkpoint is never taken for that of a report made again") {
  folder at;
  const auto run = [&](scored cfg) {
    return train::trainer{report_scores, std::move(cfg), train::scaling{},
                          train::run_options{.storage = at.string(), .checkpoint = {.score = "score"}, .resume = true}}
        .fit();
  };
  (void)run({.scores = {5, 4, 3, 1}, .saved = {1, 2, 3, 4}});
  fs::resize_file(at / "run" / "checkpoints/000004.cadre", 10);
  const scored later{.scores = {5, 4, 3, 1, 2}, .saved = {1, 2, 3, 5}};  // report 4 comes again, without a checkpoint
  (void)run(later);
  const auto r = run(later);
  CHECK(column(r, "score") == later.scores);
  REQUIRE(r.checkpoints.size() == 4);
  CHECK(r.checkpoints.back().number == 5);
  CHECK(r.checkpoint()->get<std::size_t>("next") == 5);
}

TEST_CASE("a checkpoint that is there but cannot be opened is an error, and no reason to go back to an older one") {
  folder at;
  const train::run_options options{.storage = at.string(), .resume = true};
  (void)train::trainer{learn, job{.epochs = 3}, train::scaling{.workers = 2}, options}.fit();
  const fs::path newest = at / "run" / "checkpoints/000003.cadre";
  fs::rename(newest, at / "elsewhere");
  fs::create_symlink(newest, newest);  // a loop: the file system refuses, as it might for want of descriptors
  CHECK_THROWS_AS((train::trainer{learn, job{}, train::scaling{.workers = 2}, options}.fit()), cadre::file_error);
  fs::rename(at / "elsewhere", newest);
  const auto r = train::trainer{learn, job{}, train::scaling{.workers = 2}, options}.fit();
  CHECK(r.history == train::trainer{learn, job{}, train::scaling{.workers = 2}}.fit().history);
}

TEST_CASE("a resumed run keeps no more checkpoints than it is told to, though it has nothing more to do") {
  folder at;
  const auto run = [&](std::size_t keep) {
    return train::trainer{
        learn, job{}, train::scaling{},
        train::run_options{.storage = at.string(), .checkpoint = {.num_to_keep = keep}, .resume = true}}
        .fit();
  };
  CHECK(run(0).checkpoints.size() == 6);
  CHECK(run(2).checkpoints.size() == 2);
  CHECK(files_in(at / "run" / "checkpoints") == std::vector<std::string>{"000005.cadre", "000006.cadre"});
}

TEST_CASE("what a killed process left half-written goes, and what another process is writing now stays") {
  folder at;
  const auto fit = [&] {
    return train::trainer{learn, job{.epochs = 2}, train::scaling{},
                          train::run_options{.storage = at.string(), .resume = true}}
        .fit();
  };
  (void)fit();
  const fs::path checkpoints = at / "run" / "checkpoints";
  std::ofstream(checkpoints / ".000003.cadre.4711-0.tmp") << "half";
  std::ofstream(checkpoints / ".notes.tmp") << "not ours";
  cadre::detail::temporary_file written_now(checkpoints.string(), "000004.cadre");
  (void)fit();
  std::vector<std::string> expected{written_now.get().path(), ".notes.tmp", "000001.cadre", "000002.cadre"};
  expected[0].erase(0, expected[0].rfind('/') + 1);
  CHECK(files_in(checkpoints) == expected);
}

TEST_CASE("a run of a model of another shape is refused by name, and stays as it was") {
  folder at;
  const auto fit = [&](std::size_t width) {
    const auto f = [](train::context& ctx, const std::size_t& n) {
      train::parameters p{ctx.comm()};
      (void)p.make<std::vector<float>>("w", n);
      if (auto c = ctx.checkpoint()) (*c)("parameters", p);
      ctx.report({{"n", 1}}, [&](train::checkpoint_writer& w) { w("parameters", p); });
    };
    return train::trainer{f, width, train::scaling{.workers = 2},
                          train::run_options{.storage = at.string(), .failure = {.max_failures = 1}, .resume = true}}
        .fit();
  };
  CHECK_FALSE(fit(128).error);
  const auto r = fit(256);
  CHECK(r.attempts == 2);
  CHECK_THAT(text_of(r.error),
             ContainsSubstring("[cadre.train.814] these values are not of this model: it has 'w' float32 [128] where "
                               "here is 'w' float32 [256]; load them into the model that saved them"));
  CHECK(files_in(at / "run" / "checkpoints") == std::vector<std::string>{"000001.cadre"});
  CHECK_FALSE(fit(128).error);
}

TEST_CASE("a checkpoint whose report never reached the journal still counts") {
  folder at;
  const auto options = [&](bool resume) {
    return train::run_options{.name = "j", .storage = at.string(), .resume = resume};
  };
  const auto whole = train::trainer{learn, job{.epochs = 4}, train::scaling{.workers = 2}, options(false)}.fit();
  // Cut off the last record, as a death between the checkpoint and the record would.
  const fs::path journal = at / "j" / "reports.journal";
  std::uintmax_t size = fs::file_size(journal);
  std::size_t records = 4;
  while (records == 4) {
    fs::resize_file(journal, --size);
    records = 0;
    cadre::journal::read(journal.string(), [&](std::span<const std::byte>) { ++records; });
  }
  const auto r = train::trainer{learn, job{.epochs = 4}, train::scaling{.workers = 2}, options(true)}.fit();
  CHECK(r.history == whole.history);
  CHECK(r.checkpoints.size() == 4);
}

TEST_CASE("a full disk is an error on every rank, and older checkpoints stay as they were") {
  folder at;
  // Files may grow to 64 KiB: the third checkpoint, of twice that, cannot be written.
  const auto grow = [](train::context& ctx, const int&) {
    for (int i = 1; i <= 3; ++i) {
      const std::vector<char> load(i < 3 ? 1000 : 128 * 1024);
      ctx.report({{"i", i}}, [&](train::checkpoint_writer& w) { w("load", load); });
    }
  };
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit limit{64 * 1024, 64 * 1024};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ::signal(SIGXFSZ, SIG_IGN);
    int code = 1;
    try {
      cadre::local_team team{3};
      const auto results = team.run([&](cadre::local_communicator& comm) {
        return train::trainer{grow, 0, train::scaling{}, train::run_options{.storage = at.string()}}.fit(comm);
      });
      code = 0;
      if (text_of(results[0].error).find("[cadre.os.156]") != 0) code = 2;
      for (std::size_t rank : {1u, 2u})
        if (text_of(results[rank].error).find("[cadre.train.808] rank 0 failed: [cadre.os.156]") != 0) code = 3;
      if (results[2].checkpoints.size() != 2 || results[2].checkpoint()->get<std::vector<char>>("load").size() != 1000)
        code = 4;
    } catch (...) {
      code = 5;
    }
    ::_exit(code);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(files_in(at / "run" / "checkpoints") == std::vector<std::string>{"000001.cadre", "000002.cadre"});
}

TEST_CASE("a disk that fills up ends a training with no half-written file, and room lets it resume to the same end",
          "[root]") {
  folder at;
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 99;
    try {
      const std::string disk = at.string();
      const auto fit = [&] {
        return train::trainer{learn, job{.epochs = 200}, train::scaling{.workers = 2},
                              train::run_options{.storage = disk, .resume = true}}
            .fit();
      };
      if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
          ::mount("cadre", disk.c_str(), "tmpfs", 0, "size=256k") != 0)
        ::_exit(77);
      const auto full = fit();
      code = text_of(full.error).find("[cadre.os.156]") == 0 ? 0 : 1;
      if (full.checkpoints.empty() || full.checkpoints.size() >= 200) code = 2;
      if (files_in(at / "run" / "checkpoints").size() != full.checkpoints.size()) code = 3;
      for (const auto& c : full.checkpoints) (void)c.open();
      if (::mount("cadre", disk.c_str(), "tmpfs", MS_REMOUNT, "size=16m") != 0) code = 4;
      const auto rest = fit();
      const auto whole = train::trainer{learn, job{.epochs = 200}, train::scaling{.workers = 2}}.fit();
      if (rest.error || rest.history != whole.history || weights_of(rest) != weights_of(whole)) code = 5;
    } catch (...) {}
    ::_exit(code);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77)
    WARN("skipped: needs the right to mount a file system");
  else
    CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("a run that cannot be brought to an end on the disk is an error of every rank") {
  folder at;
  const auto f = [](train::context& ctx, const int&) {
    ctx.report({{"i", 1}});
    if (ctx.rank() == 0) failing_fsync::countdown = 1;
  };
  std::array<std::string, 3> said;
  cadre::local_team{3}.run([&](cadre::local_communicator& comm) {
    comm.set_timeout(20s);
    try {
      (void)train::trainer{f, 0, train::scaling{}, train::run_options{.storage = at.string()}}.fit(comm);
    } catch (const cadre::error& e) {
      said[static_cast<std::size_t>(comm.rank())] = e.what();
    }
    comm.barrier();  // and the communicator works on
  });
  failing_fsync::countdown = 0;
  CHECK(said[0] == "[cadre.os.158] cannot write to disk '" + (at / "run/reports.journal").string() +
                       "': Input/output error (errno 5); the file system or the device below it failed");
  CHECK(said[1] == "[cadre.train.808] rank 0 failed when ending the run: " + said[0]);
  CHECK(said[2] == said[1]);
}

TEST_CASE("a saver that throws fails the report, on every rank, with its own text") {
  cadre::local_team team{2};
  team.run([](cadre::local_communicator& comm) {
    std::string seen;
    const auto f = [&](train::context& ctx, const int&) {
      try {
        ctx.report({{"a", 1}}, [](train::checkpoint_writer&) { throw std::runtime_error("no model"); });
      } catch (const std::exception& e) {
        seen = e.what();
        throw;
      }
    };
    const auto r = train::trainer{f, 0}.fit(comm);
    if (seen != (comm.rank() == 0 ? "no model"
                                  : "[cadre.train.810] report 1 of this attempt could not be kept by rank 0: no model"))
      throw std::logic_error(seen);
    if (text_of(r.error).find("no model") == std::string::npos) throw std::logic_error("error lost");
  });
}

TEST_CASE("a request to stop ends all ranks at the same report") {
  std::stop_source source;
  const auto f = [](train::context& ctx, const int&) {
    while (ctx.report({{"n", ctx.reports()}})) {}
  };
  std::vector<std::uint64_t> seen;
  const auto r = train::trainer{
      f, 0, train::scaling{.workers = 3},
      train::run_options{
          .stop = source.get_token(), .on_report = [&](const train::report_event& e) {
            seen.push_back(e.number);
            if (e.number == 5) source.request_stop();
          }}}.fit();
  CHECK_FALSE(r.error);
  CHECK(r.history.size() >= 5);
  CHECK(r.history.size() <= 6);
  CHECK(seen.size() == r.history.size());
}

TEST_CASE("an observer sees each report with its number and attempt, and its exception is an error of the attempt") {
  std::vector<std::string> seen;
  const auto r = train::trainer{
      learn, job{.epochs = 3, .fail_epoch = 1, .fail_rank = 0, .failures = 1}, train::scaling{.workers = 2},
      train::run_options{
          .failure = {.max_failures = 1}, .on_report = [&](const train::report_event& e) {
            seen.push_back(std::to_string(e.number) + "/" + std::to_string(e.attempt) + (e.checkpoint ? "c" : "") +
                           (e.metrics.contains("loss") ? "" : "?"));
          }}}.fit();
  CHECK_FALSE(r.error);
  CHECK(seen == std::vector<std::string>{"1/1c", "2/2c", "3/2c"});
  const auto broken = train::trainer{
      learn, job{.epochs = 3}, train::scaling{.workers = 2},
      train::run_options{.on_report = [](const train::report_event&) {
        throw std::runtime_error("no window");
      }}}.fit();
  CHECK(text_of(broken.error) == "no window");
}

TEST_CASE("progress prints a line per report, each failure and the end, and nothing is printed unasked") {
  const auto f = [](train::context& ctx, const int&) {
    for (int i = ctx.attempt(); i < 3; ++i) ctx.report({{"epoch", i}, {"loss", 0.125 / i}});
    if (ctx.attempt() == 1) throw std::runtime_error("flat battery");
  };
  const auto run = [&](bool progress) {
    test_report::captured_stderr out;
    (void)train::trainer{f, 0, train::scaling{.workers = 2},
                         train::run_options{.name = "p", .failure = {.max_failures = 1}, .progress = progress}}
        .fit();
    return out.text();
  };
  CHECK(run(false).empty());
  CHECK(run(true) ==
        "p: epoch 1  loss 0.125\n"
        "p: epoch 2  loss 0.0625\n"
        "p: attempt 1 failed on rank 0, trying again: flat battery\n"
        "p: report 1  epoch 2  loss 0.0625  (attempt 2)\n"
        "p: finished after 1 reports\n");
}

TEST_CASE("on a terminal the last line keeps the last metrics, all of them, and says no number twice") {
  int outer = -1, inner = -1;
  termios raw{};
  ::cfmakeraw(&raw);
  const winsize narrow{24, 40, 0, 0};
  REQUIRE(::openpty(&outer, &inner, nullptr, &raw, &narrow) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("TERM", "xterm", 1);
    ::dup2(inner, 2);
    const auto f = [](train::context& ctx, const int&) {
      for (int i = 1; i < 3; ++i)
        ctx.report({{"epoch", i}, {"test_accuracy", 0.875}, {"images_per_second", 512.5 * i}});
    };
    (void)train::trainer{f, 0, train::scaling{}, train::run_options{.name = "p", .progress = true}}.fit();
    ::_exit(0);
  }
  ::close(inner);
  std::string said;
  char buffer[1000];
  for (ssize_t n; (n = ::read(outer, buffer, sizeof buffer)) > 0;) said.append(buffer, static_cast<std::size_t>(n));
  ::close(outer);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK_THAT(said, ContainsSubstring("p: epoch 2  test_accuracy 0.875  ima..."));
  CHECK_THAT(said, ContainsSubstring(
                       "p: finished after 2 reports  epoch 2  test_accuracy 0.875  images_per_second 1025\x1b[K\n"));
}

TEST_CASE("the locale of the host does not change the lines of progress") {
  test_report::captured_stderr out;
  std::string said;
  {
    const test_report::comma_locale german;
    if (!german) {
      WARN("skipped: needs a locale with a comma (Debian: locales)");
      return;
    }
    (void)train::trainer{[](train::context& ctx, const int&) {
                           ctx.report({{"loss", 0.125}, {"lr", 1.5e-7}});
                         },
                         0, train::scaling{}, train::run_options{.name = "p", .progress = true}}
        .fit();
    said = out.text();
  }
  CHECK(said.starts_with("p: report 1  loss 0.125  lr 1.5e-07\n"));
}

TEST_CASE("a context tells who and where one is") {
  const auto f = [](train::context& ctx, const int& n) {
    if (ctx.world_size() != n || ctx.comm().rank() != ctx.rank()) throw std::logic_error("rank");
    if (ctx.device() != train::device{}) throw std::logic_error("device");
    if (ctx.attempt() != 1 || ctx.checkpoint() || ctx.stop_requested()) throw std::logic_error("state");
    if (ctx.mean(ctx.rank(), ctx.rank()) != 5.0 / 3) throw std::logic_error("mean");
    if (ctx.comm().backend() != "threads") throw std::logic_error("backend");
  };
  CHECK(text_of(train::trainer{f, 3, train::scaling{.workers = 3}}.fit().error) == "none");
}

TEST_CASE("options without meaning and folders that cannot be are errors of fit, on every rank") {
  const auto f = [](train::context&, const int&) {};
  CHECK_THROWS_MATCHES((train::trainer{f, 0, train::scaling{.workers = 0}}.fit()), train::option_invalid,
                       Catch::Matchers::Message("[cadre.train.807] scaling::workers is 0; at least one is needed"));
  CHECK_THROWS_AS(
      (train::trainer{f, 0, train::scaling{.workers = 2}, train::run_options{.failure = {.max_failures = -2}}}.fit()),
      train::option_invalid);
  CHECK_THROWS_AS((train::trainer{f, 0, train::scaling{.workers = 2}, train::run_options{.name = "a/b"}}.fit()),
                  train::option_invalid);
  folder at;
  std::ofstream(at / "file") << "x";
  CHECK_THROWS_MATCHES(
      (train::trainer{f, 0, train::scaling{.workers = 3},
                      train::run_options{.name = "r", .storage = (at / "file").string()}}
           .fit()),
      train::run_folder_error,
      Catch::Matchers::Message("[cadre.train.812] cannot make the run's folder '" + (at / "file/r").string() +
                               "': Not a directory; check run_options::storage and its permissions"));
  cadre::local_team team{2};
  team.run([&](cadre::local_communicator& comm) {
    try {
      (void)train::trainer{f, 0, train::scaling{}, train::run_options{.storage = (at / "file").string()}}.fit(comm);
    } catch (const train::worker_failed& e) {
      if (comm.rank() == 1 &&
          std::string(e.what()).find(
              "[cadre.train.808] rank 0 failed when opening the run's folder: [cadre.train.812]") == 0)
        return;
      throw;
    } catch (const train::run_folder_error&) {
      if (comm.rank() == 0) return;
      throw;
    }
    throw std::logic_error("no error");
  });
}

TEST_CASE("two trainings cannot share a folder") {
  folder at;
  const auto options = [&] { return train::run_options{.storage = at.string(), .resume = true}; };
  const auto f = [&](train::context& ctx, const int&) {
    ctx.report({{"a", 1}});
    (void)train::trainer{[](train::context&, const int&) {}, 0, train::scaling{}, options()}.fit();
  };
  CHECK_THAT(text_of(train::trainer{f, 0, train::scaling{}, options()}.fit().error),
             ContainsSubstring("[cadre.persist.523]"));
}

TEST_CASE("after SIGKILL at any instant a run resumes to the weights and history of an uninterrupted one") {
  const job long_job{.epochs = 40};
  const auto whole = train::trainer{learn, long_job, train::scaling{.workers = 2}}.fit();
  folder at;
  const auto options = [&] {
    return train::run_options{
        .name = "k", .storage = at.string(), .checkpoint = {.num_to_keep = 3, .score = "loss"}, .resume = true};
  };
  cadre::random_stream draw(5);
  int killed = 0;
  for (int i = 0; i < 20; ++i) {
    int started[2];
    REQUIRE(::pipe(started) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(started[0]);
      auto o = options();
      o.on_report = [&](const train::report_event&) { (void)!::write(started[1], "r", 1); };
      try {
        (void)train::trainer{learn, long_job, train::scaling{.workers = 2}, o}.fit();
      } catch (...) {
        ::_exit(1);
      }
      ::_exit(0);
    }
    ::close(started[1]);
    char byte = 0;
    if (i % 4 != 0) (void)!::read(started[0], &byte, 1);  // now and then before the first report
    ::usleep(static_cast<useconds_t>(draw.below(6000)));
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    ::close(started[0]);
    if (WIFSIGNALED(status))
      ++killed;
    else
      REQUIRE(WEXITSTATUS(status) == 0);
  }
  CHECK(killed > 0);
  const auto r = train::trainer{learn, long_job, train::scaling{.workers = 2}, options()}.fit();
  CHECK(text_of(r.error) == "none");
  CHECK(r.history == whole.history);
  CHECK(weights_of(r) == weights_of(whole));
  CHECK(r.checkpoints.size() <= 4);
  CHECK(files_in(at / "k" / "checkpoints").size() == r.checkpoints.size());
}

}  // namespace train_trainer
