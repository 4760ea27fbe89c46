#ifndef CADRE_ARCHIVE_BYTE_BUFFER_HPP
#define CADRE_ARCHIVE_BYTE_BUFFER_HPP

#include <cadre/config/config.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Bytes appended one after another and never moved again: a list of chunks, so that a gigabyte is copied into it once
/// and can be written to a file or a socket from where it lies.
class byte_buffer {
 public:
  byte_buffer() = default;
  byte_buffer(byte_buffer&& other) noexcept
      : chunks_(std::move(other.chunks_)),
        cursor_(std::exchange(other.cursor_, nullptr)),
        left_(std::exchange(other.left_, 0)),
        closed_(std::exchange(other.closed_, 0)) {
    other.chunks_.clear();
  }
  byte_buffer& operator=(byte_buffer&& other) noexcept {
    byte_buffer moved(std::move(other));
    chunks_.swap(moved.chunks_);
    std::swap(cursor_, moved.cursor_);
    std::swap(left_, moved.left_);
    std::swap(closed_, moved.closed_);
    return *this;
  }

  /// Copies `size` bytes to the end. Throws std::bad_alloc; the buffer is then as before.
  void append(const void* data, std::size_t size) {
    if (size > left_) [[unlikely]] {
      append_slow(static_cast<const std::byte*>(data), size);
      return;
    }
    if (size == 0) return;
    std::memcpy(cursor_, data, size);
    cursor_ += size;
    left_ -= size;
  }

  [[nodiscard]] std::size_t size() const noexcept { return closed_ + (chunks_.empty() ? 0 : used_in_last()); }

  /// The bytes where they lie, in order; valid until the next append.
  [[nodiscard]] std::vector<std::span<const std::byte>> pieces() const {
    std::vector<std::span<const std::byte>> result;
    for (const chunk& c : chunks_) {
      const std::span<const std::byte> piece(c.bytes.get(), &c == &chunks_.back() ? used_in_last() : c.size);
      result.push_back(piece);
    }
    return result;
  }

  /// The same where all lie in one piece; empty if they do not.
  [[nodiscard]] std::span<const std::byte> in_one_piece() const noexcept {
    if (chunks_.size() != 1) return {};
    return {chunks_.front().bytes.get(), used_in_last()};
  }
  /// Forgets what was appended. The memory is kept, if it is little.
  void clear() noexcept {
    constexpr std::size_t little = 4 << 10;
    if (chunks_.size() != 1 || chunks_.front().size > little) {
      *this = byte_buffer();
    } else {
      left_ = chunks_.front().size;
      cursor_ = chunks_.front().bytes.get();
    }
  }

  /// One contiguous copy.
  [[nodiscard]] std::vector<std::byte> to_vector() const {
    std::vector<std::byte> result;
    result.reserve(size());
    for (std::span<const std::byte> piece : pieces())
      result.insert(result.end(), piece.data(), piece.data() + piece.size());
    return result;
  }

 private:
  struct chunk {
    std::unique_ptr<std::byte[]> bytes;
    std::size_t size;
  };

  [[nodiscard]] std::size_t used_in_last() const noexcept { return chunks_.back().size - left_; }

  void append_slow(const std::byte* data, std::size_t size) {
    constexpr std::size_t smallest = 256, largest = 64 << 10;
    const std::size_t fits = left_;
    const std::size_t rest = size - fits;
    const std::size_t capacity = std::max(rest, std::clamp(this->size(), smallest, largest));
    chunk next{std::unique_ptr<std::byte[]>(new std::byte[capacity]), capacity};
    std::byte* const begin = next.bytes.get();
    const std::size_t closed = chunks_.empty() ? 0 : chunks_.back().size;
    chunks_.push_back(std::move(next));  // nothing below throws
    if (fits != 0) std::memcpy(cursor_, data, fits);
    closed_ += closed;
    std::memcpy(begin, data + fits, rest);
    cursor_ = begin + rest;
    left_ = capacity - rest;
  }

  std::vector<chunk> chunks_;
  std::byte* cursor_ = nullptr;
  std::size_t left_ = 0;    // free bytes at the cursor
  std::size_t closed_ = 0;  // bytes in all chunks but the last
};

CADRE_NAMESPACE_END

#endif
