// LLM: the public face of loading, encoding and the engine.
#include "llamita/llm.h"

#include "analysis/available_memory.h"
#include "engine/engine.h"
#include "engine/prompt_encoder.h"
#include "models/model.h"
#include "ops/linear/linear.h"

namespace llamita {

namespace {

// What can be refused in a moment is refused before gigabytes of weights are read.
void require_room(const TensorFiles& files, const EngineConfig& config) {
  const ModelSize size = measure_model(files, linear_cpu_layout());
  MemoryPlan plan = plan_memory(size.config, config, size.weight_bytes);
  plan.copied_bytes = size.copied_bytes;
  const auto available = available_memory();
  shrink_to_fit(plan, config, available);
  require_memory(plan, available);
}

void require_cpu(const std::string& device) {
  if (device == "auto" || device == "cpu") return;
  throw Error(cat("device must be auto or cpu in this build, not \"", device, "\""));
}

ModelInfo describe(const Model& model, const Engine& engine, const PromptEncoder& encoder) {
  ModelInfo info;
  info.name = model.config().name;
  info.family = model.config().family;
  info.parameters = model.parameters();
  info.weight_bytes = model.weight_bytes();
  info.kv_bytes = engine.memory_plan().kv_bytes;
  info.context = engine.context();
  info.vocab_size = model.config().vocab;
  info.has_chat_template = encoder.has_chat_template();
  info.template_error = encoder.template_error();
  return info;
}

}  // namespace

const char* name(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop: return "stop";
    case FinishReason::length: return "length";
    case FinishReason::cancelled: return "cancelled";
    case FinishReason::error: return "error";
    case FinishReason::deadline: return "deadline";
  }
  return "";
}

struct LLM::Impl {
  Impl(std::unique_ptr<Tokenizer> tokenizer_in, std::unique_ptr<Model> model_in, const EngineConfig& config)
      : tokenizer(std::move(tokenizer_in)),
        model(std::move(model_in)),
        encoder(*tokenizer),
        engine(*model, *tokenizer, config),
        info(describe(*model, engine, encoder)) {}

  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Model> model;
  PromptEncoder encoder;
  Engine engine;
  ModelInfo info;
};

LLM LLM::load(const std::string& path, const EngineConfig& config, const Progress& progress) {
  require_cpu(config.device);
  const TensorFiles files = TensorFiles::open(path);
  require_room(files, config);
  auto tokenizer = files.is_gguf() ? Tokenizer::from_gguf(files.gguf()) : Tokenizer::from_folder(path);
  auto model = load_model(files, progress, linear_cpu_layout());
  return LLM(std::make_unique<Impl>(std::move(tokenizer), std::move(model), config));
}

LLM::LLM(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LLM::~LLM() = default;
LLM::LLM(LLM&&) noexcept = default;
LLM& LLM::operator=(LLM&&) noexcept = default;

std::vector<Completion> LLM::generate(const std::vector<Request>& requests, const Stream& stream,
                                      const CancelToken* cancel) {
  std::vector<TokenRequest> encoded;
  for (const Request& request : requests) {
    encoded.push_back({{}, request.sampling, ""});
    try {
      encoded.back().prompt = impl_->encoder.encode(request);
    } catch (const Error& error) {
      encoded.back().error = error.what();
    }
  }
  return impl_->engine.generate(encoded, stream, cancel);
}

const ModelInfo& LLM::info() const { return impl_->info; }

std::vector<int32_t> LLM::tokenize(std::string_view text, bool add_special) const {
  return impl_->tokenizer->encode(text, add_special, false);
}

std::string LLM::detokenize(const std::vector<int32_t>& tokens) const {
  return impl_->tokenizer->decode(tokens, false);
}

std::string LLM::render_chat(const Conversation& conversation) const {
  std::string text;
  for (const Piece& piece : impl_->encoder.render(conversation)) text += piece.text;
  return text;
}

}  // namespace llamita
