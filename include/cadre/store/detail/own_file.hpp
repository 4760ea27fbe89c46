#ifndef CADRE_STORE_DETAIL_OWN_FILE_HPP
#define CADRE_STORE_DETAIL_OWN_FILE_HPP

#include <cadre/os/mapping.hpp>
#include <cadre/store/detail/store_registry.hpp>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// An opening of a file that no child made by fork() has, at whatever instant it is made: its locks end with this process,
/// since the kernel drops them with the last descriptor of the opening.
class own_file final : public store_registry::member {
 public:
  /// `open()` gives the descriptor. It is called while no thread can fork, so it should not wait; what it throws passes
  /// through.
  template <class Open>
  explicit own_file(Open open) {
    const store_registry::no_forks until_it_is_known;
    file_ = open();
    store_registry::add(*this, until_it_is_known);
  }
  ~own_file() override {
    const store_registry::no_forks until_it_is_closed;
    store_registry::remove(*this, until_it_is_closed);
    file_ = file_descriptor();
  }
  [[nodiscard]] const file_descriptor& get() const noexcept { return file_; }
  void forget_after_fork() noexcept override { file_ = file_descriptor(); }

 private:
  file_descriptor file_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
