// Streams, events, device memory and copies, on the first GPU.

#include "check.hpp"

#include <cadre/cuda.hpp>

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace {

namespace cuda = cadre::cuda;

void copies() {
  cuda::stream stream;
  std::vector<int> in(100001), out(in.size());
  std::iota(in.begin(), in.end(), -5);
  cuda::buffer<int> a(in.size()), b(in.size());
  check::that(reinterpret_cast<std::uintptr_t>(a.data()) % 256 == 0, "not aligned to 256 bytes");
  cuda::copy(in, a, stream);
  cuda::copy(a, b, stream);
  cuda::copy(b.span(), std::span(out), stream);
  stream.synchronize();
  check::that(in == out && stream.done(), "other elements came back");
  std::vector<int> part(3);
  cuda::copy(std::as_const(b).span().subspan(7, 3), part, stream);
  stream.synchronize();
  check::that(part == std::vector<int>{2, 3, 4}, "other elements of a part came back");
  check::throws<cuda::cuda_error>(1203, "copy of 100001 elements to room for 3", [&] { cuda::copy(a, part, stream); });
}

void moves() {
  cuda::buffer<float> a(10);
  float* memory = a.data();
  cuda::buffer<float> b(std::move(a));
  check::that(b.data() == memory && b.size() == 10 && a.data() == nullptr && a.empty(), "moved wrongly");
  a = std::move(b);
  check::that(a.data() == memory && b.data() == nullptr, "assigned wrongly");
  cuda::stream s, t(std::move(s));
  check::that(s.get() == nullptr && t.get() != nullptr, "a stream moved wrongly");
}

void order() {
  cuda::stream first, second;
  cuda::event done;
  check::that(done.done(), "an event that was never recorded waits for nothing");
  constexpr std::size_t n = 1 << 22;
  std::vector<unsigned char> in(n, 1), out(n);
  cuda::buffer<unsigned char> a(n), b(n);
  for (int round = 0; round < 20; ++round) {
    in.assign(n, static_cast<unsigned char>(round + 1));
    cuda::copy(in, a, first);
    done.record(first);
    second.wait(done);
    cuda::copy(a, b, second);
    first.wait(second);  // the next round's copy into a
    cuda::copy(b, out, second);
    second.synchronize();
    check::that(out == in, "the second stream did not wait");
  }
  done.record(second);
  done.synchronize();
  check::that(done.done(), "a synchronised event is not done");
}

void too_much() {
  check::throws<cuda::cuda_error>(1201, "cudaErrorMemoryAllocation",
                                  [] { cuda::buffer<char> b(std::size_t{1} << 50); });
  cuda::buffer<char> small(1);  // the error was taken, and memory can still be had
  check::that(small.data() != nullptr, "no memory");
  check::throws<cuda::cuda_error>(1201, "cuda.cpp:", [] { cuda::buffer<char> b(std::size_t{1} << 50); });
}

void device() {
  const int before = cuda::current_device();
  {
    const cuda::device_guard guard(cuda::device_count() - 1);
    check::that(cuda::current_device() == cuda::device_count() - 1, "the guard did nothing");
  }
  check::that(cuda::current_device() == before, "the guard did not go back");
  check::that(cuda::stream(cuda::device_count() - 1).device() == cuda::device_count() - 1,
              "a stream of another device");
}

}  // namespace

int main() {
  if (!check::gpu_present()) return check::skipped;
  bool good = true;
  good &= check::holds("What is copied to the device comes back, in the stream's order", copies);
  good &= check::holds("Memory and streams move and are never shared", moves);
  good &= check::holds("A stream waits for an event or for another stream on the device", order);
  good &= check::holds("Memory that is not there is an error with its place, and nothing else breaks", too_much);
  good &= check::holds("A guard chooses a device until the end of its scope", device);
  return good ? 0 : 1;
}
