#ifndef CADRE_MPI_DETAIL_BRIDGED_COLLECTIVES_HPP
#define CADRE_MPI_DETAIL_BRIDGED_COLLECTIVES_HPP

#include <cadre/comm/detail/call_record.hpp>
#include <cadre/comm/detail/copy_bytes.hpp>
#include <cadre/comm/detail/member.hpp>
#include <cadre/comm/detail/node_collectives.hpp>
#include <cadre/comm/detail/reduce_tree.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/mpi/detail/shared_peers.hpp>
#include <cadre/mpi/detail/topology.hpp>
#include <cadre/mpi/detail/wire.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

using cadre::detail::copy_bytes;

/// The collectives of ranks on several nodes: reduced on the node, carried between the nodes by their leaders (rank 0 of
/// each node), taken by all from the leader's stage. Reductions fold the tree over each node's ranks, then the tree over
/// the nodes.
///
/// Every collective begins with an agreement of all ranks on the call, which carries small messages along. Large ones
/// follow in a pipeline of stages: before meeting k a rank fills slot k and reduces its share of slot k-1 while the
/// leader carries slot k-2; after it, it takes slot k-2. Slot k is filled again at k+4, when all have taken it.
class bridged_collectives {
  using call_record = cadre::detail::call_record;
  using operation = cadre::detail::operation;
  using combine_function = cadre::detail::combine_function;
  using member_type = cadre::detail::member<shared_peers>;
  static constexpr std::size_t inline_bytes = cadre::detail::inline_bytes;

 public:
  bridged_collectives(const topology& who, int rank, member_type& member, shared_peers& peers, wire& way)
      : who_(&who),
        rank_(rank),
        member_(&member),
        peers_(&peers),
        wire_(&way),
        sources_(static_cast<std::size_t>(member.ranks())) {
    std::size_t most = 0;
    for (int node = 0; node < way.nodes(); ++node) most = std::max(most, who.members(node).size());
    message_bytes_ = sizeof(call_record) + std::max(most, std::size_t{1}) * inline_bytes;
  }

  void meet(const call_record& call, std::chrono::nanoseconds timeout) {
    begin(call, timeout);
    agree_only();
  }

  void all_reduce(void* data, const call_record& call) {
    auto* const bytes = static_cast<std::byte*>(data);
    const std::size_t size = call.count * size_of(call.type);
    const combine_function combine = cadre::detail::combiner(call.type, call.op);
    begin(call, member_->timeout());
    if (size <= inline_bytes) {
      reduce_inline(bytes, size, combine);
      copy_bytes(bytes, stage(0, 0), size);
      return;
    }
    agree_only();
    pipeline(
        size, stage_bytes(),
        [&](std::size_t at, std::size_t n, int slot) { copy_bytes(stage(local(), slot), bytes + at, n); },
        [&](std::size_t n, int slot) { reduce_on_node(n, slot, combine); },
        [&](std::size_t n, int slot) {
          const auto share = [&](int node) { return cadre::detail::share_of(n, node, wire_->nodes()); };
          reduce_scatter_nodes(stage(0, slot), share, combine);
          gather_nodes(stage(0, slot), share);
        },
        [&](std::size_t at, std::size_t n, int slot) { copy_bytes(bytes + at, stage(0, slot), n); });
  }

