// libFuzzer: what comes from one rank by MPI, batches of records, whole and damaged. Of whole ones a model says what has to
// come out. Of damaged ones nothing is asked but that what is read lies in them, that blocks can be received, and that nothing
// comes after the first thing that is wrong.

#include "choices.hpp"

#include <cadre/mpi/detail/inbound.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace mpi = cadre::mpi::detail;
using bytes = std::vector<std::byte>;

void check(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  std::abort();
}

struct message {
  bytes content;
  std::vector<std::uint64_t> blocks;
  std::uint64_t first_piece = 0;
  friend bool operator==(const message&, const message&) = default;
};

/// What the reader tells.
struct receiver {
  std::deque<message> expected;
  bool damaged = false, broken = false;
  std::uint32_t refuses = ~std::uint32_t{0};  // an acknowledgement that cannot be

  bool acknowledged(int from, std::uint32_t taken) {
    check(from == 3 && !broken, "a batch is read after what is wrong");
    return taken != refuses;
  }
  void message(int, std::span<const std::byte> content, std::span<const std::uint64_t> blocks, std::uint64_t first) {
    check(!broken, "a message comes after what is wrong");
    const ::message m{{content.begin(), content.end()}, {blocks.begin(), blocks.end()}, first};
    if (damaged) return;
    check(!expected.empty() && expected.front() == m, "another message comes than was sent");
    expected.pop_front();
  }
  bool told(int, std::uint64_t rank, std::span<const std::byte> how) {
    check(damaged || (rank == 7 && how.size() == 3), "another death is told than was sent");
    return rank < 10;
  }
  void malformed(int, const std::string& why) {
    check(damaged, why.c_str());
    check(!broken && !why.empty(), "it is told twice what is wrong");
    broken = true;
  }
};

/// What a rank sends.
class sender {
 public:
  bytes batch(choices& choose, std::deque<message>& sent) {
    bytes b(mpi::header_bytes);
    const mpi::batch_header header{sequence_++, static_cast<std::uint32_t>(choose.byte())};
    std::memcpy(b.data(), &header, sizeof header);
    for (std::size_t n = choose.below(4); n != 0 && farewells_ == 0; --n) {
      const bytes content(choose.below(4) == 0 ? 200 + choose.byte() : choose.below(40), std::byte{choose.byte()});
      switch (choose.below(4)) {
        case 0:
        case 1: message_of(b, content, {}, 0, sent); break;
        case 2: {
          std::vector<std::uint64_t> blocks(1 + choose.below(3));
          for (std::uint64_t& s : blocks) s = choose.number() % (std::uint64_t{1} << 40);
          message_of(b, content, blocks, choose.number(), sent);
          break;
        }
        default:
          if (content.empty()) break;
          put(b, content.size(), mpi::record_kind::fragment);
          b.insert(b.end(), content.begin(), content.end());
          partial_.insert(partial_.end(), content.begin(), content.end());
      }
    }
    if (partial_.empty() && farewells_ < 2 && choose.below(16) == 1) {
      put(b, 0, mpi::record_kind::farewell);
      number(b, messages_);
      ++farewells_;
    }
    if (farewells_ < 2 && choose.below(16) == 1) {
      put(b, 3, mpi::record_kind::farewell);
      number(b, 7);
      b.insert(b.end(), {std::byte{'w'}, std::byte{'h'}, std::byte{'y'}});
    }
    return b;
  }

 private:
  void message_of(bytes& b, const bytes& content, const std::vector<std::uint64_t>& blocks, std::uint64_t first,
                  std::deque<message>& sent) {
    put(b, content.size(), blocks.empty() ? mpi::record_kind::message : mpi::record_kind::message_with_blocks);
    if (!blocks.empty()) {
      number(b, blocks.size());
      number(b, first);
      for (const std::uint64_t s : blocks) number(b, s);
    }
    b.insert(b.end(), content.begin(), content.end());
    partial_.insert(partial_.end(), content.begin(), content.end());
    sent.push_back({std::exchange(partial_, {}), blocks, blocks.empty() ? 0 : first});
    ++messages_;
  }
  static void put(bytes& b, std::size_t size, mpi::record_kind kind) {
    number(b, std::uint64_t{4} * size + static_cast<std::uint64_t>(kind));
  }
  static void number(bytes& b, std::uint64_t n) {
    std::byte digits[mpi::number_bytes];
    b.insert(b.end(), digits, mpi::put_number(digits, n));
  }

  std::uint32_t sequence_ = 0;
  std::uint64_t messages_ = 0;
  int farewells_ = 0;
  bytes partial_;
};

/// True if it was changed.
bool damage(choices& choose, bytes& b) {
  const bytes before = b;
  const std::size_t at = choose.byte() % b.size();
  switch (choose.below(5)) {
    case 0: b.resize(at); break;
    case 1: b[at] = std::byte{choose.byte()}; break;
    case 2:
      b.insert(b.begin() + static_cast<std::ptrdiff_t>(at), 1 + choose.below(12), std::byte{choose.byte()});
      break;
    case 3: b.erase(b.begin() + static_cast<std::ptrdiff_t>(at)); break;
    default: {
      b.resize(std::max(at, std::min(b.size(), mpi::header_bytes)));
      while (choose.left() && b.size() < 200) b.push_back(std::byte{choose.byte()});
    }
  }
  return b != before;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  choices choose(data, size);
  sender from;
  receiver to;
  mpi::inbound in(3);
  std::vector<bytes> early;  // batches that come later than those behind them
  const auto take = [&](const bytes& b) {
    // Of its own size, so that a read behind its end is seen.
    const auto exact = std::make_unique<std::byte[]>(b.size());
    std::copy(b.begin(), b.end(), exact.get());
    in.take(std::span<const std::byte>(exact.get(), b.size()), to);
  };
  while (choose.left()) {
    bytes b = from.batch(choose, to.expected);
    const std::size_t how = choose.below(8);
    if (how == 0 && damage(choose, b)) to.damaged = true;
    if (how == 1 && early.size() < 4) {
      early.push_back(std::move(b));
      continue;
    }
    take(b);
    for (const bytes& e : std::exchange(early, {})) take(e);
  }
  for (const bytes& e : early) take(e);
  check(to.damaged || to.expected.empty(), "a message that was sent does not come");
  return 0;
}
