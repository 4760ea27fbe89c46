#ifndef CADRE_ASYNC_DETAIL_HUGE_PAGES_HPP
#define CADRE_ASYNC_DETAIL_HUGE_PAGES_HPP

#include <cadre/async/detail/process.hpp>

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Memory in pieces of 2 MiB that are one huge page each where the system has one to give. A first touch of each of their
/// 512 ordinary pages would cost more than most of what is done with them. A few pieces that are given back are kept.
/// Thread-safety: all functions, from any thread.
class huge_pages {
 public:
  static constexpr std::size_t size = std::size_t{2} << 20;

  /// Throws std::bad_alloc.
  static void* take() {
    {
      const std::lock_guard lock(the_locks().pages);
      store& s = kept();
      if (s.count != 0) return s.pieces[--s.count];
    }
    void* const piece = ::operator new(size, std::align_val_t{size});
    ::madvise(piece, size, MADV_HUGEPAGE);  // where it fails the pages are ordinary ones
    return piece;
  }
  static void give(void* piece) noexcept {
    {
      const std::lock_guard lock(the_locks().pages);
      store& s = kept();
      if (s.count != most) {
        s.pieces[s.count++] = piece;
        return;
      }
    }
    ::operator delete(piece, std::align_val_t{size});
  }

 private:
  static constexpr std::size_t most = 8;
  struct store {
    void* pieces[most] = {};
    std::size_t count = 0;
  };
  static store& kept() noexcept {
    static constinit store s;
    return s;
  }
};

/// Memory that only grows: small pieces at first, then huge pages. Freed as a whole.
class growing_memory {
 public:
  growing_memory() = default;
  growing_memory(const growing_memory&) = delete;
  growing_memory& operator=(const growing_memory&) = delete;
  ~growing_memory() {
    while (piece* const p = newest_) {
      newest_ = p->older;
      p->huge ? huge_pages::give(p) : ::operator delete(p, std::align_val_t{64});
    }
  }

  static constexpr std::size_t most_at_once = std::size_t{32} << 10;
  /// 64-byte aligned. `bytes` <= most_at_once. Throws std::bad_alloc.
  void* take(std::size_t bytes) {
    if (bytes > left_) grow();
    std::byte* const at = next_;
    const std::size_t rounded = (bytes + 63) & ~std::size_t{63};
    next_ += rounded;
    left_ -= rounded;
    return at;
  }

 private:
  static constexpr std::size_t small = most_at_once + 64;
  static constexpr std::size_t few = 8;
  struct alignas(64) piece {
    piece* older;
    bool huge;
  };

  void grow() {
    const bool huge = pieces_ >= few;
    void* const memory = huge ? huge_pages::take() : ::operator new(small, std::align_val_t{64});
    newest_ = ::new (memory) piece{newest_, huge};
    next_ = static_cast<std::byte*>(memory) + sizeof(piece);
    left_ = (huge ? huge_pages::size : small) - sizeof(piece);
    ++pieces_;
  }

  piece* newest_ = nullptr;
  std::byte* next_ = nullptr;
  std::size_t left_ = 0;
  std::size_t pieces_ = 0;
};

/// A list in blocks that never move, of memory that somebody else frees; nor does it destroy what lies in it.
template <class T, std::uint32_t PerBlock>
class block_list {
 public:
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] T& operator[](std::uint32_t i) const noexcept { return blocks_[i / PerBlock][i % PerBlock]; }
  template <class... Args>
  T& emplace_back(growing_memory& memory, Args&&... args) {
    if (size_ == blocks_.size() * PerBlock) blocks_.push_back(static_cast<T*>(memory.take(PerBlock * sizeof(T))));
    T* const place = blocks_.back() + size_ % PerBlock;
    // Memory that is used again is in no cache: who adds many would wait for each line.
    if (sizeof(T) >= 64 || size_ % (64 / sizeof(T)) == 0)
      __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(place) + 1024), 1);
    T* const added = ::new (static_cast<void*>(place)) T(std::forward<Args>(args)...);
    ++size_;
    return *added;
  }

 private:
  std::vector<T*> blocks_;
  std::uint32_t size_ = 0;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
