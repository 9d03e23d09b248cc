#include "data/hdf5_library.h"

#include <algorithm>
#include <string_view>

namespace moeut::hdf5 {

void quiet_library() {
  // Without cleaning up at exit: after a failed write (a full disk) the library would write once more and crash. Files
  // are closed one by one here.
  static const bool once = [] { return H5dont_atexit() >= 0 && H5PLset_loading_state(0) >= 0; }();
  (void)once;
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

std::string reason() {
  std::string text = "no reason given";
  const auto keep_last = [](unsigned, const H5E_error2_t* error, void* out) -> herr_t {
    if (error->desc != nullptr) *static_cast<std::string*>(out) = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_last, &text);
  H5Eclear2(H5E_DEFAULT);
  std::replace(text.begin(), text.end(), '\n', ' ');  // it prints times with ctime
  // "file write failed: time = …, error message = 'No space left on device', buf = …" is a call's whole state.
  constexpr std::string_view kSystem = "error message = '";
  const size_t system = text.find(kSystem);
  if (system == std::string::npos) return text;
  const size_t begin = system + kSystem.size();
  return text.substr(begin, text.find('\'', begin) - begin);
}

}  // namespace moeut::hdf5
