#ifndef CADRE_TESTS_STORE_KILL_KILL_HPP
#define CADRE_TESTS_STORE_KILL_KILL_HPP

// The store with a trap behind each of its steps. Included first, by every file of this folder.

#include "catch.hpp"

#include <signal.h>
#include <unistd.h>

namespace store_kill {

/// What ends or stops this process: its `passage`-th time behind a step.
struct trap {
  int step = -1;
  int passage = 0;
  int signal = SIGKILL;
};
inline trap armed, armed_too;

inline void passed(int step) noexcept {
  for (trap* const t : {&armed, &armed_too})
    if (step == t->step && --t->passage == 0) ::kill(::getpid(), t->signal);
}

}  // namespace store_kill

#define CADRE_STORE_STEP(step) ::store_kill::passed(static_cast<int>(store_step::step))

#include "store/processes.hpp"

#include <cadre/store.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace store_kill {

using namespace test_store;
using cadre::detail::store_step;
using numbers_ref = cadre::object_ref<numbers>;

inline void arm(store_step step, int passage, int signal = SIGKILL) {
  armed = {static_cast<int>(step), passage, signal};
}

constexpr std::uint64_t capacity = 32 << 20, scarce_capacity = 8 << 20;
/// Who opens it first decides what it has.
inline cadre::object_store open(const std::string& name, std::chrono::nanoseconds put_timeout = soon,
                                std::uint64_t bytes = capacity, const std::string& spill_dir = "") {
  return cadre::object_store::open(
      {.name = name, .capacity = bytes, .spill_dir = spill_dir, .max_objects = 4096, .put_timeout = put_timeout});
}

inline bool is_stopped(const process& p) {
  return cadre::detail::process_state(static_cast<std::uint32_t>(p.id())) == 'T';
}

/// A folder on disk, for as long as this exists.
class folder {
 public:
  folder() : path_((std::filesystem::temp_directory_path() / "cadre-kill-XXXXXX").string()) {
    if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("no folder can be made");
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
  ~folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] bool is_empty() const { return std::filesystem::is_empty(path_); }
  /// The names of the files of spilled objects, in whatever folder of a job.
  [[nodiscard]] std::set<std::string> spill_files() const {
    std::set<std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path_))
      if (entry.path().extension() == ".spill") found.insert(entry.path().filename().string());
    return found;
  }

 private:
  std::string path_;
};

// ---- Refs that travel

/// Refs, with the seeds of what they refer to.
struct parcel {
  std::vector<std::uint64_t> seeds;
  std::vector<numbers_ref> refs;

  void add(std::uint64_t seed, numbers_ref ref) {
    seeds.push_back(seed);
    refs.push_back(std::move(ref));
  }
  void add(parcel other) {
    for (std::size_t k = 0; k < other.refs.size(); ++k) add(other.seeds[k], std::move(other.refs[k]));
  }
  void drop(std::size_t k) {
    seeds.erase(seeds.begin() + static_cast<std::ptrdiff_t>(k));
    refs.erase(refs.begin() + static_cast<std::ptrdiff_t>(k));
  }
  [[nodiscard]] bool is_whole(cadre::object_store& store) const {
    for (std::size_t k = 0; k < refs.size(); ++k)
      if (!test_store::is_whole(store.get(refs[k], soon), seeds[k])) return false;
    return true;
  }
  template <class Archive>
  void serialize(Archive& archive) {
    archive(seeds, refs);
  }
};
using message = std::vector<std::byte>;
inline message written(cadre::ref_sender& sender, const parcel& p) {
  cadre::byte_buffer buffer;
  cadre::output_archive archive(buffer, &sender);
  archive(p);
  return buffer.to_vector();
}
/// Throws object_gone for a message whose sender has died.
inline parcel read(cadre::object_store& store, const message& m) {
  cadre::ref_receiver receiver(store);
  cadre::input_archive archive(m, &receiver);
  parcel p;
  archive(p);
  return p;
}

