#ifndef CADRE_EXAMPLES_FASHION_MNIST_ERROR_HPP
#define CADRE_EXAMPLES_FASHION_MNIST_ERROR_HPP

#include <cadre/core/error.hpp>

#include <string>

namespace fashion {

/// What a person gave this program that it cannot work with (1901 to 1907): one line on stderr and exit code 2.
class input_error : public cadre::error {
 public:
  static input_error unknown_option(const std::string& option) {
    return {1901, "unknown option '" + option + "'; --help lists those that there are"};
  }
  static input_error missing_value(const std::string& option) { return {1902, option + " needs a value"}; }
  static input_error bad_value(const std::string& option, const std::string& value, const std::string& allowed) {
    return {1903, option + " cannot be '" + value + "': give " + allowed};
  }
  static input_error no_data(const std::string& file) {
    return {
        1904,
        file + " is missing: install it with 'apt-get install dataset-fashion-mnist', or name its folder with --data"};
  }
  static input_error not_fashion_mnist(const std::string& file, const std::string& found) {
    return {1905, file + " is not Fashion-MNIST: " + found};
  }
  static input_error other_run(const std::string& run_dir, const std::string& difference) {
    return {1906, run_dir + " was made with " + difference + "; resume with the same, or choose another --run-dir"};
  }
  static input_error unwritable(const std::string& run_dir, const std::string& reason) {
    return {1907, "cannot write to the run directory " + run_dir + ": " + reason + "; choose another with --run-dir"};
  }

 private:
  input_error(int number, const std::string& message) : error("examples", number, message) {}
};

}  // namespace fashion

#endif
