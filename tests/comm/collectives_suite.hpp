#ifndef CADRE_TESTS_COMM_COLLECTIVES_SUITE_HPP
#define CADRE_TESTS_COMM_COLLECTIVES_SUITE_HPP

// What every communicator must do, run by all of its ranks: tests/comm/collectives.cpp runs it on threads,
// tests/mpi/collectives.cpp on processes. A case throws `wrong` on the rank that sees something wrong.

#include <cadre/comm.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace collectives_suite {

struct wrong : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void check(bool good, const std::string& what) {
  if (!good) throw wrong(what);
}
// For checks of every element: the text is made only where it is needed.
template <class Text>
  requires std::invocable<Text>
void check(bool good, Text text) {
  if (!good) throw wrong(text());
}

inline std::uint64_t scramble(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Rank r's element i: floats of many magnitudes, so that another order of additions gives other bits.
template <class T>
T value(int rank, std::size_t i) {
  const std::uint64_t h = scramble((static_cast<std::uint64_t>(rank) << 40) + i + 1);
  if constexpr (std::is_floating_point_v<T>)
    return static_cast<T>(static_cast<std::int64_t>(h % 20001) - 10000) *
           static_cast<T>(std::int64_t{1} << (h >> 32) % 20) / T{1024};
  else
    return static_cast<T>(h);
}

template <class T>
T combine(cadre::reduce_op op, T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    switch (op) {
      case cadre::reduce_op::sum: return a + b;
      case cadre::reduce_op::product: return a * b;
      case cadre::reduce_op::min: return b < a ? b : a;
      default: return a < b ? b : a;
    }
  } else {
    using wide = std::uint64_t;
    switch (op) {
      case cadre::reduce_op::sum: return static_cast<T>(static_cast<wide>(a) + static_cast<wide>(b));
      case cadre::reduce_op::product: return static_cast<T>(static_cast<wide>(a) * static_cast<wide>(b));
      case cadre::reduce_op::min: return b < a ? b : a;
      case cadre::reduce_op::max: return a < b ? b : a;
      case cadre::reduce_op::bit_and: return static_cast<T>(a & b);
      default: return static_cast<T>(a | b);
    }
  }
}

// The documented tree: ranks [first, first + n) split at the largest power of two below n.
template <class T>
T tree(cadre::reduce_op op, std::size_t i, int first, int n) {
  if (n == 1) return value<T>(first, i);
  const int left = static_cast<int>(std::bit_floor(static_cast<unsigned>(n - 1)));
  return combine(op, tree<T>(op, i, first, left), tree<T>(op, i, first + left, n - left));
}

