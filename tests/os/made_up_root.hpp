#ifndef CADRE_TESTS_OS_MADE_UP_ROOT_HPP
#define CADRE_TESTS_OS_MADE_UP_ROOT_HPP

#include "catch.hpp"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

/// A made-up /proc and /sys.
class made_up_root {
 public:
  made_up_root() {
    std::string pattern = (std::filesystem::temp_directory_path() / "cadre-root-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    root_ = pattern;
  }
  made_up_root(const made_up_root&) = delete;
  made_up_root& operator=(const made_up_root&) = delete;
  ~made_up_root() { std::filesystem::remove_all(root_); }

  void file(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  [[nodiscard]] const std::string& path() const { return root_; }

 private:
  std::string root_;
};

#endif
