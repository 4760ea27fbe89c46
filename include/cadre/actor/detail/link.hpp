#ifndef CADRE_ACTOR_DETAIL_LINK_HPP
#define CADRE_ACTOR_DETAIL_LINK_HPP

#include <cadre/archive/byte_buffer.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/core/error.hpp>
#include <cadre/core/function.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A message on its way out.
struct outgoing {
  byte_buffer bytes;                               ///< header and arguments
  std::vector<std::span<const std::byte>> blocks;  ///< large contiguous arguments, sent from where they lie
  std::shared_ptr<const void> keep;                ///< what keeps the blocks; let go when they have left
};

/// A small message that is written where it is to lie: `write(what, to)` writes all of it, and does nothing else.
struct written_in_place {
  std::size_t bytes;  ///< at most written_in_place::most
  void (*write)(const void* what, std::byte* to) noexcept;
  const void* what;

  static constexpr std::size_t most = 1024;
};

/// Where the blocks of a message go.
struct landing {
  std::vector<std::span<std::byte>> into;
  std::shared_ptr<const void> keep;     ///< what keeps that memory: let go when nothing writes there any more
  move_only_function<void(bool)> done;  ///< called once: true when all is there; false when the sender has died, or
                                        ///< when these are not as many spans of the sizes as there are blocks
};

/// A message that has come.
class incoming {
 public:
  incoming(std::span<const std::byte> bytes, std::span<const std::uint64_t> block_sizes) noexcept
      : bytes_(bytes), block_sizes_(block_sizes) {}

  /// Valid during message_sink::receive() only.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
  /// Of the blocks, in bytes; they come later. Valid during message_sink::receive() only.
  [[nodiscard]] std::span<const std::uint64_t> block_sizes() const noexcept { return block_sizes_; }

  /// Says where each block goes. Without this call they are received and thrown away.
  void receive_blocks(landing where) noexcept { landing_ = std::move(where); }
  [[nodiscard]] std::optional<landing>& where() noexcept { return landing_; }

 private:
  std::span<const std::byte> bytes_;
  std::span<const std::uint64_t> block_sizes_;
  std::optional<landing> landing_;
};

/// What gets messages. Its functions, and landing::done, are called by whichever thread makes progress, one at a time.
/// They may send (which never waits there) and must not wait for messages.
class message_sink {
 public:
  /// The messages of a sender come in the order in which it sent them.
  virtual void receive(int from, incoming& message) noexcept = 0;
  /// After one or more calls of receive(): others may be long in coming.
  virtual void batch_ends() noexcept {}
  /// Twenty times a second or more often, by a thread of the link's own: also while another one is in one of these. Waits
  /// for nothing.
  virtual void tick() noexcept {}
  /// `from` sent what no rank of this build sends. It counts as dead from now on: died() follows.
  virtual void fault(int from, const error& what) noexcept = 0;
  /// Once for each rank that has ended. Nothing of it comes afterwards.
  virtual void died(int rank, std::string_view how) noexcept = 0;

 protected:
  ~message_sink() = default;
};

/// Urgent messages, which are replies, pass the limit on what is under way to a rank: else two ranks could wait for each
/// other. They keep their place in the order.
enum class urgency : std::uint8_t { normal, urgent };

/// The way between this process and the others of a job, its members. They are numbered: below world_size() by their rank,
/// from there on as they took the place, and the rank, of one that had died. What is called a rank here, and in the messages
/// of a job, is the number of a member: none is given twice. Thread-safety: any thread may call anything but close().
class link {
 public:
  virtual ~link() = default;

  [[nodiscard]] virtual int rank() const noexcept = 0;
  [[nodiscard]] virtual int world_size() const noexcept = 0;
  /// Numbers that are or were in use are below this.
  [[nodiscard]] virtual int members() const noexcept { return world_size(); }
  /// Below this are those that may ever be in use.
  [[nodiscard]] virtual int most_members() const noexcept { return world_size(); }
  /// The rank that a member has, or had.
  [[nodiscard]] virtual int rank_of(int member) const noexcept { return member; }

  /// From now on messages are received, by the sink. To be called once.
  virtual void start(message_sink& sink) = 0;

  /// Appends to the buffer for rank `to`, never the own one. What is buffered goes when enough has come together, at
  /// flush() or wait_while(), or a few milliseconds later. Where too much is under way to that rank it makes progress until
  /// there is less. Throws if that rank is dead, does not take anything for a long time, or the link is closed.
  virtual void send(int to, std::span<const std::byte> bytes, urgency how = urgency::normal) = 0;
  virtual void send(int to, outgoing&& message, urgency how = urgency::normal) = 0;
  virtual void send(int to, const written_in_place& message, urgency how = urgency::normal) {
    std::array<std::byte, written_in_place::most> all;
    message.write(message.what, all.data());
    send(to, std::span<const std::byte>(all).first(message.bytes), how);
  }
  /// How many messages were appended. Each counts before it can be received.
  [[nodiscard]] virtual std::uint64_t sent() const noexcept = 0;
  /// What is buffered goes now.
  virtual void flush() = 0;

  /// Makes progress if no other thread is at it. True if a message came. Never waits.
  virtual bool poll() noexcept = 0;
  /// The same once more by a thread that makes no progress for a while: what comes afterwards is seen to soon, though
  /// nobody polls.
  virtual bool poll_last() noexcept { return poll(); }
  /// Ticks that it is worth polling for in hope of a message: about what it takes to wake the threads of both sides.
  [[nodiscard]] virtual std::uint64_t patience() const noexcept { return 100'000; }
  /// Flushes, then makes progress while the word holds `value`, sleeping where nothing comes; false at the deadline. Who
  /// changes the word outside of the sink's functions calls wake() afterwards.
  virtual bool wait_while(const std::atomic<std::uint32_t>& word, std::uint32_t value,
                          std::chrono::steady_clock::time_point deadline) = 0;
  virtual void wake() noexcept = 0;

  [[nodiscard]] virtual bool is_alive(int rank) const noexcept = 0;
  /// For whoever learns of a death by other means: sends to that rank throw from now on, and the sink is told soon.
  virtual void declare_dead(int rank, std::string how) = 0;

  /// Called by one thread of every living rank when it sends no more: returns when all that was sent to this rank is
  /// received and all that it sent is on its way without it. Throws at the deadline, with the ranks that are missing.
  virtual void close(std::chrono::steady_clock::time_point deadline) = 0;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
