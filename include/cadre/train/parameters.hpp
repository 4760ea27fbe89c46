#ifndef CADRE_TRAIN_PARAMETERS_HPP
#define CADRE_TRAIN_PARAMETERS_HPP

#include <cadre/comm/any_communicator.hpp>
#include <cadre/comm/detail/on_behalf_of.hpp>
#include <cadre/comm/local_team.hpp>
#include <cadre/core/contiguous.hpp>
#include <cadre/core/data_type.hpp>
#include <cadre/train/error.hpp>

#include <cereal/cereal.hpp>
#include <cereal/types/string.hpp>
#include <cereal/types/vector.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train {

/// One entry of `parameters`: where a value and its gradient lie.
struct parameter {
  std::string name;
  data_type type;  ///< float32 or float64
  std::size_t count;
  std::vector<std::size_t> shape;  ///< of the value, outermost extent first
  std::byte* value;
  std::byte* gradient;
  int arena = -1;  ///< of made parameters: those of one number lie in one piece of memory, in order; -1: added ones

  [[nodiscard]] std::size_t bytes() const noexcept { return count * size_of(type); }
  /// The elements; T is float or double, as `type` says.
  template <class T>
  [[nodiscard]] std::span<T> values() const noexcept {
    return {reinterpret_cast<T*>(value), count};
  }
  template <class T>
  [[nodiscard]] std::span<T> gradients() const noexcept {
    return {reinterpret_cast<T*>(gradient), count};
  }
  /// The first element.
  template <class T>
  [[nodiscard]] T* value_as() const noexcept {
    return reinterpret_cast<T*>(value);
  }
  template <class T>
  [[nodiscard]] T* gradient_as() const noexcept {
    return reinterpret_cast<T*>(gradient);
  }
};