/// Where one process leaves a message for another. Either may be killed, and its successor goes on.
class mailbox {
 public:
  [[nodiscard]] bool is_empty() const { return size_ == 0; }
  /// Into an empty one.
  void put(const message& m) {
    check(m.size() <= bytes_.size(), "a message is too long");
    std::memcpy(bytes_.data(), m.data(), m.size());
    size_ = m.size();
  }
  /// It stays, until clear().
  [[nodiscard]] message look() const { return message(bytes_.data(), bytes_.data() + size_.load()); }
  void clear() { size_ = 0; }

 private:
  std::atomic<std::size_t> size_{0};
  std::array<std::byte, 1000> bytes_{};
};

/// A process that works on the store all the time, looks at what it keeps and at what victims have put, and fails if
/// anything takes longer than it may. It can be asked to be quiet, and then holds the same always.
class survivor {
  struct board {
    std::atomic<bool> ready, stop, be_quiet;
    std::atomic<std::uint64_t> rounds, asked, answered;
  };

 public:
  explicit survivor(const std::string& name) : process_([this, name] { run(name); }, 600) {
    if (!eventually([this] { return board_->ready.load() || process_.has_ended(); }) || process_.has_ended())
      throw std::runtime_error("the survivor: " + process_.end());
  }
  /// When it has looked at all that it keeps.
  [[nodiscard]] bool quiet() {
    board_->be_quiet = true;
    const std::uint64_t asked = ++board_->asked;
    return eventually([&] { return board_->answered == asked || process_.has_ended(); }, soon) &&
           board_->answered == asked;
  }
  [[nodiscard]] bool go_on() {
    const std::uint64_t before = board_->rounds;
    board_->be_quiet = false;
    return eventually([&] { return board_->rounds != before || process_.has_ended(); }, soon) &&
           board_->rounds != before;
  }
  [[nodiscard]] ::pid_t id() const { return process_.id(); }
  /// Why it has failed, if it has.
  std::string end() {
    board_->stop = true;
    return process_.end();
  }

 private:
  void run(const std::string& name) {
    cadre::object_store store = open(name);
    std::vector<numbers_ref> kept;
    for (std::uint64_t k = 0; k < 20; ++k) kept.push_back(store.put(pattern(1000 + k, 1 + k * k * 60)));
    const cadre::view<numbers> pinned = store.get(kept[7]);
    board_->ready = true;
    for (std::uint64_t round = 0; !board_->stop; ++round) {
      for (; board_->be_quiet && !board_->stop; nap()) {
        const std::uint64_t asked = board_->asked;
        if (board_->answered == asked) continue;
        for (std::uint64_t k = 0; k < kept.size(); ++k)
          check(is_whole(store.get(kept[k], soon), 1000 + k), "what the survivor keeps is not whole");
        board_->answered = asked;
      }
      const auto begin = steady::now();
      {
        const numbers_ref ref = store.put(pattern(round, 1 + round % 3000));
        check(is_whole(store.get(ref, soon), round), "what the survivor has just put is not whole");
        const std::uint64_t k = round % kept.size();
        const auto v = store.get(kept[k], soon);
        check((*v).size() == 1 + k * k * 60 && is_whole(v, 1000 + k), "what the survivor keeps is not whole");
        check(is_whole(pinned, 1007), "what the survivor looks at is not whole");
      }
      if (const auto found = store.find<numbers>("victim's")) {
        try {
          check(is_whole(store.get(*found, soon), 2), "what a victim has put under a name is not whole");
        } catch (const cadre::object_gone&) {  // its producer is dead, or somebody has erased it
        }
      }
      check(steady::now() - begin < soon, "the survivor was held up for longer than 2 s");
      ++board_->rounds;
    }
  }

  shared<board> board_;
  process process_;
};

/// What a store of a test has: room for all, or little and a folder on disk.
enum class room { ample, scarce };

