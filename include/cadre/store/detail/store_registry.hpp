#ifndef CADRE_STORE_DETAIL_STORE_REGISTRY_HPP
#define CADRE_STORE_DETAIL_STORE_REGISTRY_HPP

#include <cadre/config/config.hpp>

#include <pthread.h>

#include <mutex>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What this process has of stores, so that a child made by fork() lets go of it at once: it would keep the lock by which
/// others see that this process lives.
class store_registry {
 public:
  class member {
   public:
    member() = default;
    member(const member&) = delete;
    member& operator=(const member&) = delete;
    virtual ~member() = default;
    /// In the child, which has one thread.
    virtual void forget_after_fork() noexcept = 0;

   private:
    friend store_registry;
    member* next_ = nullptr;
    member* previous_ = nullptr;
  };

  /// While this exists no thread makes a child; one that is about to waits, so do nothing that waits meanwhile.
  class no_forks {
   public:
    no_forks() { the_state().mutex.lock(); }
    no_forks(const no_forks&) = delete;
    no_forks& operator=(const no_forks&) = delete;
    ~no_forks() { the_state().mutex.unlock(); }
  };

  static void add(member& m) { add(m, no_forks()); }
  static void remove(member& m) noexcept { remove(m, no_forks()); }
  static void add(member& m, const no_forks&) noexcept {
    state& s = the_state();
    m.next_ = s.first;
    if (s.first != nullptr) s.first->previous_ = &m;
    s.first = &m;
  }
  static void remove(member& m, const no_forks&) noexcept {
    state& s = the_state();
    (m.previous_ != nullptr ? m.previous_->next_ : s.first) = m.next_;
    if (m.next_ != nullptr) m.next_->previous_ = m.previous_;
  }

 private:
  struct state {
    std::mutex mutex;
    member* first = nullptr;
    state() {
      ::pthread_atfork([] { the_state().mutex.lock(); }, [] { the_state().mutex.unlock(); },
                       [] {
                         for (member* m = the_state().first; m != nullptr; m = m->next_) m->forget_after_fork();
                         the_state().mutex.unlock();
                       });
    }
  };
  static state& the_state() {
    static state& s = *new state;  // never destroyed: refs in static storage may outlive it
    return s;
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
