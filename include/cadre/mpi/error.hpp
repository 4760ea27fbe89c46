#ifndef CADRE_MPI_ERROR_HPP
#define CADRE_MPI_ERROR_HPP

#include <cadre/core/error.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>

#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace mpi {

/// Thrown (1101, 1102) when MPI reports an error or is not in a state that allows what was asked.
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

 private:
  mpi_error(int number, std::string_view message) : error("mpi", number, message) {}
};

namespace detail {
inline void check(int code, std::string_view function) {
  if (code != MPI_SUCCESS) throw mpi_error::call_failed(function, code);
}
}  // namespace detail

}  // namespace mpi

CADRE_NAMESPACE_END

#endif
