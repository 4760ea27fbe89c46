#ifndef CADRE_MPI_DETAIL_MESSAGE_LINK_CLASS_HPP
#define CADRE_MPI_DETAIL_MESSAGE_LINK_CLASS_HPP

#include <cadre/actor/detail/link.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/mpi/detail/batch.hpp>
#include <cadre/mpi/detail/doorbell.hpp>
#include <cadre/mpi/detail/far_bell.hpp>
#include <cadre/mpi/detail/heartbeats.hpp>
#include <cadre/mpi/detail/inbound.hpp>
#include <cadre/mpi/detail/inbox.hpp>
#include <cadre/mpi/detail/message_ring.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/detail/node_watch.hpp>
#include <cadre/mpi/detail/outbox.hpp>
#include <cadre/mpi/detail/ring_blocks.hpp>
#include <cadre/mpi/detail/topology.hpp>
#include <cadre/mpi/detail/transfers.hpp>
#include <cadre/mpi/detail/waker.hpp>
#include <cadre/mpi/environment.hpp>
#include <cadre/mpi/error.hpp>
#include <cadre/os/thread.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// What the ranks tell each other when a link is made.
struct process_card {
  std::int32_t process = 0;
  std::int32_t most_later = 0;  // see link_options, as the next one
  std::int64_t silence = 0;     // ns
  char host[64] = "";
  far_bell_address bell = {};  // for ranks of other nodes
};

/// One that this process has a communicator of two with: a member that has come after the others, or any other as such a one
/// sees it.
struct acquaintance {
  int member = 0;  ///< the number that it is known by in the job
  int rank = 0;    ///< which it has there
  MPI_Comm comm = MPI_COMM_NULL;
  bool is_near = false;  ///< of this node
  process_card card;
};

struct link_options {
  /// Bytes under way to a rank above which senders make progress first.
  std::uint64_t credit = std::uint64_t{16} << 20;
  /// For making the link, and for how long a rank may take nothing from a sender that has used up its credit.
  std::chrono::nanoseconds timeout = std::chrono::seconds(60);
  /// A rank of another node of which nothing is heard for so long is dead; 0: never. That of rank 0 counts.
  std::chrono::nanoseconds silence = std::chrono::seconds(10);
  /// So many processes may come later, in place of others. That of rank 0 counts.
  int most_later = 0;
  /// Of the ring in memory from one rank to another of its node, a power of 2, at most; 0: none. Small ones take no blocks.
  /// The same on all ranks.
  std::size_t ring_bytes = std::size_t{256} << 10;
};

/// Messages between ranks. Small ones are put together in batches, which go through rings in memory on the node, else by MPI
/// into posted buffers; blocks follow through the ring, or are messages of MPI of their own between the users' memory. All
/// calls of MPI are nonblocking, under the lock of the environment.
/// A rank has one thread of its own for when nobody else makes progress: it sleeps on the rank's doorbell and looks by
/// itself every 50 us after something has come, up to every 50 ms when nothing does. A second one rings that bell when a
/// rank of the node has ended, or one of another node, silent before, says by the network that it has sent something; until
/// that has been seen to work, the first one looks every 5 ms.
/// Rank 0 is told, and tells all others; that it has died itself is told by the ranks of its node. Where nobody is left to
/// tell, a rank of another node is dead when nothing is heard of it for link_options::silence. A process that is to outlive
/// others ignores SIGPIPE, which comes of writing to their sockets. To be closed or destroyed before MPI_Finalize.
///
/// Two threads of a rank may race for the progress; whoever has it delivers, with no lock but that right held.
class message_link final : public cadre::detail::link {
  using time_point = std::chrono::steady_clock::time_point;
  using urgency = cadre::detail::urgency;

 public:
  /// Every rank of `comm`, which is duplicated. Throws communicator_timeout (401), mapping_error (159), mpi_error
  /// (1101, 1102).
  explicit message_link(MPI_Comm comm, const link_options& options = {});
  /// Of a process that has come later, as `me`, which needs no communicator; the members that live are `others`.
  message_link(const acquaintance& me, const std::vector<acquaintance>& others, int world_size, int members,
               const link_options& options);
  message_link(const message_link&) = delete;
  message_link& operator=(const message_link&) = delete;
  /// Without a close() before, or after a death, what MPI may still touch is kept until the process ends, and MPI is not
  /// finalised.
  ~message_link() override { stop(); }

