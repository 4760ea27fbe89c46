// Two ranks in two processes, on two GPUs where they are. On one GPU they pass NCCL's refusal by pretending to be two
// hosts: slow, and supported by nobody, but real collectives between two ranks; what happens when one dies included.

#include "check.hpp"

#include <cadre/comm/any_communicator.hpp>
#include <cadre/cuda.hpp>
#include <cadre/nccl.hpp>

#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace cuda = cadre::cuda;
using namespace std::chrono_literals;
constexpr int ranks = 2;

/// What the two processes share: as much of a communicator as the start of NCCL needs.
struct shared_page {
  pthread_barrier_t barrier;
  std::byte part[ranks][1024];
};

class page_communicator : public cadre::collectives<page_communicator> {
 public:
  page_communicator(shared_page& page, int rank) : page_(&page), rank_(rank) {}
  int rank() const { return rank_; }
  int world_size() const { return ranks; }
  std::string_view backend() const { return "page"; }
  void barrier() { pthread_barrier_wait(&page_->barrier); }
  void barrier(std::chrono::nanoseconds) { barrier(); }
  void broadcast_bytes(void* data, std::size_t bytes, int root) {
    exchange(data, bytes);
    std::memcpy(data, page_->part[root], bytes);
    barrier();
  }
  void all_gather_bytes(const void* in, void* out, std::size_t bytes) {
    exchange(in, bytes);
    for (int r = 0; r < ranks; ++r)
      std::memcpy(static_cast<std::byte*>(out) + static_cast<std::size_t>(r) * bytes, page_->part[r], bytes);
    barrier();
  }
  void all_reduce_bytes(void*, std::size_t, cadre::data_type, cadre::reduce_op) { refuse(); }
  void reduce_scatter_bytes(const void*, void*, std::size_t, cadre::data_type, cadre::reduce_op) { refuse(); }
  std::shared_ptr<std::byte> allocate_bytes(std::size_t) { refuse(); }
  page_communicator split(int, int) { refuse(); }
  void abort(std::string_view) noexcept {}
  void set_timeout(std::chrono::nanoseconds) {}

 private:
  [[noreturn]] static void refuse() { throw std::logic_error("the start of NCCL needs gathers and broadcasts only"); }
  void exchange(const void* data, std::size_t bytes) {
    if (bytes > sizeof page_->part[0]) throw std::logic_error("too much for a page");
    std::memcpy(page_->part[rank_], data, bytes);
    barrier();
  }

  shared_page* page_;
  int rank_;
};

void expect(cadre::nccl::communicator& gpus, const cuda::buffer<float>& data, float value, std::string_view what) {
  std::vector<float> host(data.size());
  cuda::copy(data, host, gpus.stream());
  gpus.synchronize();
  check::that(host == std::vector<float>(host.size(), value), what);
}

/// The collectives between two ranks, then a rank that dies in the middle.
void run_rank(page_communicator& world) {
  cadre::nccl::communicator gpus(world, {.allow_shared_device = true, .timeout = 60s});
  const cuda::device_guard guard(gpus.device());
  const auto rank = static_cast<float>(gpus.rank());
  constexpr std::size_t n = 100001;
  const auto filled = [&](std::size_t size, float value) {
    cuda::buffer<float> made(size);
    cuda::copy(std::vector<float>(size, value), made, gpus.stream());
    gpus.synchronize();
    return made;
  };

  auto data = filled(n, rank + 1);
  gpus.all_reduce(data, cadre::sum);
  expect(gpus, data, 3, "sum");
  gpus.all_reduce(data, cadre::product);
  expect(gpus, data, 9, "product");
  auto root = filled(n, rank);
  gpus.broadcast(root, 1);
  expect(gpus, root, 1, "broadcast");
  auto both = filled(2 * n, rank);
  gpus.reduce_scatter(both, data, cadre::max);
  expect(gpus, data, 1, "reduce_scatter");
  gpus.all_gather(data, both);
  expect(gpus, both, 1, "all_gather");
  {
    auto reversed = gpus.split(0, -gpus.rank());
    check::that(reversed.rank() == 1 - gpus.rank(), "order by key");
    auto from_child = filled(n, rank);
    reversed.broadcast(from_child, 0);
    reversed.synchronize();
    expect(gpus, from_child, 1, "a child's broadcast comes from its own rank 0");
    reversed.barrier();
  }
  gpus.barrier();

  if (gpus.rank() == 1) static_cast<void>(::raise(SIGKILL));
  gpus.set_timeout(5s);
  const auto began = std::chrono::steady_clock::now();
  try {
    gpus.all_reduce(data, cadre::sum);
    gpus.synchronize();
    check::that(false, "a collective ended without its peer");
  } catch (const cadre::communicator_timeout&) {  // nobody noticed, but the deadline did
  } catch (const cadre::nccl::nccl_error& e) {    // the network noticed first
    check::that(e.number() == 1301, e.what());
  }
  check::that(std::chrono::steady_clock::now() - began < 30s, "a dead peer was noticed too late");
  check::throws<cadre::communicator_aborted>(402, "is broken", [&] { gpus.all_reduce(data, cadre::sum); });
}

