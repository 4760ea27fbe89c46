#ifndef CADRE_CORE_ERROR_HPP
#define CADRE_CORE_ERROR_HPP

#include <cadre/config/config.hpp>

#include <stdexcept>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// The text of an error that was thrown in another process.
struct received_text {
  std::string_view text;
};

/// The base of every exception that cadre itself throws. Its text begins with the room and a number that stays the
/// same over versions, and says what happened, where, and what to do: `[cadre.persist.502] ...`. Each number has an
/// entry in docs/errors.md; each kind of mistake has a subclass, defined in the room that throws it.
class error : public std::runtime_error {
 public:
  /// One of another process. Those that may go from one to another inherit this constructor.
  [[gnu::cold]] explicit error(const received_text& from)
      : std::runtime_error(std::string(from.text)), number_(number_in(from.text)) {}

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

  [[gnu::cold]] static int number_in(std::string_view text) noexcept {
    int number = 0;  // of more digits than any has: of a text that is damaged
    for (const char c : text.substr(0, text.find(']')))
      if (c >= '0' && c <= '9' && number < 100'000) number = 10 * number + (c - '0');
    return number;
  }

  int number_;
};

CADRE_NAMESPACE_END

#endif