  [[nodiscard]] int rank() const noexcept override { return rank_; }
  [[nodiscard]] int world_size() const noexcept override { return world_size_; }
  [[nodiscard]] int members() const noexcept override { return members_.load(std::memory_order_acquire); }
  [[nodiscard]] int most_members() const noexcept override { return static_cast<int>(peers_.size()); }
  [[nodiscard]] int rank_of(int member) const noexcept override { return at(member).rank; }
  /// Messages to and from one that has come later, which is in the job from now on, unless its death is known already: false
  /// then.
  bool admit(const acquaintance& newcomer);
  [[nodiscard]] const process_card& card_of(int member) const noexcept {
    return processes_[static_cast<std::size_t>(member)];
  }

  // As of class job: virtual functions are defined in the class, here by those that other headers define.
  void start(cadre::detail::message_sink& sink) override { start_thread(sink); }

  /// Throws peer_died (1103), message_error (1104, 1105, 1108).
  void send(int to, std::span<const std::byte> bytes, urgency how) override { send_small(to, bytes, how); }
  void send(int to, const cadre::detail::written_in_place& message, urgency how) override {
    send_small(to, message, how);
  }
  void send(int to, cadre::detail::outgoing&& message, urgency how) override {
    send_large(to, std::move(message), how);
  }
  [[nodiscard]] std::uint64_t sent() const noexcept override {
    std::uint64_t n = 0;
    for (const auto& p : peers_) n += p->out.messages();
    return n;
  }
  void flush() override {
    for (std::size_t word = 0; word < unsent_.size(); ++word)
      if (unsent_[word].load(std::memory_order_relaxed) != 0) flush(word);
  }

  bool poll() noexcept override {
    // Whoever has something to send would hardly get the lock from one who looks again and again.
    if (senders_.load(std::memory_order_relaxed) != 0) return false;
    if (busy_.load(std::memory_order_relaxed) || busy_.exchange(true, std::memory_order_acquire)) {
      if (!others_came_.load(std::memory_order_relaxed)) others_came_.store(true, std::memory_order_relaxed);
      return false;
    }
    const bool moved = sink_ != nullptr && progress();
    busy_.store(false, std::memory_order_release);
    if (moved) wake();
    return moved;
  }
  // The thread, which sleeps while others look, is rung from now on.
  bool poll_last() noexcept override {
    bell().announce_sleep();
    return poll();
  }
  [[nodiscard]] std::uint64_t patience() const noexcept override {
    if (!is_transferring()) return spin_ticks_;
    // Of a large argument more comes while both sides look; batches need the system's TCP, from which who looks takes the
    // processor.
    const bool only_batches =
        has_requests_.load(std::memory_order_relaxed) && !has_blocks_.load(std::memory_order_relaxed);
    return only_batches ? std::min(spin_ticks_, near_ticks) : transfer_ticks_;
  }
  /// Throws message_error (1108) when called by the sink.
  bool wait_while(const std::atomic<std::uint32_t>& word, std::uint32_t value, time_point deadline) override {
    return wait_for_change(word, value, deadline);
  }
  void wake() noexcept override {
    // An exchange of the same word on both sides: a waiter that is not seen here sees what was done before.
    if (sleepers_.fetch_add(0, std::memory_order_acq_rel) != 0) bell().ring();
  }

  [[nodiscard]] bool is_alive(int rank) const noexcept override {
    return peers_[static_cast<std::size_t>(rank)]->alive.load(std::memory_order_acquire);
  }
  void declare_dead(int rank, std::string how) override { declare_dead(rank, std::move(how), knowledge::guess); }
  /// Throws message_error (1106).
  void close(time_point deadline) override { end(deadline); }

 private:
  friend class inbound;

