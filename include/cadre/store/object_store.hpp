#ifndef CADRE_STORE_OBJECT_STORE_HPP
#define CADRE_STORE_OBJECT_STORE_HPP

#include <cadre/archive/to_bytes.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/store/detail/making.hpp>
#include <cadre/store/detail/open_store.hpp>
#include <cadre/store/object_ref.hpp>
#include <cadre/store/object_writer.hpp>
#include <cadre/store/options.hpp>
#include <cadre/store/stored.hpp>
#include <cadre/store/view.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// What object_store::wait() found: positions in the refs it was given, in their order.
struct waited_objects {
  std::vector<std::size_t> ready;
  std::vector<std::size_t> pending;
};

/// A store of objects in shared memory: put once, read in place by every process of the job. Objects never change; they end
/// with the last ref, view or name that holds them, and a process that dies, at whatever instant, lets go of all that it
/// held. docs/store.md has the design, its costs and limits.
///
///     auto store = cadre::object_store::open({.name = "job", .capacity = 8_GiB});
///     cadre::object_ref<std::vector<float>> ref = store.put(values, {.name = "weights"});
///     cadre::view<std::vector<float>> v = store.get(ref);          // *v is a std::span<const float>
///
/// A handle: copies are of the same store. A store that was not opened by a name is of this process alone. Thread-safety:
/// all functions, from any thread. Whatever uses a store in a child made by fork() throws forked_store (307); a child opens
/// it anew. All functions throw store_stalled (306) if another process has been stopped while it holds the store's lock.
class object_store {
 public:
  /// Of this process alone.
  object_store() : object_store(open(store_options{})) {}

  /// Throws bad_store_option (308), store_unreachable (309), mapping_error (159), and store_full (302) if 512 processes have
  /// it open already.
  static object_store open(store_options options) {
    return object_store(options.name.empty() ? *detail::open_private_store(std::move(options))
                                             : *detail::open_shared_store(std::move(options)));
  }
  object_store(const object_store& other) noexcept : core_(other.core_) { core_->add_handle(); }
  object_store& operator=(const object_store& other) noexcept {
    object_store copy(other);
    std::swap(core_, copy.core_);
    return *this;
  }
  ~object_store() {
    if (core_->drop_handle() && core_->close()) delete core_;
  }

  /// Copies a value into the store: a contiguous range, text, a matrix or expression of Eigen (with cadre/eigen.hpp), a
  /// trivially copyable value, or anything that the archive can write. Throws store_full (302) when there is no room within
  /// .put_timeout, object_name_taken (304), object_gone (301) if somebody erases it by its name before it is complete,
  /// mapping_error (159) when the machine's memory is short.
  template <class T>
  object_ref<stored_type_t<T>> put(const T& value, const put_options& how = {},
                                   const std::source_location& at = std::source_location::current()) {
    const detail::stored_label& label = detail::label_of<stored_type_t<T>>();
    if constexpr (detail::storage<stored_type_t<T>>::in_place) {
      const std::size_t bytes = detail::storage<stored_type_t<T>>::bytes(value);
      object_writer<stored_type_t<T>> w(*core_, core_->create(bytes, label.key, label.text, how, at), bytes);
      detail::storage<stored_type_t<T>>::write(value, w.data_);
      return std::move(w).seal(how.name.empty());
    } else {
      const byte_buffer buffer = archived(value);
      object_writer<stored_type_t<T>> w(*core_, core_->create(buffer.size(), label.key, label.text, how, at),
                                        buffer.size());
      copy(buffer, w.data_);
      return std::move(w).seal(how.name.empty());
    }
  }

  /// An object of `n` elements to be written in place: `create<float>(n)` gives an object_writer<std::vector<float>>.
  /// Throws as put().
  template <class E>
  object_writer<std::vector<E>> create(std::size_t n, const put_options& how = {},
                                       const std::source_location& at = std::source_location::current()) {
    static_assert(detail::stored_element<E>,
                  "cadre: create<E>(n) is of elements that are copied as bytes: trivially copyable, not pointers or "
                  "views, aligned to 64 bytes at most; a matrix is made by create<M>(rows, cols), all else by put()");
    if (n > most_bytes / sizeof(E)) throw bad_store_option("an object of more than 2 TiB");
    return make<std::vector<E>>(n * sizeof(E), how, at);
  }
  /// A matrix to be written in place: `create<Eigen::MatrixXf>(rows, cols)`. Throws as put(), and bad_store_option (308)
  /// if M cannot have so many rows and columns.
  template <detail::stored_array M>
  object_writer<M> create(std::size_t rows, std::size_t cols, const put_options& how = {},
                          const std::source_location& at = std::source_location::current()) {
    if constexpr (requires { stored_type<M>::fits(rows, cols); })
      if (!stored_type<M>::fits(rows, cols))
        throw bad_store_option("create() is asked for " + std::to_string(rows) + " x " + std::to_string(cols) +
                               " elements, but its type is " + stored_type<M>::extents() +
                               "; give extents that it can have");
    constexpr std::size_t most = most_bytes / sizeof(typename detail::storage<M>::element);
    if (rows > most || cols > most || (cols != 0 && rows > most / cols))
      throw bad_store_option("an object of more than 2 TiB");
    const std::array<std::size_t, 2> shape{rows, cols};
    object_writer<M> w = make<M>(detail::storage<M>::bytes_of(shape), how, at);
    detail::storage<M>::write_shape(shape, w.data_);
    return w;
  }

