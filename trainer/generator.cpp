#include "trainer/generator.h"

#include "autograd/op.h"
#include "kernels/sampling.h"

namespace moeut {
namespace {

/// Logits after the last of `tokens`, which continue what is in the cache: (V).
Tensor next_logits(MoeutLm& model, const std::vector<int32_t>& tokens, const std::shared_ptr<KvCache>& cache) {
  Tape tape(Tape::Recording::off);
  ForwardContext context(tape);
  const auto count = static_cast<int64_t>(tokens.size());
  const Device device = model.lm_head.weight.value.device();
  const Tensor chunk = Tensor::from<int32_t>(tokens, {1, count}, device);
  const Tensor logits = model.forward(context, chunk, {.mask = std::nullopt, .cache = cache}).outputs.value();
  const int64_t vocabulary = logits.shape().row_size();
  const Tensor last = logits.reshape({count, vocabulary}).slice(count - 1, 1).to(Device::cpu());
  // Sampling knows no narrow formats.
  return last.dtype() == DType::f64 ? last : last.to(Device::cpu(), DType::f32);
}

int32_t draw(const Tensor& logits, const GenerationOptions& options, double uniform) {
  int32_t token = 0;
  on_floating(logits.dtype(), [&]<class T>() {
    const Workspace workspace(Device::cpu(), kernels::sample_workspace_bytes<T>(Cpu{}, logits.size()));
    kernels::sample<T>(Cpu{}, workspace,
                       {.vocabulary = logits.size(),
                        .logits = logits.data<T>(),
                        .temperature = options.temperature,
                        .top_k = options.top_k,
                        .top_p = options.top_p,
                        .uniform = uniform,
                        .token = &token});
  });
  return token;
}

int32_t document_start(const Tokenizer& tokenizer) {
  if (tokenizer.bos_id()) return *tokenizer.bos_id();
  return tokenizer.eos_id().value_or(0);
}

/// Decodes the documents between EOS tokens on their own.
std::string decode_documents(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string text;
  std::vector<int32_t> document;
  for (const int32_t id : ids) {
    if (tokenizer.eos_id() != id) {
      document.push_back(id);
      continue;
    }
    text += tokenizer.decode(document) + "\n\n";
    document.clear();
  }
  return text + tokenizer.decode(document);
}

}  // namespace

std::vector<int32_t> generate(MoeutLm& model, const std::vector<int32_t>& prompt, const GenerationOptions& options,
                              Rng& rng) {
  require<ShapeError>(!prompt.empty(), "generate: the prompt must hold a token");
  const auto cache = model.new_cache();
  std::vector<int32_t> drawn, chunk = prompt;
  while (static_cast<int64_t>(drawn.size()) < options.length && !options.interrupted()) {
    const int32_t token = draw(next_logits(model, chunk, cache), options, rng.uniform());
    drawn.push_back(token);
    chunk = {token};
  }
  return drawn;
}

std::optional<std::string> generate_text(MoeutLm& model, const Tokenizer& tokenizer, const std::string& prompt,
                                         const GenerationOptions& options, Rng& rng) {
  std::vector<int32_t> ids = tokenizer.encode(prompt);
  const bool from_start = ids.empty();
  if (from_start) ids.push_back(document_start(tokenizer));
  const std::vector<int32_t> drawn = generate(model, ids, options, rng);
  if (static_cast<int64_t>(drawn.size()) < options.length) return std::nullopt;
  if (from_start) ids.clear();
  ids.insert(ids.end(), drawn.begin(), drawn.end());
  return decode_documents(tokenizer, ids);
}

}  // namespace moeut
