#include "ops/context.h"

#include <algorithm>
#include <cstdlib>

#include "base/check.h"
#include "base/log.h"
#include "llamita/error.h"

namespace llamita {

namespace {

// Every op of this folder, for the errors of LLAMITA_KERNEL.
constexpr std::string_view kOpNames[] = {
    "activation", "attention",   "attn_in",  "decoder_layers", "device_sampling",
    "embedding",  "gather",      "kv_write", "linear",         "mlp_in",
    "norm",       "patch_embed", "rope",     "rope_table",     "sampling"};

std::string op_list() {
  std::string list;
  for (const std::string_view op : kOpNames) list += cat(list.empty() ? "" : ", ", op);
  return list;
}

// "op=variant,op=variant" as pairs; empty items are passed over.
std::unordered_map<std::string, std::string> parse_forced(std::string_view text) {
  std::unordered_map<std::string, std::string> forced;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view item = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    if (item.empty()) continue;
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos || equals + 1 == item.size()) {
      throw Error(cat("LLAMITA_KERNEL: expected op=variant, got \"", item, "\"; the ops are ", op_list()));
    }
    const std::string_view op = item.substr(0, equals);
    if (std::find(std::begin(kOpNames), std::end(kOpNames), op) == std::end(kOpNames)) {
      throw Error(cat("LLAMITA_KERNEL: there is no op \"", op, "\"; the ops are ", op_list()));
    }
    forced[std::string(op)] = std::string(item.substr(equals + 1));
  }
  return forced;
}

std::unordered_map<std::string, std::string> forced_by_environment() {
  const char* text = std::getenv("LLAMITA_KERNEL");
  return parse_forced(text == nullptr ? "" : text);
}

}  // namespace

void check_forced_variants() { forced_by_environment(); }

Context::Context(ThreadPool& pool, Arena& arena, Caps caps)
    : pool_(&pool), arena_(&arena), caps_(caps), forced_(forced_by_environment()) {}

Context::Context(const cuda::Stream& stream, Arena& arena, Caps caps)
    : stream_(&stream), arena_(&arena), caps_(caps), forced_(forced_by_environment()) {}

Context::Context(Arena& measuring_arena, Caps caps)
    : arena_(&measuring_arena), caps_(caps), forced_(forced_by_environment()) {}

const cuda::Stream& Context::stream() const {
  LLAMITA_CHECK(stream_ != nullptr, "there is a stream only where ops run on a GPU");
  return *stream_;
}

ThreadPool& Context::pool() const {
  LLAMITA_CHECK(pool_ != nullptr, "there are threads only where ops run on the CPU");
  return *pool_;
}

std::string_view Context::forced_variant(std::string_view op) const {
  if (forced_.empty()) return {};
  const auto found = forced_.find(std::string(op));
  return found == forced_.end() ? std::string_view() : std::string_view(found->second);
}

void Context::log_choice(std::string_view op, std::string_view variant) {
  if (log_level() < LogLevel::debug || !logged_.insert(cat(op, "=", variant)).second) return;
  log_debug("kernel ", op, "=", variant);
}

}  // namespace llamita
