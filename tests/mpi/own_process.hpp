#ifndef CADRE_TESTS_MPI_OWN_PROCESS_HPP
#define CADRE_TESTS_MPI_OWN_PROCESS_HPP

#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <string>

/// For tests that start this program again, as jobs of their own.
namespace own_process {

inline std::string this_program() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

struct outcome {
  std::string output;  // of both streams
  int exit_code = 0;   // -1: ended by a signal
};
/// Runs a command of the shell, which may begin with variables, without this process's own MPI variables, as the job is none of its.
inline outcome run(const std::string& command) {
  const std::string all =
      "env -i PATH=\"$PATH\" HOME=\"$HOME\" OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 " + command +
      " 2>&1";
  outcome o;
  FILE* const pipe = ::popen(all.c_str(), "r");
  char line[2048];
  while (std::fgets(line, sizeof line, pipe) != nullptr) o.output += line;
  const int status = ::pclose(pipe);
  o.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return o;
}
/// The same as one text, which ends with the exit code.
inline std::string text_of(const outcome& o) { return o.output + "exit code " + std::to_string(o.exit_code) + "\n"; }

}  // namespace own_process

#endif
