// More objects than memory: those not used for longest go to disk, and come back when they are asked for.
#include <cadre/store.hpp>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

int main() {
  using namespace cadre::literals;
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "cadre-example-spill";
  std::filesystem::create_directories(folder);
  {
    auto store = cadre::object_store::open({.capacity = 16_MiB, .spill_dir = folder});
    std::vector<cadre::object_ref<std::vector<int>>> blocks;
    for (int k = 0; k < 20; ++k) blocks.push_back(store.put(std::vector<int>(1 << 20, k)));  // 4 MiB each
    std::printf("%s\n", store.stats().spilled >= 64_MiB ? "most are on disk" : "all are in memory");

    bool right = true;
    for (int k = 0; k < 20; ++k) {
      const auto block = store.get(blocks[static_cast<std::size_t>(k)]);
      right = right && block->front() == k && block->back() == k;
    }
    std::printf("%s\n", right ? "all came back" : "damaged");
  }
  std::printf("%s\n", std::filesystem::is_empty(folder) ? "nothing is left" : "something is left");
  std::filesystem::remove(folder);
}
