#ifndef CADRE_MPI_DETAIL_PLACE_TAKEN_HPP
#define CADRE_MPI_DETAIL_PLACE_TAKEN_HPP

#include <cadre/actor/detail/membership.hpp>
#include <cadre/archive/to_bytes.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/mpi/detail/introduction.hpp>
#include <cadre/mpi/detail/message_link.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/detail/watchdog.hpp>
#include <cadre/mpi/environment.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// In the environment of a process that rank 0 has started in place of one that has died: the name under which it can be
/// found.
inline constexpr const char* takes_place = "CADRE_TAKES_PLACE";

/// That name, once: what this process starts is not in that place. Empty, if it is not there for that.
inline std::string take_place_name() {
  const char* const name = std::getenv(takes_place);
  std::string mine = name == nullptr ? "" : name;
  ::unsetenv(takes_place);
  return mine;
}

/// Of what is said before there is a link, none of whose tags may be on its way yet.
inline constexpr int handshake_tag = 1;
using port_name = std::array<char, MPI_MAX_PORT_NAME>;

/// What such a process is told.
struct place_to_take {
  struct other {
    int member = 0, rank = 0;
    bool is_near = false;
    process_card card;
    template <class Archive>
    void serialize(Archive& archive) {
      archive(member, rank, is_near, card.process, card.host);
    }
  };
  int member = 0, rank = 0, members = 0, most_members = 0;
  std::uint32_t job_number = 0;
  std::int64_t silence = 0;  // ns
  std::string store;
  std::vector<cadre::detail::peer_facts> by_rank;
  std::vector<other> others;  // that live; the first is rank 0
  template <class Archive>
  void serialize(Archive& archive) {
    archive(member, rank, members, most_members, job_number, silence, store, by_rank, others);
  }
};

/// The side of the process that takes the place: waits for the others, each of which connects to a port of its own, as Open
/// MPI 4.1.4 hangs where two use one at the same time.
class place_taken {
 public:
  /// `name`: see take_place_name(). Throws mpi_error (1101).
  explicit place_taken(const std::string& name) {
    const watchdog limit("taking the place of a rank that has died", std::chrono::seconds(20), false);
    const std::lock_guard lock(environment::get().mutex());  // which nobody else wants yet
    const MPI_Comm rank_0 = accept([&](port_name& port) {
      check(::MPI_Publish_name(name.c_str(), MPI_INFO_NULL, port.data()), "MPI_Publish_name");
    });
    const introduction me = introduction::of_process();
    check(::MPI_Send(&me, sizeof me, MPI_BYTE, 0, handshake_tag, rank_0), "MPI_Send");
    std::uint64_t size = 0;
    check(::MPI_Recv(&size, sizeof size, MPI_BYTE, 0, handshake_tag, rank_0, MPI_STATUS_IGNORE), "MPI_Recv");
    std::vector<std::byte> told(size);
    check(::MPI_Recv(told.data(), static_cast<int>(size), MPI_BYTE, 0, handshake_tag, rank_0, MPI_STATUS_IGNORE),
          "MPI_Recv");
    place_ = from_bytes<place_to_take>(told);
    for (const place_to_take::other& o : place_.others) {
      const MPI_Comm comm = o.member == 0 ? rank_0 : accept([&](port_name& port) {
        check(::MPI_Send(port.data(), static_cast<int>(port.size()), MPI_CHAR, 0, handshake_tag, rank_0), "MPI_Send");
      });
      others_.push_back({.member = o.member, .rank = o.rank, .comm = comm, .is_near = o.is_near, .card = o.card});
    }
  }

  [[nodiscard]] const place_to_take& place() const noexcept { return place_; }
  [[nodiscard]] const std::vector<acquaintance>& others() const noexcept { return others_; }
  [[nodiscard]] const cadre::detail::peer_facts& facts() const {
    return place_.by_rank[static_cast<std::size_t>(place_.rank)];
  }
  [[nodiscard]] std::unique_ptr<message_link> link() const {
    process_card card{.process = static_cast<std::int32_t>(::getpid())};
    host_name().copy(card.host, sizeof card.host - 1);
    const int size = static_cast<int>(place_.by_rank.size());
    environment::get().take_place(!others_.at(0).is_near);
    return std::make_unique<message_link>(
        acquaintance{.member = place_.member, .rank = place_.rank, .is_near = true, .card = card}, others_, size,
        place_.members,
        link_options{.silence = std::chrono::nanoseconds(place_.silence), .most_later = place_.most_members - size});
  }

 private:
  template <class Tell>
  static MPI_Comm accept(Tell&& tell) {
    port_name port{};
    MPI_Comm comm = MPI_COMM_NULL;
    check(::MPI_Open_port(MPI_INFO_NULL, port.data()), "MPI_Open_port");
    tell(port);
    check(::MPI_Comm_accept(port.data(), MPI_INFO_NULL, 0, MPI_COMM_SELF, &comm), "MPI_Comm_accept");
    check(::MPI_Close_port(port.data()), "MPI_Close_port");
    return comm;
  }

  place_to_take place_;
  std::vector<acquaintance> others_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