template <class T>
bool same_bits(T a, T b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

template <class T>
void fill(std::span<T> range, int rank) {
  for (std::size_t i = 0; i < range.size(); ++i) range[i] = value<T>(rank, i);
}

template <class T>
void check_all_reduced(std::span<const T> range, cadre::reduce_op op, int ranks, const std::string& what) {
  const std::size_t step = range.size() > 200000 ? 13 : 1;
  for (std::size_t i = 0; i < range.size(); i += step)
    check(same_bits(range[i], tree<T>(op, i, 0, ranks)),
          [&] { return what + ": element " + std::to_string(i) + " of " + std::to_string(range.size()); });
}

constexpr cadre::reduce_op operations[] = {cadre::sum, cadre::product, cadre::min,
                                           cadre::max, cadre::bit_and, cadre::bit_or};

template <class T, class Comm>
void all_reduce_of_type(Comm& comm) {
  for (const auto op : operations) {
    if (!cadre::supports(op, cadre::data_type_of<T>)) continue;
    const std::string what =
        "all_reduce of " + std::string(to_string(cadre::data_type_of<T>)) + " with " + std::string(to_string(op));
    for (const std::size_t n :
         {std::size_t{0}, std::size_t{1}, std::size_t{7}, 2048 / sizeof(T), 2048 / sizeof(T) + 1, std::size_t{4099}}) {
      std::vector<T> plain(n);
      fill<T>(plain, comm.rank());
      comm.all_reduce(plain, op);
      check_all_reduced<T>(plain, op, comm.world_size(), what + ", plain");
    }
    auto allocated = comm.template allocate<T>(5003);
    fill<T>(allocated.span(), comm.rank());
    comm.all_reduce(allocated, op);
    check_all_reduced<T>(allocated.span(), op, comm.world_size(), what + ", allocated");
  }
}

template <class Comm>
void every_type_and_operation(Comm& comm) {
  all_reduce_of_type<std::int8_t>(comm);
  all_reduce_of_type<std::uint8_t>(comm);
  all_reduce_of_type<std::int16_t>(comm);
  all_reduce_of_type<std::uint16_t>(comm);
  all_reduce_of_type<std::int32_t>(comm);
  all_reduce_of_type<std::uint32_t>(comm);
  all_reduce_of_type<std::int64_t>(comm);
  all_reduce_of_type<std::uint64_t>(comm);
  all_reduce_of_type<float>(comm);
  all_reduce_of_type<double>(comm);
}

template <class Comm>
void all_reduce_of_many_sizes(Comm& comm) {
  const auto ranks = static_cast<std::size_t>(comm.world_size());
  for (const std::size_t n : {std::size_t{2}, ranks - 1, ranks, ranks + 1, std::size_t{513}, std::size_t{32769},
                              std::size_t{100003}, std::size_t{1} << 19}) {
    auto allocated = comm.template allocate<float>(n + 3);
    std::vector<float> plain(n + 3);
    // Parts of buffers too, at odd addresses; and one rank's buffer shared while the other's is not.
    const auto parts = {std::span(plain).subspan(1, n), allocated.span().subspan(3, n),
                        comm.rank() % 2 == 0 ? allocated.span().first(n) : std::span(plain).first(n)};
    for (std::span<float> part : parts) {
      if (n > 200000 && part.data() == plain.data() + 1) continue;  // mixed memory takes the same way
      fill<float>(part, comm.rank());
      comm.all_reduce(part, cadre::sum);
      check_all_reduced<float>(part, cadre::sum, comm.world_size(), "all_reduce");
    }
  }
}

template <class Comm>
void elements_around_a_reduced_part_stay(Comm& comm) {
  for (const std::size_t n : {std::size_t{5}, std::size_t{1000}, std::size_t{70000}}) {
    std::vector<double> plain(n + 2, -1.0);
    comm.all_reduce(std::span(plain).subspan(1, n), cadre::max);
    check(plain.front() == -1.0 && plain.back() == -1.0, "all_reduce wrote beside its range");
    auto allocated = comm.template allocate<double>(n + 2);
    allocated[0] = allocated[n + 1] = comm.rank();
    comm.all_reduce(allocated.span().subspan(1, n), cadre::sum);
    check(allocated[0] == comm.rank() && allocated[n + 1] == comm.rank(),
          "all_reduce wrote beside its range of an allocation");
  }
}

template <class Comm>
void nan_is_seen_by_min_and_max(Comm& comm) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (int bad = 0; bad < comm.world_size(); ++bad)
    for (const auto op : {cadre::min, cadre::max}) {
      std::vector<float> range(37, static_cast<float>(comm.rank()));
      if (comm.rank() == bad) range[3] = range[36] = nan;
      comm.all_reduce(range, op);
      check(range[3] != range[3] && range[36] != range[36], "a NaN was lost");
      check(range[4] == (op == cadre::min ? 0.0f : static_cast<float>(comm.world_size() - 1)), "min or max is wrong");
    }
}

template <class Comm>
void broadcast_from_every_root(Comm& comm) {
  struct point {
    int x;
    double y;
  };
  for (int root = 0; root < comm.world_size(); ++root) {
    for (const std::size_t n :
         {std::size_t{0}, std::size_t{1}, std::size_t{512}, std::size_t{513}, std::size_t{100003}})
      for (const bool shared : {false, true}) {
        std::vector<float> plain(n);
        auto allocated = comm.template allocate<float>(n);
        const std::span<float> range = shared ? allocated.span() : std::span(plain);
        fill<float>(range, comm.rank());
        comm.broadcast(range, root);
        for (std::size_t i = 0; i < n; ++i)
          check(same_bits(range[i], value<float>(root, i)), [&] { return "broadcast of " + std::to_string(n); });
      }
    const point got = comm.broadcast(point{comm.rank(), comm.rank() / 2.0}, root);
    check(got.x == root && got.y == root / 2.0, "broadcast of a value");
  }
}

