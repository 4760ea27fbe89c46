// libFuzzer: the bytes say what up to three processes do with a small store, and a model says what each call has to give:
// which object with which bytes, which error, how much memory and how many objects are left. A second opening of a named
// store in this process counts as another process, for the store as for the model.

#include "choices.hpp"

#include <cadre/store.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;
using bytes = std::vector<std::uint8_t>;
using allocator = cadre::detail::block_allocator;

void check(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  std::abort();
}

constexpr std::size_t capacity = std::size_t{4} << 20;
constexpr std::array<std::size_t, 16> sizes{0,         1,         64,       100,         4096,    8192,
                                            8193,      70'000,    300'000,  500'000,     1 << 20, 1'500'000,
                                            2'000'000, 3'000'000, capacity, capacity + 1};
const std::array<std::string, 4> names{"a", "b", std::string(300, 'c'), "d"};

const bytes& pattern() {
  static const bytes made = [] {
    bytes p(capacity + 4096);
    std::uint32_t x = 1;
    for (auto& b : p) b = static_cast<std::uint8_t>((x = x * 1664525 + 1013904223) >> 24);
    return p;
  }();
  return made;
}

const fs::path& spill_dir() {
  static const fs::path made = [] {
    std::string name = (fs::temp_directory_path() / "cadre-fuzz-XXXXXX").string();
    check(::mkdtemp(name.data()) != nullptr, "no folder for spilled objects");
    std::atexit([] { fs::remove_all(spill_dir()); });
    return fs::path(name);
  }();
  return made;
}

struct process {
  std::optional<cadre::object_store> store;
  std::size_t held = 0;  // refs, views, writers and senders, which keep its part of the store
  std::uint32_t slot = 0;
  [[nodiscard]] bool alive() const { return store || held != 0; }
};
/// Counts as something that a process holds.
class held_by {
 public:
  explicit held_by(process& p) : p_(&p) { ++p_->held; }
  held_by(held_by&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  held_by& operator=(held_by&& o) noexcept {
    std::swap(p_, o.p_);
    return *this;
  }
  ~held_by() {
    if (p_ != nullptr) --p_->held;
  }
  process& operator*() const { return *p_; }
  process* operator->() const { return p_; }

 private:
  process* p_;
};

struct object {
  enum state_of { writing, sealed, ended } state = sealed;
  std::size_t size = 0;
  std::size_t seed = 0;
  std::string name;
  bool named = false;
  bool evictable = false;
  std::size_t refs = 0, views = 0, writers = 0;  // a writer is a ref too

  [[nodiscard]] const std::uint8_t* content() const { return pattern().data() + seed; }
  [[nodiscard]] bool may_be_dropped() const { return evictable && state == sealed && views == 0; }
  void end() {
    state = ended;
    named = false;
  }
};

struct held_ref {
  held_by by;
  object* of;
  cadre::object_ref<bytes> ref;
};
struct held_view {
  held_by by;
  object* of;
  cadre::view<bytes> view;
};
struct held_writer {
  held_by by;
  object* of;
  cadre::object_writer<bytes> writer;
};
struct message {
  cadre::byte_buffer data;
  object* of;
  process *from, *to;  // to: null: anybody
  std::optional<held_by> by;
  std::unique_ptr<cadre::ref_sender> sender;  // until it is sent
  bool taken = false;
  [[nodiscard]] bool valid() const { return !taken && from->alive() && (to == nullptr || to->alive()); }
};

class world {
 public:
  world(const std::uint8_t* data, std::size_t size) : choose_(data, size) {
    spills_ = choose_.yes();
    shared_ = choose_.yes();
    open();
  }

  void run() {
    while (choose_.left()) step();
  }
  void finish() {
    for (message& m : messages_) {
      if (m.sender != nullptr || !m.valid() || (m.to != nullptr && !m.to->store)) continue;
      cadre::ref_receiver receiver(m.to != nullptr ? *m.to->store : *some_process().store);
      const std::vector<std::byte> data = m.data.to_vector();
      cadre::object_ref<bytes> ref;
      cadre::input_archive(data, &receiver)(ref);
    }
    messages_.clear();
    while (!writers_.empty()) drop_writer(writers_.begin());
    while (!views_.empty()) drop_view(views_.begin());
    const bool handles_first = choose_.yes();
    if (handles_first && shared_)
      for (process& p : processes_) p.store.reset();
    while (!refs_.empty()) drop_ref(refs_.begin());
    if (std::none_of(processes_.begin(), processes_.end(), [](process& p) { return p.store.has_value(); })) open();
    process& p = some_process();
    for (const std::string& name : names) p.store->erase(name);
    const cadre::store_stats s = p.store->stats();
    const bool empty = s.objects == 0 && s.used == 0 && s.pinned == 0 && s.spilled == 0;
    check(empty, empty ? "" : ("something is left when all has been dropped: " + p.store->report()).c_str());
    processes_.clear();
    check(!spills_ || fs::is_empty(spill_dir()), "files are left when all has been closed");
  }

