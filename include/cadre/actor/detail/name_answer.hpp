#ifndef CADRE_ACTOR_DETAIL_NAME_ANSWER_HPP
#define CADRE_ACTOR_DETAIL_NAME_ANSWER_HPP

#include <cadre/actor/detail/actor_table.hpp>

#include <cstdint>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Rank 0 is asked about a name.
enum class name_question : std::uint8_t { reserve, bind, find, drop };
/// What is said about a name.
struct name_answer {
  enum class kind : std::uint8_t { none, yours, being_made, taken };
  kind what{};
  actor_place where;
  std::string type;    ///< of the one that has it
  std::string others;  ///< that have names, as a list, where it has none
  template <class Archive>
  void serialize(Archive& archive) {
    archive(what, where, type, others);
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