template <class Comm>
void reduce_scatter_of_many_sizes(Comm& comm) {
  const auto ranks = static_cast<std::size_t>(comm.world_size()), rank = static_cast<std::size_t>(comm.rank());
  for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{33}, std::size_t{600}, std::size_t{100003}})
    for (const bool shared : {false, true}) {
      auto allocated = comm.template allocate<float>(n * ranks);
      std::vector<float> plain(n * ranks), out(n);
      const std::span<float> in = shared ? allocated.span() : std::span(plain);
      fill<float>(in, comm.rank());
      comm.reduce_scatter(in, out, cadre::sum);
      for (std::size_t i = 0; i < n; ++i)
        check(same_bits(out[i], tree<float>(cadre::sum, rank * n + i, 0, comm.world_size())),
              [&] { return "reduce_scatter of " + std::to_string(n); });
      for (std::size_t i = 0; i < in.size(); ++i)
        check(same_bits(in[i], value<float>(comm.rank(), i)), [] { return "reduce_scatter changed its input"; });
      // In place: the result is this rank's part of the input.
      comm.reduce_scatter(in, in.subspan(rank * n, n), cadre::sum);
      for (std::size_t i = 0; i < n; ++i)
        check(same_bits(in[rank * n + i], out[i]), [&] { return "reduce_scatter in place of " + std::to_string(n); });
    }
}

template <class Comm>
void all_gather_of_many_sizes(Comm& comm) {
  const auto ranks = static_cast<std::size_t>(comm.world_size()), rank = static_cast<std::size_t>(comm.rank());
  for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{33}, std::size_t{600}, std::size_t{100003}})
    for (const bool shared : {false, true}) {
      auto allocated = comm.template allocate<float>(n);
      std::vector<float> plain(n), out(n * ranks), whole(n * ranks);
      const std::span<float> in = shared ? allocated.span() : std::span(plain);
      fill<float>(in, comm.rank());
      comm.all_gather(in, out);
      // In place: the input is this rank's part of the output.
      fill<float>(std::span(whole).subspan(rank * n, n), comm.rank());
      comm.all_gather(std::span(whole).subspan(rank * n, n), whole);
      for (std::size_t r = 0; r < ranks; ++r)
        for (std::size_t i = 0; i < n; ++i) {
          check(same_bits(out[r * n + i], value<float>(static_cast<int>(r), i)),
                [&] { return "all_gather of " + std::to_string(n); });
          check(same_bits(whole[r * n + i], out[r * n + i]),
                [&] { return "all_gather in place of " + std::to_string(n); });
        }
    }
  const std::vector<int> all = comm.all_gather(comm.rank() * 3);
  for (int r = 0; r < comm.world_size(); ++r) check(all[static_cast<std::size_t>(r)] == 3 * r, "all_gather of a value");
}

template <class Comm>
void scalars_and_views(Comm& comm) {
  const int n = comm.world_size();
  check(comm.all_reduce(comm.rank() + 1, cadre::sum) == n * (n + 1) / 2, "sum of scalars");
  check(comm.all_reduce(0.5 * comm.rank(), cadre::max) == 0.5 * (n - 1), "max of scalars");
  check(comm.all_reduce(static_cast<unsigned char>(1u << comm.rank() % 8), cadre::bit_or) == (1u << std::min(n, 8)) - 1,
        "bits of scalars");
  std::array<long long, 3> fixed{comm.rank(), 1, 2};
  comm.all_reduce(fixed, cadre::sum);
  check(fixed[0] == n * (n - 1) / 2 && fixed[1] == n && fixed[2] == 2 * n, "sum of an array");
}

template <class Comm>
void allocations_are_zeroed_aligned_and_come_back(Comm& comm) {
  for (int round = 0; round < 20; ++round) {
    const std::size_t n = 10007 * static_cast<std::size_t>(comm.rank() + 1);  // sizes may differ between the ranks
    auto memory = comm.template allocate<float>(n);
    check(reinterpret_cast<std::uintptr_t>(memory.data()) % 64 == 0, "an allocation is not aligned");
    for (const float x : memory) check(x == 0.0f, [] { return "an allocation is not zeroed"; });
    std::ranges::fill(memory, 1.0f);
    comm.all_reduce(memory.span().first(10007), cadre::sum);
    check(memory[10006] == static_cast<float>(comm.world_size()), "sum in an allocation");
  }
  auto nothing = comm.template allocate<double>(0);
  comm.all_reduce(nothing, cadre::sum);
  check(nothing.empty(), "an empty allocation");
}

template <class Comm>
void split_by_parity_and_again(Comm& comm) {
  const int n = comm.world_size(), rank = comm.rank();
  auto memory = comm.template allocate<float>(5000);
  {
    auto half = comm.split(rank % 2, -rank);  // reversed order
    const int members = (n + (rank % 2 == 0 ? 1 : 0)) / 2;
    check(half.world_size() == members, "size of a half");
    check(half.rank() == members - 1 - rank / 2, "rank in a half");
    const std::vector<int> who = half.all_gather(rank);
    for (int r = 0; r < members; ++r)
      check(who[static_cast<std::size_t>(r)] == (members - 1 - r) * 2 + rank % 2, "order in a half");
    // Memory of the parent in a collective of the child.
    std::ranges::fill(memory, 1.0f);
    half.all_reduce(memory, cadre::sum);
    check(memory[4999] == static_cast<float>(members), "a half's sum in the parent's memory");

    auto alone = half.split(half.rank(), 0);
    check(alone.world_size() == 1 && alone.all_reduce(7, cadre::sum) == 7, "split in ones");
    auto again = half.split(0, 0);
    check(again.all_reduce(1, cadre::sum) == members, "split into the same");
    check(again.split(again.rank() / 2, 0).world_size() <= 2, "split in pairs");
  }
  auto rest = comm.split(rank == 0 ? -1 : 5, rank);
  check(rest.world_size() == (rank == 0 ? 1 : n - 1), "a negative color is alone");
  check(rest.rank() == (rank == 0 ? 0 : rank - 1), "rank beside the one with a negative color");
  check(comm.all_reduce(1, cadre::sum) == n, "the parent works on");
}

template <class Comm>
void an_aborted_child_leaves_its_parent_working(Comm& comm) {
  for (int round = 0; round < 3; ++round) {
    auto attempt = comm.split(0, comm.rank());
    const int bad = round % comm.world_size();
    std::string text;
    try {
      if (attempt.rank() == bad) attempt.abort("rank " + std::to_string(bad) + " lost its way");
      for (;;) attempt.barrier();
    } catch (const cadre::communicator_aborted& error) {
      text = error.what();
    }
    check(text.starts_with("[cadre.comm.402] ") && text.ends_with("rank " + std::to_string(bad) + " lost its way"),
          "text of an abort: " + text);
    try {
      attempt.barrier();
      check(false, "an aborted communicator works");
    } catch (const cadre::communicator_aborted&) {}
    check(comm.all_reduce(1, cadre::sum) == comm.world_size(), "the parent works after its child was aborted");
  }
}

template <class Comm>
void an_abort_reaches_what_was_split_from_the_communicator(Comm& comm) {
  for (int round = 0; round < 3; ++round) {
    auto attempt = comm.split(0, comm.rank());
    auto child = attempt.split(0, comm.rank());
    auto grandchild = child.split(0, -comm.rank());
    grandchild.set_timeout(std::chrono::seconds(20));
    const int bad = round % comm.world_size();
    std::string text;
    comm.barrier();  // nobody is in split any more
    if (comm.rank() == bad) attempt.abort("rank " + std::to_string(bad) + " lost its way");
    try {  // all the time the grandchild of the rank that aborts is alive, so that nobody finds that it has left
      grandchild.barrier();
    } catch (const cadre::communicator_error& error) {
      text = error.what();
    }
    check(text.starts_with("[cadre.comm.402] ") && text.ends_with("rank " + std::to_string(bad) + " lost its way"),
          "text of an abort of the grandparent: " + text);
    check(comm.all_reduce(1, cadre::sum) == comm.world_size(), "the parent works after its child was aborted");
  }
}

template <class Comm>
void a_rank_that_stays_away_is_named(Comm& comm) {
  if (comm.world_size() == 1) return;
  auto child = comm.split(0, comm.rank());
  const int away = comm.world_size() - 1;
  if (comm.rank() != away) {
    const auto start = std::chrono::steady_clock::now();
    std::string text;
    try {
      child.barrier(std::chrono::milliseconds(150));
    } catch (const cadre::communicator_timeout& error) {
      text = error.what();
    }
    check(text.starts_with("[cadre.comm.401] ") && text.find(" waited 150 ms in barrier #") != text.npos &&
              text.find("not arrived: ") != text.npos,
          "text of a timeout: " + text);
    check(std::chrono::steady_clock::now() - start >= std::chrono::milliseconds(50), "a timeout came too early");
    try {
      (void)child.all_reduce(1, cadre::sum);
      check(false, "a communicator works after a timeout");
    } catch (const cadre::communicator_aborted&) {}
  }
  comm.barrier();
  if (comm.rank() == away) {
    try {
      for (;;) child.barrier();
    } catch (const cadre::communicator_error&) {}
  }
  comm.barrier();
}

template <class Comm>
void set_timeout_holds_for_collectives(Comm& comm) {
  if (comm.world_size() == 1) return;
  auto child = comm.split(0, comm.rank());
  child.set_timeout(std::chrono::milliseconds(100));
  if (comm.rank() == 0) {
    std::vector<float> big(200000);
    try {
      child.all_reduce(big, cadre::sum);
      check(false, "all_reduce without peers came back");
    } catch (const cadre::communicator_timeout& error) {
      check(std::string(error.what()).find("all_reduce #") != std::string::npos, error.what());
      check(std::string(error.what()).find("of 200000 float32 with sum") != std::string::npos, error.what());
    }
  }
  comm.barrier();
}

template <class Comm>
void every_operation_ends_in_time(Comm& comm) {
  if (comm.world_size() == 1) return;
  const auto ranks = static_cast<std::size_t>(comm.world_size());
  std::vector<float> part(1000), whole(1000 * ranks);
  using call = void (*)(Comm&, std::vector<float>&, std::vector<float>&);
  constexpr std::pair<std::string_view, call> calls[] = {
      {"barrier", [](Comm& c, auto&, auto&) { c.barrier(); }},
      {"all_reduce", [](Comm& c, auto& some, auto&) { c.all_reduce(some, cadre::sum); }},
      {"broadcast", [](Comm& c, auto& some, auto&) { c.broadcast(some, 1); }},
      {"reduce_scatter", [](Comm& c, auto& some, auto& all) { c.reduce_scatter(all, some, cadre::sum); }},
      {"all_gather", [](Comm& c, auto& some, auto& all) { c.all_gather(some, all); }},
      {"allocate", [](Comm& c, auto&, auto&) { (void)c.template allocate<float>(100000); }},
      {"split", [](Comm& c, auto&, auto&) { (void)c.split(0, 0); }}};
  for (const auto& [name, make] : calls) {
    auto child = comm.split(0, comm.rank());
    child.set_timeout(std::chrono::milliseconds(60));
    if (comm.rank() == 0) {
      std::string text;
      try {
        make(child, part, whole);
      } catch (const cadre::communicator_timeout& error) {
        text = error.what();
      }
      check(text.find(" waited 60 ms in " + std::string(name) + " #") != text.npos, std::string(name) + ": " + text);
    }
    comm.barrier();
  }
}

template <class Comm>
void communicators_of_several_threads_do_not_meet(Comm& comm) {
  auto one = comm.split(0, comm.rank()), other = comm.split(0, -comm.rank());
  const auto work = [n = comm.world_size()](Comm& mine, int salt) {
    std::vector<float> large(20000);
    for (int round = 0; round < 30; ++round) {
      check(mine.all_reduce(round + salt, cadre::sum) == (round + salt) * n, "a sum of two threads");
      std::ranges::fill(large, static_cast<float>(round + salt));
      mine.all_reduce(large, cadre::sum);
      check(large[19999] == static_cast<float>((round + salt) * n), "a large sum of two threads");
    }
  };
  std::exception_ptr failure;
  std::thread thread([&] {
    try {
      work(other, 1000);
    } catch (...) {
      failure = std::current_exception();
      other.abort("the other thread failed");
    }
  });
  try {
    work(one, 0);
  } catch (...) {
    other.abort("the first thread failed");
    thread.join();
    throw;
  }
  thread.join();
  if (failure) std::rethrow_exception(failure);
}