  void broadcast(void* data, const call_record& call) {
    auto* const bytes = static_cast<std::byte*>(data);
    const std::size_t size = call.count;
    const auto root = static_cast<std::size_t>(call.root);
    const int root_node = who_->node_of[root];
    const bool is_root = rank_ == call.root, on_root_node = wire_->node() == root_node;
    // On the root's node the message lies in the root's stage, on others in the leader's.
    const int holder = on_root_node ? who_->local_of[root] : 0;
    begin(call, member_->timeout());
    if (size <= inline_bytes) {
      if (is_root) copy_bytes(member_->outbox(), bytes, size);
      agree(
          [&](std::byte* message) {
            if (on_root_node) copy_bytes(message, member_->inbox(holder), size);
          },
          on_root_node ? size : 0,
          [&](std::byte* result, std::span<const std::byte* const> messages) {
            copy_bytes(result, messages[static_cast<std::size_t>(root_node)], size);
          });
      if (!is_root) copy_bytes(bytes, stage(0, 0), size);
      return;
    }
    agree_only();
    pipeline(
        size, stage_bytes(),
        [&](std::size_t at, std::size_t n, int slot) {
          if (is_root) copy_bytes(stage(holder, slot), bytes + at, n);
        },
        [](std::size_t, int) {},
        [&](std::size_t n, int slot) {
          parts_.clear();
          if (on_root_node) {
            for (int node = 0; node < wire_->nodes(); ++node)
              if (node != root_node) parts_.push_back({node, stage(holder, slot), n});
            wire_->exchange(*member_, parts_, {});
          } else {
            parts_.push_back({root_node, stage(0, slot), n});
            wire_->exchange(*member_, {}, parts_);
          }
        },
        [&](std::size_t at, std::size_t n, int slot) {
          if (!is_root) copy_bytes(bytes + at, stage(holder, slot), n);
        });
  }

  void reduce_scatter(const void* in, void* out, const call_record& call) {
    const auto* const from = static_cast<const std::byte*>(in);
    auto* const to = static_cast<std::byte*>(out);
    const std::size_t part = call.count * size_of(call.type), size = part * world();
    const combine_function combine = cadre::detail::combiner(call.type, call.op);
    begin(call, member_->timeout());
    if (size <= inline_bytes) {
      reduce_inline(from, size, combine);
      copy_bytes(to, stage(0, 0) + static_cast<std::size_t>(rank_) * part, part);
      return;
    }
    agree_only();
    pipeline(
        part, piece_bytes(),
        [&](std::size_t at, std::size_t n, int slot) {
          for (std::size_t r = 0; r < world(); ++r)
            copy_bytes(stage(local(), slot) + who_->position[r] * n, from + r * part + at, n);
        },
        [&](std::size_t n, int slot) { reduce_on_node(n * world(), slot, combine); },
        [&](std::size_t n, int slot) {
          reduce_scatter_nodes(
              stage(0, slot), [&](int node) { return run_of(node, n); }, combine);
        },
        [&](std::size_t at, std::size_t n, int slot) { copy_bytes(to + at, stage(0, slot) + position() * n, n); });
  }

  void all_gather(const void* in, void* out, const call_record& call) {
    const auto* const from = static_cast<const std::byte*>(in);
    auto* const to = static_cast<std::byte*>(out);
    const std::size_t part = call.count;
    begin(call, member_->timeout());
    const auto take = [&](std::size_t at, std::size_t n, int slot) {
      for (std::size_t r = 0; r < world(); ++r)
        copy_bytes(to + r * part + at, stage(0, slot) + who_->position[r] * n, n);
    };
    if (part <= inline_bytes && part <= piece_bytes()) {
      copy_bytes(member_->outbox(), from, part);
      const std::size_t locals = static_cast<std::size_t>(member_->ranks());
      agree(
          [&](std::byte* message) {
            for (std::size_t r = 0; r < locals; ++r)
              copy_bytes(message + r * part, member_->inbox(static_cast<int>(r)), part);
          },
          part * locals,
          [&](std::byte* result, std::span<const std::byte* const> messages) {
            for (int node = 0; node < wire_->nodes(); ++node) {
              const auto [begin_at, end_at] = run_of(node, part);
              copy_bytes(result + begin_at, messages[static_cast<std::size_t>(node)], end_at - begin_at);
            }
          });
      take(0, part, 0);
      return;
    }
    agree_only();
    pipeline(
        part, piece_bytes(),
        [&](std::size_t at, std::size_t n, int slot) { copy_bytes(stage(0, slot) + position() * n, from + at, n); },
        [](std::size_t, int) {},
        [&](std::size_t n, int slot) { gather_nodes(stage(0, slot), [&](int node) { return run_of(node, n); }); },
        take);
  }

