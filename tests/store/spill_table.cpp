#include "catch.hpp"

#include <cadre/store/detail/arena.hpp>
#include <cadre/store/detail/object_moves.hpp>
#include <cadre/store/detail/object_table.hpp>
#include <cadre/store/detail/recovery.hpp>
#include <cadre/store/detail/spill_table.hpp>

#include <cstddef>
#include <cstdint>

namespace spill_table_test {

using cadre::detail::object_state;
using cadre::detail::spill_position;
using cadre::detail::spill_table;

constexpr std::size_t KiB = 1024, MiB = 1024 * KiB;
constexpr std::uint32_t of_slot_3 = 3u << 20, of_slot_4 = 4u << 20;

/// A store's memory with the part of one process, without locks: there is one thread.
struct store {
  cadre::detail::arena memory = cadre::detail::arena::make(4 * MiB, 512);
  cadre::detail::object_table table{memory, 0};
  cadre::detail::object_moves moves{table};

  std::uint32_t put(std::uint64_t bytes) {
    cadre::detail::object_table::shortage missing{};
    const std::uint32_t i = table.create({.bytes = bytes, .name = {}}, missing);
    table.entry(i).word.store(cadre::detail::object_word(0, object_state::sealed).value());
    table.mine(i).fetch_sub(cadre::detail::hold_view);  // its writer's
    return i;
  }
  /// As the process that writes it does, to the place `at`.
  void spill(std::uint32_t i, spill_position at) {
    std::uint32_t found[1];
    REQUIRE(moves.begin_spill(1, found, 1, false) == 1);
    REQUIRE(found[0] == i);
    table.files().append(at.file(), at.offset(), table.entry(i).bytes);
    moves.commit_spill(i, at, 77);
  }
  spill_position place(std::uint32_t i) { return spill_position(table.details(i).spilled.load()); }
  object_state state(std::uint32_t i) { return table.word(i).state(); }
};

std::uint32_t taken(spill_table files, std::uint32_t file) {
  if (file != spill_table::none) files.forget(file);
  return file;
}
std::uint32_t take_dead(spill_table files) { return taken(files, files.find_dead()); }
std::uint32_t take_kept(spill_table files) { return taken(files, files.find_kept()); }
std::uint32_t take_to_reuse(spill_table files, std::uint32_t slot) { return taken(files, files.find_to_reuse(slot)); }

TEST_CASE("The place of a spilled object is one word, and nowhere is none") {
  CHECK_FALSE(spill_position());
  for (const std::uint32_t file : {0u, of_slot_3 + 7, (511u << 20) + 0xFFFFFu})
    for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{4096}, std::uint64_t{1} << 40}) {
      const spill_position at(file, offset);
      CHECK(at);
      CHECK(at.file() == file);
      CHECK(at.offset() == offset);
      CHECK(spill_position(at.value()).value() == at.value());
    }
}