/// Exit code of a rank's process.
int process(shared_page& page, int rank) {
  // Before CUDA and NCCL start. Two hosts, as far as NCCL can see; the devices are compared by cadre, and allowed.
  ::setenv("NCCL_HOSTID", ("cadre-test-" + std::to_string(rank)).c_str(), 1);
  for (const char* setting : {"NCCL_NET=Socket", "NCCL_MNNVL_ENABLE=0", "NCCL_MAX_CTAS=4", "NCCL_ALGO=Ring",
                              "NCCL_PROTO=Simple", "NCCL_SOCKET_IFNAME=lo"}) {
    const std::string_view text(setting);
    const std::size_t equals = text.find('=');
    ::setenv(std::string(text.substr(0, equals)).c_str(), std::string(text.substr(equals + 1)).c_str(), 1);
  }
  page_communicator world(page, rank);
  if (rank == 0 && !check::gpu_present()) {
    // Without a GPU both ranks still get the error, and neither waits for the other.
    const bool good = check::holds("Without a GPU both processes are told", [&] {
      check::throws<cadre::nccl::nccl_error>(1302, "rank 0 on", [&] { cadre::nccl::communicator gpus(world); });
    });
    return good ? check::skipped : 1;
  }
  if (rank == 1 && cuda::device_count() == 0) {
    try {
      cadre::nccl::communicator gpus(world);
    } catch (const cadre::nccl::nccl_error&) {
      return check::skipped;
    }
    return 1;
  }
  return check::holds("Two ranks reduce, gather, scatter and split; a killed peer is an error in time",
                      [&] { run_rank(world); })
             ? 0
             : 1;
}

}  // namespace

int main() {
  void* memory = ::mmap(nullptr, sizeof(shared_page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  auto& page = *new (memory) shared_page;
  pthread_barrierattr_t shared;
  pthread_barrierattr_init(&shared);
  pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(&page.barrier, &shared, ranks);

  // Both ranks are children: CUDA does not survive a fork. Each dies, at the latest, by its alarm.
  pid_t children[ranks];
  for (int r = 0; r < ranks; ++r) {
    children[r] = ::fork();
    if (children[r] == 0) {
      ::alarm(100);
      const int code = process(page, r);
      std::fflush(stdout);
      ::_exit(code);
    }
  }
  int codes[ranks] = {};
  for (int r = 0; r < ranks; ++r) ::waitpid(children[r], &codes[r], 0);
  if (!WIFEXITED(codes[0])) return 1;
  const int first = WEXITSTATUS(codes[0]);
  if (first == check::skipped)
    return WIFEXITED(codes[1]) && WEXITSTATUS(codes[1]) == check::skipped ? check::skipped : 1;
  const bool second_died_as_told = WIFSIGNALED(codes[1]) && WTERMSIG(codes[1]) == SIGKILL;
  return first == 0 && second_died_as_told ? 0 : 1;
}
