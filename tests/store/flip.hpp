#ifndef CADRE_TESTS_STORE_FLIP_HPP
#define CADRE_TESTS_STORE_FLIP_HPP

#include <cstdint>
#include <fstream>
#include <string>

/// Changes one bit of a file, as a failing disk or another program may.
inline void flip(const std::string& path, std::uint64_t offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  const char c = static_cast<char>(file.get() ^ 4);
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(c);
}

#endif