  /// How this rank knows of a death: it has seen it, or was told, or nothing works any more with that rank.
  enum class knowledge : std::uint8_t { seen, told, guess };
  // What is still to come of a block.
  struct block_in {
    std::byte* into;
    std::uint64_t bytes;
    std::uint64_t next_piece;
    std::shared_ptr<blocks_in> whole;
  };
  struct peer {
    explicit peer(int number) : rank(number), in(number) {}
    // To it and from it; both ranks see it alike.
    [[nodiscard]] bool has_blocks_by_ring() const noexcept { return ring && ring->takes_all(); }

    int rank;  // this and the next four change before it is alive
    MPI_Comm comm = MPI_COMM_NULL;
    int address = 0;  // its rank there
    bool is_near = false;
    doorbell* bell = nullptr;         // of a rank that began on this node
    std::optional<ring_writer> ring;  // to such a one; under the lock of MPI
    bool is_to_come = true;           // under deaths_mutex_
    outbox out;
    std::atomic<bool> alive{false};
    std::atomic<std::uint32_t> taken{0};            // bytes of its records, modulo 2^32
    std::atomic<std::uint32_t> told{0};             // of these it knows
    std::atomic<bool> heard{false}, spoken{false};  // since the last beat
    std::atomic<bool> is_complete{false};           // nothing comes any more, as it has closed
    std::string how_it_died;                        // under deaths_mutex_, as the next one
    knowledge known_by{};
    // Under the lock of MPI:
    std::uint32_t sequence = 0;
    int leaving = 0;        // batches that MPI has not done with
    bool flushing = false;  // what is in the open batch is to go when one of these has, or the ring has room
    blocks_to_ring blocks_to_go;
    bool waits_for_ring = false;  // is in to_full_rings_
    std::uint64_t sent_at = 0;    // ticks, of one of another node
    std::deque<block_out> to_leave;
    std::deque<block_in> to_come;
    int pieces_leaving = 0, pieces_coming = 0;
    // Of whoever makes progress:
    inbound in;
    blocks_from_ring blocks_to_come;
    bool buried = false;
  };
  // A large batch needs the receiver: no more of them than receives that a rank can lose when another one dies.
  static constexpr int most_leaving = 4;
  static constexpr std::size_t receives = 8;
  static constexpr int most_pieces_leaving = 8;
  static constexpr int most_pieces_coming = 3;
  static constexpr int batch_tag = 0;
  static constexpr std::uint64_t near_ticks = 150'000;  // for which a rank looks whom others ring for: some 50 us

  std::mutex& mpi() const noexcept { return environment_.mutex(); }
  // The lock of MPI, for a sender.
  class sending {
   public:
    explicit sending(message_link& link) : link_(link) {
      link.senders_.fetch_add(1, std::memory_order_relaxed);
      link.mpi().lock();
    }
    sending(const sending&) = delete;
    sending& operator=(const sending&) = delete;
    ~sending() {
      link_.mpi().unlock();
      link_.senders_.fetch_sub(1, std::memory_order_relaxed);
    }

   private:
    message_link& link_;
  };
  [[nodiscard]] peer& at(int rank) const noexcept { return *peers_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] doorbell& bell() const noexcept { return *at(rank_).bell; }
  [[nodiscard]] int tag_of(std::uint64_t piece_number) const noexcept {
    return 1 + static_cast<int>(piece_number % static_cast<std::uint64_t>(last_tag_));
  }
  // Whoever sends no more need not know what was taken.
  [[nodiscard]] bool owes_acknowledgement(const peer& p) const noexcept {
    const std::uint32_t untold = p.taken.load(std::memory_order_relaxed) - p.told.load(std::memory_order_relaxed);
    return untold > options_.credit / 4 && !p.in.has_farewell();
  }
  [[nodiscard]] bool is_delivering() const noexcept { return delivering_ == this; }

