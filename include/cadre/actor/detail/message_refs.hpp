#ifndef CADRE_ACTOR_DETAIL_MESSAGE_REFS_HPP
#define CADRE_ACTOR_DETAIL_MESSAGE_REFS_HPP

#include <cadre/actor/detail/far_objects.hpp>
#include <cadre/actor/detail/message_parts.hpp>
#include <cadre/archive/input_archive.hpp>
#include <cadre/archive/output_archive.hpp>
#include <cadre/store/error.hpp>
#include <cadre/store/object_store.hpp>
#include <cadre/store/travel.hpp>

#include <cstdint>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Writes refs into a message for a rank of this node: see ref_sender.
class near_writer final : public sent_refs {
 public:
  explicit near_writer(const object_store& store) : mail_(store) {}
  void sent() noexcept override { mail_.sent(); }

 private:
  void write(output_archive& to, store_core* core, std::uint32_t index) override {
    static_cast<ref_writer&>(mail_).write(to, core, index);
  }

  ref_sender mail_;
};

/// Writes refs into a message for a rank of another node, which it lends the objects.
class far_writer final : public sent_refs {
 public:
  far_writer(far_objects& far, const object_store& store, int to) : far_(far), store_(store), to_(to) {}
  /// A message that was not sent takes them back.
  ~far_writer() override {
    for (const std::uint64_t key : lent_) far_.take_back(to_, key, 1);
  }
  void sent() noexcept override { lent_.clear(); }

 private:
  void write(output_archive& to, store_core* core, std::uint32_t index) override {
    object_loan l;
    if (core != nullptr) {
      if (core != &object_ref_access::core(store_)) throw bad_store_option("a ref of another store is used");
      lent_.reserve(lent_.size() + 1);
      l = far_.lend(to_, *core, index);
      lent_.push_back(l.key);
    }
    to(l);
  }

  far_objects& far_;
  const object_store& store_;
  int to_;
  std::vector<std::uint64_t> lent_;
};

/// Reads refs from a message of a rank of another node.
class far_reader final : public ref_reader {
 public:
  far_reader(far_objects& far, const object_store& store, int from) : far_(far), store_(store), from_(from) {}

 private:
  found read(input_archive& from, const stored_label& label) override {
    object_loan l;
    from(l);
    if (l.rank < 0) return {};
    store_core& core = object_ref_access::core(store_);
    return {&core, far_.borrow(from_, l, core, label)};
  }

  far_objects& far_;
  const object_store& store_;
  int from_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
