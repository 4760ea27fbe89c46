// An actor: an object that is called by messages, one at a time, from anywhere.
#include <cadre/actor.hpp>

#include <cstdio>
#include <stdexcept>
#include <vector>

class counter {
 public:
  explicit counter(int first) : n_(first) {}
  int add(int k) { return n_ += k; }
  [[nodiscard]] int value() const { return n_; }
  void fail() { throw std::out_of_range("no such count"); }

 private:
  int n_;
};

int add_ten_times(cadre::actor<counter> c) {  // a handle is 16 bytes, and travels like a number
  for (int i = 0; i < 10; ++i) c.tell<&counter::add>(1);
  return c.call<&counter::value>().get();  // comes behind what this task told it
}

int main(int argc, char** argv) {
  return cadre::run(argc, argv, [](cadre::runtime& rt) {
    const auto c = rt.actor<counter>({.name = "counter"}, 100);
    std::printf("%d\n", c.call<&counter::add>(5).get());

    std::vector<cadre::future<int>> tasks;
    for (int i = 0; i < 4; ++i) tasks.push_back(rt.submit<&add_ten_times>(c));
    for (auto& task : tasks) task.wait();
    std::printf("%d\n", rt.find_actor<counter>("counter").call<&counter::value>().get());

    try {
      c.call<&counter::fail>().get();
    } catch (const std::out_of_range& e) {  // errors keep their type, and the actor lives on
      std::printf("%s\n", e.what());
    }
    c.stop().get();
    try {
      c.call<&counter::add>(1).get();
    } catch (const cadre::actor_died& e) {
      std::printf("%d\n", e.number());
    }
  });
}
