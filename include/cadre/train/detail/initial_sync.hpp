#ifndef CADRE_TRAIN_DETAIL_INITIAL_SYNC_HPP
#define CADRE_TRAIN_DETAIL_INITIAL_SYNC_HPP

#include <cadre/comm/any_communicator.hpp>
#include <cadre/core/hash.hpp>
#include <cadre/train/detail/agreement.hpp>
#include <cadre/train/error.hpp>
#include <cadre/train/parameters.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train::detail {

/// One line per parameter.
inline std::string describe(const parameters& list) {
  std::string text;
  for (const parameter& p : list) {
    std::string name = p.name;
    std::replace(name.begin(), name.end(), '\n', ' ');
    text += "'" + name + "' " + std::string(to_string(p.type)) + " " + shape_text(p.shape) +
            (p.arena >= 0 ? " made" : " added") + "\n";
  }
  return text;
}

/// Makes sure that all ranks have the same list. Throws parameters_disagree (803) on every rank, with the same text.
inline void require_same_parameters(any_communicator& comm, const parameters& list) {
  const std::string mine = describe(list);
  const auto hashes = comm.all_gather(hash_bytes({reinterpret_cast<const std::byte*>(mine.data()), mine.size()}));
  int odd = 0;  // the first rank that differs from rank 0
  while (odd < comm.world_size() && hashes[static_cast<std::size_t>(odd)] == hashes[0]) ++odd;
  if (odd == comm.world_size()) return;
  const std::string texts[2] = {broadcast_text(comm, mine, 0), broadcast_text(comm, mine, odd)};
  std::string_view rest[2] = {texts[0], texts[1]};
  for (std::size_t number = 1;; ++number) {
    std::string line[2];
    for (int i = 0; i < 2; ++i) {
      const std::size_t end = rest[i].find('\n');
      line[i] = rest[i].empty() ? "nothing" : std::string(rest[i].substr(0, end));
      if (!rest[i].empty()) rest[i].remove_prefix(end + 1);
    }
    if (line[0] != line[1] || (rest[0].empty() && rest[1].empty()))
      throw parameters_disagree("ranks have different parameters: parameter " + std::to_string(number) + " is " +
                                line[0] + " on rank 0, but " + line[1] + " on rank " + std::to_string(odd) +
                                "; add the same ones in the same order on every rank");
  }
}

/// Gives every rank the values of rank 0, many per broadcast: runs of made parameters where they lie, others through
/// memory of at most `piece` bytes, or one parameter.
inline void broadcast_values(any_communicator& comm, const parameters& list, std::uint64_t piece) {
  std::vector<std::byte> staging;
  for (std::size_t first = 0; first < list.size();) {
    std::size_t end = first + 1;
    if (list[first].arena >= 0) {
      while (end < list.size() && list[end].arena == list[first].arena) ++end;
      const parameter& last = list[end - 1];
      comm.broadcast_bytes(list[first].value, static_cast<std::size_t>(last.value - list[first].value) + last.bytes(),
                           0);
    } else {
      std::size_t bytes = list[first].bytes();
      while (end < list.size() && list[end].arena < 0 && bytes + list[end].bytes() <= piece)
        bytes += list[end++].bytes();
      staging.resize(bytes);
      const auto each = [&](auto&& copy) {
        std::size_t at = 0;
        for (std::size_t i = first; i < end; at += list[i++].bytes())
          if (list[i].count != 0) copy(staging.data() + at, list[i]);
      };
      if (comm.rank() == 0) each([](std::byte* to, const parameter& p) { std::memcpy(to, p.value, p.bytes()); });
      comm.broadcast_bytes(staging.data(), bytes, 0);
      if (comm.rank() != 0)
        each([](const std::byte* from, const parameter& p) { std::memcpy(p.value, from, p.bytes()); });
    }
    first = end;
  }
}

}  // namespace train::detail
CADRE_NAMESPACE_END

#endif
