#ifndef CADRE_STORE_DETAIL_STORE_COUNTERS_HPP
#define CADRE_STORE_DETAIL_STORE_COUNTERS_HPP

#include <cadre/observe/counter.hpp>
#include <cadre/observe/detail/early_counters.hpp>

#include <string_view>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What this process does in its stores, in the registry of metrics.
struct store_counters {
  counter& puts = of_process("cadre_store_puts_total", "objects made");
  counter& put_bytes = of_process("cadre_store_put_bytes_total", "bytes of the objects made");
  counter& waits = of_process("cadre_store_waits_total", "times that a put waited for room");
  counter& evicted = of_process("cadre_store_evicted_total", "objects dropped for lack of memory");
  counter& spilled_bytes = of_process("cadre_store_spilled_bytes_total", "bytes moved out of memory to disk");
  counter& restored_bytes = of_process("cadre_store_restored_bytes_total", "bytes read back from disk");
  counter& recovered = of_process("cadre_store_recovered_total", "processes that died, and whose holds were taken");

  static counter& of_process(std::string_view name, std::string_view help) {
    return early_counters::of_process().counter(name, help);
  }
  static const store_counters& get() {
    static const store_counters all;
    return all;
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
