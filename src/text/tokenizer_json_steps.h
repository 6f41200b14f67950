// The steps a tokenizer.json describes, from JSON to objects. Each function throws Error naming the place in
// the file for a step or a value it does not know.
#pragma once

#include <vector>

#include "text/json_node.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/token_decoding.h"

namespace llamita::tokenizer_json {

void read_normalizer(const JsonNode& node, Normalizer& out);
// Returns whether the words' bytes are spelled in the byte alphabet.
bool read_pre_tokenizer(const JsonNode& node, PreTokenizer& out);
void read_decoder(const JsonNode& node, std::vector<decoders::Step>& out);

}  // namespace llamita::tokenizer_json
