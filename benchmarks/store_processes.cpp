// The store between processes: another process's first read, how soon a waiting get has what was sealed, handing an object
// over, two to eight processes at once. Beside the same with a futex or a robust mutex alone, Boost.Interprocess, and
// Python's torch.multiprocessing and Dask where they are installed.
#include "store_peers.hpp"

#include <cadre/archive/input_archive.hpp>
#include <cadre/archive/output_archive.hpp>
#include <cadre/os/futex.hpp>
#include <cadre/os/robust_mutex.hpp>

#include <boost/interprocess/managed_shared_memory.hpp>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <span>
#include <thread>

namespace {

using namespace store_peers;
namespace ipc = boost::interprocess;

constexpr std::size_t large = 100 * mib;
constexpr auto shared = cadre::futex::scope::shared;
constexpr std::array<std::byte, kib> value{};

cadre::object_store open(const std::string& name) {
  return cadre::object_store::open({.name = name, .capacity = 2 * gib, .max_objects = 1 << 16});
}
std::string numbered(const char* what, std::size_t round, std::size_t k) {
  return what + std::to_string(round) + "." + std::to_string(k);
}

/// Microseconds to get the object and to read a byte of each page.
double read_pages(cadre::object_store& store, const bytes_ref& ref) {
  return ns_each(1,
                 [&] {
                   const cadre::view<bytes> v = store.get(ref);
                   for (std::size_t at = 0; at < v.bytes().size(); at += page) read_byte(v.bytes()[at]);
                 }) *
         1e-3;
}
/// The same for shared memory in small pages, by a mapping that is new.
double read_small_pages(const std::string& path) {
  const shared_memory fresh(path, large);
  return ns_each(1,
                 [&] {
                   for (std::size_t at = 0; at < large; at += page) read_byte((&fresh.as<std::byte>())[at]);
                 }) *
         1e-3;
}

void first_read(cadre::object_store& store, const std::string& name) {
  const bytes_ref ref = store.put(warm_memory(large).all(), {.name = "large"});
  const shared_memory small_pages(large);
  std::memset(&small_pages.as<std::byte>(), 1, large);
  benchmark::measure("first read of 100 MiB by another process: get, a byte of each 4 KiB", "us", 9,
                     {{"cadre",
                       [&] {
                         return start({"first", name})->round();
                       },
                       benchmark::at_most(1000)},
                      {"cadre, read again", [&] { return read_pages(store, ref); }},
                      {"shared memory in 4 KiB pages", [&] {
                         return start({"first in small pages", small_pages.path()})->round();
                       }}});
  store.erase("large");
}

/// What two processes agree by.
struct meeting {
  std::atomic<std::uint32_t> word;   // counted up by the one that wakes
  std::atomic<std::uint32_t> reply;  // and by the other
  std::atomic<std::uint32_t> about;  // how often the other was about to wait
  std::atomic<double> sent;
};
void wait_until_about(const meeting& m, std::uint32_t n) {
  while (m.about.load() < n) std::this_thread::yield();
}
/// Sleeps until the word is no more `seen`, after `spins` looks at it.
void wait_for_change(std::atomic<std::uint32_t>& word, std::uint32_t seen, int spins) {
  while (spins-- > 0 && word.load() == seen) __builtin_ia32_pause();
  while (word.load() == seen)
    cadre::futex::wait_until(word, seen, std::chrono::steady_clock::time_point::max(), shared);
}
void change(std::atomic<std::uint32_t>& word) {
  word.fetch_add(1);
  cadre::futex::wake_all(word, shared);
}

/// Microseconds from the change to the other's return, when it has slept for a millisecond: the other's median of n.
constexpr std::size_t sleeps = 60;
template <class Change>
double wake_sleeper(meeting& m, const std::shared_ptr<benchmark::child>& other, Change&& change_one) {
  const std::uint32_t before = m.about.load();
  auto figure = std::async(std::launch::async, [&] { return other->round(); });
  for (std::uint32_t k = 0; k < sleeps; ++k) {
    wait_until_about(m, before + k + 1);
    std::this_thread::sleep_for(1ms);
    m.sent.store(benchmark::seconds());
    change_one(k);
  }
  return figure.get();
}
template <class Wait>
double sleep_often(meeting& m, Wait&& wait) {
  std::vector<double> waits;
  for (std::size_t k = 0; k < sleeps; ++k) {
    wait(k);
    waits.push_back((benchmark::seconds() - m.sent.load()) * 1e6);
  }
  return benchmark::summarise(std::move(waits)).median;
}

/// One way of n round trips in which each waits for the other, in microseconds.
constexpr std::size_t trips = 2000;
template <class Trip>
double one_way(const meeting& m, const std::shared_ptr<benchmark::child>& other, Trip&& trip) {
  const std::uint32_t before = m.about.load();
  auto done = std::async(std::launch::async, [&] { return other->round(); });
  wait_until_about(m, before + 1);
  const double ns = ns_per_call(trips, trip);
  done.get();
  return ns * 1e-3 / 2;
}
using writer = cadre::object_writer<bytes>;
std::vector<writer> unsealed(cadre::object_store& store, const char* what, std::size_t round, std::size_t n) {
  std::vector<writer> all;
  for (std::size_t k = 0; k < n; ++k) {
    const std::string name = numbered(what, round, k);
    all.push_back(store.create<std::byte>(kib, {.name = name}));
  }
  return all;
}
/// Refs to what the other has made, which lose their names.
std::vector<bytes_ref> take(cadre::object_store& store, const char* what, std::size_t round, std::size_t n) {
  std::vector<bytes_ref> all;
  for (std::size_t k = 0; k < n; ++k) all.push_back(*store.find<bytes>(numbered(what, round, k)));
  return all;
}

int play_sleeper(cadre::object_store store, meeting& m) {
  return play("sleeper", [&, round = std::size_t{0}]() mutable {
    const std::vector<bytes_ref> refs = take(store, "sleep", round++, sleeps);
    return sleep_often(m, [&](std::size_t k) {
      m.about.fetch_add(1);
      const cadre::view<bytes> v = store.get(refs[k]);
      use(v.bytes().data());
    });
  });
}
int play_futex_sleeper(meeting& m) {
  return play("futex sleeper", [&] {
    return sleep_often(m, [&](std::size_t) {
      const std::uint32_t seen = m.word.load();
      m.about.fetch_add(1);
      wait_for_change(m.word, seen, 0);
    });
  });
}
int play_partner(cadre::object_store store, meeting& m) {
  return play("partner", [&, round = std::size_t{0}]() mutable {
    std::vector<writer> mine = unsealed(store, "answer", round, trips);
    const std::vector<bytes_ref> theirs = take(store, "question", round++, trips);
    std::vector<bytes_ref> sealed;
    sealed.reserve(trips);
    m.about.fetch_add(1);
    for (std::size_t k = 0; k < trips; ++k) {
      const cadre::view<bytes> v = store.get(theirs[k]);
      use(v.bytes().data());
      sealed.push_back(std::move(mine[k]).seal());
    }
    return 0.;
  });
}
int play_futex_partner(meeting& m, int spins) {
  return play("futex partner", [&, spins] {
    std::uint32_t seen = m.word.load();
    m.about.fetch_add(1);
    for (std::size_t k = 0; k < trips; ++k) {
      wait_for_change(m.word, seen++, spins);
      change(m.reply);
    }
    return 0.;
  });
}

void seal_to_get(cadre::object_store& store, const std::string& name) {
  const shared_memory memory(page), plain_memory(page), spinning_memory(page);
  meeting &m = memory.as<meeting>(), &plain = plain_memory.as<meeting>(), &spinning = spinning_memory.as<meeting>();
  const auto forget = [&](const char* what, std::size_t round, std::size_t n) {
    for (std::size_t k = 0; k < n; ++k) store.erase(numbered(what, round, k));
  };
  {
    const auto ours = start({"sleeper", name, memory.path()}), futex = start({"futex sleeper", plain_memory.path()});
    benchmark::measure("seal to a get in another process that sleeps", "us", 11,
                       {{"cadre",
                         [&, round = std::size_t{0}]() mutable {
                           std::vector<writer> all = unsealed(store, "sleep", round, sleeps);
                           const double us = wake_sleeper(m, ours, [&](std::size_t k) { std::move(all[k]).seal(); });
                           forget("sleep", round++, sleeps);
                           return us;
                         },
                         benchmark::at_most(10)},
                        {"futex", [&] { return wake_sleeper(plain, futex, [&](std::size_t) { change(plain.word); }); },
                         benchmark::at_most(2)}});
  }
  const auto ours = start({"partner", name, memory.path()}), futex = start({"futex partner", plain_memory.path(), "0"}),
             spin = start({"futex partner", spinning_memory.path(), "300"});
  const auto by_futex = [](meeting& at, const std::shared_ptr<benchmark::child>& other, int spins) {
    std::uint32_t seen = at.reply.load();
    return one_way(at, other, [&](std::size_t) {
      change(at.word);
      wait_for_change(at.reply, seen++, spins);
    });
  };
  benchmark::measure("seal to a waiting get, half of a round trip between two processes", "us", 11,
                     {{"cadre",
                       [&, round = std::size_t{0}]() mutable {
                         std::vector<writer> questions = unsealed(store, "question", round, trips);
                         std::vector<bytes_ref> answers, sealed;
                         sealed.reserve(trips);
                         const double us = one_way(m, ours, [&](std::size_t k) {
                           if (k == 0) answers = take(store, "answer", round, trips);
                           sealed.push_back(std::move(questions[k]).seal());
                           const cadre::view<bytes> v = store.get(answers[k]);
                           use(v.bytes().data());
                         });
                         forget("question", round, trips);
                         forget("answer", round++, trips);
                         return us;
                       },
                       benchmark::at_most(10)},
                      {"futex", [&] { return by_futex(plain, futex, 0); }},
                      {"futex after 300 looks", [&] { return by_futex(spinning, spin, 300); }}});
}

/// The 99th percentile of the time that f takes, in nanoseconds, with a look at the clock in it.
template <class F>
double p99(std::size_t n, F&& f) {
  std::vector<double> each(n);
  double last = benchmark::seconds();
  for (std::size_t i = 0; i < n; ++i) {
    f(i);
    const double now = benchmark::seconds();
    each[i] = (now - last) * 1e9;
    last = now;
  }
  std::ranges::nth_element(each, each.begin() + static_cast<std::ptrdiff_t>(n / 100 * 99));
  return each[n / 100 * 99];
}
constexpr std::size_t writes = 200'000, kept_writes = 20'000;
int play_writer(cadre::object_store store) {
  return play("writer", [&] { return p99(writes, [&](std::size_t) { store.put(std::span(value)); }); });
}
int play_keeper(cadre::object_store store) {
  return play("keeper", [&] {
    std::vector<bytes_ref> kept(kept_writes);
    return p99(kept_writes, [&](std::size_t i) { kept[i] = store.put(std::span(value)); });
  });
}
int play_locker(cadre::robust_mutex& mutex) {
  return play("locker", [&] {
    return p99(writes, [&](std::size_t) {
      for (int twice = 0; twice < 2; ++twice) {
        static_cast<void>(mutex.lock_until(std::chrono::steady_clock::time_point::max()));
        mutex.unlock();
      }
    });
  });
}

void two_writers(const std::string& name) {
  const shared_memory memory(page);
  memory.as<cadre::robust_mutex>().init();
  const auto slower_of_two = [](const std::vector<std::string>& part) {
    return [both = std::vector{start(part), start(part)}] { return std::ranges::max(round_of(both)); };
  };
  const auto lockers = slower_of_two({"locker", memory.path()});
  benchmark::measure("put 1 KiB, hot, by two processes at once, p99 of the slower", "ns", 11,
                     {{"cadre", slower_of_two({"writer", name}), benchmark::at_most(2000)},
                      {"robust mutex, locked and unlocked twice", lockers}});
  benchmark::measure("put 1 KiB, cold: 20,000 that are kept, by two processes at once, p99 of the slower", "ns", 11,
                     {{"cadre", slower_of_two({"keeper", name}), benchmark::at_most(2000)},
                      {"robust mutex, locked and unlocked twice", lockers}});
}

/// Millions per second that f does in a fifth of a second.
template <class F>
double millions(F&& f) {
  const double begun = benchmark::seconds();
  double now = begun;
  std::size_t n = 0;
  for (; now - begun < 0.2; now = benchmark::seconds(), n += 100)
    for (int i = 0; i < 100; ++i) f();
  return static_cast<double>(n) * 1e-6 / (now - begun);
}
int play_worker(cadre::object_store store) {
  return play("worker", [&] {
    return millions([&] {
      const bytes_ref ref = store.put(std::span(value));
      const cadre::view<bytes> v = store.get(ref);
      read_byte(v.bytes()[0]);
    });
  });
}
int play_boost_worker(const std::string& name) {
  ipc::managed_shared_memory segment(ipc::open_only, name.c_str());
  return play("Boost worker", [&] {
    return millions([&] {
      void* const at = segment.allocate(kib);
      std::memcpy(at, value.data(), kib);
      read_byte(*static_cast<std::byte*>(at));
      segment.deallocate(at);
    });
  });
}

void several(const std::string& name) {
  const std::string boost_name = name + "-boost";
  const struct removed {
    const char* name;
    ~removed() { ipc::shared_memory_object::remove(name); }
  } at_the_end{boost_name.c_str()};
  const ipc::managed_shared_memory segment(ipc::create_only, boost_name.c_str(), 64 * mib);
  for (const int n : {2, 4, 8}) {
    const auto sum_of = [n](const std::vector<std::string>& part) {
      std::vector<std::shared_ptr<benchmark::child>> all;
      for (int i = 0; i < n; ++i) all.push_back(start(part));
      return [all] {
        double sum = 0;
        for (const double each : round_of(all)) sum += each;
        return sum;
      };
    };
    benchmark::measure("put, get and drop 1 KiB, " + std::to_string(n) + " processes at once", "million/s", 5,
                       {{"cadre", sum_of({"worker", name})},
                        {"Boost.Interprocess: allocate, copy, deallocate", sum_of({"Boost worker", boost_name})}});
  }
}

/// The ref of an object, in one message over a socket.
struct letter {
  std::array<std::byte, 64> bytes;
  std::size_t size;
};
/// Gets what is sent, reads its first byte, and answers.
int play_receiver(const cadre::object_store& opened, int socket) {
  cadre::object_store store = opened;
  cadre::ref_receiver receiver(store);
  std::puts("receiver");
  std::fflush(stdout);
  for (letter l; ::read(socket, &l, sizeof l) == sizeof l;) {
    bytes_ref ref;
    cadre::input_archive(std::span<const std::byte>(l.bytes).first(l.size), &receiver)(ref);
    const cadre::view<bytes> v = store.get(ref);
    read_byte(v.bytes()[0]);
    const char answer = 1;
    require(::write(socket, &answer, 1) == 1, "an answer");
  }
  return 0;
}
class sender {
 public:
  sender(cadre::object_store& store, const std::string& name) : store_(store) {
    int ends[2];
    require(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0, "a pair of sockets");
    socket_ = cadre::file_descriptor(ends[0]);
    ::fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    const cadre::file_descriptor theirs(ends[1]);  // which the receiver inherits
    receiver_ = start({"receiver", name, std::to_string(theirs.get())});
  }
  sender(const sender&) = delete;
  sender& operator=(const sender&) = delete;
  ~sender() { socket_ = cadre::file_descriptor(); }  // ends the receiver

  /// Microseconds each of n times: put, send, and wait until it was read.
  double hand_over(std::span<const std::byte> what, std::size_t n) {
    return ns_per_call(n,
                       [&](std::size_t) {
                         const bytes_ref ref = store_.put(what);
                         cadre::ref_sender sent(store_);
                         cadre::byte_buffer buffer;
                         cadre::output_archive(buffer, &sent)(ref);
                         const std::vector<std::byte> message = buffer.to_vector();
                         letter l{};
                         std::ranges::copy(message, l.bytes.begin());
                         l.size = message.size();
                         char answer = 0;
                         require(::write(socket_.get(), &l, sizeof l) == sizeof l, "a letter");
                         sent.sent();
                         require(::read(socket_.get(), &answer, 1) == 1, "an answer");
                       }) *
           1e-3;
  }

 private:
  cadre::object_store store_;
  cadre::file_descriptor socket_;
  std::shared_ptr<benchmark::child> receiver_;
};

void hand_over(cadre::object_store& store, const std::string& name) {
  const warm_memory from(large);
  sender ours(store, name);
  struct message {
    const char* name;
    std::size_t bytes, times;
  };
  for (const message& m : {message{"1 KiB", kib, 200}, message{"100 MiB", large, 2}}) {
    std::vector<benchmark::contender> all{
        {"cadre", [&] { return ours.hand_over(from.all().first(m.bytes), m.times); }}};
    for (const auto& [package, script] : {std::pair{"python3-torch", CADRE_BENCHMARKS "/store_torch.py"},
                                          std::pair{"python3-distributed", CADRE_BENCHMARKS "/store_dask.py"}})
      add_if_there(all, package, {"/usr/bin/python3", script, std::to_string(m.bytes)}, benchmark::at_most(0.5));
    benchmark::measure(std::string("put ") + m.name + ", another process reads it and answers", "us", 5,
                       std::move(all));
  }
}

int play_part(const std::vector<std::string>& part) {
  const std::string &name = part.at(1), &where = part.at(2);
  if (name == "first") {
    cadre::object_store store = open(where);
    const bytes_ref ref = *store.find<bytes>("large");
    return play("first", [&] { return read_pages(store, ref); });
  }
  if (name == "first in small pages") return play("first", [&] { return read_small_pages(where); });
  if (name == "sleeper") return play_sleeper(open(where), shared_memory(part.at(3), page).as<meeting>());
  if (name == "futex sleeper") return play_futex_sleeper(shared_memory(where, page).as<meeting>());
  if (name == "partner") return play_partner(open(where), shared_memory(part.at(3), page).as<meeting>());
  if (name == "futex partner")
    return play_futex_partner(shared_memory(where, page).as<meeting>(), std::stoi(part.at(3)));
  if (name == "writer") return play_writer(open(where));
  if (name == "keeper") return play_keeper(open(where));
  if (name == "locker") return play_locker(shared_memory(where, page).as<cadre::robust_mutex>());
  if (name == "worker") return play_worker(open(where));
  if (name == "Boost worker") return play_boost_worker(where);
  if (name == "receiver") return play_receiver(open(where), std::stoi(part.at(3)));
  return 2;
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1) return play_part({arguments, arguments + count});
  const std::string name = store_name();
  cadre::object_store store = open(name);
  warm(store, 256 * mib);
  benchmark::print_head();
  first_read(store, name);
  seal_to_get(store, name);
  two_writers(name);
  several(name);
  hand_over(store, name);
}