 private:
  void step() {
    switch (choose_.below(24)) {
      case 0:
      case 1:
      case 2: return put();
      case 3: return create();
      case 4:
      case 5: return seal();
      case 6:
        if (!writers_.empty()) drop_writer(any(writers_));
        return;
      case 7:
      case 8:
      case 9: return get();
      case 10: return try_get();
      case 11:
      case 12:
        if (!refs_.empty()) drop_ref(any(refs_));
        return;
      case 13: return copy();
      case 14:
      case 15:
        if (!views_.empty()) drop_view(any(views_));
        return;
      case 16: return find();
      case 17: return get_or_create();
      case 18: return erase();
      case 19: return wait();
      case 20: return look();
      case 21: return open_or_close();
      case 22: return send();
      default: return receive();
    }
  }

  // ---- the model

  [[nodiscard]] bool exists(const object& o) const {
    if (o.refs != 0 || o.views != 0 || o.named) return true;
    return std::any_of(messages_.begin(), messages_.end(), [&](const message& m) { return m.of == &o && m.valid(); });
  }
  /// Whether there can be no room for one more: the rest, which neither disk nor eviction makes room of, may lie so that
  /// no gap is large enough. A slab takes 16 granules, and 31 to be found aligned.
  [[nodiscard]] bool may_be_full(std::size_t asked, std::size_t name = 0) const {
    const auto granules = [](std::size_t n) {
      return n == 0 ? 0 : n <= allocator::largest_block ? 16 : allocator::size_of(n) / allocator::granule;
    };
    std::size_t taken = 0, blocks = 0;
    const auto count = [&](std::size_t n) {
      taken += granules(n);
      blocks += n != 0;
    };
    for (const object& o : objects_) {
      if (!exists(o)) continue;
      if (has_name_block(o.name)) count(o.name.size());
      const bool idle = o.state == object::sealed && o.views == 0;
      if (!(idle && (spills_ || o.evictable)) && has_memory(o)) count(o.size);
    }
    // The name is allocated after the object.
    count(name);
    if (name != 0) count(asked);
    const std::size_t need =
        std::max({asked <= allocator::largest_block ? 31 : granules(asked), name != 0 ? std::size_t{31} : 0});
    return taken >= 1024 || (1024 - taken) / (blocks + 1) < need;
  }
  // A short name lies in its entry.
  [[nodiscard]] static bool has_name_block(std::string_view name) {
    return !cadre::detail::name_table::is_short(name.size());
  }
  [[nodiscard]] static bool has_memory(const object& o) {
    return o.size != 0 && (o.state != object::ended || o.views != 0 || o.writers != 0);
  }
  object* holder(std::string_view name) {
    for (object& o : objects_)
      if (o.named && o.name == name) return &o;
    return nullptr;
  }
  object& make(object::state_of state, std::size_t size, std::string_view name, bool evictable) {
    object& o = objects_.emplace_back();
    o.state = state;
    o.size = size;
    o.seed = choose_.below(256);
    o.name = name;
    o.named = !name.empty();
    o.evictable = evictable;
    return o;
  }
  void note_dropped(object& o) {
    check(o.may_be_dropped(), "an object has gone that nobody ended");
    o.end();
  }

  // ---- what is held

