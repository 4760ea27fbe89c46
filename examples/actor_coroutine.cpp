// Actors that wait for each other without being held up: an order waits for the stock and for the rate, and the shop answers
// other calls meanwhile. Each co_await frees the actor and its thread, so one thread is enough for all of this.
#include <cadre/actor.hpp>
#include <cadre/async/coroutine.hpp>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

class stock {
 public:
  int take(const std::string& item, int n) {
    if (item != "tea" || n > left_) throw std::out_of_range("no " + item + " left");
    left_ -= n;
    return left_;
  }

 private:
  int left_ = 100;
};

class bank {
 public:
  double rate(const std::string& currency) const { return currency == "EUR" ? 1.25 : 1.0; }
};

class shop {
 public:
  shop(cadre::actor<stock> goods, cadre::actor<bank> money) : goods_(goods), money_(money) {}

  // The arguments live until it is over. Other calls may change the members at each co_await, but never beside it.
  cadre::future<double> order(std::string item, int n, std::string currency) {
    ++open_;
    auto rate = money_.call<&bank::rate>(currency);  // both at once
    auto taken = goods_.call<&stock::take>(item, n);
    double price = 0;
    try {
      co_await taken;
      price = 4.0 * n * co_await rate;
    } catch (const std::out_of_range&) {
      --open_;
      throw;  // to whoever waits for the order
    }
    --open_;
    sold_ += n;
    co_return price;
  }
  std::vector<int> numbers() const { return {open_, sold_}; }

 private:
  cadre::actor<stock> goods_;
  cadre::actor<bank> money_;
  int open_ = 0, sold_ = 0;
};

int main() {
  cadre::runtime rt({.threads = 1});
  const auto s = rt.actor<shop>(rt.actor<stock>(), rt.actor<bank>());
  std::vector<cadre::future<double>> orders;
  for (int k = 1; k <= 10; ++k) orders.push_back(s.call<&shop::order>("tea", k, k % 2 == 0 ? "EUR" : "USD"));
  auto none = s.call<&shop::order>("coffee", 1, "EUR");
  double sum = 0;
  for (auto& order : orders) sum += order.get();
  std::printf("%.1f\n", sum);
  try {
    none.get();
  } catch (const std::out_of_range& e) {
    std::printf("%s\n", e.what());
  }
  const auto numbers = s.call<&shop::numbers>().get();
  std::printf("%d open, %d sold\n", numbers[0], numbers[1]);
  s.stop().get();  // when all orders are over
}
