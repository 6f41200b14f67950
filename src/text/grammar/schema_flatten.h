// One schema object out of a schema with $ref and allOf: the constraints of all parts, merged.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/json.h"

namespace llamita::grammar {

// Resolves "#", "#/$defs/name" and any other JSON pointer into `root`. Throws Error for anything else.
const Json& resolve_reference(const Json& root, const std::string& reference);

// The keyword constrains nothing: a title, a default, definitions that references use.
bool is_annotation(std::string_view keyword);

// The keywords of `schema`, its references and its allOf parts in one object without $ref, allOf and notes.
// Throws Error for keywords that are not supported, parts that contradict each other, references in circles,
// and the schema `false`.
Json::Object flattened(const Json& root, const Json& schema);

const Json* find_keyword(const Json::Object& schema, std::string_view keyword);

// The types that a flattened schema allows: by "type", by its values, by what its keywords speak of; all
// when nothing says.
std::vector<std::string> types_of(const Json::Object& schema);
std::string_view type_of(const Json& value);  // "integer" for whole numbers written without point

// No value can satisfy both. False when that is not certain.
bool exclude_each_other(const Json& root, const Json::Object& a, const Json::Object& b);

}  // namespace llamita::grammar
