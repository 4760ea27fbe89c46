#include "catch.hpp"
#include "in_child.hpp"
#include "store/processes.hpp"
#include "text_of.hpp"

#include <cadre/store.hpp>

#include <fcntl.h>
#include <linux/loop.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace failing_device_test {

using namespace test_store;
using cadre::object_store;
using numbers_ref = cadre::object_ref<numbers>;
constexpr std::size_t MiB = std::size_t{1} << 20;
constexpr std::size_t most = (MiB - 8192) / sizeof(std::uint64_t);

/// A block device whose blocks lie in memory of ours, with a file system that only this process and its children see.
/// What it is made to fail are errors of the device, which the kernel reports as those of a disk: EIO.
class device {
 public:
  /// Not there if this system has no such devices, or no mkfs.ext4.
  explicit device(const std::string& folder)
      : blocks_(::memfd_create("cadre-device", MFD_CLOEXEC | MFD_ALLOW_SEALING)) {
    const std::string make = "PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -F -O ^has_journal /proc/" +
                             std::to_string(::getpid()) + "/fd/" + std::to_string(blocks_.get()) + " >/dev/null 2>&1";
    if (!blocks_ || ::ftruncate(blocks_.get(), bytes) != 0 || std::system(make.c_str()) != 0) return;
    const cadre::file_descriptor control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    for (int tries = 0; control && tries < 20; ++tries) {  // others take devices, too
      const std::string name = "/dev/loop" + std::to_string(::ioctl(control.get(), LOOP_CTL_GET_FREE));
      const cadre::file_descriptor loop(::open(name.c_str(), O_RDWR | O_CLOEXEC));
      ::loop_config how{};
      how.fd = static_cast<std::uint32_t>(blocks_.get());
      how.info.lo_flags = LO_FLAGS_AUTOCLEAR;  // it goes with the file system
      if (!loop || ::ioctl(loop.get(), LOOP_CONFIGURE, &how) != 0) continue;
      is_there_ = ::mount(name.c_str(), folder.c_str(), "ext4", 0, nullptr) == 0;
      return;
    }
  }
  [[nodiscard]] bool is_there() const { return is_there_; }
  /// From now on and for ever.
  void fail_writes() const { check(::fcntl(blocks_.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0, "F_ADD_SEALS"); }
  /// There are no blocks behind the first few any more.
  void fail_reads() const { check(::ftruncate(blocks_.get(), MiB) == 0, "ftruncate"); }
  /// There are again, of zeros.
  void lose_all() const { check(::ftruncate(blocks_.get(), bytes) == 0, "ftruncate"); }

 private:
  static constexpr ::off_t bytes = 64 * MiB;
  cadre::file_descriptor blocks_;
  bool is_there_ = false;
};

bool on_disk(object_store& store, const numbers_ref& ref) { return !store.try_get(ref); }

}  // namespace failing_device_test

TEST_CASE("A disk that fails is an error of each put and get that needs it, and costs what lay on it alone", "[root]") {
  using namespace failing_device_test;
  std::string folder = (std::filesystem::temp_directory_path() / "cadre-device-XXXXXX").string();
  REQUIRE(::mkdtemp(folder.data()) != nullptr);
  process with_device([&] {
    if (::geteuid() != 0 || !own_mounts()) ::_exit(77);
    const device disk(folder);
    if (!disk.is_there()) ::_exit(77);
    object_store store = object_store::open(
        {.capacity = 4 * MiB, .spill_dir = folder, .max_objects = 512, .put_timeout = std::chrono::milliseconds(1)});
    std::vector<numbers_ref> refs;
    for (std::uint64_t k = 0; k < 7; ++k) refs.push_back(store.put(pattern(k, most)));
    const auto count_on_disk = [&] {
      std::size_t n = 0;
      for (const numbers_ref& ref : refs) n += on_disk(store, ref);
      return n;
    };
    const std::size_t lie_there = count_on_disk();
    check(lie_there >= 3 && lie_there < 7, "not some of the objects are on disk");

    disk.fail_writes();
    for (int again = 0; again < 2; ++again) {
      const std::string text = text_of<cadre::spill_failed>([&] { store.put(pattern(99, most)); });
      check(text.starts_with("[cadre.store.310] cannot write a spilled object of 1040384 bytes, file '" + folder),
            text);
      check(text.ends_with("': Input/output error (errno 5); check the disk and its file system (the kernel's log says "
                           "more), or name another as spill_dir"),
            text);
    }
    check(store.stats().objects == 7 && count_on_disk() == lie_there, "a put that failed has changed something");
    for (std::uint64_t k = 0; k < 7; ++k)
      if (!on_disk(store, refs[k])) check(is_whole(store.get(refs[k]), k), "what is in memory is not whole");
    // What lies there can be read, once there is room for it.
    const auto drop_one_in_memory = [&] {
      for (std::size_t k = refs.size(); k-- > 0;)
        if (!on_disk(store, refs[k])) {
          refs.erase(refs.begin() + static_cast<std::ptrdiff_t>(k));
          return;
        }
    };
    drop_one_in_memory();
    for (const numbers_ref& ref : refs) check(is_whole(store.get(ref)), "what is on disk is not whole");

    disk.fail_reads();
    const std::size_t still_there = count_on_disk();
    check(still_there >= 2, "all objects are in memory");
    for (const numbers_ref& ref : refs) {
      if (!on_disk(store, ref)) {
        check(is_whole(store.get(ref)), "what is in memory is not whole");
        continue;
      }
      for (int again = 0; again < 2; ++again) {
        const std::string text = text_of<cadre::spill_failed>([&] { static_cast<void>(store.get(ref)); });
        check(text.starts_with("[cadre.store.310] cannot read a spilled object of 1040384 bytes, file '" + folder) &&
                  text.find("': Input/output error (errno 5); check the disk") != text.npos,
              text);
      }
    }
    check(store.stats().objects == 6, "a get that failed has ended an object");

    disk.lose_all();
    std::size_t lost = 0;
    for (const numbers_ref& ref : refs) {
      if (!on_disk(store, ref)) {
        check(is_whole(store.get(ref)), "what is in memory is not whole");
        continue;
      }
      const std::string text = text_of<cadre::spill_corrupt>([&] { static_cast<void>(store.get(ref)); });
      check(text.starts_with("[cadre.store.311] the spilled object at offset "), text);
      check(text_of<cadre::object_gone>([&] { static_cast<void>(store.get(ref)); }).find("[cadre.store.301]") == 0,
            "what is lost is not gone");
      ++lost;
    }
    // Also some that were in memory: they made room for those that then could not be read.
    check(lost >= still_there, "an object is not lost though its blocks are");
    refs.clear();
    check(store.stats().used == 0 && store.stats().spilled == 0, "something is left");
    check(is_whole(store.get(store.put(pattern(5, most))), 5), "nothing can be put any more");
  });
  const std::string end = with_device.end();
  if (end == "ended with 77")
    WARN("skipped: needs a loop device, mkfs.ext4 and the right to mount");
  else
    CHECK(end == "");
  std::filesystem::remove_all(folder);
}
