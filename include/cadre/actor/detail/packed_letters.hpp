#ifndef CADRE_ACTOR_DETAIL_PACKED_LETTERS_HPP
#define CADRE_ACTOR_DETAIL_PACKED_LETTERS_HPP

#include <cadre/actor/detail/handlers.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Some calls as bytes, one behind the other: in one word who opens it, whether it has a number and how many bytes of arguments;
/// the number; the arguments. What one thread packs is unpacked by another, on another processor as a rule, to which each line
/// of 64 bytes takes as long as some calls do.
class packed_letters {
 public:
  /// Bytes of arguments that one may have.
  static constexpr std::size_t largest = 512;

  struct entry {
    const handler* opened_by;
    std::uint64_t number;
    std::span<const std::byte> arguments;
    std::size_t end;
  };
  /// That which begins there; the first at 0, the next at the end of the one before, until size().
  [[nodiscard]] entry at(std::size_t begin) const {
    const std::byte* const all = more_ != nullptr ? more_.get() : few_.data();
    const std::byte* from = all + begin;
    std::uint32_t word = 0;
    std::uint64_t number = 0;
    std::memcpy(&word, from, sizeof word);
    from += sizeof word;
    if (word & has_number) {
      std::memcpy(&number, from, sizeof number);
      from += sizeof number;
    }
    const std::size_t bytes = word & size_bits;
    return {handler::all()[word >> id_shift], number, {from, bytes}, static_cast<std::size_t>(from - all) + bytes};
  }
  [[nodiscard]] std::size_t size() const noexcept { return used_; }
  [[nodiscard]] std::uint32_t count() const noexcept { return count_; }

  /// False if there is no room.
  [[nodiscard]] bool add(const handler& opened_by, std::uint64_t number,
                         std::span<const std::byte> arguments) noexcept {
    const std::size_t bytes = sizeof(std::uint32_t) + (number != 0 ? sizeof number : 0) + arguments.size();
    if (room - used_ < bytes || count_ == most || opened_by.id() >> (32 - id_shift) != 0) return false;
    if (more_ == nullptr && used_ + bytes > few_.size() && !begin_more()) return false;
    const std::uint32_t word =
        opened_by.id() << id_shift | (number != 0 ? has_number : 0) | static_cast<std::uint32_t>(arguments.size());
    std::byte* to = (more_ != nullptr ? more_.get() : few_.data()) + used_;
    std::memcpy(to, &word, sizeof word);
    to += sizeof word;
    if (number != 0) {
      std::memcpy(to, &number, sizeof number);
      to += sizeof number;
    }
    if (!arguments.empty()) std::memcpy(to, arguments.data(), arguments.size());
    used_ += static_cast<std::uint32_t>(bytes);
    ++count_;
    return true;
  }

 private:
  // So few that they hold up others no longer than some calls do.
  static constexpr std::size_t room = 1024;
  static constexpr std::uint32_t most = 64;
  static constexpr std::uint32_t id_shift = 11, has_number = 1u << 10, size_bits = has_number - 1;
  static_assert(largest <= size_bits);

  bool begin_more() noexcept {
    more_.reset(new (std::nothrow) std::byte[room]);
    if (more_ != nullptr) std::memcpy(more_.get(), few_.data(), used_);
    return more_ != nullptr;
  }

  std::unique_ptr<std::byte[]> more_;  // null while they are few
  std::array<std::byte, 64> few_;
  std::uint32_t used_ = 0;
  std::uint32_t count_ = 0;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
