// Normalizer: the changes a vocabulary wants made to a text before it is split, in order.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/pattern.h"

namespace llamita {

class Normalizer {
 public:
  // One change. `text` is valid UTF-8 before and after. `continues`: the text goes on from text before it
  // that was cut only because its origin changes, so nothing is put before it.
  class Step {
   public:
    virtual ~Step() = default;
    virtual void apply(std::string& text, bool continues) const = 0;
  };

  void add(std::unique_ptr<const Step> step) { steps_.push_back(std::move(step)); }
  bool empty() const { return steps_.empty(); }

  void apply(std::string& text, bool continues) const {
    for (const auto& step : steps_) step->apply(text, continues);
  }

 private:
  std::vector<std::unique_ptr<const Step>> steps_;
};

namespace normalizers {

enum class Form { nfc, nfd, nfkc, nfkd };

std::unique_ptr<const Normalizer::Step> unicode_form(Form form);
// Puts `text` before every text that is not empty.
std::unique_ptr<const Normalizer::Step> prepend(std::string text);
std::unique_ptr<const Normalizer::Step> replace(Pattern pattern, std::string with);
std::unique_ptr<const Normalizer::Step> lowercase();
std::unique_ptr<const Normalizer::Step> strip(bool left, bool right);
std::unique_ptr<const Normalizer::Step> strip_accents();

}  // namespace normalizers

}  // namespace llamita