  peer& target(int to) {
    if (to < 0 || to >= members() || to == rank_) [[unlikely]]
      refuse(to);
    peer& p = at(to);
    if (!p.alive.load(std::memory_order_acquire)) [[unlikely]]
      refuse(p);
    return p;
  }
  [[noreturn]] [[gnu::cold]] void refuse(int to) const {
    throw message_error::misuse("no message goes from rank " + std::to_string(rank_) + " to rank " +
                                std::to_string(to) + " of " + std::to_string(world_size()));
  }
  [[noreturn]] [[gnu::cold]] void refuse(peer& p);
  void make_peers(int world_size, int members);
  void begin(std::size_t near);
  void start_thread(cadre::detail::message_sink& sink);
  void send_large(int to, cadre::detail::outgoing&& message, urgency how);
  void end(time_point deadline);
  template <class Message>
  void send_small(int to, const Message& message, urgency how) {
    peer& p = target(to);
    if (how == urgency::normal && p.out.under_way() > options_.credit) [[unlikely]]
      wait_for_room(p);
    note(to, p, p.out.append(message));
  }
  void note(int to, peer& p, outbox::appended done) {
    if (!done.allowed()) [[unlikely]]
      refuse(p);
    if (done.first()) note_unsent(to);
    if (done.filled()) [[unlikely]]
      push_full(to, p);
  }
  [[gnu::noinline]] void note_unsent(int to) {
    unsent_[static_cast<std::size_t>(to) / 64].fetch_or(std::uint64_t{1} << (to % 64), std::memory_order_seq_cst);
    call_thread();
  }
  void push_full(int to, peer& p);
  [[gnu::cold]] void wait_for_room(peer& p);
  void flush(std::size_t word);
  bool push(int to, peer& p, bool all, bool acknowledge = false);
  void push_batch(int to, peer& p, std::unique_ptr<batch_out> batch);
  void push_pieces(int to, peer& p);
  void push_part(peer& p);
  void ring_afar(int to, peer& p);

  bool progress() noexcept;
  bool look_into_rings(bool& of_dead);
  const char* read_frame(int from, ring_reader& ring);
  void note_awaited() noexcept;
  bool look_at_mpi(int looks, bool& moved, bool& of_dead);
  void deliver(int from, std::span<const std::byte> batch);
  void begin_transfer(MPI_Request request, transfer about) {
    if (about.batch == nullptr) has_blocks_.store(true, std::memory_order_relaxed);
    transfers_.add(request, std::move(about));
    has_requests_.store(true, std::memory_order_relaxed);
    set_transferring();
  }
  void set_transferring() {
    if (!transferring_.exchange(true, std::memory_order_seq_cst)) call_thread();
  }
  // Both sides are needed.
  [[nodiscard]] bool is_transferring() const noexcept {
    return transferring_.load(std::memory_order_relaxed) || awaits_blocks_.load(std::memory_order_relaxed);
  }
  // After something that the thread may not have seen before its nap: it tells of the nap, then looks once more.
  void call_thread() noexcept {
    if (!naps_long_.load(std::memory_order_seq_cst)) [[likely]]
      return;
    if (naps_long_.exchange(false, std::memory_order_seq_cst)) waker_.wake_soon();
  }
  [[nodiscard]] std::chrono::nanoseconds longest_nap() const noexcept {
    constexpr std::chrono::nanoseconds alone = std::chrono::milliseconds(5), woken = std::chrono::milliseconds(50);
    if (!waker_.works()) return alone;
    if (is_one_node_.load(std::memory_order_relaxed)) return woken;
    if (!far_bell_ || !far_bell_->was_rung()) return alone;
    return beats_->interval() == beats_->interval().zero() ? woken : std::min(beats_->interval(), woken);
  }
  [[nodiscard]] bool has_unsent() const noexcept {
    return std::any_of(unsent_.begin(), unsent_.end(),
                       [](const auto& word) { return word.load(std::memory_order_seq_cst) != 0; });
  }
  void settle(transfer&& done, int code);
  void finish();
  void receive_blocks(int from, cadre::detail::incoming& message, std::uint64_t first_piece);
  void post_pieces(int from, peer& p);
  void bury() noexcept;
  void declare_dead(int rank, std::string how, knowledge by);
  void pass_on(int dead, const std::string& how, knowledge by);
  void beat();
  void watch_newcomers();

