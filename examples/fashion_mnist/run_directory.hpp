#ifndef CADRE_EXAMPLES_FASHION_MNIST_RUN_DIRECTORY_HPP
#define CADRE_EXAMPLES_FASHION_MNIST_RUN_DIRECTORY_HPP

#include "error.hpp"
#include "options.hpp"

#include <cadre/core/metric_map.hpp>
#include <cadre/persist.hpp>
#include <cadre/report.hpp>

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <vector>

namespace fashion {

/// What must be the same for a resumed run to end like an uninterrupted one.
inline std::string settings_text(const options& o) {
  return "--epochs " + std::to_string(o.epochs) + " --trials " + std::to_string(o.trials) + " --seed " +
         std::to_string(o.seed) + (o.deterministic ? " --deterministic" : " --workers " + std::to_string(o.workers));
}

/// Makes the folder, or checks that it belongs to the run that is to be resumed. An earlier run that is not resumed
/// moves aside: nothing is overwritten. The folder is this process's while the journal returned is open; another process
/// that wants it gets journal_locked (523).
inline cadre::journal take_run_directory(const options& o) {
  namespace fs = std::filesystem;
  const auto make = [&] {
    std::error_code error;
    fs::create_directories(o.run_dir + "/tune", error);
    if (error) throw input_error::unwritable(o.run_dir, error.message());
  };
  const std::string ours = settings_text(o), file = o.run_dir + "/settings.journal";
  std::string theirs;
  make();
  cadre::journal settings = cadre::journal::open(file, {}, [&](std::span<const std::byte> record) {
    theirs.assign(reinterpret_cast<const char*>(record.data()), record.size());
  });
  if (!theirs.empty() && o.resume) {
    if (theirs != ours) throw input_error::other_run(o.run_dir, theirs);
    return settings;
  }
  if (!theirs.empty()) {
    std::string aside;
    std::error_code error;
    for (int i = 1; aside.empty() || fs::exists(aside, error); ++i) aside = o.run_dir + "." + std::to_string(i);
    fs::rename(o.run_dir, aside, error);
    if (error) throw input_error::unwritable(o.run_dir, error.message());
    std::printf("the earlier run in %s is now in %s\n", o.run_dir.c_str(), aside.c_str());
    std::fflush(stdout);
    make();
    settings = cadre::journal::open(file);
  }
  settings.append(ours);
  return settings;
}

/// Loss and accuracy over the epochs, side by side.
inline void draw_curves(const std::string& path, const std::vector<cadre::metric_map>& history) {
  const auto curve = [&](const char* name, const char* metric) {
    cadre::chart_series series{.name = name};
    for (const cadre::metric_map& m : history) series.y.push_back(m.at(metric));
    return series;
  };
  cadre::save_svg(
      path,
      {.title = "Fashion-MNIST",
       .panels = {
           {.title = "loss", .x_label = "epoch", .series = {curve("training", "loss"), curve("test", "test_loss")}},
           {.title = "accuracy",
            .x_label = "epoch",
            .series = {curve("training", "accuracy"), curve("test", "test_accuracy")}}}});
}

}  // namespace fashion

#endif