/// "[784, 256]"
[[nodiscard]] inline std::string shape_text(const std::vector<std::size_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

/// Calls `f` with a float or a double: every parameter is one of them.
template <class F>
decltype(auto) visit_real(data_type type, F&& f) {
  return type == data_type::float32 ? f(float{}) : f(double{});
}

/// The values that are trained and their gradients, by name, in the order in which the model uses them (gradients are
/// reduced from the last to the first). `add` takes arrays that the model owns, `make` creates them in memory that the
/// communicator reduces where it lies:
///
///     cadre::train::parameters p{comm};
///     p.add("w1", w1, dw1);                                         // anything contiguous of float or double
///     auto [w2, dw2] = p.make<Eigen::MatrixXf>("w2", rows, cols);   // two Eigen::Map<MatrixXf>, zeroed
///
/// A handle: copies share one list. The list must not grow once an optimizer or data_parallel was made from it. For one
/// thread at a time.
class parameters {
 public:
  /// A list whose made parameters lie in ordinary memory of this process.
  template <class Communicator = local_communicator>
  parameters() : parameters(Communicator{}) {}
  /// Made parameters lie in memory of `comm`, any communicator: then every rank calls each make, in the same order.
  template <class Communicator>
    requires(!std::same_as<std::remove_cvref_t<Communicator>, parameters> &&
             std::convertible_to<Communicator, any_communicator>)
  explicit parameters(Communicator&& comm)
      : state_(std::make_shared<state>(any_communicator(std::forward<Communicator>(comm)))) {}

  /// Adds arrays that must outlive this list, and must not be moved or resized. Objects that own memory elsewhere
  /// (vectors, dynamic matrices) are looked at again before each use, so that a violation is an error (802) while the
  /// object lives; of views and arrays of fixed size the address is remembered. Views may be temporaries.
  /// No two arrays of a list may share memory. Throws parameter_invalid (801).
  template <contiguous Value, contiguous Gradient>
  parameters& add(std::string_view name, Value&& value, Gradient&& gradient) {
    using element = typename contiguous_traits<std::remove_cvref_t<Value>>::element;
    using gradient_element = typename contiguous_traits<std::remove_cvref_t<Gradient>>::element;
    static_assert(std::is_same_v<element, float> || std::is_same_v<element, double>,
                  "a parameter's elements are float or double");
    static_assert(std::is_same_v<element, gradient_element>, "a value and its gradient have the same element type");
    check_argument<Value>();
    check_argument<Gradient>();
    check_name(name);
    const auto v = elements(value);
    const auto g = elements(gradient);
    if (v.size() != g.size())
      throw parameter_invalid("parameter '" + std::string(name) + "' has " + std::to_string(v.size()) +
                              " elements, but its gradient has " + std::to_string(g.size()) + "; they must be equal");
    check_temporary<Value>(name, value, v.data());
    check_temporary<Gradient>(name, gradient, g.data());
    const auto* value_bytes = reinterpret_cast<const std::byte*>(v.data());
    const auto* gradient_bytes = reinterpret_cast<const std::byte*>(g.data());
    if (overlap(value_bytes, v.size_bytes(), gradient_bytes, g.size_bytes()))
      throw parameter_invalid("parameter '" + std::string(name) + "' and its gradient share memory");
    for (const parameter& p : state_->list)
      for (const std::byte* const theirs : {p.value, p.gradient})
        if (overlap(theirs, p.bytes(), value_bytes, v.size_bytes()) ||
            overlap(theirs, p.bytes(), gradient_bytes, g.size_bytes()))
          throw parameter_invalid("parameter '" + std::string(name) + "' shares memory with parameter '" + p.name +
                                  "', and would be reduced and updated twice; add shared weights once");
    state_->list.push_back({std::string(name), data_type_of<element>, v.size(),
                            contiguous_traits<std::remove_cvref_t<Value>>::shape(value),
                            reinterpret_cast<std::byte*>(v.data()), reinterpret_cast<std::byte*>(g.data())});
    watch(value, state_->list.size() - 1, false);
    watch(gradient, state_->list.size() - 1, true);
    return *this;
  }

  /// Makes a value and a gradient of these extents, zeroed, and returns views of both (std::span<float> for
  /// std::vector<float>), which live as long as any copy of this list. Parameters made one after another lie side by
  /// side, each aligned to 64 bytes, so that a bucket of them is one run. Throws parameter_invalid (801),
  /// std::bad_alloc, and what the communicator's allocate throws.
  template <class T, class... Extents>
  [[nodiscard]] auto make(std::string_view name, Extents... extents) {
    using traits = contiguous_traits<T>;
    using element = typename traits::element;
    static_assert(std::is_same_v<element, float> || std::is_same_v<element, double>,
                  "a parameter's elements are float or double");
    check_name(name);
    const std::size_t count = traits::count(static_cast<std::size_t>(extents)...);
    const auto [value, gradient, arena] = state_->take(count * sizeof(element));
    auto values = traits::map(reinterpret_cast<element*>(value), static_cast<std::size_t>(extents)...);
    auto gradients = traits::map(reinterpret_cast<element*>(gradient), static_cast<std::size_t>(extents)...);
    state_->list.push_back({std::string(name),
                            data_type_of<element>,
                            count,
                            {static_cast<std::size_t>(extents)...},
                            value,
                            gradient,
                            arena});
    return std::pair(std::move(values), std::move(gradients));
  }

  [[nodiscard]] std::size_t size() const noexcept { return state_->list.size(); }
  [[nodiscard]] bool empty() const noexcept { return state_->list.empty(); }
  [[nodiscard]] const parameter& operator[](std::size_t i) const noexcept { return state_->list[i]; }
  [[nodiscard]] auto begin() const noexcept { return state_->list.cbegin(); }
  [[nodiscard]] auto end() const noexcept { return state_->list.cend(); }

  /// Null if there is none of that name.
  [[nodiscard]] const parameter* find(std::string_view name) const noexcept {
    for (const parameter& p : state_->list)
      if (p.name == name) return &p;
    return nullptr;
  }

  /// Elements of all values.
  [[nodiscard]] std::size_t count() const noexcept {
    std::size_t n = 0;
    for (const parameter& p : state_->list) n += p.count;
    return n;
  }

  /// Sets every gradient to zero.
  void zero_gradients() const noexcept {
    for (const parameter& p : state_->list)
      if (p.count != 0) std::memset(p.gradient, 0, p.bytes());
  }

  /// Looks again at each added object that owns its memory. Throws parameter_changed (802) if one was moved or resized.
  void check() const {
    for (const watched& w : state_->watched_objects) {
      const parameter& p = state_->list[w.index];
      const auto [data, count] = w.look(w.object);
      if (data == (w.gradient ? p.gradient : p.value) && count == p.count) continue;
      throw parameter_changed(
          std::string(w.gradient ? "the gradient of parameter '" : "parameter '") + p.name + "' was " +
          (count == p.count
               ? "moved"
               : "resized from " + std::to_string(p.count) + " to " + std::to_string(count) + " elements") +
          " since it was added; keep the object where it is, and assign to it without resizing");
    }
  }

  /// Saves and restores the values (not the gradients) through any archive of cereal's form: `w("parameters", p)`.
  /// Loading those of another list throws parameters_mismatch (814), naming the first difference, and changes nothing.
  template <class Archive>
  void save(Archive& archive) const {
    save_layout(archive);
    for (const parameter& p : state_->list)
      archive(cereal::binary_data(static_cast<const std::byte*>(p.value), p.bytes()));
  }
  template <class Archive>
  void load(Archive& archive) {
    if (const std::string difference = layout_difference(archive); !difference.empty())
      throw parameters_mismatch("these values are not of this model: " + difference +
                                "; load them into the model that saved them");
    for (const parameter& p : state_->list) archive(cereal::binary_data(p.value, p.bytes()));
  }

  /// Names, types and shapes, which say what belongs to this list: the head of whatever is saved of it.
  template <class Archive>
  void save_layout(Archive& archive) const {
    archive(static_cast<std::uint64_t>(size()));
    for (const parameter& p : state_->list)
      archive(p.name, static_cast<std::uint8_t>(p.type), std::vector<std::uint64_t>(p.shape.begin(), p.shape.end()));
  }
  /// Reads what save_layout wrote and says in what it first differs from this list; empty if in nothing.
  template <class Archive>
  [[nodiscard]] std::string layout_difference(Archive& archive) const {
    const auto describe = [](const std::string& name, data_type type, const std::vector<std::size_t>& shape) {
      return "'" + name + "' " + std::string(to_string(type)) + " " + shape_text(shape);
    };
    std::uint64_t saved_count = 0;
    archive(saved_count);
    for (std::size_t i = 0; i < saved_count; ++i) {
      std::string name;
      std::uint8_t type = 0;
      std::vector<std::uint64_t> shape;
      archive(name, type, shape);
      const std::string saved = describe(name, static_cast<data_type>(type), {shape.begin(), shape.end()});
      if (i >= size())
        return "it has " + saved + " as parameter " + std::to_string(i + 1) + ", here there are only " +
               std::to_string(i);
      const parameter& p = state_->list[i];
      if (const std::string here = describe(p.name, p.type, p.shape); saved != here)
        return "it has " + saved + " where here is " + here;
    }
    if (saved_count < size())
      return "it has " + std::to_string(saved_count) + " parameters, here '" +
             state_->list[static_cast<std::size_t>(saved_count)].name + "' comes besides";
    return {};
  }

  /// Says that the list is in use and must not grow any more. Optimizers and data_parallel call it.
  void freeze() const noexcept { state_->frozen = true; }

 private:
  struct watched {
    const void* object;
    std::pair<const std::byte*, std::size_t> (*look)(const void*);
    std::size_t index;
    bool gradient;
  };

  struct state {
    explicit state(any_communicator c) : comm(std::move(c)) {}

    struct place {
      std::byte* value;
      std::byte* gradient;
      int arena;
    };
    place take(std::size_t bytes) {
      constexpr std::size_t alignment = 64, first = std::size_t{1} << 20, most = std::size_t{1} << 26;
      const std::size_t padded = (bytes + alignment - 1) / alignment * alignment;
      if (memory.empty() || left < padded) {
        // Each piece is as large as all before it, so that few parameters are cut off from their neighbours.
        const std::size_t size = std::max(padded, std::clamp(allocated, first, most));
        const cadre::detail::on_behalf_of by("parameters");
        memory.push_back(comm.allocate_bytes(size));
        memory.push_back(comm.allocate_bytes(size));
        allocated += size;
        left = size;
        used = 0;
      }
      const place p{memory[memory.size() - 2].get() + used, memory.back().get() + used,
                    static_cast<int>(memory.size() / 2) - 1};
      used += padded;
      left -= padded;
      return p;
    }

    any_communicator comm;
    std::vector<parameter> list;
    std::vector<watched> watched_objects;
    std::vector<std::shared_ptr<std::byte>> memory;  // pairs: of values, of gradients
    std::size_t allocated = 0, used = 0, left = 0;
    bool frozen = false;
  };

  // An object with nothing to destroy owns no memory elsewhere: a view, or an array inside itself.
  template <class T>
  static constexpr bool owns_elsewhere = !std::is_trivially_destructible_v<std::remove_cvref_t<T>>;

  template <class T>
  static constexpr void check_argument() {
    static_assert(!std::is_const_v<std::remove_pointer_t<decltype(elements(std::declval<T&>()).data())>>,
                  "a parameter is changed by training: pass one that is not const");
    static_assert(std::is_lvalue_reference_v<T> || !owns_elsewhere<T>,
                  "this array is a temporary that owns its elements: pass a named one, or a view of it");
  }
  template <class T>
  static void check_temporary(std::string_view name, const std::remove_reference_t<T>& object, const void* data) {
    if constexpr (!std::is_lvalue_reference_v<T>) {
      const auto* self = reinterpret_cast<const std::byte*>(std::addressof(object));
      const auto* first = static_cast<const std::byte*>(data);
      if (first >= self && first < self + sizeof object)
        throw parameter_invalid("parameter '" + std::string(name) +
                                "' is a temporary array that holds its elements; pass a named one, or a view of it");
    }
  }
  static bool overlap(const std::byte* a, std::size_t a_bytes, const std::byte* b, std::size_t b_bytes) noexcept {
    return a_bytes != 0 && b_bytes != 0 && a < b + b_bytes && b < a + a_bytes;
  }

  void check_name(std::string_view name) const {
    if (state_->frozen)
      throw parameter_invalid("parameter '" + std::string(name) +
                              "' comes too late: an optimizer or data_parallel uses the list already; add all before");
    if (name.empty()) throw parameter_invalid("a parameter needs a name");
    if (find(name))
      throw parameter_invalid("there is already a parameter '" + std::string(name) + "'; names must be unique");
  }

  template <class T>
  void watch(T& object, std::size_t index, bool gradient) {
    if constexpr (owns_elsewhere<T>)
      state_->watched_objects.push_back({std::addressof(object),
                                         [](const void* o) {
                                           const auto all = elements(*static_cast<const std::remove_cv_t<T>*>(o));
                                           return std::pair(reinterpret_cast<const std::byte*>(all.data()), all.size());
                                         },
                                         index, gradient});
  }

  std::shared_ptr<state> state_;
};

}  // namespace train
CADRE_NAMESPACE_END

#endif