  // What `inbound` tells.
  bool acknowledged(int from, std::uint32_t taken) noexcept { return at(from).out.acknowledge(taken); }
  void message(int from, std::span<const std::byte> bytes, std::span<const std::uint64_t> block_sizes,
               std::uint64_t first_piece) {
    cadre::detail::incoming one(bytes, block_sizes);
    sink_->receive(from, one);
    if (!block_sizes.empty()) [[unlikely]]
      receive_blocks(from, one, first_piece);
  }
  [[gnu::cold]] bool told(int, std::uint64_t rank, std::span<const std::byte> how) {
    if (rank >= peers_.size()) return false;
    declare_dead(static_cast<int>(rank), std::string(reinterpret_cast<const char*>(how.data()), how.size()),
                 knowledge::told);
    return true;
  }
  [[gnu::cold]] void malformed(int from, const std::string& why) {
    at(from).in.close();
    const auto error = message_error::malformed(at(from).rank, why);
    sink_->fault(from, error);
    declare_dead(from, error.what());
  }

  template <class Ready>
  bool wait(Ready&& ready, time_point deadline);
  bool wait_for_change(const std::atomic<std::uint32_t>& word, std::uint32_t value, time_point deadline);
  void tend() noexcept;
  void stop() noexcept;

  static inline constinit thread_local const message_link* delivering_ = nullptr;

  environment& environment_;
  link_options options_;
  MPI_Comm comm_ = MPI_COMM_NULL;  // null for one that has come later
  int rank_ = 0, world_size_ = 0;
  int last_tag_ = 0;
  std::atomic<int> members_{0};
  std::atomic<bool> is_one_node_{true};
  std::uint64_t spin_ticks_ = 0, transfer_ticks_ = 0;
  cadre::detail::message_sink* sink_ = nullptr;
  std::vector<std::unique_ptr<peer>> peers_;
  std::optional<doorbells> bells_;
  doorbell own_bell_;  // of one that has come later
  std::optional<far_bell> far_bell_;
  std::optional<node_watch> watch_;
  waker waker_;
  std::optional<heartbeats> beats_;
  std::vector<process_card> processes_;  // by number
  std::optional<message_rings> rings_;
  std::vector<std::pair<int, ring_reader>> from_rings_;  // of whoever makes progress, as the next two
  unsigned looks_past_mpi_ = 0;
  bool only_rings_ = false;  // nothing comes by MPI from those that began on this node
  inbox inbox_{batch_tag};
  transfers transfers_;                              // under the lock of MPI
  std::vector<std::shared_ptr<const void>> left_;    // of blocks that have gone; under the lock of MPI
  std::vector<std::shared_ptr<const void>> let_go_;  // of whoever makes progress, as the next ones
  std::vector<std::shared_ptr<blocks_in>> came_;     // all pieces are there
  std::vector<int> with_blocks_;                     // ranks whose blocks are to be received
  unsigned quiet_ = 0;  // looks since a batch of a dead rank came, while its death is to be told
  std::vector<std::atomic<std::uint64_t>> unsent_;  // a bit per rank: its outbox has an open batch
  std::vector<int> to_full_rings_;                  // ranks for which there is more; under the lock of MPI
  alignas(64) std::atomic<bool> busy_{false};       // somebody makes progress
  std::atomic<std::uint64_t> looks_{0};             // how often, for the thread: others do
  std::atomic<bool> others_came_{false};            // and would have, while it did
  std::atomic<bool> naps_long_{false};              // the thread
  std::atomic<bool> transferring_{false};           // requests of MPI are not complete, or a ring is full
  std::atomic<bool> has_requests_{false};           // whether the former
  std::atomic<bool> has_blocks_{false};             // and some of these are no batches
  std::atomic<bool> awaits_blocks_{false};          // by rings; of whoever makes progress
  alignas(64) std::atomic<std::uint32_t> sleepers_{0};
  std::atomic<std::uint32_t> senders_{0};  // who have the lock of MPI, or wait for it
  std::mutex deaths_mutex_;
  std::vector<int> deaths_;     // to be told
  std::vector<int> newcomers_;  // to be watched
  std::atomic<bool> has_deaths_{false}, has_newcomers_{false};
  std::atomic<bool> somebody_died_{false};
  std::atomic<bool> stopping_{false};
  bool closed_ = false, stopped_ = false;
  native_thread thread_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