 private:
  [[nodiscard]] int local() const noexcept { return member_->rank(); }
  [[nodiscard]] bool is_leader() const noexcept { return local() == 0; }
  [[nodiscard]] std::size_t world() const noexcept { return static_cast<std::size_t>(who_->size()); }
  [[nodiscard]] std::size_t position() const { return who_->position[static_cast<std::size_t>(rank_)]; }
  [[nodiscard]] std::byte* stage(int local_rank, int slot) const { return peers_->staging(local_rank, slot); }
  [[nodiscard]] static constexpr std::size_t stage_bytes() noexcept { return shared_peers::stage_bytes; }
  [[nodiscard]] std::size_t piece_bytes() const noexcept { return cadre::detail::piece_of(stage_bytes(), world()); }
  // The pieces of n bytes that belong to a node's ranks.
  [[nodiscard]] std::pair<std::size_t, std::size_t> run_of(int node, std::size_t n) const {
    const auto i = static_cast<std::size_t>(node);
    return {who_->first[i] * n, who_->first[i + 1] * n};
  }

  void begin(const call_record& call, std::chrono::nanoseconds timeout) {
    if (is_leader()) wire_->poll(member_->block());
    member_->begin(call, timeout);
  }

  // All ranks of all nodes agree on the call. `pack` writes this node's message of `bytes` bytes, and `unpack` makes the
  // result, which all ranks then find in slot 0 of the leader's stage, from the messages of all nodes; both run on the
  // leader.
  template <class Pack, class Unpack>
  void agree(Pack pack, std::size_t bytes, Unpack unpack) {
    member_->agree();
    if (is_leader()) {
      const auto nodes = static_cast<std::size_t>(wire_->nodes()), own = static_cast<std::size_t>(wire_->node());
      std::byte* const room = wire_->scratch(message_bytes_ * nodes);
      const auto message = [&](std::size_t node) { return room + node * message_bytes_; };
      std::memcpy(message(own), &member_->call(), sizeof(call_record));
      pack(message(own) + sizeof(call_record));
      std::vector<wire::part> sends;
      parts_.clear();
      for (std::size_t node = 0; node < nodes; ++node) {
        if (node == own) continue;
        sends.push_back({static_cast<int>(node), message(own), sizeof(call_record) + bytes});
        parts_.push_back({static_cast<int>(node), message(node), message_bytes_});
      }
      wire_->exchange(*member_, sends, parts_);
      check_calls(room);
      payloads_.clear();
      for (std::size_t node = 0; node < nodes; ++node) payloads_.push_back(message(node) + sizeof(call_record));
      unpack(stage(0, 0), payloads_);
    }
    member_->meet();
  }
  void agree_only() {
    agree([](std::byte*) {}, 0, [](std::byte*, std::span<const std::byte* const>) {});
  }

  void check_calls(const std::byte* room) {
    const auto call_of = [&](int node) {
      call_record call;
      std::memcpy(&call, room + static_cast<std::size_t>(node) * message_bytes_, sizeof call);
      return call;
    };
    const call_record expected = call_of(0);
    for (int node = 1; node < wire_->nodes(); ++node) {
      const call_record other = call_of(node);
      if (other.agrees_with(expected)) continue;
      const auto name = [&](int n) { return "rank " + std::to_string(who_->members(n)[0]); };
      member_->give_up(cadre::detail::break_reason::mismatch,
                       name(0) + " calls " + describe(expected) + ", but " + name(node) + " calls " + describe(other) +
                           "; all ranks must make the same calls in the same order");
      member_->block().throw_broken(member_->call());
    }
  }