  /// An object whose value is to come, of which refs can be given away at once: see object_promise.hpp. Throws as put().
  template <class T>
  object_promise<T> promise(const put_options& how = {},
                            const std::source_location& at = std::source_location::current());

  /// The object, in place; waits until it is sealed. Throws object_gone (301), empty_object_ref (313), and of one that is on
  /// disk store_full (302) if there is no room for it, spill_failed (310), spill_corrupt (311).
  template <class T>
  view<T> get(const object_ref<T>& ref) {
    return look(ref, time::max());
  }
  /// Waits so long at most. Throws store_timeout (305) too.
  template <class T>
  view<T> get(const object_ref<T>& ref, std::chrono::nanoseconds timeout) {
    return look(ref, detail::store_room::in(timeout));
  }
  /// Nothing if it is not sealed, or only on disk. Throws object_gone (301), empty_object_ref (313).
  template <class T>
  std::optional<view<T>> try_get(const object_ref<T>& ref) {
    check(ref);
    if (const std::byte* const at = core_->try_pin(ref.index_)) return view<T>(*core_, ref.index_, at);
    core_->check_exists(ref.index_);
    return std::nullopt;
  }
  /// Whether get() would find it without waiting for its producer.
  template <class T>
  [[nodiscard]] bool contains(const object_ref<T>& ref) const {
    check(ref);
    core_->check_process();
    return core_->is_there(ref.index_);
  }
  [[nodiscard]] bool contains(std::string_view name) const {
    const std::uint32_t i = core_->find(name);
    if (i == detail::no_index) return false;
    const bool there = core_->is_there(i);
    core_->drop_ref(i);
    return there;
  }

  /// Waits until `n` of the objects are there or have ended (a get of which throws), at most for `timeout`.
  template <class T>
  waited_objects wait(const std::vector<object_ref<T>>& refs, std::size_t n,
                      std::chrono::nanoseconds timeout = std::chrono::nanoseconds::max());

  /// The object of that name, sealed or not, or nothing. Throws wrong_object_type (303).
  template <class T>
  std::optional<object_ref<T>> find(std::string_view name) {
    const std::uint32_t i = core_->find(name);
    if (i == detail::no_index) return std::nullopt;
    object_ref<T> ref(*core_, i);
    core_->check_type(i, detail::label_of<T>().key, detail::label_of<T>().text);
    return ref;
  }
  /// The object of that name, or the value that `make` returns, put under it: of all processes that ask at once one makes
  /// it, the others wait; if that one dies or throws, another does it. Throws what `make` and put() throw, and
  /// object_makes_itself (315).
  template <class T, class Make>
    requires stored_as<std::invoke_result_t<Make>, T>
  object_ref<T> get_or_create(std::string_view name, Make&& make_value,
                              const std::source_location& at = std::source_location::current());

  /// Ends an object for all, whoever refers to it; views that there are stay. A later get throws object_gone (301).
  template <class T>
  void erase(const object_ref<T>& ref) {
    check(ref);
    core_->erase(ref.index_);
  }
  /// False if there is no object of that name.
  bool erase(std::string_view name) { return core_->erase(name); }

  /// The number of this process in the store: where a ref can be sent to. No other process gets the same.
  [[nodiscard]] std::uint32_t process() const noexcept { return core_->process(); }

  /// Takes from processes that have died what they held; else that is done when memory is short or somebody waits for them.
  /// Returns how many there were.
  std::uint32_t sweep() { return core_->sweep(); }
  /// After a sweep. Cost: a look at all objects.
  [[nodiscard]] store_stats stats() { return core_->stats(); }
  /// The same in words, with those who hold most and where that was put; several lines.
  [[nodiscard]] std::string report() { return core_->report(); }

