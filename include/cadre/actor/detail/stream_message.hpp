#ifndef CADRE_ACTOR_DETAIL_STREAM_MESSAGE_HPP
#define CADRE_ACTOR_DETAIL_STREAM_MESSAGE_HPP

#include <cadre/archive/byte_buffer.hpp>
#include <cadre/config/config.hpp>

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Reads messages from a stream socket, one at a time: a Head, which says in `.bytes` how many bytes come behind it, and
/// these. A small message takes one call of the system.
template <class Head>
class message_reader {
  static_assert(std::is_trivially_copyable_v<Head>);

 public:
  /// `unread`: the peer has ended and had not read all that was sent to it. `broken`: this is no message.
  enum class state : std::uint8_t { more, complete, ended, unread, broken };

  /// What there is; waits for it without MSG_DONTWAIT. Throws std::bad_alloc.
  state read(int socket, int flags) {
    for (;;) {
      const bool in_large = large_ != nullptr;
      std::byte* const to = in_large ? large_.get() + taken_ : small_ + taken_;
      const ::ssize_t n = ::recv(socket, to, (in_large ? bytes() : sizeof small_) - taken_, flags);
      if (n == 0) return state::ended;
      if (n < 0) {
        if (errno == EINTR) continue;
        return errno == EAGAIN ? state::more : errno == ECONNRESET ? state::unread : state::ended;
      }
      taken_ += static_cast<std::size_t>(n);
      if (!in_large) {
        if (taken_ < sizeof(Head)) continue;
        std::memcpy(&head_, small_, sizeof(Head));
        if (bytes() > sizeof small_ - sizeof(Head)) {
          large_.reset(new std::byte[bytes()]);
          taken_ -= sizeof(Head);
          std::memcpy(large_.get(), small_ + sizeof(Head), taken_);
        } else if (taken_ >= sizeof(Head) + bytes()) {
          return taken_ == sizeof(Head) + bytes() ? state::complete : state::broken;
        }
      }
      if (large_ != nullptr && taken_ == bytes()) return state::complete;
    }
  }

  [[nodiscard]] const Head& head() const noexcept { return head_; }
  /// Of a complete message, until next().
  [[nodiscard]] std::span<const std::byte> body() const noexcept {
    return {large_ != nullptr ? large_.get() : small_ + sizeof(Head), bytes()};
  }
  void next() noexcept {
    large_.reset();
    taken_ = 0;
  }

 private:
  [[nodiscard]] std::size_t bytes() const noexcept { return static_cast<std::size_t>(head_.bytes); }

  Head head_{};
  std::size_t taken_ = 0;
  std::unique_ptr<std::byte[]> large_;  // for a body that does not fit into small_
  std::byte small_[4096];
};

/// Writes such a message, from where its bytes lie.
template <class Head>
class message_writer {
 public:
  /// `body` must stay until all is written. Throws std::bad_alloc.
  void begin(const Head& head, const byte_buffer& body) {
    head_ = head;
    head_.bytes = body.size();
    pieces_ = body.pieces();
    pieces_.insert(pieces_.begin(), std::as_bytes(std::span(&head_, 1)));
    at_ = 0;
  }
  void give_up() noexcept { at_ = pieces_.size(); }
  [[nodiscard]] bool pending() const noexcept { return at_ < pieces_.size(); }

  /// As much as goes; all without MSG_DONTWAIT. Returns 0, or the system's error: then the peer has ended.
  int write(int socket, int flags) noexcept {
    while (pending()) {
      ::iovec parts[64];
      std::size_t n = 0;
      for (; n < std::size(parts) && at_ + n < pieces_.size(); ++n) {
        const std::span<const std::byte> p = pieces_[at_ + n];
        parts[n] = {const_cast<std::byte*>(p.data()), p.size()};  // which is only read
      }
      ::msghdr message{};
      message.msg_iov = parts;
      message.msg_iovlen = n;
      const ::ssize_t sent = ::sendmsg(socket, &message, flags | MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0) return errno == EAGAIN ? 0 : errno;
      for (auto left = static_cast<std::size_t>(sent); left != 0;) {
        std::span<const std::byte>& p = pieces_[at_];
        const std::size_t part = std::min(left, p.size());
        p = p.subspan(part);
        left -= part;
        if (p.empty()) ++at_;
      }
      while (pending() && pieces_[at_].empty()) ++at_;
    }
    return 0;
  }

 private:
  Head head_{};
  std::vector<std::span<const std::byte>> pieces_;
  std::size_t at_ = 0;  // the first piece that is not written to its end
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
