#ifndef CADRE_ASYNC_RESOURCES_HPP
#define CADRE_ASYNC_RESOURCES_HPP

#include <cadre/async/error.hpp>
#include <cadre/config/config.hpp>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// A name and how much of it: `{"gpu", 0.25}`. Precision 1/10,000; "memory" is in bytes.
struct resource {
  template <class Number>
    requires std::is_arithmetic_v<Number>
  resource(std::string n, Number a) : name(std::move(n)), amount(static_cast<double>(a)) {}
  std::string name;
  double amount;
};

/// What a task asks for, or what there is: `{{"cpu", 2}, {"gpu", 0.25}, {"memory", 1_GiB}, {"TPU", 1}}`. Logical, as in Ray:
/// cadre counts them and does not look whether a task really uses them.
class resource_set {
 public:
  resource_set() noexcept = default;
  /// Throws impossible_request (209) for a negative amount, one that is no number, or a name given twice.
  [[gnu::cold]] resource_set(std::initializer_list<resource> all) {
    for (const resource& r : all) {
      if (!(r.amount >= 0 && r.amount < 9e14))
        throw impossible_request("'" + r.name + "' of " + std::to_string(r.amount) + "; give an amount of 0 or more");
      if (find(r.name) != nullptr) throw impossible_request("'" + r.name + "' is given twice");
      entries_.push_back({r.name, static_cast<std::int64_t>(r.amount * scale(r.name) + 0.5)});
    }
  }

  struct entry {
    std::string name;
    std::int64_t units;  ///< ten-thousandths, or bytes of memory
  };

  [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }
  /// What every task holds without a word: one processor, and nothing else.
  [[nodiscard]] bool is_ordinary() const noexcept {
    return entries_.empty() || (entries_.size() == 1 && entries_[0].name == "cpu" && entries_[0].units == one);
  }
  [[nodiscard]] const std::vector<entry>& entries() const noexcept { return entries_; }
  /// Null if the name is not there.
  [[nodiscard]] const entry* find(std::string_view name) const noexcept {
    for (const entry& e : entries_)
      if (e.name == name) return &e;
    return nullptr;
  }
  /// 0 if the name is not there.
  [[nodiscard]] double amount(std::string_view name) const noexcept {
    const entry* const e = find(name);
    return e == nullptr ? 0 : static_cast<double>(e->units) / scale(name);
  }
  [[gnu::cold]] void set(std::string_view name, std::int64_t units) {
    for (entry& e : entries_)
      if (e.name == name) {
        e.units = units;
        return;
      }
    entries_.push_back({std::string(name), units});
  }

  static constexpr std::int64_t one = 10'000;
  [[nodiscard]] static double scale(std::string_view name) noexcept { return name == "memory" ? 1.0 : double(one); }

  /// "cpu 2, gpu 0.25"
  [[nodiscard, gnu::cold]] std::string text() const {
    std::string all;
    for (const entry& e : entries_) {
      if (!all.empty()) all += ", ";
      std::string number = std::to_string(static_cast<double>(e.units) / scale(e.name));
      number.erase(number.find_last_not_of('0') + 1);
      if (number.back() == '.') number.pop_back();
      all += e.name + " " + number;
    }
    return all.empty() ? "nothing" : all;
  }

 private:
  std::vector<entry> entries_;
};

CADRE_NAMESPACE_END

#endif
