#ifndef CADRE_ACTOR_DETAIL_MESSAGE_HEAD_HPP
#define CADRE_ACTOR_DETAIL_MESSAGE_HEAD_HPP

#include <cadre/archive/error.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What ranks say to each other.
enum class message_kind : std::uint8_t { ask, answer, failure, cancel, shutdown };
struct message_head {
  std::uint64_t number = 0;
  std::uint32_t cell = 0, generation = 0;
  std::uint32_t handler = 0;
  message_kind what{};
  bool counts = true;  // for the end of the job: see finish()
  bool with_refs = false;

  // As it lies in memory, without its padding: the ranks run one program.
  static constexpr std::size_t bytes = 23;
  static message_head read(std::span<const std::byte> from) {
    message_head h;
    if (from.size() < bytes) throw archive_truncated(bytes, from.size(), 0);
    for (const std::size_t flag : {offsetof(message_head, counts), offsetof(message_head, with_refs)})
      if (from[flag] > std::byte{1})
        throw archive_corrupt("a bool of value " + std::to_string(std::to_integer<int>(from[flag])), flag);
    each(h, [at = from.data()](auto& member, std::size_t offset) { std::memcpy(&member, at + offset, sizeof member); });
    return h;
  }
  static std::uint64_t number_of(std::span<const std::byte, bytes> head) noexcept {
    std::uint64_t n;
    std::memcpy(&n, head.data() + offsetof(message_head, number), sizeof n);
    return n;
  }
  static std::uint32_t cell_of(std::span<const std::byte, bytes> head) noexcept {
    std::uint32_t n;
    std::memcpy(&n, head.data() + offsetof(message_head, cell), sizeof n);
    return n;
  }
  /// Whether they differ by their numbers at most.
  static bool alike(std::span<const std::byte, bytes> a, std::span<const std::byte, bytes> b) noexcept {
    return std::memcmp(a.data() + sizeof number, b.data() + sizeof number, bytes - sizeof number) == 0;
  }
  void write(std::byte* to) const noexcept {
    each(*this, [to](const auto& member, std::size_t offset) { std::memcpy(to + offset, &member, sizeof member); });
  }

 private:
  // One by one: a processor waits long for a read of several words that have just been written one by one.
  template <class Head, class F>
  static void each(Head& h, const F& f) {
    f(h.number, offsetof(message_head, number));
    f(h.cell, offsetof(message_head, cell));
    f(h.generation, offsetof(message_head, generation));
    f(h.handler, offsetof(message_head, handler));
    f(h.what, offsetof(message_head, what));
    f(h.counts, offsetof(message_head, counts));
    f(h.with_refs, offsetof(message_head, with_refs));
  }
};
static_assert(offsetof(message_head, with_refs) + 1 == message_head::bytes && offsetof(message_head, number) == 0);

/// What goes along with a message from where it lies.
struct enclosed {
  std::shared_ptr<const void> keep =
      {};  ///< of what is written, so that large values may go as blocks; or of the block
  std::span<const std::byte> block = {};  ///< beside what is written
};

struct how_to_answer {
  bool counts = true;  ///< see head::counts
  bool waits = false;  ///< for others that follow: until answers_end()
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
