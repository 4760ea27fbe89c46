#include <cadre/async/when_any.hpp>
#include <cadre/comm/local_team.hpp>
#include <cadre/train/parameters.hpp>
#include <cadre/train/trainer.hpp>
#include <cadre/tune/space.hpp>

#include <array>
#include <span>
#include <string>
#include <vector>

using reals = std::vector<float>;
struct alignas(128) wide {
  float numbers[32];
};

void collectives(cadre::local_communicator& comm, const reals& constant, reals& values, std::vector<bool*>& pointers) {
  // error: the elements of this range are const: the result has nowhere to go
  comm.all_reduce(constant, cadre::reduce_op::sum);
  // error: this container is a temporary: the result would be lost; pass a named one or a span
  comm.broadcast(reals(3), 0);
  // error: only the integer types, float and double can be reduced (bool: reduce an int)
  comm.all_reduce(true, cadre::reduce_op::max);
  // error: only trivially copyable elements that are not pointers travel between ranks
  comm.broadcast(pointers, 0);
  // error: only trivially copyable elements that are not pointers travel between ranks
  comm.broadcast(std::vector<std::vector<int>>{}, 0);
  // error: reduce_scatter: in and out differ in element type
  comm.reduce_scatter(std::vector<double>(2), values, cadre::reduce_op::sum);
  // error: all_gather: in and out differ in element type
  comm.all_gather(std::vector<double>(2), values);
  // error: vector<bool> has no elements to gather into: gather a char
  comm.all_gather(true);
  // error: allocate: memory of communicators is aligned to 64 bytes, this type needs more
  comm.allocate<wide>(3);
}

void results_of_ranks(cadre::local_team& team, int& outside) {
  // error: local_team::run: return a value, not a reference
  team.run([&](cadre::local_communicator&) -> int& { return outside; });
}

void futures(cadre::future<int> one, cadre::future<std::string> other) {
  // error: when_any() is of futures of one type: make it one by then()
  cadre::when_any(std::move(one), std::move(other));
}

void parameters(cadre::train::parameters& p, reals& value, reals& gradient, const reals& constant,
                std::vector<int>& numbers, std::vector<double>& doubles) {
  // error: a parameter's elements are float or double
  p.add("p", numbers, numbers);
  // error: a parameter's elements are float or double
  p.make<std::vector<int>>("p", 3);
  // error: a value and its gradient have the same element type
  p.add("p", value, doubles);
  // error: a parameter is changed by training: pass one that is not const
  p.add("p", constant, gradient);
  // error: this array is a temporary that owns its elements: pass a named one, or a view of it
  p.add("p", value, reals(3));
}

struct config {
  double rate;
  int layers;
  std::string name;
};
struct other_config {
  double rate;
};

void train_functions() {
  // error: a train function is called as f(cadre::train::context&, const Config&)
  cadre::train::trainer([](cadre::train::context&, other_config&) {}, config{});
}

void spaces(cadre::tune::space<config>& s) {
  // error: cadre::tune: uniform, quniform, loguniform, qloguniform and randn draw real numbers, so the member must be
  s.add("layers", &config::layers, cadre::tune::uniform(0, 1));
  // error: cadre::tune: randint, qrandint and lograndint draw integers, so the member must be of an integer type; for
  s.add("rate", &config::rate, cadre::tune::randint(0, 1));
  // error: cadre::tune: the values of this choice do not fit the member's type: give values of that very type
  s.add("name", &config::name, cadre::tune::choice({1, 2}));
  // error: cadre::tune: the member belongs to another struct than the space
  s.add("rate", &other_config::rate, cadre::tune::uniform(0, 1));
}
