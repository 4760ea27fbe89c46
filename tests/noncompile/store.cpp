#include <cadre/eigen.hpp>
#include <cadre/store/travel.hpp>

#include <cereal/archives/binary.hpp>
#include <cereal/archives/json.hpp>

#include <string>
#include <vector>

using ref = cadre::object_ref<std::string>;

struct linked {
  std::string name;
  linked* next;
};

void refs_in_archives_of_cereal(const ref& from, ref& to, cereal::JSONOutputArchive& json,
                                cereal::BinaryOutputArchive& binary, cereal::JSONInputArchive& json_in,
                                cereal::BinaryInputArchive& binary_in) {
  // error: cadre: an object_ref can only be written by cadre::output_archive, with a ref_sender
  json(from);
  // error: cadre: an object_ref can only be written by cadre::output_archive, with a ref_sender
  binary(std::vector<ref>{from});
  // error: cadre: an object_ref can only be read by cadre::input_archive, with a ref_receiver
  json_in(to);
  // error: cadre: an object_ref can only be read by cadre::input_archive, with a ref_receiver
  binary_in(to);
}

void views(cadre::object_store& store, const ref& r, cadre::output_archive& archive, cereal::JSONOutputArchive& json) {
  const cadre::view<std::string> v = store.get(r);
  // error: cadre: a view cannot be written: write *view, or send the object_ref
  archive(v);
  // error: cadre: a view cannot be written: write *view, or send the object_ref
  json(v);
  // error: cadre: a view cannot be written: write *view, or send the object_ref
  store.put(store.get(cadre::object_ref<int>()));
  // error: cadre: what a temporary view shows is gone with it: give the view a name
  *store.get(r);
  // error: cadre: what a temporary view shows is gone with it: give the view a name
  store.get(r)->size();
  // error: cadre: what a temporary view shows is gone with it: give the view a name
  store.get(r).bytes();
}

void values_without_bytes(cadre::object_store& store, int* pointer, const std::vector<double*>& pointers) {
  // error: cadre: this type cannot be put into a store: its bytes are not its value, and the archive cannot write it; give it a serialize, or include what cereal has for it (<cereal/types/map.hpp>)
  store.put(linked{});
  // error: cadre: a pointer means nothing to other processes; put a std::span of what it points to
  store.put(pointer);
  const int raw[3] = {1, 2, 3};
  // error: cadre: a pointer means nothing to other processes; put a std::span of what it points to
  store.put(raw);
  // error: Cereal does not support serializing raw pointers
  store.put(pointers);
  // error: cadre: create<E>(n) is of elements that are copied as bytes: trivially copyable
  store.create<std::string>(3);
  // error: a matrix is made by create<M>(rows, cols), all else by put()
  store.create<Eigen::VectorXf>(3);
  // error: cadre: create<E>(n) is of elements that are copied as bytes: trivially copyable, not pointers
  store.create<int*>(3);
}

void constants(cadre::input_archive& archive, const int& constant) {
  // error: cadre: a const value cannot be read into
  archive(constant);
}