/// The store as this process and a survivor have it, before and after somebody dies.
class scene {
 public:
  explicit scene(room has = room::ample) : name_(store_name("kill")) {
    if (has == room::scarce) disk_.emplace();
    store_.emplace(disk_ ? open(name_, soon, scarce_capacity, disk_->path()) : open(name_));
    survivor_.emplace(name_);
    for (std::uint64_t k = 0; k < 10; ++k)
      kept_.push_back(store_->put(pattern(k, 10 + 500 * k), {.name = kept_name(k)}));
    if (!survivor_->quiet()) throw std::runtime_error("the survivor: " + survivor_->end());
    before_ = store_->stats();
  }
  /// Under which anybody finds one of the ten objects that this process keeps: pattern(k).
  static std::string kept_name(std::uint64_t k) { return "kept " + std::to_string(k); }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] cadre::object_store& store() { return *store_; }
  [[nodiscard]] survivor& other() { return *survivor_; }

  /// The dead have left nothing, the living all that they held, and nobody waits. What names hold is erased first.
  void check_whole() {
    const auto begin = steady::now();
    const bool quiet = survivor_->quiet();
    INFO("the survivor: " << (quiet ? "" : survivor_->end()));
    REQUIRE(quiet);
    for (const char* name : {"victim's", "made"}) store_->erase(name);
    for (std::uint64_t k = 0; k < kept_.size(); ++k) CHECK(is_whole(store_->get(kept_[k], soon), k));
    const cadre::store_stats now = store_->stats();  // all that is left has been looked at, and is in memory
    CHECK(now.objects == before_.objects);
    CHECK(now.used == before_.used);
    CHECK(now.pinned == before_.pinned);
    CHECK(now.spilled == 0);
    CHECK(now.processes == 2);
    check_states();
    check_disk();
    CHECK(steady::now() - begin < 2 * soon);
  }
  /// Nearly all of the capacity can be had, and given back.
  void check_fill() {
    REQUIRE(survivor_->quiet());
    const cadre::store_stats now = store_->stats();
    const std::size_t piece = now.capacity / 64;
    // Of little memory more is lost between pieces and what others have there, which goes to disk one by one.
    const std::size_t n = (now.capacity - now.used) / piece - (disk_ ? 12 : 2);
    {
      std::vector<cadre::object_writer<std::vector<std::byte>>> all;
      for (std::size_t k = 0; k < n; ++k) all.push_back(store_->create<std::byte>(piece));
      CHECK(store_->stats().pinned == before_.pinned + n * piece);
    }
    check_whole();
  }
  /// After all dropped what they hold nothing is left.
  void check_end() {
    const std::string failure = survivor_->end();
    CHECK(failure == "");
    kept_.clear();
    for (std::uint64_t k = 0; k < 10; ++k) store_->erase(kept_name(k));
    const cadre::store_stats now = store_->stats();
    CHECK(now.used == 0);
    CHECK(now.spilled == 0);
    CHECK(now.objects == 0);
    CHECK(now.processes == 1);
    CHECK(now.largest_free == now.capacity);
    check_disk();
    store_.reset();
    if (disk_) CHECK(disk_->is_empty());
  }

 private:
  // Nothing is left in the middle of a change.
  static void check_states() {
    const cadre::detail::arena memory = memory_once_more();
    const auto is_settled = [](const cadre::detail::object_entry& e) {
      const auto state = cadre::detail::object_word(e.word.load()).state();
      return state == cadre::detail::object_state::free || state == cadre::detail::object_state::sealed ||
             state == cadre::detail::object_state::kept;
    };
    CHECK(std::all_of(memory.entries(), memory.entries() + memory.head().entries_begun, is_settled));
  }
  // The files are those that the store knows, and none of them is to be removed.
  void check_disk() {
    if (!disk_) return;
    store_->erase("nothing");  // removes what nothing is wanted of
    std::set<std::string> known;
    const cadre::detail::arena memory = memory_once_more();
    for (std::uint32_t k = 0; k < memory.head().files_begun; ++k)
      if (const cadre::detail::spill_file_entry& file = memory.spill_files()[k]; file.number != 0)
        known.insert(cadre::detail::spill_file_name(file.number - 1));
    CHECK(disk_->spill_files() == known);
    CHECK(cadre::detail::spill_table(memory.head(), memory.spill_files()).find_dead() ==
          cadre::detail::spill_table::none);
  }

  std::string name_;
  std::optional<folder> disk_;
  std::optional<cadre::object_store> store_;
  std::optional<survivor> survivor_;
  std::vector<numbers_ref> kept_;
  cadre::store_stats before_;
};

}  // namespace store_kill

#endif
