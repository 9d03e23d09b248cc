// Golden files (float64, the official code's semantics) as models, masks and inputs.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/hdf5_file.h"
#include "layers/moeut_lm.h"

namespace moeut::testing {

inline const std::vector<std::string>& golden_language_models() {
  static const std::vector<std::string> names = {
      "lm_basic",     "lm_dense_attention",   "lm_eval", "lm_group3_att_k1", "lm_padding_mask",
      "lm_unaligned", "lm_window_and_padding"};
  return names;
}

inline Hdf5File open_golden(const std::string& name) {
  return Hdf5File(std::filesystem::path(MOEUT_SOURCE_DIR) / "tests/golden" / (name + ".h5"));
}

template <class T>
Tensor tensor_of(const Hdf5File& file, const std::string& name) {
  std::vector<int64_t> extents;
  for (const uint64_t n : file.info(name).shape) extents.push_back(static_cast<int64_t>(n));
  return Tensor::from<T>(file.read<T>(name), Shape(extents));
}

inline AttentionMask mask_of(const Hdf5File& file) {
  AttentionMask mask;
  if (file.exists("input/src_length_mask")) mask.src_length_mask = tensor_of<uint8_t>(file, "input/src_length_mask");
  if (file.exists("input/position_mask")) mask.position_mask = tensor_of<uint8_t>(file, "input/position_mask");
  return mask;
}

inline void load_parameters(const Hdf5File& file, Module& model, DType dtype) {
  model.visit_parameters(
      [&](Parameter& p) { p.value.copy_from(tensor_of<double>(file, "params/" + p.name).to(Device::cpu(), dtype)); });
}

}  // namespace moeut::testing
