#ifndef CADRE_MPI_ERROR_HPP
#define CADRE_MPI_ERROR_HPP

#include <cadre/core/error.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>

#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace mpi {

/// Thrown (1101, 1102, 1109, 1110) when MPI reports an error, or the ranks cannot do together what was asked.
class mpi_error : public error {
 public:
  /// 1101: an MPI function failed.
  static mpi_error call_failed(std::string_view function, int code) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    ::MPI_Error_string(code, text, &length);
    return {1101, std::string(function) + " failed: " + std::string(text, static_cast<std::size_t>(length))};
  }
  /// 1102: the host finalised MPI, or initialised it without the threads that cadre needs.
  static mpi_error unusable(std::string_view message) { return {1102, message}; }
  /// 1109: the launcher's processes are not one job.
  static mpi_error started_apart(std::string_view message) { return {1109, message}; }
  /// 1110: more ranks of a node want the same GPU than the options allow.
  static mpi_error shared_gpu(std::string_view message) { return {1110, message}; }

 private:
  mpi_error(int number, std::string_view message) : error("mpi", number, message) {}
};

/// Thrown (1103) by what needs a rank that has ended.
class peer_died : public error {
 public:
  [[gnu::cold]] peer_died(int rank, std::string_view how)
      : error("mpi", 1103, "rank " + std::to_string(rank) + " is dead: " + std::string(how)), rank_(rank) {}
  [[nodiscard]] int rank() const noexcept { return rank_; }

 private:
  int rank_;
};

/// Thrown (1104 to 1108) by the messages between ranks.
class message_error : public error {
 public:
  /// 1104: sent after close().
  [[gnu::cold]] static message_error closed(int to) {
    return {1104, "a message to rank " + std::to_string(to) + " after this rank has closed: send before"};
  }
  /// 1105: a rank takes nothing for a long time.
  [[gnu::cold]] static message_error stalled(int to, std::string_view message) {
    return {1105, "rank " + std::to_string(to) + " takes no messages: " + std::string(message)};
  }
  /// 1106: not all was received in time.
  [[gnu::cold]] static message_error unfinished(std::string_view message) { return {1106, message}; }
  /// 1107: bytes that no rank of this build sends.
  [[gnu::cold]] static message_error malformed(int from, std::string_view message) {
    return {1107, "rank " + std::to_string(from) + " sent a malformed message: " + std::string(message) +
                      "; all ranks must run the same build"};
  }
  /// 1108: a rank that is not there, or a wait where none may be.
  [[gnu::cold]] static message_error misuse(std::string_view message) { return {1108, message}; }

 private:
  message_error(int number, std::string_view message) : error("mpi", number, message) {}
};

namespace detail {
inline void check(int code, std::string_view function) {
  if (code != MPI_SUCCESS) throw mpi_error::call_failed(function, code);
}
}  // namespace detail

}  // namespace mpi

CADRE_NAMESPACE_END

#endif
