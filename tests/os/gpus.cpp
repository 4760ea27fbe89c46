#include "catch.hpp"
#include "os/made_up_root.hpp"

#include <cadre/os/gpus.hpp>

#include <stdlib.h>

#include <optional>
#include <string>
#include <vector>

namespace gpus_test {

using names = std::vector<std::string>;

/// CUDA_VISIBLE_DEVICES for as long as it lives; null: not there.
class visible_devices {
 public:
  explicit visible_devices(const char* list) {
    if (const char* const before = ::getenv("CUDA_VISIBLE_DEVICES")) before_ = before;
    set(list);
  }
  visible_devices(const visible_devices&) = delete;
  visible_devices& operator=(const visible_devices&) = delete;
  ~visible_devices() { set(before_ ? before_->c_str() : nullptr); }

 private:
  static void set(const char* list) {
    list == nullptr ? ::unsetenv("CUDA_VISIBLE_DEVICES") : ::setenv("CUDA_VISIBLE_DEVICES", list, 1);
  }
  std::optional<std::string> before_;
};

names seen(const made_up_root& t, const char* list) {
  const visible_devices v(list);
  return cadre::visible_gpus(t.path());
}

}  // namespace gpus_test

TEST_CASE("GPUs are found by the files of NVIDIA's driver", "[gpus]") {
  using namespace gpus_test;
  made_up_root t;
  CHECK(seen(t, nullptr).empty());
  // The driver is there, and its files are not made yet.
  t.file("/proc/driver/nvidia/version", "");
  t.file("/proc/driver/nvidia/gpus/0000:01:00.0/information", "");
  CHECK(seen(t, nullptr) == names{"0"});
  t.file("/proc/driver/nvidia/gpus/0000:02:00.0/information", "");
  t.file("/proc/driver/nvidia/gpus/0000:03:00.0/information", "");
  CHECK(seen(t, nullptr) == names{"0", "1", "2"});
  // A container has the files of its own GPUs alone. CUDA numbers them from 0.
  t.file("/dev/nvidiactl", "");
  t.file("/dev/nvidia-uvm", "");
  CHECK(seen(t, nullptr) == names{"0", "1", "2"});
  t.file("/dev/nvidia2", "");
  CHECK(seen(t, nullptr) == names{"0"});
  t.file("/dev/nvidia10", "");
  CHECK(seen(t, nullptr) == names{"0", "1"});
}

TEST_CASE("CUDA_VISIBLE_DEVICES chooses among the GPUs that there are, as CUDA reads it", "[gpus]") {
  using namespace gpus_test;
  made_up_root t;
  CHECK(seen(t, "0").empty());  // a variable makes no GPU
  CHECK(seen(t, "GPU-8932f937").empty());
  for (const char* const file : {"/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia2", "/dev/nvidia3"}) t.file(file, "");
  CHECK(seen(t, "").empty());
  CHECK(seen(t, "1") == names{"1"});
  CHECK(seen(t, "3, 0") == names{"3", "0"});
  CHECK(seen(t, "03") == names{"3"});
  CHECK(seen(t, "GPU-8932f937,MIG-e91edf3b") == names{"GPU-8932f937", "MIG-e91edf3b"});
  // What follows an invalid name is not seen.
  CHECK(seen(t, "-1").empty());
  CHECK(seen(t, "NoDevFiles").empty());
  CHECK(seen(t, "1,4,2") == names{"1"});
  CHECK(seen(t, "2,99999999999999999999,1") == names{"2"});
  CHECK(seen(t, "2,1x,1") == names{"2"});
  CHECK(seen(t, "2,2,1") == names{"2"});
  CHECK(seen(t, ",1").empty());
}
