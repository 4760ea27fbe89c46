#ifndef CADRE_STORE_DETAIL_ARENA_HPP
#define CADRE_STORE_DETAIL_ARENA_HPP

#include <cadre/os/mapping.hpp>
#include <cadre/os/memory_limit.hpp>
#include <cadre/store/detail/block_allocator.hpp>
#include <cadre/store/detail/layout.hpp>
#include <cadre/store/detail/own_file.hpp>
#include <cadre/store/detail/rendezvous.hpp>
#include <cadre/store/error.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The memory of a store as this process maps it: all of it to be written, and its data once more to be read only, so
/// that a write through a view faults. The kernel frees it with the last process that has it, however that ends.
class arena {
 public:
  /// New memory: `capacity` a multiple of extent_bytes, `most_objects` a power of two. Throws mapping_error (159).
  static arena make(std::uint64_t capacity, std::uint32_t most_objects) {
    const store_parts parts = parts_of(capacity, most_objects);
    file_descriptor file(::memfd_create("cadre-store", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!file) throw mapping_error("cannot make a file in memory", errno);
    resize(file, parts.all);
    // Nobody can cut off what others have mapped, which would end them by SIGBUS.
    if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
      throw mapping_error("cannot seal the size of a store's memory", errno);
    arena made(file, parts);
    auto& head = made.head();
    ::new (static_cast<void*>(&head)) store_header{};
    head.version = store_layout_version;
    head.most_objects = most_objects;
    head.capacity = capacity;
    head.parts = parts;
    head.id = rendezvous::random_id();
    head.mutex.init();
    head.free_entry = head.free_ticket = no_index;
    head.name_buckets = 512;
    made.blocks().format();
    head.magic = store_magic;
    return made;
  }

  /// The memory that another process has made. Throws store_unreachable (309) if it is of another version of cadre.
  static arena open(const file_descriptor& file) {
    store_header seen{};
    struct stat status {};
    if (::fstat(file.get(), &status) != 0 ||
        ::pread(file.get(), &seen, 4096 < sizeof seen ? 4096 : sizeof seen, 0) < 256 || seen.magic != store_magic)
      throw store_unreachable("what should be a store's memory is none");
    if (seen.version != store_layout_version)
      throw store_unreachable("the store was made by a cadre of layout version " + std::to_string(seen.version) +
                              ", this one has " + std::to_string(store_layout_version) +
                              ": compile all programs of the job with the same cadre");
    if (static_cast<std::uint64_t>(status.st_size) != seen.parts.all)
      throw store_unreachable("the store's memory has another size than it says");
    return arena(file, seen.parts);
  }
  /// Whether `file` is the memory of the store `id`.
  static bool is(const file_descriptor& file, const std::array<std::uint64_t, 2>& id) {
    store_header seen{};
    return ::pread(file.get(), &seen, offsetof(store_header, parts), 0) ==
               static_cast<ssize_t>(offsetof(store_header, parts)) &&
           seen.magic == store_magic && seen.id == id;
  }

  [[nodiscard]] const file_descriptor& file() const noexcept { return file_->get(); }
  [[nodiscard]] store_header& head() const noexcept { return *at<store_header>(0); }
  [[nodiscard]] object_entry* entries() const noexcept { return at<object_entry>(parts_.entries); }
  [[nodiscard]] object_details* details() const noexcept { return at<object_details>(parts_.details); }
  [[nodiscard]] process_slot* slots() const noexcept { return at<process_slot>(parts_.slots); }
  [[nodiscard]] std::atomic<std::uint64_t>* holders_above(std::uint32_t index) const noexcept {
    return at<std::atomic<std::uint64_t>>(parts_.holders_above) + std::size_t{index} * 8;
  }
  [[nodiscard]] hold_count* counts(std::uint32_t slot) const noexcept {
    return at<hold_count>(parts_.counts) + std::size_t{slot} * head().most_objects;
  }
  [[nodiscard]] transfer_ticket* tickets() const noexcept { return at<transfer_ticket>(parts_.tickets); }
  [[nodiscard]] store_label* labels() const noexcept { return at<store_label>(parts_.labels); }
  [[nodiscard]] spill_file_entry* spill_files() const noexcept { return at<spill_file_entry>(parts_.files); }
  [[nodiscard]] std::uint32_t* buckets() const noexcept { return at<std::uint32_t>(parts_.buckets); }
  [[nodiscard]] block_allocator blocks() const noexcept {
    return {at<std::byte>(parts_.allocator), (parts_.all - parts_.data)};
  }
  [[nodiscard]] std::byte* data() const noexcept { return at<std::byte>(parts_.data); }
  [[nodiscard]] const std::byte* data_to_read() const noexcept { return to_read_.data(); }
  [[nodiscard]] std::uint64_t lock_byte(std::uint32_t slot) const noexcept { return parts_.all + slot; }

  /// Makes data [offset, offset + bytes) present, in huge pages where there are any, so that touching them cannot fail.
  /// Throws mapping_error (159) where memory is short, in place of a later SIGBUS or of an end by the kernel.
  void make_present(std::uint64_t offset, std::uint64_t bytes) {
    if (bytes == 0) return;
    const std::uint64_t end = (offset + bytes - 1) / extent_bytes + 1;
    for (std::uint64_t i = offset / extent_bytes; i < end; ++i) {
      if (i % 64 == 0 && present(i).load(std::memory_order_acquire) == ~std::uint64_t{0}) {
        i += 63;
        continue;
      }
      if (is_present(i)) continue;
      const std::uint64_t first = i;
      while (i + 1 < end && !is_present(i + 1)) ++i;
      check_headroom((i + 1 - first) * extent_bytes);
      all_.reserve(parts_.data + first * extent_bytes, (i + 1 - first) * extent_bytes);
      for (std::uint64_t k = first; k <= i; ++k) {
        const std::uint64_t bit = std::uint64_t{1} << k % 64;
        if ((present(k).fetch_or(bit, std::memory_order_release) & bit) == 0)
          head().present_extents.fetch_add(1, std::memory_order_relaxed);
      }
    }
  }
  /// Takes the table of objects, and a process's counts, in huge pages too once it is large: a look at one of a million
  /// objects would else miss in the page tables three times.
  void make_entry_present(std::uint32_t index, std::uint32_t slot) noexcept {
    static_assert(sizeof(object_entry) == sizeof(object_details));
    constexpr std::uint32_t entries = extent_bytes / sizeof(object_entry), counts = extent_bytes / sizeof(hold_count);
    if (index == 0 || index % entries != 0 || index >= head().most_objects) return;
    try {
      all_.reserve(parts_.entries + index * sizeof(object_entry), extent_bytes);
      all_.reserve(parts_.details + index * sizeof(object_details), extent_bytes);
      if (index == entries || index % counts == 0)
        all_.reserve(
            parts_.counts + (std::uint64_t{slot} * head().most_objects + index / counts * counts) * sizeof(hold_count),
            extent_bytes);
    } catch (const mapping_error&) {  // then in small pages, as they are touched
    }
  }
  /// Gives free data back to the system: whole extents of [offset, offset + bytes). Under the lock.
  void give_back(std::uint64_t offset, std::uint64_t bytes) noexcept {
    const std::uint64_t first = (offset + extent_bytes - 1) / extent_bytes, end = (offset + bytes) / extent_bytes;
    if (first >= end) return;
    for (std::uint64_t k = first; k < end; ++k) {
      const std::uint64_t bit = std::uint64_t{1} << k % 64;
      if ((present(k).fetch_and(~bit, std::memory_order_relaxed) & bit) != 0)
        head().present_extents.fetch_sub(1, std::memory_order_relaxed);
    }
    ::fallocate(file().get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(parts_.data + first * extent_bytes),
                static_cast<off_t>((end - first) * extent_bytes));
  }
  /// Zeroes a slot's counts at the cost of what was touched.
  void clear_counts(std::uint32_t slot) noexcept {
    const std::uint64_t bytes = std::uint64_t{head().most_objects} * sizeof(hold_count);
    ::fallocate(file().get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(parts_.counts + slot * bytes), static_cast<off_t>(bytes));
  }
  /// Extents that take memory; counted anew after a crash.
  void count_present() noexcept {
    std::uint64_t n = 0;
    for (std::uint64_t k = 0; k < head().capacity / extent_bytes; k += 64)
      n += static_cast<std::uint64_t>(std::popcount(present(k).load(std::memory_order_relaxed)));
    head().present_extents.store(n, std::memory_order_relaxed);
  }

  /// So that what is no more allowed is a SIGSEGV.
  void make_inaccessible() noexcept { ::mprotect(all_.data(), all_.size(), PROT_NONE); }

 private:
  // The lock of a process's slot ends with the last of what was opened and mapped through file_. A child made by fork()
  // keeps what it maps, for the sake of its views, so all that is mapped through another opening. One page is mapped
  // through this one, in no child: closing all descriptors, as daemons do, is not the end of a process.
  arena(const file_descriptor& file, const store_parts& parts)
      : parts_(parts),
        file_(std::make_unique<own_file>([&] {
          file_descriptor own(::open(("/proc/self/fd/" + std::to_string(file.get())).c_str(), O_RDWR | O_CLOEXEC));
          if (!own) throw mapping_error("cannot open a store's memory again through /proc/self/fd", errno);
          alive_ = mapping::shared(own, 1);
          ::madvise(alive_.data(), alive_.size(), MADV_DONTFORK);
          return own;
        })),
        all_(mapping::shared(file, parts.all)),
        to_read_(mapping::shared_read_only(file, parts.data, parts.all - parts.data)) {}

  template <class T>
  [[nodiscard]] T* at(std::uint64_t offset) const noexcept {
    return reinterpret_cast<T*>(all_.data() + offset);
  }
  [[nodiscard]] std::atomic<std::uint64_t>& present(std::uint64_t extent) const noexcept {
    return at<std::atomic<std::uint64_t>>(parts_.present)[extent / 64];
  }
  [[nodiscard]] bool is_present(std::uint64_t extent) const noexcept {
    return (present(extent).load(std::memory_order_acquire) >> extent % 64 & 1) != 0;
  }

  static store_parts parts_of(std::uint64_t capacity, std::uint64_t most_objects) {
    std::uint64_t end = 0;
    const auto part = [&end](std::uint64_t bytes) {
      const std::uint64_t begin = end;
      end = (end + bytes + extent_bytes - 1) / extent_bytes * extent_bytes;
      return begin;
    };
    store_parts p{};
    static_cast<void>(part(sizeof(store_header)));
    p.slots = part(sizeof(process_slot) * most_processes);
    p.entries = part(sizeof(object_entry) * most_objects);
    p.details = part(sizeof(object_details) * most_objects);
    p.holders_above = part(64 * most_objects);
    p.counts = part(sizeof(hold_count) * most_objects * most_processes);
    p.tickets = part(sizeof(transfer_ticket) * most_objects);
    p.labels = part(sizeof(store_label) * most_labels);
    p.files = part(sizeof(spill_file_entry) * most_spill_files);
    p.buckets = part(sizeof(std::uint32_t) * most_objects);
    p.allocator = part(block_allocator::state_bytes(capacity));
    p.present = part((capacity / extent_bytes + 63) / 64 * 8);
    p.data = part(capacity);
    p.all = end;
    return p;
  }
  static void resize(const file_descriptor& file, std::uint64_t bytes) {
    // Beyond this limit the kernel would send SIGXFSZ.
    rlimit limit{};
    if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < bytes)
      throw mapping_error("a store needs a file in memory of " + std::to_string(bytes) +
                              " bytes (most of it never touched); raise ulimit -f",
                          EFBIG);
    if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0)
      throw mapping_error("cannot make a file of " + std::to_string(bytes) + " bytes in memory", errno);
  }
  // What a file in memory takes is charged to the cgroup, which kills where it should fail.
  static void check_headroom(std::uint64_t bytes) {
    const std::uint64_t room = memory_headroom();
    if (bytes >= room)
      throw mapping_error("asked for " + std::to_string(bytes >> 20) + " MiB, " + std::to_string(room >> 20) +
                              " MiB are left to this machine or cgroup",
                          ENOMEM);
  }

  store_parts parts_;
  mapping alive_;
  std::unique_ptr<own_file> file_;
  mapping all_;
  mapping to_read_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
