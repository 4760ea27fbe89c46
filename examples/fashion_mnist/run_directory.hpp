#ifndef CADRE_EXAMPLES_FASHION_MNIST_RUN_DIRECTORY_HPP
#define CADRE_EXAMPLES_FASHION_MNIST_RUN_DIRECTORY_HPP

#include "error.hpp"
#include "options.hpp"

#include <cadre/core/metric_map.hpp>
#include <cadre/os/atomic_file.hpp>
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
/// moves aside: nothing is overwritten.
inline void prepare_run_directory(const options& o) {
  namespace fs = std::filesystem;
  const fs::path folder = o.run_dir, settings = folder / "settings";
  const std::string ours = settings_text(o);
  std::error_code error;
  if (o.resume && fs::exists(settings, error)) {
    const std::vector<std::byte> bytes = cadre::read_file(settings);
    const std::string theirs(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (theirs != ours) throw input_error::other_run(o.run_dir, theirs);
    return;
  }
  if (fs::exists(settings, error)) {
    for (int i = 1;; ++i) {
      const fs::path aside = o.run_dir + "." + std::to_string(i);
      if (fs::exists(aside, error)) continue;
      fs::rename(folder, aside, error);
      if (error) throw input_error::unwritable(o.run_dir, error.message());
      std::printf("the earlier run in %s is now in %s\n", o.run_dir.c_str(), aside.c_str());
      break;
    }
  }
  fs::create_directories(folder / "tune", error);
  if (error) throw input_error::unwritable(o.run_dir, error.message());
  cadre::write_file_atomically(settings, std::as_bytes(std::span(ours)));
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
