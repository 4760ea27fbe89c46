#ifndef CADRE_COMM_DETAIL_NODE_COLLECTIVES_HPP
#define CADRE_COMM_DETAIL_NODE_COLLECTIVES_HPP

#include <cadre/comm/detail/call_record.hpp>
#include <cadre/comm/detail/copy_bytes.hpp>
#include <cadre/comm/detail/member.hpp>
#include <cadre/comm/detail/reduce_tree.hpp>
#include <cadre/core/chrono.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// Bytes [first, second) of `bytes` that part `part` of `parts` works on; boundaries on whole cache lines.
inline std::pair<std::size_t, std::size_t> share_of(std::size_t bytes, int part, int parts) noexcept {
  const std::size_t lines = (bytes + 63) / 64, n = static_cast<std::size_t>(parts), p = static_cast<std::size_t>(part);
  const auto boundary = [&](std::size_t i) { return std::min(bytes, (lines / n * i + std::min(lines % n, i)) * 64); };
  return {boundary(p), boundary(p + 1)};
}

/// What a stage of `stage` bytes holds for each of the ranks: whole cache lines, of which there is room for one.
inline std::size_t piece_of(std::size_t stage, std::size_t ranks) noexcept {
  return std::max<std::size_t>(64, stage / ranks / 64 * 64);
}

/// The collectives of ranks that reach each other's memory. Besides what `member` asks, `Peers` says how:
///     locate(pointer, bytes)   the place that peers know this buffer by
///     reach(rank, place)       where this rank sees that place of a peer; for places of a segment other than 0
///     staging(rank, slot)      memory that all ranks see, stage_bytes or a cache line per rank, whichever is more; three
///                              slots per rank
/// A rank whose buffer no peer reaches makes all of them pass the data through the stages, in a pipeline that takes one
/// meeting per stage: before meeting k a rank fills slot k and reduces its share of slot k-1, after it it takes the
/// result k-1 out. Slot k is filled again at k+3, when all have taken it out.
template <class Peers>
class node_collectives {
 public:
  node_collectives(control_block& block, Peers& peers, int rank)
      : peers_(&peers), member_(block, peers, rank), sources_(count()), targets_(count()) {}

  [[nodiscard]] detail::member<Peers>& member() noexcept { return member_; }
  [[nodiscard]] const detail::member<Peers>& member() const noexcept { return member_; }

  /// Only makes sure that all ranks make this call.
  void meet(const call_record& call, std::chrono::nanoseconds timeout) {
    member_.begin(call, timeout);
    member_.agree();
  }

  void all_reduce(void* data, const call_record& call) {
    auto* const bytes = static_cast<std::byte*>(data);
    const std::size_t size = call.count * size_of(call.type);
    const combine_function combine = combiner(call.type, call.op);
    member_.begin(call, member_.timeout());
    if (ranks() == 1) return;
    if (size <= inline_bytes) {
      exchange_inline(bytes, size);
      reduce_tree({sources_.data(), count()}, {&bytes, 1}, 0, size, combine);
      return;
    }
    member_.agree(peers_->locate(data, size));
    if (gather_places()) {
      const auto [begin, end] = share_of(size, rank(), ranks());
      reduce_tree({sources_.data(), count()}, {targets_.data(), count()}, begin, end, combine);
      member_.meet_done();
      return;
    }
    if constexpr (Peers::stage_bytes != 0)
      pipeline(
          size, [&](std::size_t at, std::size_t n, int slot) { copy_bytes(stage(rank(), slot), bytes + at, n); },
          [&](std::size_t, std::size_t n, int slot) {
            const auto [begin, end] = share_of(n, rank(), ranks());
            look_at_stages(slot);
            std::byte* const own = stage(rank(), slot);  // nobody else reads this share of it before the next meeting
            reduce_tree({sources_.data(), count()}, {&own, 1}, begin, end, combine);
          },
          [&](std::size_t at, std::size_t n, int slot) {
            for (int r = 0; r < ranks(); ++r) {
              const auto [begin, end] = share_of(n, r, ranks());
              if (begin != end) copy_bytes(bytes + at + begin, stage(r, slot) + begin, end - begin);
            }
          });
  }

  void broadcast(void* data, const call_record& call) {
    const bool is_root = rank() == call.root;
    const std::size_t size = call.count;
    auto* const bytes = static_cast<std::byte*>(data);
    member_.begin(call, member_.timeout());
    if (ranks() == 1) return;
    if (size <= inline_bytes) {
      if (is_root) copy_bytes(member_.outbox(), bytes, size);
      member_.agree();
      if (!is_root) copy_bytes(bytes, member_.inbox(call.root), size);
      return;
    }
    member_.agree(peers_->locate(data, size));
    if (const place from = member_.call_of(call.root).where; from.segment != 0) {
      if (!is_root) copy_bytes(bytes, peers_->reach(call.root, from), size);
      member_.meet_done();
      return;
    }
    if constexpr (Peers::stage_bytes != 0)
      pipeline(
          size,
          [&](std::size_t at, std::size_t n, int slot) {
            if (is_root) copy_bytes(stage(call.root, slot), bytes + at, n);
          },
          [](std::size_t, std::size_t, int) {},
          [&](std::size_t at, std::size_t n, int slot) {
            if (!is_root) copy_bytes(bytes + at, stage(call.root, slot), n);
          });
  }

