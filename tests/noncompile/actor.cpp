#include <cadre/actor.hpp>
#include <cadre/eigen.hpp>

#include <Eigen/Dense>

#include <map>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

struct linked {
  std::string name;
  linked* next;
};

struct counter {
  explicit counter(int first) : n(first) {}
  int add(int k) { return n += k; }
  int* where() { return &n; }
  int stops(std::stop_token, int k) { return k; }
  int n;

 private:
  int hidden(int k) { return k; }
};
struct other {
  int add(int k) { return k; }
};

int twice(int x);
int of_linked(const linked& l);
int of_map(const std::map<std::string, int>& m);
int of_pointer(const int* p);
int of_span(std::span<const int> v);
int of_text(std::string_view text);
double of_map_of_memory(Eigen::Map<const Eigen::MatrixXd> m);
void changes(std::vector<int>& v);
int* gives_pointer();
std::span<const int> gives_span();
std::string_view gives_text();
linked gives_linked();
void gives_nothing();
float of_copied_matrix(Eigen::MatrixXf m);
float of_vector(const std::vector<float>& v);
float of_copied_vector(std::vector<float> v);
int of_view(int x);

void arguments(cadre::runtime& rt, const linked& l, const std::map<std::string, int>& map, int* pointer,
               std::vector<int>& numbers, const Eigen::MatrixXd& matrix) {
  // error: cadre: an argument of this type cannot travel to another process: it is, or holds, a pointer, a view or a capture, or the archive cannot write and read it
  rt.submit<&of_linked>(l);
  // error: cadre: an argument of this type cannot travel to another process
  rt.submit<&of_map>(map);
  // error: cadre: an argument of this type cannot travel to another process
  rt.submit<&of_pointer>(pointer);
  // error: cadre: an argument of this type cannot travel to another process
  rt.submit<&of_span>(numbers);
  // error: What looks at memory (std::span, Eigen::Map, std::string_view) can be given an object_ref only
  rt.submit<&of_text>("text");
  // error: cadre: an argument of this type cannot travel to another process
  rt.submit<&of_map_of_memory>(Eigen::Map<const Eigen::MatrixXd>(matrix.data(), 2, 2));
  // error: cadre: a task cannot write to a variable of its caller: take the argument by value or by const&, and return what is changed
  rt.submit<&changes>(numbers);
  // error: cadre: this argument cannot be converted to the parameter
  rt.submit<&twice>(std::string("two"));
  // error: cadre: this call has too few or too many arguments
  rt.submit<&twice>();
  // error: cadre: this call has too few or too many arguments
  rt.submit<&twice>(1, 2);
  // error: cadre: this call has too few or too many arguments
  rt.submit<&twice>({.name = "three"}, 1, 2, 3);
  // error: cadre: what this future gives cannot be converted to the parameter
  rt.submit<&twice>(rt.submit<&gives_nothing>());
  const auto view = rt.get(rt.put(numbers));
  // error: cadre: a view is of this process's memory: give the task the object_ref
  rt.submit<&of_view>(view);
}

void functions(cadre::runtime& rt, int k) {
  const auto captures = [k](int x) { return x + k; };
  // error: no matching
  rt.submit<captures>(1);
  // error: cadre: name a function (&f), a method (&T::m), or a lambda without captures that is not generic
  rt.submit<[](auto x) { return x; }>(1);
  // error: cadre: name a function (&f), a method (&T::m), or a lambda without captures that is not generic
  rt.submit<3>(1);
  // error: cadre: the result of this function cannot travel to another process: it is, or holds, a pointer or a view, or the archive cannot write and read it
  rt.submit<&gives_pointer>();
  // error: cadre: the result of this function cannot travel to another process
  rt.submit<&gives_span>();
  // error: cadre: the result of this function cannot travel to another process
  rt.submit<&gives_text>();
  // error: cadre: the result of this function cannot travel to another process
  rt.submit<&gives_linked>();
  // error: cadre: submit_ref() is of a function that returns something
  rt.submit_ref<&gives_nothing>();
}

void objects(cadre::runtime& rt, const cadre::object_ref<Eigen::MatrixXf>& matrix,
             const cadre::object_ref<std::vector<float>>& vector) {
  // error: cadre: this parameter would copy the stored object, or cannot show it: a task takes a stored matrix as Eigen::Map<const M> or Eigen::Ref<const M>, a stored range as std::span<const T>, text as std::string_view, all else as const T&
  rt.submit<&of_copied_matrix>(matrix);
  // error: cadre: this parameter would copy the stored object, or cannot show it
  rt.submit<&of_copied_vector>(vector);
  // error: cadre: this parameter would copy the stored object, or cannot show it
  rt.submit<&of_vector>(vector);
  // error: cadre: this parameter would copy the stored object, or cannot show it
  rt.submit<&twice>(vector);
}

void actors(cadre::runtime& rt, const cadre::actor<counter>& c, const linked& l) {
  // error: cadre: the actor's class has no constructor for these arguments
  rt.actor<counter>(1, 2);
  // error: cadre: an argument of this constructor cannot travel to another process: it is, or holds, a pointer, a view or a capture, or the archive cannot write and read it
  rt.actor<linked>(l);
  // error: cadre: an actor is of a class
  rt.actor<const counter>(1);
  // error: cadre: this is not a method of the actor's class
  c.call<&other::add>(1);
  // error: private
  c.call<&counter::hidden>(1);
  // error: cadre: name a method: call<&T::m>(...)
  c.call<&counter::n>();
  // error: cadre: a method asks this_task::stop_requested()
  c.call<&counter::stops>(1);
  // error: cadre: this call has too few or too many arguments
  c.call<&counter::add>();
  // error: cadre: this argument cannot be converted to the parameter
  c.call<&counter::add>(std::vector<int>{1});
  // error: cadre: the result of this function cannot travel to another process
  c.call<&counter::where>();
  // error: cadre: this is not a method of the actor's class
  c.tell<&twice>(1);
}

struct linked_too {
  std::string name;
  linked_too* next;
};
int of_linked_too(const linked_too& l);
int thrice(int x);
cadre::object_ref<std::vector<float>> gives_ref();
int of_counter(cadre::actor<counter> c);

void processes(cadre::process_pool& pool, const linked_too& l, const cadre::object_ref<std::vector<float>>& vector,
               const cadre::actor<counter>& c) {
  // error: cadre: an argument of this type cannot travel to another process
  pool.submit<&of_linked_too>(l);
  // error: cadre: this call has too few or too many arguments
  pool.submit<&thrice>();
  // error: cadre: a worker process has no runtime: its function takes and gives values, not futures, object_refs or actors
  pool.submit<&of_vector>(vector);
  // error: cadre: a worker process has no runtime
  pool.submit<&thrice>(pool.submit<&thrice>(1));
  // error: cadre: a worker process has no runtime
  pool.submit<&of_counter>(c);
  // error: cadre: a worker process has no runtime
  pool.submit<&gives_ref>();
  // error: cadre: a function that runs in a worker process takes no std::stop_token, as nobody could use it: give the process_pool a .timeout
  pool.submit<[](std::stop_token, int k) { return k; }>(1);
}

void streams(cadre::runtime& rt) {
  // error: cadre: submit_stream() is of a function whose first parameter is a cadre::stream_writer<T>, by value
  rt.submit_stream<&thrice>(1);
}
