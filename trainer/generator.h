// Text from a model: one token after the other, each drawn from the model's distribution after all before it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/rng.h"
#include "data/tokenizer.h"
#include "layers/moeut_lm.h"

namespace moeut {

struct GenerationOptions {
  int64_t length = 100;    ///< tokens to draw
  double temperature = 1;  ///< divides the logits; 0: always the likeliest
  int64_t top_k = 0;       ///< draw among this many likeliest; 0: all
  double top_p = 1;        ///< draw among the likeliest that reach this probability together
  std::function<bool()> interrupted = [] { return false; };  ///< asked before every token
};

/// The drawn tokens, without the prompt; fewer if interrupted. The prompt must not be empty. Throws ShapeError for ids
/// outside the vocabulary.
std::vector<int32_t> generate(MoeutLm& model, const std::vector<int32_t>& prompt, const GenerationOptions& options,
                              Rng& rng);

/// Continues `prompt`; an empty one stands for the beginning of a document (BOS, else EOS, else token 0). The text
/// begins with the prompt; documents are set apart by an empty line. Nothing if interrupted.
std::optional<std::string> generate_text(MoeutLm& model, const Tokenizer& tokenizer, const std::string& prompt,
                                         const GenerationOptions& options, Rng& rng);

}  // namespace moeut
