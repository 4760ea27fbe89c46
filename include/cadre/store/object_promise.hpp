#ifndef CADRE_STORE_OBJECT_PROMISE_HPP
#define CADRE_STORE_OBJECT_PROMISE_HPP

#include <cadre/store/detail/far_entries.hpp>
#include <cadre/store/error.hpp>
#include <cadre/store/object_store.hpp>

#include <optional>
#include <source_location>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// An object whose value, and size, are to come: refs to it can be given away at once, and whoever gets one waits for the
/// value. Made by object_store::promise(). One that is destroyed without a value is given up: who waits, in whichever
/// process, gets object_gone (301); so is one whose process dies.
///
///     cadre::object_promise<std::vector<float>> p = store.promise<std::vector<float>>();
///     give_away(p.ref());
///     std::move(p).set(values);
///
/// Thread-safety: as an int.
template <class T>
class object_promise {
 public:
  /// Takes no memory of the store.
  [[nodiscard]] object_ref<T> ref() const noexcept { return writer_.ref(); }

  /// Copies the value into the store, as put() does, and tells who waits. Throws as put(), and object_gone (301) if it was
  /// erased meanwhile; where there was no room for the value, it can be set once more.
  template <class Value>
    requires stored_as<Value, T>
  object_ref<T> set(const Value& value) && {
    if (written_) throw object_gone("an object was erased while it was written");  // found out by the first call
    if constexpr (std::is_same_v<stored_type_t<Value>, T>)
      store_.write(writer_, value);
    else
      store_.write(writer_, static_cast<T>(value));
    written_ = true;
    return std::move(writer_).seal();
  }

 private:
  friend object_store;
  friend detail::promise_access;
  object_promise(const object_store& store, object_writer<T> writer) noexcept
      : store_(store), writer_(std::move(writer)) {}

  object_store store_;
  object_writer<T> writer_;  // without memory yet
  bool written_ = false;
};

namespace detail {

/// A promise that one process begins and another one keeps.
struct promise_access {
  /// Of another process's promise to this one's. Nothing, if there is nothing to be kept any more.
  template <class T>
  static std::optional<object_promise<T>> adopt(const object_store& store, const object_ref<T>& ref) {
    store_core& core = *object_ref_access::core(ref);
    const std::uint32_t i = object_ref_access::index(ref);
    if (!far_entries(core).adopt(i)) return std::nullopt;
    return object_promise<T>(store, object_writer<T>(core, {i, nullptr}, 0));
  }
  /// It was adopted: this process has nothing to do with it any more.
  template <class T>
  static void leave(object_promise<T>&& promise) noexcept {
    far_entries(*promise.writer_.core_).leave(promise.writer_.index_);
    promise.writer_.core_ = nullptr;
  }
  /// What the process holds as its writer is the caller's to end. Returns the index.
  template <class T>
  static std::uint32_t release(object_promise<T>&& promise) noexcept {
    promise.writer_.core_ = nullptr;
    return promise.writer_.index_;
  }
};

}  // namespace detail

template <class T>
object_promise<T> object_store::promise(const put_options& how, const std::source_location& at) {
  const detail::stored_label& label = detail::label_of<T>();
  return {*this, object_writer<T>(*core_, core_->create(0, label.key, label.text, how, at), 0)};
}

CADRE_NAMESPACE_END

#endif
