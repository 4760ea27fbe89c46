#ifndef CADRE_TESTS_REPORT_COMMA_LOCALE_HPP
#define CADRE_TESTS_REPORT_COMMA_LOCALE_HPP

#include "report/temporary_folder.hpp"

#include <stdlib.h>

#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

namespace test_report {

/// While it lives, the host writes numbers with a comma: in the German locale of the system, or one that is compiled
/// here (of the small character set, which takes a quarter of the time). False where neither can be had (Debian: locales).
class comma_locale {
 public:
  comma_locale() {
    if (choose("de_DE.UTF-8")) return;
    made_.emplace();
    const std::string command = "localedef -c -i de_DE -f ISO-8859-1 '" + (*made_ / "de_DE") + "' >/dev/null 2>&1";
    ::setenv("LOCPATH", (*made_ / "").c_str(), 1);
    if (std::system(command.c_str()) != -1) choose("de_DE");
  }
  ~comma_locale() {
    std::setlocale(LC_ALL, before_.c_str());
    if (made_) ::unsetenv("LOCPATH");
  }
  comma_locale(const comma_locale&) = delete;
  comma_locale& operator=(const comma_locale&) = delete;

  explicit operator bool() const {
    char text[8];
    std::snprintf(text, sizeof text, "%g", 1.5);
    return std::string(text) == "1,5";
  }

 private:
  static bool choose(const char* name) { return std::setlocale(LC_ALL, name) != nullptr; }

  std::string before_ = std::setlocale(LC_ALL, nullptr);
  std::optional<temporary_folder> made_;
};

}  // namespace test_report

#endif
