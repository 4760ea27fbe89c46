#ifndef CADRE_STORE_DETAIL_STORE_COUNTERS_HPP
#define CADRE_STORE_DETAIL_STORE_COUNTERS_HPP

#include <cadre/observe/metrics.hpp>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What this process does in its stores, in the registry of metrics.
struct store_counters {
  counter& puts = metrics().counter("cadre_store_puts_total", "objects made");
  counter& put_bytes = metrics().counter("cadre_store_put_bytes_total", "bytes of the objects made");
  counter& waits = metrics().counter("cadre_store_waits_total", "times that a put waited for room");
  counter& evicted = metrics().counter("cadre_store_evicted_total", "objects dropped for lack of memory");
  counter& spilled_bytes = metrics().counter("cadre_store_spilled_bytes_total", "bytes moved out of memory to disk");
  counter& restored_bytes = metrics().counter("cadre_store_restored_bytes_total", "bytes read back from disk");
  counter& recovered =
      metrics().counter("cadre_store_recovered_total", "processes that died, and whose holds were taken");

  static const store_counters& get() {
    static const store_counters all;
    return all;
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
