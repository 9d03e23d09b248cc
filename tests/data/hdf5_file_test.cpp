#include "data/hdf5_file.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <csignal>

#include "core/error.h"
#include "data/limited_child.h"
#include "tests/data/text_files.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;
using testing::ScratchFolder;

void write_example(const stdfs::path& path) {
  const uint16_t ids[] = {1, 2, 3, 4, 65535};
  const double reals[] = {0.5, -1e300};
  Hdf5Writer file(path);
  file.attribute("count", uint64_t{1} << 63);
  file.attribute("name", "h\xC3\xA9llo");
  file.create_dataset("ids", Hdf5Type::kUint16, 5);
  file.create_dataset("reals", Hdf5Type::kFloat64, 2);
  file.write("ids", 0, ids, 2);
  file.write("ids", 2, ids + 2, 3);
  file.write("reals", 0, reals, 2);
  file.close();
}

TEST_CASE("what was written is read, in every type that holds it") {
  const ScratchFolder folder;
  write_example(folder.path() / "a.h5");
  const Hdf5File file(folder.path() / "a.h5");
  CHECK(file.list() == std::vector<std::string>{"ids", "reals"});
  CHECK(file.uint_attribute("count") == uint64_t{1} << 63);
  CHECK(file.string_attribute("name") == "h\xC3\xA9llo");
  CHECK(file.read<int64_t>("ids") == std::vector<int64_t>{1, 2, 3, 4, 65535});
  CHECK(file.read<uint16_t>("ids")[4] == 65535);
  CHECK(file.read<float>("ids")[4] == 65535.0f);
  CHECK(file.read<double>("reals")[1] == -1e300);
  const Hdf5DatasetInfo info = file.info("ids");
  CHECK(info.type == Hdf5Type::kUint16);
  CHECK(info.little_endian);
  REQUIRE(info.file_offset.has_value());
  CHECK(*info.file_offset % 8 == 0);
  CHECK(testing::read_text(folder.path() / "a.h5").substr(*info.file_offset, 4) == std::string("\1\0\2\0", 4));
}

TEST_CASE("what a type cannot hold, and what is not there, is refused by name") {
  const ScratchFolder folder;
  write_example(folder.path() / "a.h5");
  const Hdf5File file(folder.path() / "a.h5");
  CHECK_THROWS_WITH_AS(file.read<uint8_t>("ids"), doctest::Contains("element 4 of 'ids' is 65535"), IoError);
  CHECK_THROWS_WITH_AS(file.read<int32_t>("reals"), doctest::Contains("float64"), IoError);
  CHECK_THROWS_WITH_AS(file.read<double>("missing"), doctest::Contains("no object 'missing'"), IoError);
  CHECK_THROWS_WITH_AS(file.string_attribute("absent"), doctest::Contains("no attribute 'absent'"), IoError);
  CHECK_THROWS_WITH_AS(file.int_attribute("name"), doctest::Contains("not an integer"), IoError);
  CHECK_FALSE(file.exists("missing/deeper"));
  CHECK(file.list("missing").empty());
  CHECK_THROWS_WITH_AS(Hdf5File(folder.path() / "none.h5"), doctest::Contains("no such file"), IoError);
  CHECK_THROWS_AS(Hdf5File(testing::write_text(folder.path() / "text.h5", "no HDF5")), IoError);
}

/// No file of this process can grow past so many bytes meanwhile, as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST_CASE("a few bytes for which the disk has no room are an error of their own write, even if there is room later") {
  const ScratchFolder folder;
  Hdf5Writer file(folder.path() / "a.h5");
  file.create_dataset("hashes", Hdf5Type::kUint64, 3);
  const uint64_t hashes[] = {1, 2, 3};
  {
    const FileSizeLimit limit(16);
    CHECK_THROWS_AS(file.write("hashes", 0, hashes, 3), IoError);
  }
  file.write("hashes", 0, hashes, 3);
  file.close();
  CHECK(Hdf5File(folder.path() / "a.h5").read<uint64_t>("hashes") == std::vector<uint64_t>{1, 2, 3});
}

TEST_CASE("equal content gives equal bytes") {
  const ScratchFolder folder;
  write_example(folder.path() / "a.h5");
  write_example(folder.path() / "b.h5");
  CHECK(testing::read_text(folder.path() / "a.h5") == testing::read_text(folder.path() / "b.h5"));
}

TEST_CASE("golden files: variable-length strings, gzip chunks, nested groups") {
  const Hdf5File file(MOEUT_SOURCE_DIR "/tests/golden/lm_window_and_padding.h5");
  CHECK(file.string_attribute("format") == "moeut-golden/1");
  CHECK(file.int_attribute("train") == 1);
  CHECK(file.list("input") == std::vector<std::string>{"position_mask", "src_length_mask", "targets", "tokens"});
  CHECK(file.info("expect/outputs").shape == std::vector<uint64_t>{2, 26, 97});
  CHECK(file.info("expect/outputs").filtered);
  CHECK(file.info("expect/ce_loss").shape.empty());
  CHECK(file.read<double>("expect/ce_loss").size() == 1);
  CHECK(file.read<uint8_t>("input/position_mask").size() == 26 * 26);
}

/// Every name of every foreign file is read in a child: none may kill or hang this process.
TEST_CASE("files that crash the HDF5 library end in an error or a result") {
  if (!stdfs::exists(testing::shared_data("hdf5"))) {
    MESSAGE("no ../shared/data/hdf5: skipped");
    return;
  }
  int files = 0, read = 0;
  for (const auto& entry : stdfs::recursive_directory_iterator(testing::shared_data("hdf5"))) {
    if (!entry.is_regular_file() || entry.path().filename().string().starts_with("LICENSE")) continue;
    ++files;
    const auto read_all = [&] {
      const Hdf5File file(entry.path());
      for (const std::string& name : file.list()) {
        try {
          file.read<double>(name);
        } catch (const IoError&) {  // strings, compounds and refused storage
        }
      }
      return std::string("read");
    };
    try {
      read += run_in_limited_child(entry.path().string(), read_all, {.cpu_seconds = 5, .wall_seconds = 10}) == "read";
    } catch (const IoError&) {
    }
  }
  CHECK(files > 100);
  CHECK(read > 20);  // the valid ones among them are readable
}

}  // namespace
}  // namespace moeut
