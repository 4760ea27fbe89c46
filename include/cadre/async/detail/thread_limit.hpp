#ifndef CADRE_ASYNC_DETAIL_THREAD_LIMIT_HPP
#define CADRE_ASYNC_DETAIL_THREAD_LIMIT_HPP

#include <cadre/config/config.hpp>

// OpenMP's own functions, if the program is linked with its runtime. By other names, so that <omp.h> may be included too.
extern "C" {
[[gnu::weak]] void cadre_omp_set_num_threads(int) __asm__("omp_set_num_threads");
[[gnu::weak]] int cadre_omp_get_max_threads() __asm__("omp_get_max_threads");
}

CADRE_NAMESPACE_BEGIN
namespace detail {

/// How many threads OpenMP, and Eigen with it, may use for what this thread calls. Nothing without OpenMP.
class thread_limit {
 public:
  explicit thread_limit(int threads) noexcept {
    if (!cadre_omp_set_num_threads || !cadre_omp_get_max_threads) return;
    before_ = cadre_omp_get_max_threads();
    cadre_omp_set_num_threads(threads);
  }
  thread_limit(const thread_limit&) = delete;
  thread_limit& operator=(const thread_limit&) = delete;
  ~thread_limit() {
    if (before_ != 0) cadre_omp_set_num_threads(before_);
  }

 private:
  int before_ = 0;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
