// A tiny HTTP server on the loopback that answers as a test says: one thread, one connection at a time.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace llamita::test {

struct ServedRequest {
  std::string method, path, head;  // head: the request line and all header lines
  uint64_t range_from = 0;         // of "Range: bytes=N-"
  bool has(const std::string& text) const { return head.find(text) != std::string::npos; }
};

struct ServedAnswer {
  int status = 200;
  std::map<std::string, std::string> headers;
  std::string body;
  int64_t announced = -1;  // Content-Length; -1: what the body has
  int64_t cut_after = -1;  // close after so many bytes of the body; -1: send all
};

class ScriptedServer {
 public:
  using Handler = std::function<ServedAnswer(const ServedRequest&)>;

  explicit ScriptedServer(Handler handler) : handler_(std::move(handler)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ::bind(listener_, reinterpret_cast<sockaddr*>(&address), size);
    ::listen(listener_, 16);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~ScriptedServer() {
    stopping_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  std::vector<ServedRequest> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void serve() {
    while (!stopping_) {
      const int client = ::accept(listener_, nullptr, nullptr);
      if (client < 0) continue;
      answer(client);
      ::close(client);
    }
  }

  void answer(int client) {
    std::string head;
    char buffer[4096];
    while (head.find("\r\n\r\n") == std::string::npos) {
      const ssize_t n = ::recv(client, buffer, sizeof buffer, 0);
      if (n <= 0) return;
      head.append(buffer, static_cast<size_t>(n));
    }
    ServedRequest request;
    request.head = head;
    const size_t blank = head.find(' ');
    request.method = head.substr(0, blank);
    request.path = head.substr(blank + 1, head.find(' ', blank + 1) - blank - 1);
    if (const size_t range = head.find("Range: bytes="); range != std::string::npos) {
      request.range_from = std::strtoull(head.c_str() + range + 13, nullptr, 10);
    }
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    const ServedAnswer out = handler_(request);
    std::string text = "HTTP/1.1 " + std::to_string(out.status) + " X\r\nConnection: close\r\n";
    for (const auto& [name, value] : out.headers) text += name + ": " + value + "\r\n";
    const auto announced = out.announced < 0 ? static_cast<int64_t>(out.body.size()) : out.announced;
    text += "Content-Length: " + std::to_string(announced) + "\r\n\r\n";
    if (request.method != "HEAD")
      text += out.cut_after < 0 ? out.body : out.body.substr(0, static_cast<size_t>(out.cut_after));
    for (size_t sent = 0; sent < text.size();) {
      const ssize_t n = ::send(client, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += static_cast<size_t>(n);
    }
  }

  Handler handler_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::vector<ServedRequest> requests_;
  std::thread thread_;
};

}  // namespace llamita::test