  // A small message, reduced over all ranks on the way.
  void reduce_inline(const std::byte* bytes, std::size_t size, combine_function combine) {
    copy_bytes(member_->outbox(), bytes, size);
    agree(
        [&](std::byte* message) {
          for (int r = 0; r < member_->ranks(); ++r) sources_[static_cast<std::size_t>(r)] = member_->inbox(r);
          cadre::detail::reduce_tree(sources_, {&message, 1}, 0, size, combine);
        },
        size,
        [&](std::byte* result, std::span<const std::byte* const> messages) {
          cadre::detail::reduce_tree(messages, {&result, 1}, 0, size, combine);
        });
  }

  // This rank's share of n bytes of the slot, over the node's ranks, into the leader's stage.
  void reduce_on_node(std::size_t n, int slot, combine_function combine) {
    for (int r = 0; r < member_->ranks(); ++r) sources_[static_cast<std::size_t>(r)] = stage(r, slot);
    std::byte* const result = stage(0, slot);
    const auto [first, last] = cadre::detail::share_of(n, local(), member_->ranks());
    cadre::detail::reduce_tree(sources_, {&result, 1}, first, last, combine);
  }

  // Leaders: each node's range of the nodes' data, as range_of(node) gives it, is reduced on that node, in place.
  template <class Range>
  void reduce_scatter_nodes(std::byte* data, Range range_of, combine_function combine) {
    const int nodes = wire_->nodes(), own = wire_->node();
    const auto [first, last] = range_of(own);
    const std::size_t bytes = last - first;
    std::byte* const room = wire_->scratch(bytes * static_cast<std::size_t>(nodes));
    std::vector<wire::part> sends;
    parts_.clear();
    payloads_.clear();
    for (int node = 0; node < nodes; ++node) {
      std::byte* const received = room + static_cast<std::size_t>(node) * bytes;
      payloads_.push_back(node == own ? data + first : received);
      if (node == own) continue;
      const auto [begin_at, end_at] = range_of(node);
      if (begin_at != end_at) sends.push_back({node, data + begin_at, end_at - begin_at});
      if (bytes != 0) parts_.push_back({node, received, bytes});
    }
    wire_->exchange(*member_, sends, parts_);
    std::byte* const result = data + first;
    cadre::detail::reduce_tree(payloads_, {&result, 1}, 0, bytes, combine);
  }

  // Leaders: each node's range goes to all other nodes.
  template <class Range>
  void gather_nodes(std::byte* data, Range range_of) {
    const int nodes = wire_->nodes(), own = wire_->node();
    const auto [first, last] = range_of(own);
    std::vector<wire::part> sends;
    parts_.clear();
    for (int node = 0; node < nodes; ++node) {
      if (node == own) continue;
      const auto [begin_at, end_at] = range_of(node);
      if (first != last) sends.push_back({node, data + first, last - first});
      if (begin_at != end_at) parts_.push_back({node, data + begin_at, end_at - begin_at});
    }
    wire_->exchange(*member_, sends, parts_);
  }

  template <class Fill, class Reduce, class Carry, class Take>
  void pipeline(std::size_t size, std::size_t step, Fill fill, Reduce reduce, Carry carry, Take take) {
    const std::size_t stages = (size + step - 1) / step;
    const auto bytes = [&](std::size_t k) { return std::min(step, size - k * step); };
    const auto slot = [](std::size_t k) { return static_cast<int>(k % shared_peers::stage_slots); };
    for (std::size_t k = 0; k < stages + 2; ++k) {
      if (k < stages) fill(k * step, bytes(k), slot(k));
      if (k >= 1 && k <= stages) reduce(bytes(k - 1), slot(k - 1));
      if (k >= 2 && is_leader()) carry(bytes(k - 2), slot(k - 2));
      member_->meet();
      if (k >= 2) take((k - 2) * step, bytes(k - 2), slot(k - 2));
    }
  }

  const topology* who_;
  int rank_;
  member_type* member_;
  shared_peers* peers_;
  wire* wire_;
  std::size_t message_bytes_ = 0;
  std::vector<const std::byte*> sources_;   // of the node's ranks
  std::vector<const std::byte*> payloads_;  // of the nodes
  std::vector<wire::part> parts_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
