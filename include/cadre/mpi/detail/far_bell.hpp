#ifndef CADRE_MPI_DETAIL_FAR_BELL_HPP
#define CADRE_MPI_DETAIL_FAR_BELL_HPP

#include <cadre/os/mapping.hpp>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Where a rank listens for those of other nodes. Numbers of the network in its byte order.
struct far_bell_address {
  std::uint64_t word = 0;                // that is to come; 0: it does not listen
  std::uint32_t port = 0;                // of UDP
  std::array<std::uint32_t, 5> hosts{};  // some of its IPv4 addresses; 0: none
};

/// What ranks of other nodes wake this one by: a socket to which they send a datagram with a word that only the job knows.
/// It carries nothing and may be lost, or stopped by a firewall: then what was sent is found at the end of a nap.
class far_bell {
 public:
  /// Without a network nobody can ring, which is no error.
  far_bell() : socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_in any{};
    any.sin_family = AF_INET;
    socklen_t size = sizeof any;
    std::uint64_t word = 0;
    if (!socket_ || ::bind(socket_.get(), as_any(any), size) != 0 ||
        ::getsockname(socket_.get(), as_any(any), &size) != 0 ||
        ::getrandom(&word, sizeof word, 0) != static_cast<ssize_t>(sizeof word))
      return;
    address_ = {.word = word | 1, .port = any.sin_port, .hosts = hosts_of_this_process()};
  }

  [[nodiscard]] const far_bell_address& address() const noexcept { return address_; }
  /// Of the socket, for who waits for rings.
  [[nodiscard]] int file() const noexcept { return socket_.get(); }

  /// Whether somebody has rung since it was asked for the last time. One thread.
  [[nodiscard]] bool has_rung() noexcept {
    bool rung = false;
    for (;;) {
      std::uint64_t word = 0;
      const ssize_t n = ::recv(socket_.get(), &word, sizeof word, MSG_TRUNC);
      if (n < 0 && errno != EINTR) break;
      rung |= n == static_cast<ssize_t>(sizeof word) && word == address_.word;
    }
    if (rung) was_rung_.store(true, std::memory_order_relaxed);
    return rung;
  }
  /// Whether that has ever been so: rings come through.
  [[nodiscard]] bool was_rung() const noexcept { return was_rung_.load(std::memory_order_relaxed); }

  /// Never waits. From any thread.
  void ring(const far_bell_address& other) const noexcept {
    if (other.word == 0) return;
    for (const std::uint32_t host : other.hosts) {
      if (host == 0) break;
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port = static_cast<in_port_t>(other.port);
      to.sin_addr.s_addr = host;
      ::sendto(socket_.get(), &other.word, sizeof other.word, MSG_DONTWAIT | MSG_NOSIGNAL, as_any(to), sizeof to);
    }
  }

 private:
  static sockaddr* as_any(sockaddr_in& address) noexcept { return reinterpret_cast<sockaddr*>(&address); }

  // That of the loopback interface only if there is no other.
  static std::array<std::uint32_t, 5> hosts_of_this_process() noexcept {
    std::array<std::uint32_t, 5> found{};
    std::size_t n = 0;
    ifaddrs* all = nullptr;
    if (::getifaddrs(&all) != 0) return found;
    for (const bool loopback : {false, true}) {
      for (const ifaddrs* i = all; i != nullptr && n < found.size(); i = i->ifa_next) {
        if (i->ifa_addr == nullptr || i->ifa_addr->sa_family != AF_INET || (i->ifa_flags & IFF_UP) == 0) continue;
        if (((i->ifa_flags & IFF_LOOPBACK) != 0) != loopback) continue;
        found[n++] = reinterpret_cast<const sockaddr_in*>(i->ifa_addr)->sin_addr.s_addr;
      }
      if (n != 0) break;
    }
    ::freeifaddrs(all);
    return found;
  }

  file_descriptor socket_;
  far_bell_address address_;
  std::atomic<bool> was_rung_{false};
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
