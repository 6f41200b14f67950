// Names: of repositories, of the files that a model needs, of files that may be written at all.
#include <algorithm>
#include <map>

#include "base/cat.h"
#include "formats/split_name.h"
#include "hub/hub.h"
#include "hub/strings.h"
#include "llamita/error.h"

namespace llamita::hub {

namespace {

bool plain_name(std::string_view text) {
  return !text.empty() && text != "." && text != ".." && text.size() <= 96 &&
         std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.'; });
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// "Q4_K" is in "llama-Q4_K.gguf" but not in "llama-Q4_K_M.gguf".
bool has_word(const std::string& name, const std::string& word) {
  const auto in_word = [&](size_t at) {
    return at < name.size() && (std::isalnum(static_cast<unsigned char>(name[at])) || name[at] == '_');
  };
  for (size_t at = name.find(word); at != std::string::npos; at = name.find(word, at + 1)) {
    if ((at == 0 || !in_word(at - 1)) && !in_word(at + word.size())) return true;
  }
  return false;
}

// Parts of one model ("x-00001-of-00003.gguf") share a key.
std::string model_key(const std::string& name) {
  const auto split = parse_split_name(name);
  return split ? cat(split->stem, "-of-", split->count) : name;
}

using Groups = std::map<std::string, std::vector<std::string>>;

[[noreturn]] void fail_listing(const std::string& repo, const std::string& problem, const Groups& groups) {
  std::string list;
  for (const auto& group : groups) list += "\n  " + group.second.front();
  throw Error(cat(repo, ": ", problem, "; name one as ", repo, ":QUANT. There are:", list));
}

std::vector<std::string> choose_gguf(const Groups& groups, const std::string& quant,
                                     const std::string& repo) {
  if (quant.empty() && groups.size() == 1) return groups.begin()->second;
  const std::vector<std::string> wanted = quant.empty() ? std::vector<std::string>{"q4_k_m", "q4_0", "q8_0"}
                                                        : std::vector<std::string>{lower(quant)};
  for (const std::string& word : wanted) {
    Groups found;
    for (const auto& group : groups) {
      if (has_word(lower(group.first), word)) found.insert(group);
    }
    if (found.size() == 1) return found.begin()->second;
    if (found.size() > 1) fail_listing(repo, cat("several GGUF files match '", word, "'"), found);
  }
  fail_listing(repo,
               quant.empty() ? "there are several GGUF files" : cat("no GGUF file matches '", quant, "'"),
               groups);
}

bool belongs_to_folder_model(const std::string& name) {
  static constexpr std::string_view kNames[] = {"config.json",
                                                "generation_config.json",
                                                "special_tokens_map.json",
                                                "added_tokens.json",
                                                "chat_template.jinja",
                                                "chat_template.json",
                                                "preprocessor_config.json",
                                                "processor_config.json",
                                                "merges.txt",
                                                "vocab.json",
                                                "model.safetensors.index.json"};
  if (name.find('/') != std::string::npos) return false;
  if (std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames)) return true;
  return ends_with(name, ".safetensors") || (name.rfind("tokenizer", 0) == 0 && ends_with(name, ".json"));
}

}  // namespace

Repo Repo::parse(std::string_view text) {
  Repo out;
  std::string_view left = text;
  if (const size_t colon = left.find(':'); colon != std::string_view::npos) {
    out.quant = std::string(left.substr(colon + 1));
    left = left.substr(0, colon);
    if (!plain_name(out.quant)) throw Error(cat("'", text, "': what stands after ':' is no quantisation"));
  }
  if (const size_t at = left.find('@'); at != std::string_view::npos) {
    out.revision = std::string(left.substr(at + 1));
    left = left.substr(0, at);
    if (!is_safe_name(out.revision)) throw Error(cat("'", text, "': what stands after '@' is no revision"));
  }
  out.id = std::string(left);
  const size_t slash = left.find('/');
  const bool valid = slash != std::string_view::npos && plain_name(left.substr(0, slash)) &&
                     plain_name(left.substr(slash + 1)) && left.find("--") == std::string_view::npos;
  if (!valid) throw Error(cat("'", text, "' is no repository: expected owner/name or owner/name:QUANT"));
  return out;
}

bool is_safe_name(std::string_view name) {
  if (name.empty() || name.size() > 512 || name[0] == '/') return false;
  for (const unsigned char c : name) {
    if (c < 0x20 || c == 0x7F || c == '\\' || c == ':') return false;
  }
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const auto part = name.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return true;
}

std::vector<std::string> choose_files(const std::vector<std::string>& names, const std::string& quant,
                                      const std::string& repo) {
  Groups gguf;
  std::vector<std::string> folder;
  bool weights = false, standard = false;
  for (const std::string& name : names) {
    if (!is_safe_name(name)) continue;
    if (ends_with(lower(name), ".gguf")) {
      if (lower(name).find("mmproj") == std::string::npos) gguf[model_key(name)].push_back(name);
    } else if (belongs_to_folder_model(name)) {
      folder.push_back(name);
      weights |= ends_with(name, ".safetensors");
      standard |= name.rfind("model", 0) == 0 && ends_with(name, ".safetensors");
    }
  }
  for (auto& group : gguf) std::sort(group.second.begin(), group.second.end());
  if (!quant.empty() || !weights) {
    if (gguf.empty())
      throw Error(cat(repo, ": there is no ", quant.empty() ? "safetensors or " : "",
                      "GGUF file in this repository"));
    return choose_gguf(gguf, quant, repo);
  }
  // Some repositories carry the same weights twice, the second time under another naming scheme.
  if (standard) {
    folder.erase(std::remove_if(folder.begin(), folder.end(),
                                [](const std::string& name) { return name.rfind("consolidated", 0) == 0; }),
                 folder.end());
  }
  std::sort(folder.begin(), folder.end());
  return folder;
}

}  // namespace llamita::hub