template <class Comm>
void different_calls_are_a_mismatch_on_every_rank(Comm& comm) {
  if (comm.world_size() == 1) return;
  const bool odd_one = comm.rank() == comm.world_size() - 1;
  const std::string odd_name = "rank " + std::to_string(comm.world_size() - 1);
  std::vector<float> range(1000);
  const auto expect = [&](auto&& call, std::string_view first, std::string_view second) {
    auto child = comm.split(0, comm.rank());
    std::string text;
    try {
      call(child);
    } catch (const cadre::collective_mismatch& error) {
      text = error.what();
    }
    check(text.starts_with("[cadre.comm.403] rank ") && text.find(first) != text.npos &&
              text.find("but " + odd_name + " calls ") != text.npos && text.find(second) != text.npos,
          "text of a mismatch: " + text);
    try {
      child.barrier();
      check(false, "a communicator works after a mismatch");
    } catch (const cadre::communicator_aborted&) {}
  };
  expect([&](auto& c) { c.all_reduce(std::span(range).first(odd_one ? 999 : 1000), cadre::sum); },
         "of 1000 float32 with sum", "of 999 float32 with sum");
  expect([&](auto& c) { c.all_reduce(range, odd_one ? cadre::max : cadre::sum); }, "float32 with sum",
         "float32 with max");
  expect([&](auto& c) { odd_one ? c.barrier() : c.all_reduce(range, cadre::sum); }, "all_reduce", "barrier");
  expect([&](auto& c) { c.broadcast(range, odd_one ? 1 : 0); }, "from root 0", "from root 1");
  expect([&](auto& c) { odd_one ? (void)c.all_reduce(1.0, cadre::sum) : (void)c.all_reduce(1L, cadre::sum); },
         "1 int64", "1 float64");
}

template <class Comm>
void a_rank_that_leaves_is_named(Comm& comm) {
  if (comm.world_size() == 1) return;
  const int gone = comm.world_size() - 1;
  {
    auto child = comm.split(0, comm.rank());
    std::string text;
    if (comm.rank() != gone) {
      try {
        child.barrier();
      } catch (const cadre::communicator_aborted& error) {
        text = error.what();
      }
      check(text.find(" has left the communicator while ") != text.npos, "text of a departure: " + text);
    }
  }
  comm.barrier();
}

template <class Comm>
void wrong_arguments_are_refused_before_anything_is_sent(Comm& comm) {
  const auto refuses = [](auto&& call, int number, const std::string& text) {
    try {
      call();
    } catch (const cadre::collective_argument_error& error) {
      check(error.number() == number &&
                std::string(error.what()) == "[cadre.comm." + std::to_string(number) + "] " + text,
            error.what());
      return;
    }
    check(false, "accepted: " + text);
  };
  const std::string n = std::to_string(comm.world_size());
  std::vector<float> range(10);
  std::vector<float> whole(10 * static_cast<std::size_t>(comm.world_size()) + 1);
  refuses([&] { comm.all_reduce(range, cadre::bit_or); }, 404,
          "all_reduce: bit_or has no meaning for float32 elements");
  refuses([&] { comm.reduce_scatter(std::span(whole).first(whole.size() - 1), range, cadre::bit_and); }, 404,
          "reduce_scatter: bit_and has no meaning for float32 elements");
  refuses([&] { comm.broadcast(range, comm.world_size()); }, 405,
          "broadcast: root " + n + " is not one of the " + n + " ranks");
  refuses([&] { comm.broadcast(range, -1); }, 405, "broadcast: root -1 is not one of the " + n + " ranks");
  refuses([&] { comm.all_gather(range, whole); }, 405,
          "all_gather: out has " + std::to_string(whole.size()) + " elements, but " + n +
              " ranks and 10 elements of in need " + std::to_string(whole.size() - 1));
  const std::string me = std::to_string(comm.rank());
  std::vector<float> shared(whole.size() + 20);
  const std::size_t beside = 10 * static_cast<std::size_t>(comm.rank()) + 1;
  refuses([&] { comm.all_gather(std::span(shared).subspan(beside, 10), std::span(shared).first(whole.size() - 1)); },
          405, "all_gather: in overlaps out, and is not part " + me + " of it: pass memory apart, or this rank's part");
  refuses(
      [&] {
        comm.reduce_scatter(std::span(shared).first(whole.size() - 1), std::span(shared).subspan(beside, 10),
                            cadre::sum);
      },
      405, "reduce_scatter: out overlaps in, and is not part " + me + " of it: pass memory apart, or this rank's part");
  refuses(
      [&] {
        comm.all_reduce_bytes(range.data(), std::numeric_limits<std::size_t>::max() / 2, cadre::data_type::float64,
                              cadre::sum);
      },
      405,
      "all_reduce: 9223372036854775807 elements of 8 bytes on each of " + n + " ranks are more than can be addressed");
  check(comm.all_reduce(1, cadre::sum) == comm.world_size(), "usable after refused calls");
}

