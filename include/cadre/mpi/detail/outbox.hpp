#ifndef CADRE_MPI_DETAIL_OUTBOX_HPP
#define CADRE_MPI_DETAIL_OUTBOX_HPP

#include <cadre/actor/detail/link.hpp>
#include <cadre/async/detail/brief_lock.hpp>
#include <cadre/mpi/detail/batch.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// A large argument that leaves from where it lies, behind the batch that announces it.
struct block_out {
  std::span<const std::byte> bytes;
  std::uint64_t first_piece;
  std::shared_ptr<const void> keep;
};

struct batch_out {
  std::unique_ptr<std::byte[]> bytes{new std::byte[batch_bytes]};
  std::size_t used = header_bytes;
  std::vector<block_out> blocks;
};

/// What is to go to one rank. Any thread appends; who holds the lock of MPI takes batches out, in order, and sends them.
class outbox {
 public:
  /// A batch of that size is worth a message of its own.
  static constexpr std::size_t enough = std::size_t{56} << 10;
  /// Of a message at most: the record that tells their sizes fits into a batch.
  static constexpr std::size_t most_blocks = 4000;

  /// What an append did. One number, as three bools would be put together in memory, and waited for, by every message.
  class appended {
   public:
    appended() = default;
    appended(bool first, bool filled) noexcept : bits_(1U | unsigned{first} << 1 | unsigned{filled} << 2) {}
    /// Else the box is closed, and nothing was appended.
    [[nodiscard]] bool allowed() const noexcept { return bits_ & 1; }
    /// Nothing was open before.
    [[nodiscard]] bool first() const noexcept { return bits_ & 2; }
    /// A batch is complete.
    [[nodiscard]] bool filled() const noexcept { return bits_ & 4; }

   private:
    unsigned bits_ = 0;
  };

  appended append(std::span<const std::byte> bytes) {
    const std::lock_guard lock(lock_);
    if (!fits(bytes.size())) [[unlikely]]
      return append_slow(bytes);
    return append_here(bytes.size(), [bytes](std::byte* at) { std::copy(bytes.begin(), bytes.end(), at); });
  }
  appended append(const cadre::detail::written_in_place& message) {
    const std::lock_guard lock(lock_);
    if (!fits(message.bytes)) [[unlikely]]
      return append_slow(message);
    return append_here(message.bytes, [&](std::byte* at) { message.write(message.what, at); });
  }

  appended append(std::span<const std::byte> bytes, std::span<const std::span<const std::byte>> blocks,
                  const std::shared_ptr<const void>& keep) {
    std::vector<std::byte> about((blocks.size() + 2) * number_bytes);
    const std::lock_guard lock(lock_);
    if (closed_) return {};
    const bool first = is_open_empty();
    bool filled = put_fragments(bytes);
    std::byte* at = put_number(put_number(about.data(), blocks.size()), pieces_);
    for (const auto block : blocks) at = put_number(at, block.size());
    about.resize(static_cast<std::size_t>(at - about.data()));
    filled |= make_room(about.size() + bytes.size());
    put(record_kind::message_with_blocks, bytes, about);
    count_message();
    for (const auto block : blocks) {
      open_->blocks.push_back({block, pieces_, keep});
      pieces_ += pieces_of(block.size());
      blocks_under_way_.fetch_add(block.size(), std::memory_order_relaxed);
    }
    return {first, seal_if_enough() || filled};
  }

  /// That a rank has died: also after close(), until confirm(). Not allowed where nobody would read it.
  appended tell_death(int rank, std::string_view how) {
    how = how.substr(0, 1000);
    std::byte who[number_bytes];
    const std::lock_guard lock(lock_);
    if (confirmed_ || how.empty()) return {};
    const bool first = is_open_empty();
    const bool filled = make_room(number_bytes + how.size());
    put(record_kind::farewell, std::as_bytes(std::span(how)),
        std::span(who, static_cast<std::size_t>(put_number(who, static_cast<std::uint64_t>(rank)) - who)));
    return {first, seal_if_enough() || filled};
  }

  /// Nothing is appended from now on but the farewell, and a second one by confirm(). False if that was done before.
  bool close() {
    const std::lock_guard lock(lock_);
    if (closed_) return false;
    put_farewell();
    return closed_ = true;
  }
  bool confirm() {
    const std::lock_guard lock(lock_);
    if (confirmed_) return false;
    put_farewell();
    return confirmed_ = true;
  }
  [[nodiscard]] bool is_confirmed() {
    const std::lock_guard lock(lock_);
    return confirmed_;
  }
  /// The receiver is gone: nothing is appended any more. Gives back what had not gone.
  std::vector<std::unique_ptr<batch_out>> abandon() {
    const std::lock_guard lock(lock_);
    closed_ = confirmed_ = true;
    std::vector<std::unique_ptr<batch_out>> all;
    for (auto& batch : ready_) all.push_back(std::move(batch));
    ready_.clear();
    if (open_) all.push_back(std::move(open_));
    return all;
  }

