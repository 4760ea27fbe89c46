#ifndef CADRE_CORE_ERROR_HPP
#define CADRE_CORE_ERROR_HPP

#include <cadre/config/config.hpp>

#include <stdexcept>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// The base of every exception that cadre itself throws. Its text begins with the room and a number that stays the
/// same over versions, and says what happened, where, and what to do: `[cadre.persist.502] ...`. Each number has an
/// entry in docs/errors.md; each kind of mistake has a subclass, defined in the room that throws it.
class error : public std::runtime_error {
 public:
  /// The number that docs/errors.md lists.
  [[nodiscard]] int number() const noexcept { return number_; }

 protected:
  [[gnu::cold]] error(std::string_view room, int number, std::string_view message)
      : std::runtime_error(text(room, number, message)), number_(number) {}

 private:
  // By append(): operator+ has an overload for each way, of which a user's compiler would make several.
  [[gnu::cold]] static std::string text(std::string_view room, int number, std::string_view message) {
    std::string all = "[cadre.";
    return all.append(room).append(".").append(std::to_string(number)).append("] ").append(message);
  }

  int number_;
};

CADRE_NAMESPACE_END

#endif
