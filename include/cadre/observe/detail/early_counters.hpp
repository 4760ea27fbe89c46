#ifndef CADRE_OBSERVE_DETAIL_EARLY_COUNTERS_HPP
#define CADRE_OBSERVE_DETAIL_EARLY_COUNTERS_HPP

#include <cadre/observe/counter.hpp>

#include <memory>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// The counters of cadre's own rooms, which count whether or not the program compiles a registry: those that are there when
/// one joins become its own, later ones are made in it. Thread-safety: all functions, from any thread.
class early_counters {
 public:
  /// The one of that name, made if there is none. Both texts live as long as the program.
  [[nodiscard]] cadre::counter& counter(std::string_view name, std::string_view help) {
    const std::lock_guard lock(mutex_);
    if (registry_ != nullptr) return find_(registry_, name, help);
    for (const one& c : all_)
      if (c.name == name) return *c.value;
    all_.push_back({name, help, std::make_unique<cadre::counter>()});
    return *all_.back().value;
  }
  /// The registry lives as long as this. Once.
  template <class Registry>
  void join(Registry& registry) {
    const std::lock_guard lock(mutex_);
    for (one& c : all_) registry.adopt(c.name, c.help, std::move(c.value));
    all_.clear();
    registry_ = &registry;
    find_ = [](void* r, std::string_view name, std::string_view help) -> cadre::counter& {
      return static_cast<Registry*>(r)->counter(name, help);
    };
  }

  /// Of metrics().
  [[nodiscard]] static early_counters& of_process() {
    static early_counters& all = *new early_counters;
    return all;
  }

 private:
  struct one {
    std::string_view name, help;
    std::unique_ptr<cadre::counter> value;
  };
  std::mutex mutex_;
  std::vector<one> all_;
  void* registry_ = nullptr;
  cadre::counter& (*find_)(void* registry, std::string_view name, std::string_view help) = nullptr;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif
