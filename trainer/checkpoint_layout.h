// Names inside a checkpoint folder, shared by its writer and its reader.
#pragma once

namespace moeut {

inline constexpr const char* kModelFile = "model.safetensors";
inline constexpr const char* kOptimizerFile = "optimizer.safetensors";
inline constexpr const char* kEmaFile = "ema.safetensors";  // if averages are kept
inline constexpr const char* kStateFile = "state.json";
inline constexpr const char* kConfigFile = "config.yaml";
inline constexpr const char* kManifestFile = "manifest.json";

}  // namespace moeut
