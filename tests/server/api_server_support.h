// ApiServer over a fake engine, without sockets: the test is the I/O thread.
#pragma once

#include <gtest/gtest.h>

#include "server/api_server.h"
#include "support/fake_engine.h"

namespace llamita::server {

using test::FakeEngine;
using namespace std::chrono_literals;

// What a client would have got.
class RecordedReply : public HttpReply {
 public:
  void send(HttpResponse response) override {
    head = std::move(response);
    body = head.body;
    complete = true;
  }
  void begin(HttpResponse response) override { head = std::move(response); }
  void write(std::string_view piece) override { body += piece; }
  void end() override { complete = true; }
  void when_gone(std::function<void()> left) override { gone = std::move(left); }

  HttpResponse head{0, {}, {}};
  std::string body;
  bool complete = false;
  std::function<void()> gone;
};

class ApiServerTest : public testing::Test {
 protected:
  void start(ServerConfig config = {}, FakeEngine::Options options = {}) {
    config.version = "1";
    api_ = std::make_unique<ApiServer>(config, [this](std::function<void()> task) {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    });
    engine_ = std::make_shared<FakeEngine>(options);
    api_->attach(engine_);
  }
  ~ApiServerTest() override {
    if (engine_) engine_->pause(false);
    engine_.reset();
    api_.reset();
  }

  void run_tasks() {
    std::vector<std::function<void()>> tasks;
    {
      const std::lock_guard lock(mutex_);
      tasks.swap(tasks_);
    }
    for (const auto& task : tasks) task();
  }
  // Runs the I/O thread's tasks until `done`, for as long as a slow machine may need.
  template <class Done>
  bool run_until(Done done) {
    const auto end = std::chrono::steady_clock::now() + 30s;
    while (!done()) {
      if (std::chrono::steady_clock::now() > end) return false;
      run_tasks();
      std::this_thread::sleep_for(1ms);
    }
    return true;
  }

  std::shared_ptr<RecordedReply> ask(const std::string& method, const std::string& target,
                                     const std::string& body = {}, const Headers& headers = {}) {
    auto reply = std::make_shared<RecordedReply>();
    api_->handle({method, target, headers, body, true}, reply);
    return reply;
  }
  std::shared_ptr<RecordedReply> answer(const std::string& method, const std::string& target,
                                        const std::string& body = {}, const Headers& headers = {}) {
    auto reply = ask(method, target, body, headers);
    EXPECT_TRUE(run_until([&] { return reply->complete; })) << target << " " << body;
    return reply;
  }

  std::mutex mutex_;
  std::vector<std::function<void()>> tasks_;
  std::shared_ptr<FakeEngine> engine_;
  std::unique_ptr<ApiServer> api_;
};

inline constexpr const char* kChat = R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":3})";
inline constexpr const char* kStream =
    R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":3,"stream":true})";

inline std::string header(const RecordedReply& reply, std::string_view name) {
  for (const auto& [key, value] : reply.head.headers) {
    if (key == name) return value;
  }
  return {};
}

}  // namespace llamita::server
