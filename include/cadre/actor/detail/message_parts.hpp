#ifndef CADRE_ACTOR_DETAIL_MESSAGE_PARTS_HPP
#define CADRE_ACTOR_DETAIL_MESSAGE_PARTS_HPP

#include <cadre/actor/detail/link.hpp>
#include <cadre/archive/error.hpp>
#include <cadre/archive/input_archive.hpp>
#include <cadre/archive/output_archive.hpp>
#include <cadre/core/function.hpp>
#include <cadre/store/error.hpp>
#include <cadre/store/travel.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Writes the refs of one message, which are mailed within the node's store or lent to another node: see message_refs.hpp.
class sent_refs : public ref_writer {
 public:
  /// The message is on its way; else it takes its refs back when this ends.
  virtual void sent() noexcept = 0;
};

/// What a message to another rank has beside its bytes: refs, and blocks of memory, which leave from where they lie.
class outgoing_parts final : public ref_writer {
 public:
  /// `encloses`: something keeps the memory of blocks until they have left.
  explicit outgoing_parts(bool encloses) noexcept : encloses_(encloses) {}
  void write_refs_by(std::unique_ptr<sent_refs> writer) noexcept { refs_ = std::move(writer); }

  [[nodiscard]] bool encloses() const noexcept { return encloses_; }
  void enclose(std::span<const std::byte> block) { blocks_.push_back(block); }
  [[nodiscard]] std::vector<std::span<const std::byte>> take_blocks() noexcept { return std::move(blocks_); }

  /// The message is on its way; else it takes its refs back when this ends.
  void sent() noexcept {
    if (refs_ != nullptr) refs_->sent();
  }

 private:
  void write(output_archive& to, store_core* core, std::uint32_t index) override {
    if (refs_ == nullptr) throw ref_cannot_travel("an object_ref is in a message that can hold none");
    static_cast<ref_writer&>(*refs_).write(to, core, index);
  }

  bool encloses_;
  std::unique_ptr<sent_refs> refs_;
  std::vector<std::span<const std::byte>> blocks_;
};

/// The same of a message that has come. Its blocks are still on their way.
class incoming_parts final : public ref_reader {
 public:
  explicit incoming_parts(incoming& message) noexcept : message_(message) {}
  void read_refs_by(std::unique_ptr<ref_reader> reader) noexcept { refs_ = std::move(reader); }

  /// The size of the next block, in bytes. Throws archive_corrupt (502) if there is none.
  [[nodiscard]] std::uint64_t next_block() const {
    if (into_.size() >= message_.block_sizes().size()) throw archive_corrupt("a block that did not come along", 0);
    return message_.block_sizes()[into_.size()];
  }
  void receive_next(std::span<std::byte> where) { into_.push_back(where); }
  [[nodiscard]] bool has_blocks() const noexcept { return !into_.empty(); }
  /// After all of them. `keep` is let go when nothing writes to them any more; `done(true)`: they are there.
  void receive(std::shared_ptr<void> keep, move_only_function<void(bool)> done) {
    message_.receive_blocks({.into = std::exchange(into_, {}), .keep = std::move(keep), .done = std::move(done)});
  }

 private:
  found read(input_archive& from, const stored_label& label) override {
    if (refs_ == nullptr) throw ref_cannot_travel("an object_ref is read from a message that can hold none");
    return static_cast<ref_reader&>(*refs_).read(from, label);
  }

  incoming& message_;
  std::unique_ptr<ref_reader> refs_;
  std::vector<std::span<std::byte>> into_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
