#ifndef CADRE_ASYNC_DETAIL_NODE_MEMORY_HPP
#define CADRE_ASYNC_DETAIL_NODE_MEMORY_HPP

#include <cadre/async/detail/fetch_ahead.hpp>
#include <cadre/async/detail/huge_pages.hpp>
#include <cadre/async/detail/process.hpp>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#define CADRE_POISON_NODES 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CADRE_POISON_NODES 1
#endif
#endif
#ifdef CADRE_POISON_NODES
// Of <sanitizer/asan_interface.h>, which not every system has beside its compiler.
extern "C" void __asan_poison_memory_region(void const volatile*, std::size_t);
extern "C" void __asan_unpoison_memory_region(void const volatile*, std::size_t);
#endif

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Memory for tasks: 64-byte aligned nodes of a few sizes. Each thread keeps up to two batches of free nodes per size and
/// exchanges whole batches with a common depot, so a task allocated here and freed there costs no lock and, in steady
/// state, no call of the system's allocator. A free node names the one that is `ahead_by` further on in its batch, to be
/// fetched long before it is allocated: it lies in the cache of the thread that has freed it.
///
/// Nodes are never given back to the system and keep their size for ever, so for_each_node() can look at any of them at
/// any time: the first `lasting` bytes after the first 8 of a node stay what they were when it was freed, and are zero
/// before its first use.
class node_memory {
 public:
  static constexpr std::size_t sizes[] = {128, 192, 256, 512};
  static constexpr std::size_t largest = 512;
  static constexpr std::size_t alignment = 64;
  static constexpr std::size_t lasting = 8;

  /// `bytes` <= largest. Throws std::bad_alloc.
  static void* allocate(std::size_t bytes) {
    const std::size_t c = class_of(bytes);
    magazine& m = mine().magazines[c];
    if (m.current.first == nullptr) [[unlikely]]
      refill(c, m);
    node* const n = m.current.first;
    m.current.first = n->next;
    m.newest[m.current.count-- % ahead_by] = n->ahead;
    fetch(n->ahead != nullptr ? n->ahead : n);  // nothing is slower to fetch than null
    unpoison(n, sizes[c]);
    return n;
  }

  static void release(void* memory, std::size_t bytes) noexcept {
    const std::size_t c = class_of(bytes);
    magazine& m = mine().magazines[c];
    if (m.current.count == batch_size) [[unlikely]]
      make_room(c, m);
    node* const n = static_cast<node*>(memory);
    n->next = m.current.first;
    m.current.first = n;
    n->ahead = std::exchange(m.newest[++m.current.count % ahead_by], n);
    poison(n, sizes[c]);
    if (mine().ended) [[unlikely]]
      give_all_back(mine());
  }

  /// Calls `visit(void*)` for every node that there is, in use or not.
  template <class Visit>
  static void for_each_node(Visit&& visit) {
    slab* newest = nullptr;
    {
      const std::lock_guard lock(the_locks().nodes);
      newest = the_depot().slabs;
    }
    for (slab* s = newest; s != nullptr; s = s->older)  // slabs are only ever added, in front
      for (std::size_t i = 0; i < batch_size; ++i) visit(s->at(i));
  }

 private:
  static constexpr std::size_t classes = sizeof sizes / sizeof sizes[0];
  static constexpr std::size_t batch_size = 64;
  static constexpr std::size_t ahead_by = 8;

  struct node {
    node* next;
    std::byte lasts[lasting];
    node* ahead;       // or null, if it is not known
    node* next_batch;  // of the first node of a batch in the depot
  };
  struct batch {
    node* first = nullptr;
    std::size_t count = 0;
  };
  struct magazine {
    batch current{nullptr, batch_size};  // at first with neither a node nor room for one, so that first uses are seen
    batch spare;                         // full or empty
    node* newest[ahead_by] = {};  // of `current`, those that are known, the one at the nth place in [n % ahead_by]

    void change(batch to) noexcept {
      current = to;
      for (node*& n : newest) n = nullptr;
    }
  };
  struct cache {
    magazine magazines[classes];
    bool registered = false;
    bool ended = false;  // the thread is past the destruction of its thread_local objects
  };
  struct slab {
    slab* older;
    std::byte* first;
    std::size_t node_size;

    [[nodiscard]] void* at(std::size_t i) const noexcept { return first + i * node_size; }
  };
  // Guarded by the_locks().nodes.
  struct depot {
    node* full[classes] = {};     // batches of batch_size nodes
    node* partial[classes] = {};  // single nodes of threads that have ended
    slab* slabs = nullptr;
    growing_memory memory;
  };

