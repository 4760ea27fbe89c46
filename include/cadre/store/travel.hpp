#ifndef CADRE_STORE_TRAVEL_HPP
#define CADRE_STORE_TRAVEL_HPP

#include <cadre/archive/input_archive.hpp>
#include <cadre/archive/output_archive.hpp>
#include <cadre/store/detail/ref_mail.hpp>
#include <cadre/store/object_ref.hpp>
#include <cadre/store/object_store.hpp>

#include <array>
#include <concepts>
#include <cstdint>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Writes refs into one message, for a receiver that reads them with its counterpart: ref_sender does so within a store.
class ref_writer : public archive_extension {
 public:
  /// Of an object that lives; `core` is null for a ref to nothing.
  virtual void write(output_archive& to, detail::store_core* core, std::uint32_t index) = 0;
};

/// Reads refs from one message.
class ref_reader : public archive_extension {
 public:
  struct found {
    detail::store_core* core = nullptr;  ///< null for a ref to nothing
    std::uint32_t index = 0;             ///< with a ref for the caller
  };
  /// `label`: of the type that is asked for, which the caller compares.
  virtual found read(input_archive& from, const detail::stored_label& label) = 0;
};

/// Lets object_refs be written into one message for another process of the same store. Each holds its object until the
/// receiver has read the message, which then holds it itself: neither a SIGKILL of the sender nor of the receiver, at any
/// step, leaves an object behind or frees one that the other has. What a sender that dies has on its way goes with it.
///
///     cadre::ref_sender sender(store, process);       // store.process() of the receiver
///     cadre::output_archive archive(buffer, &sender);
///     archive(ref, more);
///     send(buffer);
///     sender.sent();
///
/// Thread-safety: one thread at a time. The store, or a copy of it, must live as long.
class ref_sender final : public ref_writer {
 public:
  /// Whoever reads the message first. What is on its way when the receiver dies without having read it then stays with
  /// this process; name the receiver where it is known.
  static constexpr std::uint32_t any_process = detail::any_process;

  explicit ref_sender(const object_store& store, std::uint32_t to = any_process) : store_(store), to_(to) {}
  /// A message that was not sent takes its refs back.
  ~ref_sender() override { take_back(); }

  /// The message is on its way: from here on the refs in it are the receiver's to take.
  void sent() noexcept { tickets_.clear(); }
  /// The message will not be read: its refs hold nothing any more.
  void take_back() noexcept {
    for (const detail::ref_mail::ticket& t : tickets_) detail::ref_mail(*store_.core_).cancel(t);
    tickets_.clear();
  }

 private:
  void write(output_archive& to, detail::store_core* core, std::uint32_t index) override {
    detail::ref_mail::ticket ticket;
    std::array<std::uint64_t, 2> id{};
    if (core != nullptr) {
      if (core != store_.core_) throw bad_store_option("a ref of another store is used");
      tickets_.reserve(tickets_.size() + 1);
      ticket = detail::ref_mail(*core).send(index, to_);
      tickets_.push_back(ticket);
      id = core->id();
    }
    to(id, ticket.number, ticket.generation);
  }

  object_store store_;
  std::uint32_t to_;
  std::vector<detail::ref_mail::ticket> tickets_;
};

/// Lets object_refs be read from a message that was written with a ref_sender; each message once.
///
///     cadre::ref_receiver receiver(store);
///     cadre::input_archive archive(bytes, &receiver);
///     archive(ref, more);
class ref_receiver final : public ref_reader {
 public:
  explicit ref_receiver(const object_store& store) : store_(store) {}

 private:
  found read(input_archive& from, const detail::stored_label&) override {
    detail::ref_mail::ticket ticket;
    std::array<std::uint64_t, 2> id{};
    from(id, ticket.number, ticket.generation);
    if (ticket.number == detail::no_index) return {};
    detail::store_core& core = *store_.core_;
    if (id != core.id()) throw ref_cannot_travel("an object_ref of another store, or of another node's, is read");
    const std::uint32_t i = detail::ref_mail(core).receive(ticket);
    if (i == detail::no_index)
      throw object_gone("an object that was sent is gone: its sender has died, or the message was read before");
    return {&core, i};
  }

  object_store store_;
};

/// A ref travels by cadre's own archive, with a ref_sender and a ref_receiver. Throws ref_cannot_travel (314) without them
/// or in another store, empty_object_ref never: a ref to nothing arrives as such. Reading throws object_gone (301) if the
/// sender has died meanwhile, or the message was read before, and wrong_object_type (303).
template <class T>
struct portable<object_ref<T>> {
  static void save(output_archive& archive, const object_ref<T>& ref) {
    auto* const writer = dynamic_cast<ref_writer*>(archive.extension());
    if (writer == nullptr)
      throw ref_cannot_travel(
          "an object_ref is written to what no process of the store will read, such as a checkpoint; write the value "
          "of the "
          "object, or send the ref with a cadre::ref_sender");
    writer->write(archive, ref.core_, ref.index_);
  }
  static void load(input_archive& archive, object_ref<T>& ref) {
    auto* const reader = dynamic_cast<ref_reader*>(archive.extension());
    if (reader == nullptr)
      throw ref_cannot_travel("an object_ref is read without a cadre::ref_receiver, which knows the store");
    ref = {};
    const ref_reader::found f = reader->read(archive, detail::label_of<T>());
    if (f.core == nullptr) return;
    ref = object_ref<T>(*f.core, f.index);
    f.core->check_type(f.index, detail::label_of<T>().key, detail::label_of<T>().text);
  }
};

/// Any other archive of cereal would write a number that holds nothing.
template <class Archive, class T>
  requires(!std::same_as<Archive, output_archive>)
void CEREAL_SAVE_FUNCTION_NAME(Archive&, const object_ref<T>&) {
  static_assert(sizeof(Archive) == 0,
                "cadre: an object_ref can only be written by cadre::output_archive, with a ref_sender");
}
template <class Archive, class T>
  requires(!std::same_as<Archive, input_archive>)
void CEREAL_LOAD_FUNCTION_NAME(Archive&, object_ref<T>&) {
  static_assert(sizeof(Archive) == 0,
                "cadre: an object_ref can only be read by cadre::input_archive, with a ref_receiver");
}

CADRE_NAMESPACE_END

#endif