  template <class List>
  typename List::iterator any(List& list) {
    return std::next(list.begin(), static_cast<std::ptrdiff_t>(choose_.below(list.size())));
  }
  void hold(process& p, object& o, cadre::object_ref<bytes> ref) {
    ++o.refs;
    refs_.push_back({held_by(p), &o, std::move(ref)});
  }
  void drop_ref(std::list<held_ref>::iterator r) {
    --r->of->refs;
    r->ref = {};
    refs_.erase(r);
    bury();
  }
  void drop_view(std::list<held_view>::iterator v) {
    check_content(*v->of, v->view);
    --v->of->views;
    views_.erase(v);
    bury();
  }
  void drop_writer(std::list<held_writer>::iterator w) {
    --w->of->refs;
    --w->of->writers;
    w->of->end();
    writers_.erase(w);
    bury();
  }
  /// The store goes with the last process.
  void bury() {
    if (std::any_of(processes_.begin(), processes_.end(), [](const process& p) { return p.alive(); })) return;
    for (object& o : objects_) o.end();
  }
  static void check_content(const object& o, const cadre::view<bytes>& v) {
    const auto seen = *v;
    check(seen.size() == o.size, "an object has another size");
    check(seen.empty() || std::memcmp(seen.data(), o.content(), o.size) == 0, "an object has other bytes");
  }

  // ---- processes

  void open() {
    process& p = processes_.emplace_back();
    p.store = cadre::object_store::open({.name = shared_ ? "cadre-fuzz-" + std::to_string(::getpid()) : "",
                                         .capacity = capacity,
                                         .spill_dir = spills_ ? spill_dir().string() : "",
                                         .max_objects = 512,
                                         .put_timeout = std::chrono::nanoseconds(1)});
    p.slot = p.store->process();
  }
  process& some_process() {
    std::vector<process*> with_handle;
    for (process& p : processes_)
      if (p.store) with_handle.push_back(&p);
    return *with_handle[choose_.below(with_handle.size())];
  }
  void open_or_close() {
    const auto open_ones =
        std::count_if(processes_.begin(), processes_.end(), [](const process& p) { return p.store.has_value(); });
    if (!shared_) {
      const cadre::object_store copy(*some_process().store);
    } else if (open_ones == 1 || (open_ones == 2 && choose_.yes())) {
      open();
    } else {
      some_process().store.reset();
    }
  }
  /// A ref of a process that has a handle, or the end of the list.
  std::list<held_ref>::iterator usable_ref() {
    if (refs_.empty()) return refs_.end();
    const auto r = any(refs_);
    return r->by->store ? r : refs_.end();
  }

  // ---- the calls

