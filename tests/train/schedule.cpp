#include "catch.hpp"

#include <cadre/train/schedule.hpp>

namespace train_schedule {

namespace train = cadre::train;

TEST_CASE("schedules begin at one and go where their shape says") {
  CHECK(train::constant()(12345) == 1);

  const auto stairs = train::step(10, 0.5);
  CHECK(stairs(0) == 1);
  CHECK(stairs(9) == 1);
  CHECK(stairs(10) == 0.5);
  CHECK(stairs(35) == 0.125);

  const auto line = train::linear(100, 0.2);
  CHECK(line(0) == 1);
  CHECK(line(50) == Approx(0.6));
  CHECK(line(100) == Approx(0.2));
  CHECK(line(1000) == Approx(0.2));

  const auto wave = train::cosine(100);
  CHECK(wave(0) == 1);
  CHECK(wave(50) == Approx(0.5));
  CHECK(wave(25) == Approx(0.5 + 0.5 * 0.70710678118654752));
  CHECK(wave(100) == Approx(0).margin(1e-15));
  CHECK(wave(1000) == Approx(0).margin(1e-15));
  CHECK(train::cosine(100, 0.1)(1000) == Approx(0.1));
}

TEST_CASE("a warm-up rises to the schedule that follows it") {
  const auto s = train::warm_up(4, train::linear(10));
  CHECK(s(0) == 0.25);
  CHECK(s(3) == 1);
  CHECK(s(4) == 1);
  CHECK(s(9) == Approx(0.5));
  CHECK(s(14) == Approx(0).margin(1e-15));
  CHECK(train::warm_up(2)(0) == 0.5);
  CHECK(train::warm_up(2)(100) == 1);
  CHECK(train::warm_up(0, train::linear(10))(5) == 0.5);
}

TEST_CASE("a schedule times a number is the learning rate") {
  const auto lr = 1e-3 * train::warm_up(2, train::step(5, 0.1));
  CHECK(lr(0) == Approx(5e-4));
  CHECK(lr(2) == Approx(1e-3));
  CHECK((train::constant() * 3.0)(7) == 3);
  CHECK((2 * lr)(8) == Approx(2e-4));
}

TEST_CASE("schedules without a length and two warm-ups are refused") {
  CHECK_THROWS_AS(train::cosine(0), train::option_invalid);
  CHECK_THROWS_AS(train::linear(0), train::option_invalid);
  CHECK_THROWS_MATCHES(
      train::step(0, 0.5), train::option_invalid,
      Catch::Matchers::Message("[cadre.train.807] a learning-rate schedule by steps needs steps of a length above 0"));
  CHECK_THROWS_WITH(train::warm_up(2, train::warm_up(2)), ContainsSubstring("has one warm-up at most"));
}

}  // namespace train_schedule
