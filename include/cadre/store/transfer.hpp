#ifndef CADRE_STORE_TRANSFER_HPP
#define CADRE_STORE_TRANSFER_HPP

#include <cadre/store/detail/far_entries.hpp>
#include <cadre/store/object_ref.hpp>
#include <cadre/store/object_store.hpp>
#include <cadre/store/stored.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// Gives an object of this node to another one, chunk by chunk, in place: the object stays where it is until this ends,
/// so keep it until the receiver has all. Thread-safety: as an int; chunks may be read by any threads.
class object_source {
 public:
  /// Waits until the object is sealed. Throws object_gone (301), empty_object_ref (313).
  template <class T>
  object_source(const object_store& store, const object_ref<T>& ref) : store_(store), index_(ref.index_) {
    store_.check(ref);
    data_ = store_.core_->pin(index_);
    const detail::object_entry& e = store_.core_->entry(index_);
    origin_ = {store_.core_->id(), index_, store_.core_->word(index_).generation(), e.bytes,
               store_.core_->table().details(index_).type};
  }
  object_source(const object_source&) = delete;
  object_source& operator=(const object_source&) = delete;
  ~object_source() { store_.core_->unpin(index_); }

  /// What the receiver needs to know to ask for it.
  [[nodiscard]] const object_origin& origin() const noexcept { return origin_; }
  /// `bytes` of it from `offset` on, cut at its end.
  [[nodiscard]] std::span<const std::byte> chunk(std::uint64_t offset, std::uint64_t bytes) const noexcept {
    if (offset >= origin_.bytes) return {};
    return {data_ + offset, static_cast<std::size_t>(std::min(bytes, origin_.bytes - offset))};
  }

 private:
  object_store store_;
  std::uint32_t index_;
  const std::byte* data_ = nullptr;
  object_origin origin_;
};

/// How an object comes from another node.
struct fetch_options {
  std::uint64_t chunk = std::uint64_t{16} << 20;  ///< bytes per message
  std::uint32_t window = 4;                       ///< chunks that are asked for and have not arrived yet, at most
};

/// Gets an object of another node. Of all processes of this node that ask for it at once one fetches it (is_mine()), into
/// the memory where it will lie; the others have a ref to the same object, whose get waits:
///
///     cadre::object_fetch<T> fetch(store, origin);
///     if (fetch.is_mine()) {
///       while (auto c = fetch.next()) ask(c->offset, c->memory);     // at most .window of them before arrived()
///       ... fetch.arrived(bytes); ...
///     }
///     auto ref = std::move(fetch).ref();                              // seals what is complete
///
/// The copy ends with its last ref on this node, and is evictable: it can be fetched again. If the process that fetches
/// it dies or gives up, the others' get throws object_gone (301); whoever then asks anew fetches it.
///
/// Thread-safety: one thread at a time.
template <class T>
class object_fetch {
 public:
  struct piece {
    std::uint64_t offset = 0;
    std::span<std::byte> memory = {};  ///< where the bytes are to be received
  };

  /// Throws wrong_object_type (303), bad_store_option (308) if the object is of this very store, and as put().
  object_fetch(const object_store& store, const object_origin& origin, const fetch_options& how = {},
               const std::source_location& at = std::source_location::current())
      : store_(store), bytes_(origin.bytes), how_(how) {
    detail::store_core& core = *store_.core_;
    if (origin.store == core.id()) throw bad_store_option("an object is to be fetched from the store that it is in");
    if (how.chunk == 0 || how.window == 0) throw bad_store_option("a fetch needs a chunk and a window of at least 1");
    const detail::stored_label& label = detail::label_of<T>();
    if (origin.type != label.key) throw wrong_object_type(label.text, core.type_text(origin.type));
    const auto there = detail::far_entries(core).enter(origin, label, bytes_, true, at);
    ref_ = object_ref<T>(core, there.index);
    memory_ = there.memory;
  }
  object_fetch(object_fetch&& other) noexcept
      : store_(other.store_),
        bytes_(other.bytes_),
        how_(other.how_),
        ref_(std::move(other.ref_)),
        memory_(std::exchange(other.memory_, nullptr)),
        asked_(other.asked_),
        arrived_(other.arrived_),
        open_(other.open_) {}
  object_fetch& operator=(object_fetch&&) = delete;
  /// Gives up what was not completed.
  ~object_fetch() {
    if (memory_ == nullptr) return;
    store_.core_->abort(ref_.index_);  // with the ref
    ref_.core_ = nullptr;
  }

  /// Whether this one is to fetch the bytes.
  [[nodiscard]] bool is_mine() const noexcept { return memory_ != nullptr; }
  /// The next bytes to be asked for; nothing if all were, or as many are on their way as the window allows.
  [[nodiscard]] std::optional<piece> next() noexcept {
    if (!is_mine() || asked_ == bytes_ || open_ == how_.window) return std::nullopt;
    const piece p{asked_, {memory_ + asked_, static_cast<std::size_t>(std::min(how_.chunk, bytes_ - asked_))}};
    asked_ += p.memory.size();
    ++open_;
    return p;
  }
  /// That a piece has come, whichever it is.
  void arrived(const piece& p) noexcept {
    arrived_ += p.memory.size();
    --open_;
  }
  [[nodiscard]] bool is_complete() const noexcept { return !is_mine() || arrived_ == bytes_; }

  /// The object on this node, sealed if this one has fetched it. Throws object_gone (301) if not all has arrived, or if it was
  /// erased meanwhile.
  object_ref<T> ref() && {
    if (is_mine()) {
      if (!is_complete())
        throw object_gone("an object of another node has not arrived: " + std::to_string(arrived_) + " of " +
                          std::to_string(bytes_) + " bytes");
      store_.core_->seal(ref_.index_);
      memory_ = nullptr;
    }
    return std::move(ref_);
  }

 private:
  object_store store_;
  std::uint64_t bytes_;
  fetch_options how_;
  object_ref<T> ref_;
  std::byte* memory_ = nullptr;
  std::uint64_t asked_ = 0;
  std::uint64_t arrived_ = 0;
  std::uint32_t open_ = 0;
};

CADRE_NAMESPACE_END

#endif
