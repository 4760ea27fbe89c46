#ifndef CADRE_STORE_DETAIL_STEPS_HPP
#define CADRE_STORE_DETAIL_STEPS_HPP

#include <cadre/config/config.hpp>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Each step that changes what processes share, in the order of the code. tests/store_kill ends processes by SIGKILL right
/// behind each of them.
enum class store_step {
  entry_taken,
  block_allocated,
  entry_written,
  creator_holds,
  creation_committed,
  name_written,
  name_entered,
  ref_put_away,
  kept,
  reuse_begun,
  reuse_written,
  reuse_committed,
  release_begun,
  sealed,
  seal_told,
  ref_dropped,
  end_committed,
  name_removed,
  block_given_up,
  block_freed,
  entry_freed,
  entry_listed,
  ticket_written,
  ticket_committed,
  ticket_counted,
  receiver_holds,
  ticket_taken,
  ticket_uncounted,
  slot_locked,
  slot_taken,
  slot_void,
  slot_swept,
  slot_free,
  rebuild_begun,
  rebuild_blocks,
  rebuild_done,
  spill_begun,
  file_announced,
  record_written,
  record_counted,
  spill_written,
  spill_committed,
  spill_freed,
  restore_begun,
  restore_allocated,
  restore_read,
  restore_committed,
  move_begun,
  move_committed,
  dead_file_removed,
  dead_file_reused,
  count
};

}  // namespace detail
CADRE_NAMESPACE_END

#ifndef CADRE_STORE_STEP  // a test may define it before it includes anything of the store
#define CADRE_STORE_STEP(step) static_cast<void>(0)
#endif

#endif