 private:
  friend class ref_sender;
  friend class ref_receiver;
  friend detail::object_ref_access;
  friend class object_source;
  template <class>
  friend class object_promise;
  template <class>
  friend class object_fetch;
  using time = detail::store_core::time;
  static constexpr std::size_t most_bytes = std::size_t{1} << 41;  // so that sums of sizes do not overflow

  explicit object_store(detail::store_core& core) noexcept : core_(&core) {}

  template <class T>
  object_writer<T> make(std::size_t bytes, const put_options& how, const std::source_location& at) {
    const detail::stored_label& label = detail::label_of<T>();
    return object_writer<T>(*core_, core_->create(bytes, label.key, label.text, how, at), bytes);
  }
  // Gives the value to a writer that has no memory yet.
  template <class T, class Value>
  void write(object_writer<T>& w, const Value& value) {
    const auto take_memory = [&](std::size_t bytes) {
      w.data_ = core_->attach(w.index_, bytes);
      w.bytes_ = bytes;
    };
    if constexpr (detail::storage<T>::in_place) {
      take_memory(detail::storage<T>::bytes(value));
      detail::storage<T>::write(value, w.data_);
    } else {
      const byte_buffer buffer = archived(value);
      take_memory(buffer.size());
      copy(buffer, w.data_);
    }
  }
  template <class T>
  static byte_buffer archived(const T& value) {
    static_assert(!std::is_pointer_v<std::decay_t<T>>,
                  "cadre: a pointer means nothing to other processes; put a std::span of what it points to");
    static_assert(std::is_pointer_v<std::decay_t<T>> || detail::can_be_archived<T>,
                  "cadre: this type cannot be put into a store: its bytes are not its value, and the archive cannot "
                  "write it; give it a serialize, or include what cereal has for it (<cereal/types/map.hpp>)");
    byte_buffer buffer;
    output_archive archive(buffer);
    archive(value);
    return buffer;
  }
  static void copy(const byte_buffer& buffer, std::byte* to) {
    for (const std::span<const std::byte> piece : buffer.pieces()) {
      std::memcpy(to, piece.data(), piece.size());
      to += piece.size();
    }
  }
  template <class T>
  view<T> look(const object_ref<T>& ref, time deadline) {
    check(ref);
    return view<T>(*core_, ref.index_, core_->pin(ref.index_, deadline));
  }
  template <class T>
  void check(const object_ref<T>& ref) const {
    if (ref.core_ == core_) [[likely]]
      return;
    if (ref.core_ == nullptr) throw empty_object_ref();
    throw bad_store_option("a ref of another store is used");
  }

  detail::store_core* core_;
};

inline detail::store_core& detail::object_ref_access::core(const object_store& store) noexcept { return *store.core_; }

template <class T>
waited_objects object_store::wait(const std::vector<object_ref<T>>& refs, std::size_t n,
                                  std::chrono::nanoseconds timeout) {
  if (n > refs.size())
    throw bad_store_option("wait() for " + std::to_string(n) + " of " + std::to_string(refs.size()) + " objects");
  waited_objects found;
  const auto look = [&] {
    found.ready.clear();
    found.pending.clear();
    for (std::size_t k = 0; k < refs.size(); ++k) {
      check(refs[k]);
      (core_->is_pending(refs[k].index_) ? found.pending : found.ready).push_back(k);
    }
    return found.ready.size() >= n;
  };
  core_->wait_until(detail::store_room::in(timeout), look);
  return found;
}

template <class T, class Make>
  requires stored_as<std::invoke_result_t<Make>, T>
object_ref<T> object_store::get_or_create(std::string_view name, Make&& make_value, const std::source_location& at) {
  const detail::stored_label& label = detail::label_of<T>();
  for (;;) {
    if (std::optional<object_ref<T>> there = find<T>(name)) {
      if (detail::making::includes(core_->id(), there->index_)) throw object_makes_itself(name);
      core_->wait_until(time::max(), [&] { return !core_->is_pending(there->index_); });
      if (core_->is_there(there->index_)) return *std::move(there);
      continue;  // who was to make it has died or given up
    }
    std::optional<object_writer<T>> claim;
    try {
      claim.emplace(object_writer<T>(*core_, core_->create(0, label.key, label.text, {.name = name}, at), 0));
    } catch (const object_name_taken&) {
      continue;
    }
    const detail::making here(core_->id(), claim->index_);
    using value = std::invoke_result_t<Make>;
    if constexpr (std::is_same_v<stored_type_t<value>, T>)
      write(*claim, std::forward<Make>(make_value)());
    else
      write(*claim, static_cast<T>(std::forward<Make>(make_value)()));
    return std::move(*claim).seal();
  }
}

CADRE_NAMESPACE_END

#endif
