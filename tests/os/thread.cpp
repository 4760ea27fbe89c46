#include "catch.hpp"

#include <cadre/os/thread.hpp>

#include <pthread.h>

#include <cerrno>
#include <memory>
#include <string>

TEST_CASE("a native_thread runs what cannot be copied and is joined at the end", "[thread]") {
  int seen = 0;
  {
    const cadre::native_thread t("worker", [&seen, p = std::make_unique<int>(7)] { seen = *p; });
  }
  CHECK(seen == 7);
}

TEST_CASE("a native_thread carries the first fifteen characters of its name", "[thread]") {
  std::string name;
  cadre::native_thread t("a-name-of-twenty-one-", [&name] {
    char buffer[16] = {};
    ::pthread_getname_np(::pthread_self(), buffer, sizeof buffer);
    name = buffer;
  });
  t.join();
  CHECK(name == "a-name-of-twent");
}

TEST_CASE("a native_thread that is moved from has nothing to join", "[thread]") {
  bool ran = false;
  cadre::native_thread a("a", [&ran] { ran = true; });
  cadre::native_thread b = std::move(a);
  a.join();
  cadre::native_thread c;
  c = std::move(b);
  c.join();
  CHECK(ran);
}

TEST_CASE("the error of a thread that cannot start says which and what to do", "[thread]") {
  const cadre::thread_error e("pool/3", EAGAIN);
  CHECK(e.number() == 151);
  CHECK(e.code() == EAGAIN);
  CHECK(std::string(e.what()) ==
        "[cadre.os.151] cannot start thread 'pool/3': Resource temporarily unavailable; raise the limit on threads "
        "(ulimit -u, "
        "the cgroup's pids.max) or start fewer");
}
