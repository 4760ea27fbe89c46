#ifndef CADRE_ACTOR_DETAIL_HANDLERS_HPP
#define CADRE_ACTOR_DETAIL_HANDLERS_HPP

#include <cadre/archive/input_archive.hpp>
#include <cadre/core/hash.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

class job;

/// A request that has come from another rank, to be read on.
struct request {
  job& at;
  int from;
  std::uint64_t number;  ///< for the answer; 0: none is wanted
  std::uint32_t cell, generation;
  input_archive& in;
};

class actor_cell;
class cancelled_letters;
class handler;
class letters;

/// Where letters come from.
class receives_letters {
 public:
  [[nodiscard]] virtual cancelled_letters& cancelled() noexcept = 0;
  /// What was answered since goes now.
  virtual void answers_end() noexcept = 0;
  /// So many are in a mailbox.
  virtual void letters_came(std::uint32_t n) noexcept = 0;

 protected:
  ~receives_letters() = default;
};

/// A call of an actor that has come from another rank as it is, to be read when its turn has come: see class letters.
struct letter {
  receives_letters* at;
  actor_cell* cell;  ///< null: the actor is another one by now
  letters* among;    ///< null: not yet
  const handler* opened_by;
  std::uint64_t number;  ///< for the answer; 0: none is wanted
  std::int32_t from;
  std::span<const std::byte> arguments;
};

/// What this program can be asked to do by another rank: of the same build, so that both have the same in the same order.
class handler {
 public:
  using action = void (*)(request&);
  /// Makes the call; or with an error tells its caller of that.
  using opener = void (*)(const letter&, const std::exception_ptr& refused) noexcept;

  /// For the life of the program. `tag` is a type of its own. `open` is null for what cannot be a letter.
  constexpr handler(const std::type_info& tag, action serve, opener opens, std::string_view (*name)()) noexcept
      : tag_(&tag), run_(serve), open_(opens), called_(name) {}
  handler(const handler&) = delete;
  handler& operator=(const handler&) = delete;
  /// Once, before all() is called: it is one of those.
  void list() noexcept { next_ = std::exchange(first(), this); }

  [[nodiscard]] std::uint32_t id() const noexcept { return id_; }
  [[nodiscard]] action run() const noexcept { return run_; }
  [[nodiscard]] opener open() const noexcept { return open_; }
  /// Of what can be a letter: the name of the method.
  [[nodiscard]] std::string_view called() const { return called_(); }

  /// All that there are when this is first called, by id.
  static const std::vector<const handler*>& all() {
    static const std::vector<const handler*> numbered = number();
    return numbered;
  }
  /// The same on ranks that can work together.
  static std::uint64_t fingerprint() {
    std::uint64_t hash = all().size();
    for (const handler* h : all()) hash = hash_combine(hash, hash_text(h->tag_->name()));
    return hash;
  }

 private:
  static std::vector<const handler*> number() {
    std::vector<handler*> all;
    for (handler* h = first(); h != nullptr; h = h->next_) all.push_back(h);
    // Functions of one name in two anonymous namespaces are told apart by where they lie in the program.
    std::sort(all.begin(), all.end(), [](const handler* a, const handler* b) {
      const int order = std::string_view(a->tag_->name()).compare(b->tag_->name());
      return order != 0 ? order < 0
                        : reinterpret_cast<std::uintptr_t>(a->run_) < reinterpret_cast<std::uintptr_t>(b->run_);
    });
    for (std::size_t i = 0; i < all.size(); ++i) all[i]->id_ = static_cast<std::uint32_t>(i);
    return {all.begin(), all.end()};
  }
  static handler*& first() noexcept {
    static constinit handler* f = nullptr;
    return f;
  }

  const std::type_info* tag_;
  action run_;
  opener open_;
  std::string_view (*called_)();
  handler* next_ = nullptr;
  std::uint32_t id_ = std::numeric_limits<std::uint32_t>::max();  // of none, which its receiver says
};

/// What is read when its turn has come: has a `static void open(const letter&, const std::exception_ptr&)` and a
/// `static std::string_view called()`.
template <class Tag>
concept can_be_letter = requires { requires Tag::can_be_letter; };

/// A Tag of the runtime itself: listed as a job begins (own_requests.hpp), since what is listed before main() is compiled in
/// every unit that includes its header.
struct own_request {};

/// The handler of a Tag, which has a `static void serve(request&)`; listed before main() if its id is asked for anywhere.
template <class Tag>
class handler_of {
 public:
  [[nodiscard]] static std::uint32_t id() noexcept {
    if constexpr (!std::is_base_of_v<own_request, Tag>) static_cast<void>(is_listed);
    return entry.id();
  }
  static void list() noexcept { entry.list(); }

 private:
  static constexpr handler::opener opener() noexcept {
    if constexpr (can_be_letter<Tag>) return &Tag::open;
    return nullptr;
  }
  static constexpr auto name() noexcept -> std::string_view (*)() {
    if constexpr (can_be_letter<Tag>) return &Tag::called;
    return nullptr;
  }

  static constinit inline handler entry{typeid(Tag), &Tag::serve, opener(), name()};
  static inline const bool is_listed = (list(), true);
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
