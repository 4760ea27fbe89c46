// The samples of Ray's tutorial on data sets, beside which docs/from-ray.md shows them.
#include <cadre/async.hpp>
#include <cadre/data.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

int main() {
  const std::string file = std::filesystem::temp_directory_path() / "cadre_ray_data.csv";
  std::ofstream(file) << "length,width,kind\n5.0,3.0,0\n6.0,2.0,1\n7.0,4.0,1\n8.0,3.0,0\n";

  auto table = cadre::data::read_csv_table(file);
  std::printf("%zu rows of %zu columns\n", table.rows(), table.columns());
  std::vector<float> x = table.matrix<float>({"length", "width"});  // row-major
  std::vector<int> y = table.column<int>("kind");

  cadre::thread_pool pool;
  pool.for_each(0, table.rows(), [&](std::size_t row) { x[2 * row] /= 8; });

  cadre::data::batch_loader loader{std::span<const float>(x), std::span<const int>(y)};
  cadre::data::distributed_sampler sampler{loader.size(), cadre::data::shard{.rank = 0, .world_size = 1}, /*seed*/ 1};
  for (int epoch = 0; epoch < 2; ++epoch) {
    sampler.set_epoch(epoch);  // another shuffle
    float sum = 0;
    for (const auto& indices : sampler.batches(2)) {
      const auto batch = loader.load(indices);
      for (float value : batch.inputs) sum += value;
    }
    std::printf("epoch %d: %.3f\n", epoch, sum);
  }
}
