// A pipeline of actors: each stage tells the next, so that all of them work at the same time, in the order of the input.
#include <cadre/actor.hpp>

#include <cstdio>
#include <string>
#include <utility>

class printer {
 public:
  void take(const std::string& line) { std::printf("%d: %s\n", ++lines_, line.c_str()); }
  [[nodiscard]] int lines() const { return lines_; }

 private:
  int lines_ = 0;
};

class brackets {
 public:
  explicit brackets(cadre::actor<printer> next) : next_(next) {}
  void take(std::string line) { next_.tell<&printer::take>("[" + std::move(line) + "]"); }
  int flush() { return next_.call<&printer::lines>().get(); }  // behind all that this stage has told it

 private:
  cadre::actor<printer> next_;
};

class capitals {
 public:
  explicit capitals(cadre::actor<brackets> next) : next_(next) {}
  void take(std::string line) {
    for (char& c : line) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    next_.tell<&brackets::take>(std::move(line));
  }
  int flush() { return next_.call<&brackets::flush>().get(); }

 private:
  cadre::actor<brackets> next_;
};

int main(int argc, char** argv) {
  return cadre::run(argc, argv, [](cadre::runtime& rt) {
    const auto last = rt.actor<printer>();
    const auto middle = rt.actor<brackets>(last);
    const auto first = rt.actor<capitals>({.max_pending_calls = 1000}, middle);  // more at once is an error, not memory
    for (const char* word : {"one", "two", "three", "four"}) first.tell<&capitals::take>(word);
    std::printf("%d lines\n", first.call<&capitals::flush>().get());
  });
}