TEST_CASE("A file is dead when nothing is appended to it any more and nothing in it is wanted") {
  store s;
  spill_table files = s.table.files();
  files.append(of_slot_3, 0, 10'000);
  files.append(of_slot_3, 16'384, 100);
  CHECK(take_dead(files) == spill_table::none);
  files.drop(of_slot_3, 10'000);
  files.drop(of_slot_3, 100);
  CHECK(take_dead(files) == spill_table::none);  // more is to come
  files.close(of_slot_3);
  CHECK(s.memory.head().dead_files == 1);
  CHECK(take_to_reuse(files, 4) == spill_table::none);
  CHECK(take_to_reuse(files, 3) == of_slot_3);
  CHECK(take_to_reuse(files, 3) == spill_table::none);
  CHECK(take_dead(files) == spill_table::none);
  CHECK(s.memory.head().dead_files == 0);
}

/// A file that is closed and then dies.
void leave_dead(spill_table files, std::uint32_t file, std::uint64_t bytes = 1) {
  files.append(file, 0, bytes);
  files.close(file);
  files.drop(file, bytes);
}

TEST_CASE("Of the dead files of each process one is kept for it, and the others are removed by whoever finds them") {
  store s;
  spill_table files = s.table.files();
  for (const std::uint32_t file : {of_slot_3, of_slot_4, of_slot_3 + 1, of_slot_3 + 2}) leave_dead(files, file);
  CHECK(take_dead(files) == of_slot_3 + 1);
  CHECK(take_dead(files) == of_slot_3 + 2);
  CHECK(take_dead(files) == spill_table::none);
  CHECK(s.memory.head().dead_files == 0);
  leave_dead(files, of_slot_3 + 3);
  CHECK(s.memory.head().dead_files == 1);
  CHECK(take_dead(files) == of_slot_3 + 3);  // there is one still
  CHECK(take_to_reuse(files, 3) == of_slot_3);
  leave_dead(files, of_slot_3 + 4);
  CHECK(take_dead(files) == spill_table::none);
  CHECK(take_to_reuse(files, 3) == of_slot_3 + 4);
  CHECK(take_to_reuse(files, 4) == of_slot_4);
}

TEST_CASE("A file that could not be copied together with others is kept as well once it is dead") {
  store s;
  spill_table files = s.table.files();
  for (std::uint64_t k = 0; k < 4; ++k) files.append(of_slot_3, k * 8192, 4096);
  files.close(of_slot_3);
  for (int k = 0; k < 3; ++k) files.drop(of_slot_3, 4096);
  REQUIRE(files.find_sparse() == of_slot_3);
  files.give_up(of_slot_3);
  CHECK(files.find_sparse() == spill_table::none);
  files.drop(of_slot_3, 4096);
  CHECK(take_dead(files) == spill_table::none);
  CHECK(take_to_reuse(files, 3) == of_slot_3);
}

TEST_CASE("The file of an object that is larger than those that many share is not kept") {
  store s;
  spill_table files = s.table.files();
  leave_dead(files, of_slot_3, cadre::detail::spill_file_limit);  // and a header
  CHECK(take_to_reuse(files, 3) == spill_table::none);
  CHECK(take_dead(files) == of_slot_3);
  leave_dead(files, of_slot_3 + 1, cadre::detail::spill_file_limit - 4 * KiB);
  CHECK(take_dead(files) == spill_table::none);
  CHECK(take_to_reuse(files, 3) == of_slot_3 + 1);
}

TEST_CASE("What is kept for a process is removed when it has gone, and is not for the next of its slot") {
  store s;
  spill_table files = s.table.files();
  leave_dead(files, of_slot_3);
  files.append(of_slot_3 + 1, 0, 1);
  if (GENERATE(false, true)) CHECK(take_dead(files) == spill_table::none);  // it has been seen, or not
  CHECK(files.close_all_of(3));
  CHECK(take_to_reuse(files, 3) == spill_table::none);
  CHECK(take_dead(files) == of_slot_3);
  files.drop(of_slot_3 + 1, 1);  // outlived its process
  CHECK(take_to_reuse(files, 3) == spill_table::none);
  CHECK(take_dead(files) == of_slot_3 + 1);
}

TEST_CASE("A full disk takes what is kept for any process, and nothing else") {
  store s;
  spill_table files = s.table.files();
  for (const std::uint32_t file : {of_slot_3, of_slot_4}) leave_dead(files, file);
  files.append(of_slot_3 + 1, 0, 1);
  CHECK(take_dead(files) == spill_table::none);
  CHECK(take_kept(files) == of_slot_3);
  CHECK(take_kept(files) == of_slot_4);
  CHECK(take_kept(files) == spill_table::none);
  CHECK(take_to_reuse(files, 3) == spill_table::none);
}

TEST_CASE("A closed file is sparse when less than half of it is wanted") {
  store s;
  spill_table files = s.table.files();
  for (std::uint64_t k = 0; k < 4; ++k) files.append(of_slot_3, k * 8192, 4096);
  files.drop(of_slot_3, 4096);
  files.drop(of_slot_3, 4096);
  files.close(of_slot_3);
  CHECK(files.find_sparse() == spill_table::none);
  files.drop(of_slot_3, 4096);
  CHECK(files.find_sparse() == of_slot_3);
  files.drop(of_slot_3, 4096);
  CHECK(files.find_sparse() == spill_table::none);  // dead
}

TEST_CASE("With a process its files are closed, those of others are not") {
  store s;
  spill_table files = s.table.files();
  files.append(of_slot_3, 0, 1);
  files.append(of_slot_3 + 1, 0, 1);
  files.append(of_slot_4, 0, 1);
  CHECK(files.close_all_of(3));
  CHECK_FALSE(files.close_all_of(5));
  cadre::detail::recount_spill_files(s.table);  // no object is in them
  CHECK(take_dead(files) == of_slot_3);
  CHECK(take_dead(files) == of_slot_3 + 1);
  CHECK(take_dead(files) == spill_table::none);
  files.close(of_slot_4);
  CHECK(take_to_reuse(files, 4) == spill_table::none);
  files.drop(of_slot_4, 1);
  CHECK(take_to_reuse(files, 4) == of_slot_4);
}

TEST_CASE("A file that was announced goes with its process, whether or not it was made") {
  store s;
  spill_table files = s.table.files();
  CHECK(files.announce(of_slot_3));
  CHECK(files.announce(of_slot_3));  // it could not be made
  CHECK(files.announce(of_slot_3 + 1));
  files.append(of_slot_3 + 1, 0, 1);
  CHECK_FALSE(files.announce(of_slot_3 + 1));
  CHECK(files.find_dead() == spill_table::none);
  CHECK(files.close_all_of(3));
  CHECK_FALSE(files.announce(of_slot_3));  // its file may be there
  CHECK(take_dead(files) == of_slot_3);
  CHECK(files.find_dead() == spill_table::none);
}

TEST_CASE("Files beyond what the table takes are left out, and one that was removed makes room") {
  store s;
  spill_table files = s.table.files();
  for (std::uint32_t k = 0; k < cadre::detail::most_spill_files; ++k) {
    files.append(k, 0, 1);
    if (k % 1024 == 0) files.close(k);
  }
  leave_dead(files, of_slot_3);
  CHECK(take_to_reuse(files, 3) == spill_table::none);  // not known
  files.drop(1024, 1);
  CHECK(take_to_reuse(files, 0) == 1024);
  leave_dead(files, of_slot_4);
  CHECK(take_to_reuse(files, 4) == of_slot_4);
}

TEST_CASE("What the objects say of their files is right after a recount, whatever the counts were") {
  store s;
  const std::uint32_t a = s.put(100 * KiB);
  s.spill(a, {of_slot_3, 0});
  CHECK(s.state(a) == object_state::spilled);
  spill_table files = s.table.files();
  files.append(of_slot_3, 200 * KiB, 50 * KiB);  // by a process that was killed before it noted the object
  CHECK(files.close_all_of(3));
  CHECK(files.find_sparse() == spill_table::none);
  files.append(of_slot_3, 300 * KiB, 1);
  cadre::detail::recount_spill_files(s.table);
  CHECK(files.find_sparse() == of_slot_3);
  s.table.mine(a).store(0);
  s.table.settle(a);
  CHECK(s.state(a) == object_state::free);
  CHECK(take_dead(files) == of_slot_3);
}

TEST_CASE("An object that is moved to another file while its memory is given up is found where it has been moved to") {
  store s;
  const std::uint32_t a = s.put(100 * KiB);
  const spill_position first(of_slot_3, 0), second(of_slot_4, 8192);
  s.spill(a, first);
  // Restored, and to be given up once more: nothing is written.
  REQUIRE(s.moves.begin_restore(a));
  REQUIRE(s.table.attach(a, 100 * KiB));
  s.moves.commit_restore(a);
  std::uint32_t found[1];
  REQUIRE(s.moves.begin_spill(1, found, 1, true) == 1);
  // Meanwhile another process writes its file anew.
  s.moves.begin_move(a);
  s.table.files().append(second.file(), second.offset(), 100 * KiB);
  s.moves.end_move(a, second);
  s.table.files().close(of_slot_3);
  CHECK(take_to_reuse(s.table.files(), 3) == of_slot_3);
  s.moves.commit_spill(a, {}, 0);
  CHECK(s.state(a) == object_state::spilled);
  CHECK(s.place(a).value() == second.value());
  CHECK(s.table.details(a).checksum == 77);
}

TEST_CASE("Only objects that are on disk are given up where nothing can be written") {
  store s;
  const std::uint32_t a = s.put(100 * KiB), b = s.put(100 * KiB);
  std::uint32_t found[2];
  CHECK(s.moves.begin_spill(1, found, 2, true) == 0);
  s.spill(a, {of_slot_3, 0});
  REQUIRE(s.moves.begin_restore(a));
  REQUIRE(s.table.attach(a, 100 * KiB));
  s.moves.commit_restore(a);
  CHECK(s.moves.begin_spill(MiB, found, 2, true) == 1);
  CHECK(found[0] == a);
  s.moves.give_up_spill(a);
  CHECK(s.moves.begin_spill(MiB, found, 2, false) == 2);
  for (const std::uint32_t i : {a, b}) s.moves.give_up_spill(i);
  CHECK(s.state(a) == object_state::sealed);
  CHECK(s.state(b) == object_state::sealed);
}

TEST_CASE("An object that ends while it is written or read frees its memory and its place") {
  store s;
  const std::uint32_t a = s.put(100 * KiB);
  std::uint32_t found[1];
  const bool restoring = GENERATE(false, true);
  if (restoring) {
    s.spill(a, {of_slot_3, 0});
    REQUIRE(s.moves.begin_restore(a));
    REQUIRE(s.table.attach(a, 100 * KiB));
  } else {
    REQUIRE(s.moves.begin_spill(1, found, 1, false) == 1);
  }
  s.table.end(a, cadre::detail::object_end::erased);
  CHECK(s.memory.blocks().used() != 0);  // it is written or read still
  if (restoring) {
    s.moves.commit_restore(a);
  } else {
    s.table.files().append(of_slot_3, 0, 100 * KiB);
    s.moves.commit_spill(a, {of_slot_3, 0}, 1);
  }
  CHECK(s.state(a) == object_state::gone);  // the ref
  CHECK(s.memory.blocks().used() == 0);
  CHECK_FALSE(s.place(a));
  s.table.files().close(of_slot_3);
  CHECK(take_to_reuse(s.table.files(), 3) == of_slot_3);
}

}  // namespace spill_table_test
