#ifndef CADRE_ACTOR_DETAIL_LOANS_HPP
#define CADRE_ACTOR_DETAIL_LOANS_HPP

#include <cadre/store/detail/far_entries.hpp>

#include <cstdint>
#include <optional>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What a message says of an object to a rank of another node: it is lent, until that gives it back.
struct object_loan {
  std::uint64_t key = 0;   ///< of the lender's entry: see far_entries
  object_origin origin{};  ///< where its bytes are; how many, if that is known
  std::int64_t rank = -1;  ///< whom to ask for them; -1: a ref to nothing
};

/// What makes objects on other nodes, or for them, needs of class far_objects, which is compiled by who begins a job.
class loans {
 public:
  /// An object, of which the caller holds a ref, to a rank.
  virtual object_loan lend(int to, store_core& core, std::uint32_t i) = 0;
  /// An object that this process has begun may be made on another node.
  virtual void expect(std::uint64_t key) = 0;
  virtual void expect_no_more(std::uint64_t key) noexcept = 0;
  /// That is what was lent. The writer's part of it is taken over. True if it is wanted already.
  [[nodiscard]] virtual bool assign(int from, const object_loan& l, store_core& core, std::uint32_t i) = 0;

  /// Which rank of another node has the bytes, and how many (0: not known).
  struct whereabouts {
    int rank = 0;
    std::uint64_t bytes = 0;
  };
  [[nodiscard]] virtual std::optional<whereabouts> find(std::uint64_t key) const noexcept = 0;

 protected:
  ~loans() = default;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