  static std::size_t class_of(std::size_t bytes) noexcept {
    return bytes <= sizes[0] ? 0 : bytes <= sizes[1] ? 1 : bytes <= sizes[2] ? 2 : 3;
  }

  CADRE_OUT_OF_COROUTINES static cache& mine() noexcept {
    CADRE_NOT_PURE();
    static constinit thread_local cache c;
    return c;
  }
  static depot& the_depot() noexcept {
    static depot& d = *new depot;  // never destroyed: see process_locks
    return d;
  }

  // What a thread keeps goes to the depot when it ends. Not a destructor of `cache` itself: every use would check it.
  struct at_thread_end {
    ~at_thread_end() {
      give_all_back(mine());
      mine().ended = true;
    }
  };

  // A thread that only frees must leave what it keeps to the others, too.
  static void begin_use() noexcept {
    if (mine().registered) return;
    mine().registered = true;
    static thread_local at_thread_end flush;
    static_cast<void>(flush);
    watch_forks();
  }

  [[gnu::noinline]] static void refill(std::size_t c, magazine& m) {
    begin_use();
    if (m.spare.first != nullptr) {
      m.change(std::exchange(m.spare, {}));
      return;
    }
    {
      depot& d = the_depot();
      const std::lock_guard lock(the_locks().nodes);
      if (node* const first = d.full[c]) {
        reveal_link(first);
        d.full[c] = first->next_batch;
        m.change({first, batch_size});
        return;
      }
      if (node* const first = d.partial[c]) {
        d.partial[c] = first->next;
        first->next = nullptr;
        first->ahead = nullptr;
        m.change({first, 1});
        return;
      }
    }
    m.change(carve(c));
  }

  [[gnu::noinline]] static batch carve(std::size_t c) {
    const std::size_t size = sizes[c];
    slab* const s = new slab{nullptr, nullptr, size};
    try {
      const std::lock_guard lock(the_locks().nodes);
      s->first = static_cast<std::byte*>(the_depot().memory.take(size * batch_size));
    } catch (...) {
      delete s;
      throw;
    }
    node* first = nullptr;
    for (std::size_t i = batch_size; i-- > 0;) {
      void* const ahead = i + ahead_by < batch_size ? s->at(i + ahead_by) : nullptr;
      first = ::new (s->at(i)) node{first, {}, static_cast<node*>(ahead), nullptr};
      poison(first, size);
    }
    const std::lock_guard lock(the_locks().nodes);
    s->older = the_depot().slabs;
    the_depot().slabs = s;
    return {first, batch_size};
  }

  [[gnu::noinline]] static void make_room(std::size_t c, magazine& m) noexcept {
    begin_use();
    if (m.current.first == nullptr) {
      m.current.count = 0;
      return;
    }
    if (m.spare.first != nullptr) {
      const std::lock_guard lock(the_locks().nodes);
      reveal_link(m.spare.first);
      m.spare.first->next_batch = the_depot().full[c];
      the_depot().full[c] = m.spare.first;
    }
    m.spare = m.current;
    m.change({});
  }

  [[gnu::noinline]] static void give_all_back(cache& mine) noexcept {
    const std::lock_guard lock(the_locks().nodes);
    for (std::size_t c = 0; c < classes; ++c)
      for (batch* b : {&mine.magazines[c].current, &mine.magazines[c].spare}) {
        while (node* const n = b->first) {
          b->first = n->next;
          n->next = the_depot().partial[c];
          the_depot().partial[c] = n;
        }
        b->count = 0;
      }
  }

#ifdef CADRE_POISON_NODES
  // All but what a free node needs.
  static void poison(node* n, std::size_t size) noexcept {
    constexpr std::size_t used = offsetof(node, next_batch);
    __asan_poison_memory_region(reinterpret_cast<std::byte*>(n) + used, size - used);
  }
  static void unpoison(node* n, std::size_t size) noexcept { __asan_unpoison_memory_region(n, size); }
  static void reveal_link(node* n) noexcept { __asan_unpoison_memory_region(&n->next_batch, sizeof n->next_batch); }
#else
  static void poison(node*, std::size_t) noexcept {}
  static void unpoison(node*, std::size_t) noexcept {}
  static void reveal_link(node*) noexcept {}
#endif
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