  void put() {
    process& p = some_process();
    const std::size_t size = sizes[choose_.below(sizes.size())];
    const std::string_view name = choose_.below(4) == 0 ? names[choose_.below(names.size())] : std::string_view();
    const bool evictable = choose_.below(4) == 0;
    object* const there = holder(name);
    object& o = make(object::sealed, size, "", evictable);
    try {
      const std::span<const std::uint8_t> value(o.content(), size);
      hold(p, o, p.store->put(value, {.name = name, .evictable = evictable}));
      if (there != nullptr) note_dropped(*there);
      o.name = name;
      o.named = !name.empty();
    } catch (const cadre::store_full&) {
      check(may_be_full(size, name.size()), "a put finds no room where there must be some");
    } catch (const cadre::object_name_taken&) {
      check(there != nullptr, "a name is taken that nobody has");
    }
  }
  void create() {
    process& p = some_process();
    const std::size_t size = sizes[choose_.below(sizes.size())];
    const std::string_view name = choose_.yes() ? names[choose_.below(names.size())] : std::string_view();
    object* const there = holder(name);
    try {
      auto w = p.store->create<std::uint8_t>(size, {.name = name});
      if (there != nullptr) note_dropped(*there);
      object& o = make(object::writing, size, name, false);
      ++o.refs;
      ++o.writers;
      if (choose_.yes()) hold(p, o, w.ref());
      writers_.push_back({held_by(p), &o, std::move(w)});
    } catch (const cadre::store_full&) {
      check(may_be_full(size, name.size()), "a create finds no room where there must be some");
    } catch (const cadre::object_name_taken&) {
      check(there != nullptr, "a name is taken that nobody has");
    }
  }
  void seal() {
    if (writers_.empty()) return;
    const auto w = any(writers_);
    object& o = *w->of;
    if (o.size != 0) std::memcpy(w->writer.span().data(), o.content(), o.size);
    try {
      cadre::object_ref<bytes> ref = std::move(w->writer).seal();
      check(o.state == object::writing, "an object was sealed that had ended");
      o.state = object::sealed;
      hold(*w->by, o, std::move(ref));
    } catch (const cadre::object_gone&) {
      check(o.state == object::ended, "an object was not sealed, though nobody ended it");
    }
    --o.refs;
    --o.writers;
    writers_.erase(w);
  }
  void get() {
    const auto r = usable_ref();
    if (r == refs_.end()) return;
    object& o = *r->of;
    try {
      cadre::view<bytes> v = r->by->store->get(r->ref, std::chrono::nanoseconds(0));
      check(o.state == object::sealed, "an object was read that is not there");
      check_content(o, v);
      if (!choose_.yes()) return;
      ++o.views;
      views_.push_back({held_by(*r->by), &o, std::move(v)});
    } catch (const cadre::store_timeout&) {
      check(o.state == object::writing, "a get waits for what is there");
    } catch (const cadre::object_gone&) {
      if (o.state != object::ended) note_dropped(o);
    } catch (const cadre::store_full&) {
      check(o.state == object::sealed && spills_ && may_be_full(o.size),
            "a get finds no room where there must be some");
    }
  }
  void try_get() {
    const auto r = usable_ref();
    if (r == refs_.end()) return;
    object& o = *r->of;
    try {
      if (const std::optional<cadre::view<bytes>> v = r->by->store->try_get(r->ref)) {
        check(o.state == object::sealed, "an object was read that is not there");
        check_content(o, *v);
      } else {
        check(o.state == object::writing || (o.state == object::sealed && spills_),
              "an object is not seen that is there");
      }
    } catch (const cadre::object_gone&) {
      if (o.state != object::ended) note_dropped(o);
    }
  }
  void copy() {
    if (refs_.empty()) return;
    const auto r = any(refs_);
    hold(*r->by, *r->of, r->ref);
    if (choose_.yes()) {  // onto another
      const auto other = any(refs_);
      if (&*other->by == &*r->by) {
        --other->of->refs;
        ++r->of->refs;
        other->of = r->of;
        other->ref = r->ref;
        check(other->ref == r->ref, "a copied ref refers to another object");
      }
    }
  }
  void find() {
    process& p = some_process();
    const std::string& name = names[choose_.below(names.size())];
    object* const there = holder(name);
    if (there != nullptr && choose_.below(4) == 0) {
      try {
        check(!p.store->find<std::string>(name), "an object is found as another type");
        note_dropped(*there);
      } catch (const cadre::wrong_object_type&) {}
      return;
    }
    std::optional<cadre::object_ref<bytes>> found = p.store->find<bytes>(name);
    if (found) {
      check(there != nullptr, "a name is found that nobody has");
      hold(p, *there, *std::move(found));
    } else if (there != nullptr) {
      note_dropped(*there);
    }
  }
  void get_or_create() {
    process& p = some_process();
    const std::string& name = names[choose_.below(names.size())];
    object* const there = holder(name);
    if (there != nullptr && there->state == object::writing) return;  // it would wait for ever
    const std::size_t size = sizes[choose_.below(sizes.size())];
    object& o = make(object::sealed, size, "", false);
    bool called = false;
    const auto value = [&] {
      called = true;
      return std::span<const std::uint8_t>(o.content(), size);
    };
    try {
      cadre::object_ref<bytes> ref = p.store->get_or_create<bytes>(name, value);
      check(called || there != nullptr, "a name is found that nobody has");
      if (called && there != nullptr) note_dropped(*there);
      if (called) o.name = name, o.named = true;
      hold(p, called ? o : *there, std::move(ref));
    } catch (const cadre::store_full&) {
      if (there != nullptr) note_dropped(*there);
      check(may_be_full(size, name.size()), "get_or_create finds no room where there must be some");
    }
  }
  void erase() {
    if (choose_.yes()) {
      const auto r = usable_ref();
      if (r == refs_.end()) return;
      r->by->store->erase(r->ref);
      r->of->end();
      check(!r->by->store->contains(r->ref), "an erased object is there");
      return;
    }
    const std::string& name = names[choose_.below(names.size())];
    object* const there = holder(name);
    const bool erased = some_process().store->erase(name);
    check(!erased || there != nullptr, "a name was erased that nobody had");
    if (!erased && there != nullptr) note_dropped(*there);
    if (erased) there->end();
  }
  void wait() {
    process& p = some_process();
    std::vector<cadre::object_ref<bytes>> asked;
    std::vector<std::size_t> ready;
    for (const held_ref& r : refs_) {
      if (&*r.by != &p) continue;
      if (r.of->state != object::writing) ready.push_back(asked.size());
      asked.push_back(r.ref);
    }
    const cadre::waited_objects seen =
        p.store->wait(asked, choose_.below(asked.size() + 1), std::chrono::nanoseconds(0));
    check(seen.ready == ready && seen.pending.size() == asked.size() - ready.size(), "wait() counts wrongly");
  }
  void look() {
    process& p = some_process();
    bool all_known = true;
    for (object& o : objects_) {
      if (!o.may_be_dropped() || !exists(o)) continue;
      const auto r =
          std::find_if(refs_.begin(), refs_.end(), [&](const held_ref& h) { return h.of == &o && h.by->store; });
      if (r == refs_.end() && !o.named)
        all_known = false;
      else if (r != refs_.end() ? !r->by->store->contains(r->ref) : !p.store->contains(o.name))
        note_dropped(o);
    }
    std::size_t objects = 0, pinned = 0, used = 0;
    for (const object& o : objects_) {
      if (!exists(o)) continue;
      ++objects;
      if (o.views != 0 || o.writers != 0) pinned += o.size;
      if (has_memory(o)) used += allocator::size_of(o.size);
      if (has_name_block(o.name) && (o.state != object::ended || o.views != 0 || o.writers != 0))
        used += allocator::size_of(o.name.size());
    }
    const auto alive = std::count_if(processes_.begin(), processes_.end(), [](const process& q) { return q.alive(); });
    const cadre::store_stats s = p.store->stats();
    check(s.objects == objects, "stats() counts other objects");
    check(s.pinned == pinned, "stats() counts other pinned bytes");
    check(all_known && !spills_ ? s.used == used : s.used <= used, "stats() counts other used bytes");
    check(s.processes == static_cast<std::uint32_t>(alive), "stats() counts other processes");
    check(spills_ || s.spilled == 0, "stats() counts spilled bytes in a store without a disk");
    check(!p.store->report().empty(), "report() is empty");
    if (const auto r = usable_ref(); r != refs_.end() && &*r->by != &p) {
      try {
        static_cast<void>(p.store->contains(r->ref));
        check(false, "a ref of another process is taken");
      } catch (const cadre::bad_store_option&) {}
    }
  }

