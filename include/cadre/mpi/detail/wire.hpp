#ifndef CADRE_MPI_DETAIL_WIRE_HPP
#define CADRE_MPI_DETAIL_WIRE_HPP

#include <cadre/comm/detail/call_record.hpp>
#include <cadre/comm/detail/control_block.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/mpi/detail/family.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/environment.hpp>
#include <cadre/os/futex.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// What a rank tells the leaders of the other nodes outside of any collective.
struct notice {
  std::uint32_t id = 0;
  std::int32_t node = 0;
  std::int32_t left = 0;  // the node's leader has destroyed its communicator; else: the communicator is broken
  cadre::detail::break_reason reason{};
  std::uint64_t sequence = 0;
  char why[1000] = "";
};

/// The way between the nodes of a communicator: messages between their leaders (rank 0 of each node), posted as
/// nonblocking operations and tested under the deadline of the call, and notices that a rank of any node has broken the
/// communicator.
class wire {
  using control_block = cadre::detail::control_block;
  using break_reason = cadre::detail::break_reason;

 public:
  struct part {
    int node;
    std::byte* data;
    std::size_t bytes;
  };

  /// `leaders` are family ranks by node, `names` are for the texts of errors; `memory` is what messages are sent from, kept while MPI may still read it.
  wire(std::shared_ptr<family> shared, std::uint32_t id, std::vector<int> leaders, std::vector<std::string> names,
       int node, bool is_leader, std::shared_ptr<void> memory)
      : family_(std::move(shared)),
        id_(id),
        leaders_(std::move(leaders)),
        names_(std::move(names)),
        node_(node),
        left_(leaders_.size(), false),
        memory_(std::move(memory)),
        scratch_(std::make_shared<std::vector<std::byte>>()) {
    family_->spans_nodes();
    if (is_leader) listen();
  }
  wire(const wire&) = delete;
  wire& operator=(const wire&) = delete;
  ~wire() {
    if (inbox_ == nullptr || environment::finalized()) return;
    const std::lock_guard lock(environment::get().mutex());
    ::MPI_Cancel(&listening_);
    ::MPI_Wait(&listening_, MPI_STATUS_IGNORE);
  }

  [[nodiscard]] int nodes() const noexcept { return static_cast<int>(leaders_.size()); }
  [[nodiscard]] int node() const noexcept { return node_; }
  /// Room for received messages, of at least `bytes`.
  [[nodiscard]] std::byte* scratch(std::size_t bytes) {
    if (scratch_->size() < bytes) scratch_->resize(bytes);
    return scratch_->data();
  }

  /// Tells the other nodes why this rank has broken the communicator. Any thread may call it.
  void announce(break_reason reason, std::uint64_t sequence, std::string_view why) noexcept {
    send_notice({.id = id_, .node = node_, .reason = reason, .sequence = sequence}, why);
  }
  /// Tells the other nodes that this leader makes no further calls.
  void announce_departure() noexcept { send_notice({.id = id_, .node = node_, .left = 1}, {}); }

