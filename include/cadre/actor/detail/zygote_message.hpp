#ifndef CADRE_ACTOR_DETAIL_ZYGOTE_MESSAGE_HPP
#define CADRE_ACTOR_DETAIL_ZYGOTE_MESSAGE_HPP

#include <cadre/os/mapping.hpp>

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>
#include <cstring>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Between a process and its zygote, over a socket that keeps messages apart.
struct zygote_message {
  enum class kind : std::int32_t {
    here,      ///< from the zygote, which is `process`
    pool,      ///< to it: with the socket of a pool, over which all below goes
    make,      ///< to it: a worker
    kill,      ///< to it: that worker
    made,      ///< with the worker's socket
    not_made,  ///< `detail` is the system's error
    died       ///< `detail` as from wait()
  };
  kind what = kind::make;
  std::int32_t process = 0, detail = 0;

  /// Returns 0, or the system's error. `file` goes along if it is not -1.
  int send(int socket, int flags = 0, int file = -1) const noexcept {
    zygote_message copy = *this;
    ::iovec part{&copy, sizeof copy};
    alignas(::cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    ::msghdr m{};
    m.msg_iov = &part;
    m.msg_iovlen = 1;
    if (file >= 0) {
      m.msg_control = control;
      m.msg_controllen = sizeof control;
      ::cmsghdr* const c = CMSG_FIRSTHDR(&m);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(c), &file, sizeof file);
    }
    while (::sendmsg(socket, &m, flags | MSG_NOSIGNAL) < 0)
      if (errno != EINTR) return errno;
    return 0;
  }

  /// Returns 0, EAGAIN if there is none now (with MSG_DONTWAIT), or EPIPE if there will be none.
  int receive(int socket, file_descriptor& file, int flags = 0) noexcept {
    ::iovec part{this, sizeof *this};
    alignas(::cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    ::msghdr m{};
    m.msg_iov = &part;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = sizeof control;
    ::ssize_t n = 0;
    do n = ::recvmsg(socket, &m, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) return EAGAIN;
    if (n != sizeof *this) return EPIPE;
    int number = -1;
    if (const ::cmsghdr* const c = CMSG_FIRSTHDR(&m); c != nullptr && c->cmsg_type == SCM_RIGHTS)
      std::memcpy(&number, CMSG_DATA(c), sizeof number);
    file = file_descriptor(number);
    return 0;
  }
};

/// Two ends of one, closed by exec(). Returns 0, or the system's error.
inline int make_sockets(int type, file_descriptor& one, file_descriptor& other) noexcept {
  int ends[2];
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0) return errno;
  one = file_descriptor(ends[0]);
  other = file_descriptor(ends[1]);
  return 0;
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
