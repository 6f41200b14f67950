// Regex: a PCRE2 expression with the meaning Hugging Face's tokenizers give it (Oniguruma): Unicode classes,
// ^ and $ at every line, \s exactly the White_Space property. \p{..} and \w follow PCRE2's Unicode version,
// which is older: they differ on characters younger than that.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace llamita {

class Regex {
 public:
  // Throws Error "<where>: …" when `source` is no valid expression.
  Regex(const std::string& source, const std::string& where);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  struct Match {
    size_t begin;
    size_t end;
  };
  // The first match at or after `from`. False when there is none; Error when the limits on steps or memory
  // are reached. `text` is valid UTF-8. Thread-safe.
  bool search(std::string_view text, size_t from, Match& match) const;

 private:
  struct Code;
  std::unique_ptr<const Code> code_;
  std::string where_;
};

}  // namespace llamita