  /// Leaders: takes in what other nodes have told.
  void poll(control_block& block) noexcept {
    if (inbox_ == nullptr || environment::finalized()) return;
    for (;;) {
      int done = 0;
      {
        const std::lock_guard lock(environment::get().mutex());
        if (::MPI_Test(&listening_, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return;
      }
      if (done == 0) return;
      if (inbox_->id == id_ && inbox_->node >= 0 && inbox_->node < nodes()) {
        if (inbox_->left != 0) {
          left_[static_cast<std::size_t>(inbox_->node)] = true;
        } else {
          inbox_->why[sizeof inbox_->why - 1] = '\0';
          block.break_with(inbox_->reason, inbox_->sequence, inbox_->why);
          futex::wake_all(block.gate, futex::scope::shared);
        }
      }
      listen();
    }
  }

  /// Leaders: sends and receives all parts. `member` gives the deadline and learns of failures; throws what broke the
  /// communicator.
  template <class Member>
  void exchange(Member& member, std::span<const part> sends, std::span<const part> receives) {
    if (environment::finalized()) {
      member.give_up(break_reason::aborted, "MPI has been finalised, and " + describe(member.call()) + " spans nodes");
      member.block().throw_broken(member.call());
    }
    std::vector<MPI_Request> requests(sends.size() + receives.size(), MPI_REQUEST_NULL);
    {
      const std::lock_guard lock(environment::get().mutex());
      std::size_t i = 0;
      for (const part& p : receives)
        check(::MPI_Irecv(p.data, static_cast<int>(p.bytes), MPI_BYTE, leader(p.node), family_->data_tag(id_),
                          family_->comm(), &requests[i++]),
              "MPI_Irecv");
      for (const part& p : sends)
        check(::MPI_Isend(p.data, static_cast<int>(p.bytes), MPI_BYTE, leader(p.node), family_->data_tag(id_),
                          family_->comm(), &requests[i++]),
              "MPI_Isend");
    }
    for (unsigned round = 0; !test(requests, member); ++round) {
      poll(member.block());
      bool give_up = (member.block().gate.load() & control_block::broken_flag) != 0;
      if (!give_up && round % 64 == 63) give_up = overdue(member, requests, receives);
      if (give_up) {
        retire(requests, receives.size());
        member.block().throw_broken(member.call());
      }
      if (round > 20000)
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      else if (round > 200)
        std::this_thread::yield();
    }
  }

 private:
  [[nodiscard]] const std::string& name(int node) const { return names_[static_cast<std::size_t>(node)]; }
  [[nodiscard]] int leader(int node) const { return leaders_[static_cast<std::size_t>(node)]; }

  void listen() noexcept {
    if (inbox_ == nullptr) inbox_ = std::make_unique<notice>();
    const std::lock_guard lock(environment::get().mutex());
    ::MPI_Irecv(inbox_.get(), static_cast<int>(sizeof(notice)), MPI_BYTE, MPI_ANY_SOURCE, family_->notice_tag(id_),
                family_->comm(), &listening_);
  }

  void send_notice(notice about, std::string_view why) noexcept {
    try {
      if (environment::finalized()) return;
      const std::size_t n = std::min(why.size(), sizeof about.why - 1);
      why.copy(about.why, n);
      about.why[n] = '\0';
      const auto message = std::make_shared<notice>(about);
      const int bytes = static_cast<int>(offsetof(notice, why) + n + 1);
      const std::lock_guard lock(environment::get().mutex());
      for (int other = 0; other < nodes(); ++other) {
        if (other == node_) continue;
        MPI_Request request = MPI_REQUEST_NULL;
        ::MPI_Isend(message.get(), bytes, MPI_BYTE, leader(other), family_->notice_tag(id_), family_->comm(), &request);
        int sent = 0;  // at once for so small a message, whether or not anybody receives it
        ::MPI_Test(&request, &sent, MPI_STATUS_IGNORE);
        if (sent != 0) continue;
        ::MPI_Request_free(&request);
        environment::get().keep(message);
      }
    } catch (...) {
      // Without memory the other nodes learn of it by their timeouts.
    }
  }

  template <class Member>
  bool test(std::vector<MPI_Request>& requests, Member& member) {
    int done = 0, code = MPI_SUCCESS;
    {
      const std::lock_guard lock(environment::get().mutex());
      code = ::MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE);
    }
    if (code == MPI_SUCCESS) return done != 0;
    const auto error = mpi_error::call_failed("a message between nodes", code);
    member.give_up(break_reason::aborted, error.what());
    throw error;
  }

  // Breaks the communicator if a node that is still waited for has left, or if the time is over.
  template <class Member>
  bool overdue(Member& member, std::vector<MPI_Request>& requests, std::span<const part> receives) {
    std::string late;
    int gone = -1;
    {
      const std::lock_guard lock(environment::get().mutex());
      for (std::size_t i = 0; i < receives.size(); ++i) {
        int arrived = 1;
        if (requests[i] != MPI_REQUEST_NULL) ::MPI_Request_get_status(requests[i], &arrived, MPI_STATUS_IGNORE);
        if (arrived != 0) continue;
        late += (late.empty() ? "" : ", ") + name(receives[i].node);
        if (left_[static_cast<std::size_t>(receives[i].node)]) gone = receives[i].node;
      }
    }
    const auto now = std::chrono::steady_clock::now();
    if (gone >= 0) {
      // What the node sent before it left may still be on its way.
      if (departure_seen_ == std::chrono::steady_clock::time_point{}) departure_seen_ = now;
      if (now - departure_seen_ < std::chrono::milliseconds(500)) return false;
      member.give_up(break_reason::aborted, name(gone) + " has left the communicator while " + name(node_) +
                                                " waits in " + describe(member.call()));
      return true;
    }
    if (now < member.deadline()) return false;
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(member.limit()).count();
    member.give_up(break_reason::timeout,
                   name(node_) + " waited " + std::to_string(ms) + " ms in " + describe(member.call()) + "; " +
                       (late.empty() ? "its messages were not taken" : "not arrived: " + late) +
                       ". A rank that fails must abort the communicator; a slow one needs a longer set_timeout");
    return true;
  }

  // MPI may still read and write the buffers of requests that were given up: they are kept until the process ends.
  void retire(std::vector<MPI_Request>& requests, std::size_t receives) {
    const std::lock_guard lock(environment::get().mutex());
    for (std::size_t i = 0; i < requests.size(); ++i) {
      if (requests[i] == MPI_REQUEST_NULL) continue;
      if (i < receives) ::MPI_Cancel(&requests[i]);
      ::MPI_Request_free(&requests[i]);
    }
    environment::get().keep(memory_);
    environment::get().keep(scratch_);
    scratch_ = std::make_shared<std::vector<std::byte>>();
  }

  std::shared_ptr<family> family_;
  std::uint32_t id_;
  std::vector<int> leaders_;
  std::vector<std::string> names_;
  int node_;
  std::vector<bool> left_;
  std::shared_ptr<void> memory_;
  std::shared_ptr<std::vector<std::byte>> scratch_;
  std::chrono::steady_clock::time_point departure_seen_{};
  std::unique_ptr<notice> inbox_;
  MPI_Request listening_ = MPI_REQUEST_NULL;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
