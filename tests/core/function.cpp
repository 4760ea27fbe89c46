#include "catch.hpp"

#include <cadre/core/function.hpp>

#include <array>
#include <memory>
#include <stdexcept>
#include <string>

namespace function_test {

// Counts its living copies, so that a leak or a double destruction shows.
struct counted {
  explicit counted(int& n) : living(&n) { ++*living; }
  counted(counted&& other) noexcept : living(other.living) { ++*living; }
  ~counted() { --*living; }
  int operator()() const { return *living; }
  int* living;
};

int twice(int x) { return 2 * x; }

struct point {
  int x = 3;
  int add(int y) const { return x + y; }
};

}  // namespace function_test

TEST_CASE("a move_only_function holds and calls small callables in place", "[function]") {
  cadre::move_only_function<int(int)> f = [](int x) { return x + 1; };
  CHECK(f(1) == 2);
  f = function_test::twice;
  CHECK(f(4) == 8);
  static_assert(sizeof(f) == 64);
}

TEST_CASE("a move_only_function holds what cannot be copied", "[function]") {
  auto p = std::make_unique<int>(5);
  cadre::move_only_function<int()> f = [p = std::move(p)] { return *p; };
  cadre::move_only_function<int()> g = std::move(f);
  CHECK(g() == 5);
  CHECK_FALSE(f);  // NOLINT: what is left is said to be empty
  static_assert(!std::is_copy_constructible_v<decltype(f)>);
}

TEST_CASE("a move_only_function holds callables larger than itself", "[function]") {
  std::array<int, 100> big{};
  big[99] = 7;
  cadre::move_only_function<int()> f = [big] { return big[99]; };
  cadre::move_only_function<int()> g;
  g = std::move(f);
  CHECK(g() == 7);
}

TEST_CASE("a move_only_function destroys what it holds exactly once", "[function]") {
  int living = 0;
  {
    cadre::move_only_function<int()> f = function_test::counted(living);
    CHECK(f() == 1);
    cadre::move_only_function<int()> g = std::move(f);
    CHECK(g() == 1);
    g = [] { return 0; };
    CHECK(living == 0);
    g = function_test::counted(living);
    g = nullptr;
    CHECK(living == 0);
    struct large : function_test::counted {
      using counted::counted;
      std::array<char, 100> ballast{};
    };
    f = large(living);
    swap(f, g);
    CHECK(g() == 1);
  }
  CHECK(living == 0);
}

TEST_CASE("a move_only_function is empty by default, from null, and from a null pointer", "[function]") {
  CHECK_FALSE(cadre::move_only_function<void()>());
  CHECK(cadre::move_only_function<void()>(nullptr) == nullptr);
  int (*null)(int) = nullptr;
  CHECK_FALSE(cadre::move_only_function<int(int)>(null));
  CHECK_FALSE(cadre::move_only_function<long(int)>(cadre::move_only_function<int(int)>()));
  CHECK(cadre::move_only_function<long(int)>(cadre::move_only_function<int(int)>([](int x) { return x; }))(4) == 4);
}

TEST_CASE("a move_only_function passes references, moves, members and exceptions on", "[function]") {
  int n = 0;
  cadre::move_only_function<void(int&)> add = [](int& x) { ++x; };
  add(n);
  CHECK(n == 1);
  cadre::move_only_function<std::string(std::unique_ptr<std::string>)> consume = [](std::unique_ptr<std::string> s) {
    return *s;
  };
  CHECK(consume(std::make_unique<std::string>("moved")) == "moved");
  cadre::move_only_function<int(const function_test::point&, int)> member = &function_test::point::add;
  CHECK(member(function_test::point{}, 4) == 7);
  cadre::move_only_function<int(function_test::point*)> field = &function_test::point::x;
  function_test::point p;
  CHECK(field(&p) == 3);
  cadre::move_only_function<int(std::shared_ptr<function_test::point>)> smart = &function_test::point::x;
  CHECK(smart(std::make_shared<function_test::point>()) == 3);
  cadre::move_only_function<void()> thrower = [] { throw std::out_of_range("far"); };
  CHECK_THROWS_AS(thrower(), std::out_of_range);
  cadre::move_only_function<void()> dropped = [] { return 5; };
  dropped();
}