  void reduce_scatter(const void* in, void* out, const call_record& call) {
    const std::size_t part = call.count * size_of(call.type), size = part * count();
    const std::size_t first = part * static_cast<std::size_t>(rank());
    const auto* const from = static_cast<const std::byte*>(in);
    auto* const to = static_cast<std::byte*>(out);
    const combine_function combine = combiner(call.type, call.op);
    member_.begin(call, member_.timeout());
    if (ranks() == 1) return copy_alone(from, to, part);
    if (size <= inline_bytes) {
      exchange_inline(from, size);
      reduce_from(first, to, part, combine);
      return;
    }
    member_.agree(peers_->locate(in, size));
    if (gather_places()) {
      reduce_from(first, to, part, combine);
      member_.meet_done();
      return;
    }
    [[maybe_unused]] const std::size_t piece = piece_of(Peers::stage_bytes, count());
    if constexpr (Peers::stage_bytes != 0)
      pipeline(
          part,
          [&](std::size_t at, std::size_t n, int slot) {
            for (std::size_t r = 0; r < count(); ++r)
              copy_bytes(stage(rank(), slot) + r * piece, from + r * part + at, n);
          },
          [&](std::size_t at, std::size_t n, int slot) {
            look_at_stages(slot);
            reduce_from(static_cast<std::size_t>(rank()) * piece, to + at, n, combine);
          },
          [](std::size_t, std::size_t, int) {}, piece);
  }

  void all_gather(const void* in, void* out, const call_record& call) {
    const std::size_t part = call.count;
    const auto* const from = static_cast<const std::byte*>(in);
    auto* const to = static_cast<std::byte*>(out);
    member_.begin(call, member_.timeout());
    if (ranks() == 1) return copy_alone(from, to, part);
    if (part <= inline_bytes) {
      exchange_inline(from, part);
      for (std::size_t r = 0; r < count(); ++r) copy_bytes(to + r * part, sources_[r], part);
      return;
    }
    member_.agree(peers_->locate(in, part));
    if (gather_places()) {
      for (std::size_t r = 0; r < count(); ++r)
        if (to + r * part != sources_[r]) copy_bytes(to + r * part, sources_[r], part);
      member_.meet_done();
      return;
    }
    if constexpr (Peers::stage_bytes != 0)
      pipeline(
          part, [&](std::size_t at, std::size_t n, int slot) { copy_bytes(stage(rank(), slot), from + at, n); },
          [](std::size_t, std::size_t, int) {},
          [&](std::size_t at, std::size_t n, int slot) {
            for (int r = 0; r < ranks(); ++r)
              copy_bytes(to + static_cast<std::size_t>(r) * part + at, stage(r, slot), n);
          });
  }

 private:
  [[nodiscard]] int rank() const noexcept { return member_.rank(); }
  [[nodiscard]] int ranks() const noexcept { return member_.ranks(); }
  [[nodiscard]] std::size_t count() const noexcept { return static_cast<std::size_t>(ranks()); }
  [[nodiscard]] std::byte* stage(int r, int slot) { return peers_->staging(r, slot); }

  static void copy_alone(const std::byte* from, std::byte* to, std::size_t bytes) noexcept {
    if (from != to) copy_bytes(to, from, bytes);
  }

  // One meeting: every rank's bytes are then in the inboxes, which sources_ names.
  void exchange_inline(const std::byte* bytes, std::size_t size) {
    copy_bytes(member_.outbox(), bytes, size);
    member_.agree();
    for (int r = 0; r < ranks(); ++r) sources_[static_cast<std::size_t>(r)] = member_.inbox(r);
  }

  // After agree: names every rank's buffer in sources_ and targets_. False if some cannot be reached.
  bool gather_places() {
    for (int r = 0; r < ranks(); ++r)
      if (member_.call_of(r).where.segment == 0) return false;
    for (int r = 0; r < ranks(); ++r)
      sources_[static_cast<std::size_t>(r)] = targets_[static_cast<std::size_t>(r)] =
          peers_->reach(r, member_.call_of(r).where);
    return true;
  }

  void look_at_stages(int slot) {
    for (int r = 0; r < ranks(); ++r) sources_[static_cast<std::size_t>(r)] = stage(r, slot);
  }

  // The sources from byte `first` on, reduced into `to`.
  void reduce_from(std::size_t first, std::byte* to, std::size_t bytes, combine_function combine) {
    for (const std::byte*& source : sources_) source += first;
    reduce_tree({sources_.data(), count()}, {&to, 1}, 0, bytes, combine);
  }

  template <class Fill, class Reduce, class Take>
  void pipeline(std::size_t size, Fill fill, Reduce reduce, Take take, std::size_t step = Peers::stage_bytes) {
    const std::size_t stages = (size + step - 1) / step;
    const auto bytes = [&](std::size_t k) { return std::min(step, size - k * step); };
    const auto slot = [](std::size_t k) { return static_cast<int>(k % 3); };
    for (std::size_t k = 0; k <= stages; ++k) {
      if (k < stages) fill(k * step, bytes(k), slot(k));
      if (k > 0) reduce((k - 1) * step, bytes(k - 1), slot(k - 1));
      member_.meet();
      if (k > 0) take((k - 1) * step, bytes(k - 1), slot(k - 1));
    }
  }

  Peers* peers_;
  detail::member<Peers> member_;
  std::vector<const std::byte*> sources_;
  std::vector<std::byte*> targets_;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif
