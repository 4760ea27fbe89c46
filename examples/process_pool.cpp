// A function that crashes on one input of many, in processes of its own: the crash is an error of that one call.
#include <cadre/actor.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

// A library that nobody can mend.
std::size_t parse(const std::string& record) {
  if (record == "9,,9") std::abort();
  return record.size();
}

int main(int argc, char** argv) {
  // run() forks the zygote first of all, as this program uses a process_pool; workers are copies of it.
  return cadre::run(argc, argv, [](cadre::runtime&) {
    cadre::process_pool pool({.processes = 2});

    const std::vector<std::string> records = {"1,2", "3", "9,,9", "4,5,6", "7"};
    std::vector<cadre::future<std::size_t>> lengths;
    for (const std::string& record : records) lengths.push_back(pool.submit<&parse>(record));

    for (std::size_t i = 0; i < records.size(); ++i) {
      try {
        std::printf("%s: %zu\n", records[i].c_str(), lengths[i].get());
      } catch (const cadre::worker_died& e) {  // e.what() says of which signal, and where it was submitted
        const std::string text = e.what();
        std::printf("%s: %s\n", records[i].c_str(), text.find("SIGABRT") != text.npos ? "SIGABRT" : "another end");
      }
    }
  });
}
