#ifndef CADRE_ARCHIVE_TYPE_LABEL_HPP
#define CADRE_ARCHIVE_TYPE_LABEL_HPP

#include <cadre/config/config.hpp>

#include <cxxabi.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <typeinfo>

CADRE_NAMESPACE_BEGIN

namespace detail {

inline void erase_all(std::string& text, std::string_view part) {
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at)) text.erase(at, part.size());
}

/// A type's name as in source code, without the inline namespaces that carry versions of the standard library and of
/// cadre, so that files outlive these.
inline std::string type_name(const std::type_info& type) {
  int status = 0;
  char* demangled = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string name = demangled != nullptr ? demangled : type.name();
  std::free(demangled);
  erase_all(name, "__cxx11::");
  erase_all(name, "__1::");
  for (std::size_t at = name.find("cadre::v"); at != std::string::npos; at = name.find("cadre::v", at + 1)) {
    const std::size_t digits = at + 8, end = name.find_first_not_of("0123456789", digits);
    if (end != std::string::npos && end != digits && name.compare(end, 2, "::") == 0)
      name.erase(at + 7, end + 2 - at - 7);
  }
  return name;
}

}  // namespace detail

/// The name under which a T is filed: a value is read back only as a type of the same label. Specialise it for types
/// that share one format, or to keep files readable after a type was renamed.
template <class T>
struct type_label {
  static std::string get() { return detail::type_name(typeid(T)); }
};

CADRE_NAMESPACE_END

#endif
