#ifndef CADRE_EXAMPLES_FASHION_MNIST_OPTIONS_HPP
#define CADRE_EXAMPLES_FASHION_MNIST_OPTIONS_HPP

#include "error.hpp"

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fashion {

struct options {
  int workers = 0;  // 0: as many as processors, or the ranks of mpirun
  int epochs = 20;
  int trials = 16;
  std::uint64_t seed = 7;
  std::string run_dir = "runs/fashion_mnist";
  std::string data = "/usr/share/datasets/fashion-mnist";
  bool resume = false;
  bool deterministic = false;
  bool help = false;
};

inline constexpr std::string_view help_text = R"(usage: fashion_mnist [options]
Tunes and trains a 784-h-128-10 perceptron on Fashion-MNIST; under mpirun the ranks are the workers.

  --workers N      threads that train together (default: the processors; under mpirun the ranks)
  --epochs N       passes over the training images (default 20)
  --trials N       configurations that are tried, 1 to 10000 (default 16)
  --seed N         the same seed gives the same weights (default 7)
  --run-dir DIR    checkpoints, trials and curves (default runs/fashion_mnist)
  --data DIR       the four IDX files (default /usr/share/datasets/fashion-mnist)
  --resume         continue what is in the run directory
  --deterministic  the same weights for 1, 2 and 4 workers
  --help           this text
)";

namespace detail {

template <class Number>
Number to_number(const std::string& option, const std::string& text, Number low, Number high) {
  Number value{};
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc{} || end != text.data() + text.size() || value < low || value > high)
    throw input_error::bad_value(option, text,
                                 "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  return value;
}

}  // namespace detail

/// Takes `--name value` and `--name=value`.
inline options parse_options(int argc, char** argv) {
  options o;
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    std::optional<std::string> attached;
    if (const auto equals = name.find('='); equals != std::string::npos) {
      attached = name.substr(equals + 1);
      name.resize(equals);
    }
    const auto value = [&]() -> std::string {
      if (attached) return *attached;
      if (i + 1 == argc) throw input_error::missing_value(name);
      return argv[++i];
    };
    const auto flag = [&] {
      if (attached) throw input_error::bad_value(name, *attached, "no value");
      return true;
    };
    if (name == "--workers")
      o.workers = detail::to_number(name, value(), 1, 1024);
    else if (name == "--epochs")
      o.epochs = detail::to_number(name, value(), 1, 100000);
    else if (name == "--trials")
      o.trials = detail::to_number(name, value(), 1, 10000);
    else if (name == "--seed")
      o.seed = detail::to_number<std::uint64_t>(name, value(), 0, UINT64_MAX);
    else if (name == "--run-dir")
      o.run_dir = value();
    else if (name == "--data")
      o.data = value();
    else if (name == "--resume")
      o.resume = flag();
    else if (name == "--deterministic")
      o.deterministic = flag();
    else if (name == "--help" || name == "-h")
      o.help = flag();
    else
      throw input_error::unknown_option(name);
  }
  while (o.run_dir.size() > 1 && o.run_dir.back() == '/') o.run_dir.pop_back();  // what a shell's completion appends
  if (o.run_dir.empty()) throw input_error::bad_value("--run-dir", "", "a folder");
  return o;
}

}  // namespace fashion

#endif
