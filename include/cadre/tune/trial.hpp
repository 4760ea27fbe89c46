#ifndef CADRE_TUNE_TRIAL_HPP
#define CADRE_TUNE_TRIAL_HPP

#include <cadre/core/metric_map.hpp>
#include <cadre/persist/checkpoint.hpp>
#include <cadre/tune/fwd.hpp>

#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <type_traits>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// Why report() has returned false.
enum class trial_outcome : std::uint8_t {
  running,     ///< it has not
  finished,    ///< nothing more to do: max_t or a stop condition was reached
  stopped,     ///< others are better
  paused,      ///< may run again later, from its checkpoint
  exploited,   ///< goes on as a copy of a better one
  interrupted  ///< the tuning was cancelled or ran out of time
};

[[nodiscard]] constexpr std::string_view to_string(trial_outcome o) noexcept {
  constexpr std::string_view names[] = {"running", "finished", "stopped", "paused", "exploited", "interrupted"};
  return names[static_cast<std::size_t>(o)];
}

namespace detail {

/// A reference to the user's function that saves a trial.
class saver_ref {
 public:
  saver_ref() = default;
  template <class Saver>
    requires(!std::same_as<std::remove_cvref_t<Saver>, saver_ref>)
  explicit saver_ref(Saver& saver)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(saver)))),
        call_([](void* object, checkpoint_writer& w) { (*static_cast<Saver*>(object))(w); }) {}
  explicit operator bool() const noexcept { return call_ != nullptr; }
  void operator()(checkpoint_writer& w) const { call_(object_, w); }

 private:
  void* object_ = nullptr;
  void (*call_)(void*, checkpoint_writer&) = nullptr;
};

/// One run of a trial's function.
struct trial_run {
  trial_id id = 0;
  std::size_t slot = 0;  // where turns are taken; 0 without them
  double t = 0;          // reports so far, those before the checkpoint included
  std::optional<checkpoint_reader> checkpoint = {};
  trial_outcome outcome = trial_outcome::running;
};

/// Who runs trials, as a trial sees it.
class trial_host {
 public:
  virtual ~trial_host() = default;
  /// True to go on; else run.outcome says why not.
  virtual bool report(trial_run& run, const metric_map& metrics, saver_ref save) = 0;
};

}  // namespace detail

/// What a trial's function is given. For the thread that runs the function; dead when the function returns.
///
///     [](tune::trial<config>& tr) {
///       model m{tr.config()};
///       if (auto c = tr.checkpoint()) (*c)("model", m);
///       while (tr.report({{"val_loss", m.epoch()}}, [&](auto& w) { w("model", m); })) {}
///     }
template <class Config>
class trial {
 public:
  trial(detail::trial_host& host, detail::trial_run& run, Config config)
      : host_(host), run_(run), config_(std::move(config)) {}
  trial(const trial&) = delete;
  trial& operator=(const trial&) = delete;

  [[nodiscard]] const Config& config() const noexcept { return config_; }
  [[nodiscard]] trial_id id() const noexcept { return run_.id; }

  /// What the saver wrote when the trial was last paused or interrupted; nothing in a first run. A trial that is run
  /// again without one begins anew, and what it reports up to where it was counts for nothing.
  [[nodiscard]] std::optional<checkpoint_reader> checkpoint() const { return run_.checkpoint; }

  /// Says how far the trial has come; false: return now, outcome() says why. May wait for other trials when the tuning
  /// is deterministic. After false it does nothing more. Throws metric_not_reported (906) when the tuned metric was
  /// never reported up to the end of the trial's time.
  bool report(const metric_map& metrics) { return host_.report(run_, metrics, {}); }

  /// The same with a function that saves what is needed to go on from here. It is called only when the trial is paused
  /// or interrupted, and now and then for a stored tuning. Throws what it throws; a checkpoint that cannot be stored
  /// ends the tuning, and run() throws why.
  template <std::invocable<checkpoint_writer&> Saver>
  bool report(const metric_map& metrics, Saver&& save) {
    return host_.report(run_, metrics, detail::saver_ref(save));
  }

  [[nodiscard]] trial_outcome outcome() const noexcept { return run_.outcome; }
  /// Reports so far, those before the checkpoint included.
  [[nodiscard]] double t() const noexcept { return run_.t; }

 private:
  detail::trial_host& host_;
  detail::trial_run& run_;
  Config config_;
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif
