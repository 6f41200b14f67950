// Grammars of JSON: any value, or what a JSON Schema (2020-12, the part that structured output uses)
// describes. Every text of the grammar is JSON and valid under the schema; not every valid text is in it:
//
// - properties come in the schema's order; without "additionalProperties" an object that lists properties has
//   no others; keys beyond the listed ones are not kept from repeating each other;
// - numbers have at most 18 digits before and after the point; with bounds 15 in all and no exponent;
// integers
//   are written without point;
// - strings with a pattern or format are written without needless escapes.
//
// Taken: type (one or several), enum, const, anyOf, oneOf (of options that exclude each other), allOf, $ref
// into the same schema (recursive too), $defs, definitions; properties, required, additionalProperties,
// minProperties and maxProperties; items, prefixItems, minItems, maxItems; minLength, maxLength, pattern,
// format (date-time, date, time, duration, email, hostname, ipv4, ipv6, uri, uuid); minimum, maximum and
// their exclusive forms. Notes for people (title, description, default, examples, ...) have no effect. Any
// other keyword is an Error that names it.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "formats/json.h"
#include "text/grammar/grammar.h"
#include "text/grammar/json_text.h"

namespace llamita::grammar {

constexpr size_t kMaxSchemaBytes = 64 << 10;
constexpr int kMaxSchemaDepth = 64;
constexpr size_t kMaxSchemaWork = size_t{8} << 20;  // bytes of schemas looked at, merged ones included

// Throws Error for a schema that is not JSON, too large, more than `most_work`, not supported or that nothing
// can satisfy.
std::shared_ptr<const Grammar> json_schema_grammar(std::string_view schema, Layout layout = Layout::spaced,
                                                   size_t most_work = kMaxSchemaWork);
std::shared_ptr<const Grammar> json_schema_grammar(const Json& schema, Layout layout = Layout::spaced,
                                                   size_t most_work = kMaxSchemaWork);

// Any JSON object (response_format json_object), or any value.
std::shared_ptr<const Grammar> json_object_grammar(Layout layout = Layout::spaced);
std::shared_ptr<const Grammar> json_value_grammar(Layout layout = Layout::spaced);

}  // namespace llamita::grammar