template <class Comm>
void any_communicator_is_one_too(Comm& comm) {
  cadre::any_communicator any{comm};
  check(any.rank() == comm.rank() && any.world_size() == comm.world_size() && any.backend() == comm.backend(),
        "what a handle says");
  const cadre::any_communicator copy = any;
  check(copy.rank() == comm.rank(), "a copied handle");
  std::vector<float> range(5000);
  fill<float>(range, any.rank());
  any.all_reduce(range, cadre::sum);
  check_all_reduced<float>(range, cadre::sum, any.world_size(), "all_reduce by a handle");
  cadre::any_communicator child = any.split(any.rank() % 2, any.rank());
  cadre::any_communicator owner{comm.split(0, -comm.rank())};
  check(owner.rank() == comm.world_size() - 1 - comm.rank(), "an owning handle");
  check(child.all_reduce(1, cadre::sum) == (any.world_size() + (any.rank() % 2 == 0 ? 1 : 0)) / 2,
        "a child by a handle");
  auto memory = any.template allocate<double>(100);
  any.all_reduce(memory, cadre::sum);
  any.broadcast(range, 0);
  any.barrier(std::chrono::seconds(60));
  check(any.all_gather(any.rank()).back() == any.world_size() - 1, "all_gather by a handle");
}

template <class Comm>
void small_and_large_calls_take_turns(Comm& comm) {
  auto allocated = comm.template allocate<float>(30000);
  std::vector<float> plain(30000);
  for (int round = 0; round < 60; ++round) {
    const auto n = scramble(static_cast<std::uint64_t>(round)) % 30000;
    const std::span<float> range =
        round % 3 == 0 ? allocated.span().first(n) : std::span(plain).first(round % 3 == 1 ? n : n % 300);
    std::ranges::fill(range, static_cast<float>(comm.rank() + round));
    comm.all_reduce(range, cadre::sum);
    const auto expected =
        static_cast<float>(comm.world_size() * (comm.world_size() - 1) / 2 + round * comm.world_size());
    for (const float x : range) check(x == expected, [&] { return "turn " + std::to_string(round); });
    check(comm.broadcast(round * comm.rank(), round % comm.world_size()) == round * (round % comm.world_size()),
          "broadcast in turn");
  }
}

template <class Comm>
using suite_case = std::pair<const char*, void (*)(Comm&)>;

/// All cases, in the order in which every rank runs them.
template <class Comm>
inline constexpr suite_case<Comm> cases[] = {
    {"every type and operation gives the documented tree's bits", every_type_and_operation<Comm>},
    {"all_reduce works for many sizes and kinds of memory", all_reduce_of_many_sizes<Comm>},
    {"elements around a reduced part stay as they were", elements_around_a_reduced_part_stay<Comm>},
    {"a NaN is seen by min and max", nan_is_seen_by_min_and_max<Comm>},
    {"broadcast works from every root", broadcast_from_every_root<Comm>},
    {"reduce_scatter works for many sizes, in place too", reduce_scatter_of_many_sizes<Comm>},
    {"all_gather works for many sizes, in place too", all_gather_of_many_sizes<Comm>},
    {"scalars and arrays are reduced", scalars_and_views<Comm>},
    {"allocations are zeroed, aligned and come back", allocations_are_zeroed_aligned_and_come_back<Comm>},
    {"split makes communicators by parity, nested, and of one", split_by_parity_and_again<Comm>},
    {"an aborted child leaves its parent working", an_aborted_child_leaves_its_parent_working<Comm>},
    {"an abort reaches what was split from it", an_abort_reaches_what_was_split_from_the_communicator<Comm>},
    {"a rank that stays away from a barrier is named in time", a_rank_that_stays_away_is_named<Comm>},
    {"set_timeout holds for collectives", set_timeout_holds_for_collectives<Comm>},
    {"every operation ends in time where ranks stay away", every_operation_ends_in_time<Comm>},
    {"communicators of several threads do not meet", communicators_of_several_threads_do_not_meet<Comm>},
    {"different calls are a mismatch on every rank", different_calls_are_a_mismatch_on_every_rank<Comm>},
    {"a rank that leaves is named", a_rank_that_leaves_is_named<Comm>},
    {"wrong arguments are refused before anything is sent", wrong_arguments_are_refused_before_anything_is_sent<Comm>},
    {"any_communicator is a communicator too", any_communicator_is_one_too<Comm>},
    {"small and large calls take turns", small_and_large_calls_take_turns<Comm>},
};

}  // namespace collectives_suite

#endif
