// Logits of given token ids, for comparisons with other engines. Each line of input is one text's token ids.
//
//   teacher_forced MODEL [OPTIONS] < ids.txt
//
// writes (tokens, V) f32 for each line: row t is what follows ids[0 .. t]. Options:
//   --greedy N          prints the N most probable next ids of each line instead, by steps of one token
//   --device DEVICE     cpu (default), cuda or cuda:N
//   --gpu-dtype TYPE    of activations on a GPU: bf16 (default) or f16
//   --kv-dtype TYPE     of the cache: auto (default), f32, f16, bf16, on the CPU also int8
//   --step N            tokens of a step (default 64); 1: the kernels that decoding takes
//   --exact             on the CPU: weights in blocks are multiplied in f32, activations are not rounded
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "engine/compute_device.h"
#include "engine/direct_runner.h"
#include "engine/served_model.h"
#include "support/exact_linear.h"

namespace {

using namespace llamita;

struct Options {
  std::string model;
  EngineConfig config;
  int greedy = 0;  // tokens; 0: logits
  bool exact = false;
};

int positive(const std::string& option, const std::string& value) {
  int number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < 1)
    throw Error(cat(option, " wants a number of at least 1, not \"", value, "\""));
  return number;
}

Options parse(const std::vector<std::string>& arguments) {
  Options options;
  options.config.device = "cpu";
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& name = arguments[i];
    if (!name.starts_with("--")) {
      if (!options.model.empty()) throw Error(cat("one model at a time: what is \"", name, "\"?"));
      options.model = name;
      continue;
    }
    if (name == "--exact") {
      options.exact = true;
      continue;
    }
    if (i + 1 == arguments.size()) throw Error(cat("unknown option, or no value: ", name));
    const std::string& value = arguments[++i];
    if (name == "--greedy") {
      options.greedy = positive(name, value);
    } else if (name == "--step") {
      options.config.batch_sequences = positive(name, value);  // rows of logits that a step has room for
    } else if (name == "--device") {
      options.config.device = value;
    } else if (name == "--gpu-dtype") {
      options.config.gpu_dtype = value;
    } else if (name == "--kv-dtype") {
      options.config.kv_dtype = value;
    } else {
      throw Error(cat("unknown option ", name));
    }
  }
  if (options.model.empty()) throw Error("usage: teacher_forced MODEL [OPTIONS] < ids.txt");
  if (options.exact && options.config.device != "cpu")
    throw Error("--exact is the CPU's: a GPU rounds activations to --gpu-dtype");
  return options;
}

std::vector<int32_t> read_ids(const std::string& line) {
  std::istringstream in(line);
  std::vector<int32_t> ids;
  for (int32_t id; in >> id;) ids.push_back(id);
  if (!in.eof()) throw Error(cat("a line of token ids was expected, not \"", line.substr(0, 80), "\""));
  return ids;
}

void write_logits(const Options& options) {
  const auto model = load_model(options.model, {}, choose_placement(options.config));
  DirectRunner runner(*model, options.config);
  for (std::string line; std::getline(std::cin, line);) {
    const std::vector<float> logits = runner.logits_of(read_ids(line));
    if (std::fwrite(logits.data(), sizeof(float), logits.size(), stdout) != logits.size())
      throw Error(cat("writing the logits: ", std::strerror(errno)));
  }
}

void print_greedy(const Options& options) {
  const auto served = ServedModel::load(options.model, options.config, {});
  for (std::string line; std::getline(std::cin, line);) {
    TokenRequest request{read_ids(line), {}};
    request.sampling.temperature = 0;
    request.sampling.max_tokens = options.greedy;
    request.sampling.ignore_eos = true;
    const std::vector<Completion> done = served->engine.generate({request});
    const Choice& choice = done.at(0).choices.at(0);
    if (!choice.error.empty()) throw Error(choice.error);
    for (size_t i = 0; i < choice.tokens.size(); ++i) std::printf("%s%d", i > 0 ? " " : "", choice.tokens[i]);
    std::printf("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = parse({argv + 1, argv + argc});
    const auto exact = options.exact ? std::make_unique<test::ExactLinear>() : nullptr;
    options.greedy > 0 ? print_greedy(options) : write_logits(options);
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "teacher_forced: %s\n", error.what());
    return 1;
  }
}