  void send() {
    if (!messages_.empty() && choose_.below(3) == 0) {  // one of those before is on its way, or is not
      const auto m = any(messages_);
      if (m->sender == nullptr) return;
      if (choose_.yes())
        m->sender->sent();
      else
        m->taken = true;
      m->sender.reset();
      m->by.reset();
      return;
    }
    const auto r = usable_ref();
    if (r == refs_.end()) return;
    message& m = messages_.emplace_back();
    m.of = r->of;
    m.from = &*r->by;
    m.to = choose_.yes() ? &some_process() : nullptr;
    m.by.emplace(*r->by);
    m.sender = std::make_unique<cadre::ref_sender>(*r->by->store, m.to ? m.to->slot : cadre::ref_sender::any_process);
    cadre::output_archive(m.data, m.sender.get())(r->ref);
  }
  void receive() {
    if (messages_.empty()) return;
    const auto m = any(messages_);
    process& p = some_process();
    const bool right = m->valid() && (m->to == nullptr || m->to == &p);
    cadre::ref_receiver receiver(*p.store);
    const std::vector<std::byte> data = m->data.to_vector();
    cadre::input_archive archive(data, &receiver);
    try {
      if (choose_.below(8) == 0) {
        cadre::object_ref<std::string> ref;
        try {
          archive(ref);
          check(false, "a ref is read as one to another type");
        } catch (const cadre::wrong_object_type&) {
          check(right, "a message is read that is none any more");
          m->taken = true;
        }
        return;
      }
      cadre::object_ref<bytes> ref;
      archive(ref);
      check(right, "a message is read that is none any more");
      m->taken = true;
      hold(p, *m->of, std::move(ref));
    } catch (const cadre::object_gone&) {
      check(!right, "a message cannot be read");
    }
  }

  choices choose_;
  bool spills_, shared_;
  std::list<process> processes_;  // also those that have gone
  std::list<object> objects_;
  std::list<held_ref> refs_;
  std::list<held_writer> writers_;
  std::list<held_view> views_;
  std::list<message> messages_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  world w(data, size);
  w.run();
  w.finish();
  return 0;
}