  /// The next batch to send, null if there is none. With `all` also the one that is not full.
  std::unique_ptr<batch_out> take(bool all) {
    const std::lock_guard lock(lock_);
    if (!ready_.empty()) {
      auto batch = std::move(ready_.front());
      ready_.pop_front();
      return batch;
    }
    if (!all || is_open_empty()) return nullptr;
    return std::move(open_);
  }
  /// Takes back the memory of a batch that has gone.
  void recycle(std::unique_ptr<batch_out> batch) noexcept {
    batch->used = header_bytes;
    batch->blocks.clear();
    const std::lock_guard lock(lock_);
    if (open_ == nullptr && !closed_)
      open_ = std::move(batch);
    else if (spare_ == nullptr)
      spare_ = std::move(batch);
  }
  /// Messages that were appended.
  [[nodiscard]] std::uint64_t messages() const noexcept { return messages_.load(std::memory_order_relaxed); }
  [[nodiscard]] bool is_empty() {
    const std::lock_guard lock(lock_);
    return ready_.empty() && is_open_empty();
  }

  /// Bytes that were appended and that the receiver has not taken yet.
  [[nodiscard]] std::uint64_t under_way() const noexcept {
    return appended_.load(std::memory_order_relaxed) - acknowledged_.load(std::memory_order_relaxed) +
           blocks_under_way_.load(std::memory_order_relaxed);
  }
  /// The receiver has taken so many bytes, modulo 2^32. False if it cannot have. By one thread at a time.
  bool acknowledge(std::uint32_t taken) noexcept {
    const std::uint64_t before = acknowledged_.load(std::memory_order_relaxed);
    const std::uint32_t more = taken - static_cast<std::uint32_t>(before);
    if (more > appended_.load(std::memory_order_relaxed) - before) return false;
    if (more != 0) acknowledged_.store(before + more, std::memory_order_relaxed);
    return true;
  }
  void block_left(std::uint64_t bytes) noexcept { blocks_under_way_.fetch_sub(bytes, std::memory_order_relaxed); }

 private:
  [[nodiscard]] bool is_open_empty() const noexcept { return open_ == nullptr || open_->used == header_bytes; }
  [[nodiscard]] bool fits(std::size_t bytes) const noexcept {
    return open_ != nullptr && !closed_ && bytes <= record_bytes && has_room(bytes);
  }
  template <class Write>
  appended append_here(std::size_t bytes, const Write& write) {
    const bool first = open_->used == header_bytes;
    put(record_kind::message, bytes, {}, write);
    count_message();
    return {first, seal_if_enough()};
  }
  [[gnu::noinline]] appended append_slow(const cadre::detail::written_in_place& message) {
    std::array<std::byte, cadre::detail::written_in_place::most> all;
    message.write(message.what, all.data());
    return append_slow(std::span<const std::byte>(all).first(message.bytes));
  }

  [[gnu::noinline]] appended append_slow(std::span<const std::byte> bytes) {
    if (closed_) return {};
    const bool first = is_open_empty();
    bool filled = put_fragments(bytes);
    filled |= make_room(bytes.size());
    put(record_kind::message, bytes);
    count_message();
    return {first, seal_if_enough() || filled};
  }

  // All but what a last record holds, which is left in `bytes`.
  bool put_fragments(std::span<const std::byte>& bytes) {
    bool filled = false;
    for (; bytes.size() > record_bytes; bytes = bytes.subspan(record_bytes)) {
      filled |= make_room(record_bytes);
      put(record_kind::fragment, bytes.first(record_bytes));
    }
    return filled;
  }

  [[nodiscard]] bool has_room(std::size_t bytes) const noexcept {
    return batch_bytes - open_->used >= number_bytes + bytes;
  }
  // In the open batch; true if that has completed the one before.
  bool make_room(std::size_t bytes) {
    const bool filled = open_ != nullptr && !has_room(bytes);
    if (filled) seal();
    if (open_ == nullptr) open();
    return filled;
  }

  // Appends a record, for which there is room. `extra` does not count as its size.
  void put(record_kind kind, std::span<const std::byte> bytes, std::span<const std::byte> extra = {}) {
    put(kind, bytes.size(), extra, [bytes](std::byte* at) { std::copy(bytes.begin(), bytes.end(), at); });
  }
  template <class Write>
  void put(record_kind kind, std::size_t bytes, std::span<const std::byte> extra, const Write& write) {
    std::byte* const begin = open_->bytes.get() + open_->used;
    std::byte* at = put_number(begin, bytes << 2 | static_cast<unsigned>(kind));
    if (!extra.empty()) [[unlikely]]
      at = std::copy(extra.begin(), extra.end(), at);
    write(at);
    const auto size = static_cast<std::size_t>(at - begin) + bytes;
    open_->used += size;
    appended_.store(appended_.load(std::memory_order_relaxed) + size, std::memory_order_relaxed);
  }
  bool seal_if_enough() {
    if (open_->used < enough) return false;
    seal();
    return true;
  }
  void put_farewell() {
    std::byte count[number_bytes];
    make_room(number_bytes);
    put(record_kind::farewell, {}, std::span(count, static_cast<std::size_t>(put_number(count, messages()) - count)));
  }
  // Under the lock, so no other one adds.
  void count_message() noexcept { messages_.store(messages() + 1, std::memory_order_relaxed); }
  void open() { open_ = spare_ != nullptr ? std::move(spare_) : std::make_unique<batch_out>(); }
  void seal() { ready_.push_back(std::move(open_)); }

  cadre::detail::brief_lock lock_;
  std::unique_ptr<batch_out> open_, spare_;
  std::deque<std::unique_ptr<batch_out>> ready_;
  std::uint64_t pieces_ = 0;  // that blocks before have taken
  bool closed_ = false, confirmed_ = false;
  std::atomic<std::uint64_t> messages_{0}, appended_{0}, acknowledged_{0}, blocks_under_way_{0};
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
