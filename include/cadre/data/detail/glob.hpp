#ifndef CADRE_DATA_DETAIL_GLOB_HPP
#define CADRE_DATA_DETAIL_GLOB_HPP

#include <cadre/data/error.hpp>

#include <glob.h>    // glob
#include <unistd.h>  // access

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace data::detail {

/// The files that a pattern matches, sorted by their bytes (glob itself sorts by locale). A path without pattern
/// characters, and one that exists as it is written, stands for itself. Throws file_error 702 if there is none.
inline std::vector<std::string> matching_files(const std::string& pattern) {
  if (pattern.find_first_of("*?[") == std::string::npos || ::access(pattern.c_str(), F_OK) == 0) return {pattern};
  struct matches {
    ::glob_t list{};
    ~matches() { ::globfree(&list); }
  } found;
  if (::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found.list) != 0) throw file_error::no_match(pattern);
  std::qsort(found.list.gl_pathv, found.list.gl_pathc, sizeof(char*), [](const void* a, const void* b) {
    return std::strcmp(*static_cast<const char* const*>(a), *static_cast<const char* const*>(b));
  });
  return {found.list.gl_pathv, found.list.gl_pathv + found.list.gl_pathc};
}

}  // namespace data::detail

CADRE_NAMESPACE_END

#endif
