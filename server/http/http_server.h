// HttpServer: one I/O thread that accepts connections, reads requests within HttpLimits and writes replies,
// whole or in pieces. It knows nothing of models. A client that leaves is noticed while its reply is prepared
// and while it is written.
//
//   HttpServer http("127.0.0.1", 8000, {});
//   http.handle([](HttpRequest request, std::shared_ptr<HttpReply> reply) { reply->send({200, {}, "hi"}); });
//   http.run();  // until stop()
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/http/limits.h"
#include "server/http/message.h"

namespace llamita::server {

// The reply to one request. Used on the I/O thread only. Either send(), or begin(), write()…, end(). Calls
// after the client left do nothing. A reply that is dropped unfinished closes its connection.
class HttpReply {
 public:
  virtual ~HttpReply() = default;
  virtual void send(HttpResponse response) = 0;
  // The head of a reply in pieces; its body is ignored.
  virtual void begin(HttpResponse head) = 0;
  virtual void write(std::string_view piece) = 0;
  virtual void end() = 0;
  // `left` is called at most once: when the client goes away, or is dropped for reading too slowly, before
  // the reply is complete.
  virtual void when_gone(std::function<void()> left) = 0;
};

class HttpServer {
 public:
  using Handler = std::function<void(HttpRequest, std::shared_ptr<HttpReply>)>;
  // Turns a request that the parser refused into a reply: {status, sentence}.
  using Refuse = std::function<HttpResponse(int status, const std::string& message)>;

  using Screen = std::function<std::optional<HttpResponse>(const HttpRequest& head)>;

  // Replies must not outlive the server.
  // Binds and listens; port 0 takes a free one. Throws Error when the address is not to be had.
  HttpServer(const std::string& address, uint16_t port, const HttpLimits& limits);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;
  void handle(Handler handler);
  void refuse_with(Refuse refuse);
  // Looks at each request's header before its body is read; a response refuses it and ends its connection.
  void screen_with(Screen screen);

  // Serves on the calling thread until stop(). What a task or handler throws goes to the log and ends nothing
  // else.
  void run();
  // From any thread, also before run().
  void stop();
  // Runs `task` on the I/O thread; from any thread.
  void post(std::function<void()> task);
  // Runs `task` on the I/O thread every `period`, from now on, also when it throws. Before run() or on the
  // I/O thread.
  void every(std::chrono::milliseconds period, std::function<void()> task);
  // SIGTERM and SIGINT call `task` on the I/O thread instead of ending the program.
  void on_signal(std::function<void(int signal)> task);

  // On the I/O thread.
  // HttpLimits::body_bytes of requests that begin from now on, also on connections that are open already.
  void limit_body(size_t bytes);
  int connections() const;
  size_t bodies_held() const;  // bytes that count against HttpLimits::bodies_bytes
  // Requests whose reply is not written to its end.
  int replies_under_way() const;
  int64_t slow_readers_dropped() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace llamita::server
