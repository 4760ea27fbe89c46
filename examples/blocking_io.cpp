// A pool of one thread whose task blocks for what another task of the same pool does: blocking() has a thread stand in.
#include <cadre/async.hpp>
#include <cadre/async/blocking.hpp>

#include <unistd.h>

#include <cstdio>
#include <string>

int main() {
  int ends[2];
  if (::pipe(ends) != 0) return 1;
  cadre::thread_pool pool{{.threads = 1}};
  auto reader = pool.submit([&] {
    char buffer[64];
    const auto n = cadre::blocking([&] { return ::read(ends[0], buffer, sizeof buffer); });
    return std::string(buffer, n > 0 ? static_cast<std::size_t>(n) : 0);
  });
  auto writer = pool.submit([&] { return ::write(ends[1], "written by the same pool", 24); });
  std::printf("read: %s\n", reader.get().c_str());
  std::printf("%d bytes\n", static_cast<int>(writer.get()));
  ::close(ends[0]);
  ::close(ends[1]);
}
