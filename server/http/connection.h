// One connection of the HttpServer: reads a request, hands it over, writes the reply, reads the next. Private
// to server/http; includes Boost.Asio.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <memory>
#include <optional>

#include "server/http/body_budget.h"
#include "server/http/http_server.h"
#include "server/http/request_parser.h"

namespace llamita::server {

// What connections share with their server.
struct ConnectionShared {
  explicit ConnectionShared(const HttpLimits& limits_in)
      : limits(limits_in), bodies(std::make_shared<BodyBudget>(limits_in.bodies_bytes)) {}

  HttpLimits limits;
  std::shared_ptr<BodyBudget> bodies;
  HttpServer::Handler handler;
  HttpServer::Refuse refuse;
  HttpServer::Screen screen;
  int connections = 0;  // within the limit
  int turned_away = 0;  // beyond it, and still open
  int replies_under_way = 0;
  int64_t slow_readers_dropped = 0;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(boost::asio::ip::tcp::socket socket, std::shared_ptr<ConnectionShared> shared);
  ~Connection();

  void start();
  // Tells the client that there is no room and closes.
  void turn_away();

 private:
  friend class ConnectionReply;
  // idle: nothing of a request yet; replying: the handler has the request; lingering: the last reply is
  // written, what the client still sends is thrown away so that it can read why it was refused.
  enum class Phase { idle, header, body, replying, lingering, closed };

  void read_more();
  void on_read(boost::system::error_code error, size_t size);
  void parse();
  bool hold_body();
  void dispatch();
  void set_deadline(std::chrono::milliseconds timeout);
  void watch_deadline();
  void on_deadline();

  void queue_write(std::string bytes);
  void write_next();
  void on_written(boost::system::error_code error, size_t size);
  void finish_reply();  // all of the reply is queued
  void reply_written();
  void refuse(int status, const std::string& message);
  void refuse(const HttpResponse& response);
  void linger();
  void close();
  void move_to(Phase phase);

  boost::asio::ip::tcp::socket socket_;
  std::shared_ptr<ConnectionShared> shared_;
  boost::asio::steady_timer timer_;
  std::chrono::steady_clock::time_point deadline_{};
  bool timer_armed_ = false;

  Phase phase_ = Phase::idle;
  std::unique_ptr<RequestParser> parser_;  // of the request under way
  std::shared_ptr<BodyShare> body_share_;  // of its body
  std::string input_;                      // bytes that arrived and are not parsed yet
  std::unique_ptr<char[]> buffer_;
  bool reading_ = false;
  bool input_ended_ = false;  // the client sends nothing more

  std::deque<std::string> output_;
  size_t output_bytes_ = 0, first_offset_ = 0;
  bool writing_ = false;
  bool reply_complete_ = false;  // finish_reply() was called
  bool keep_alive_ = true;
  int* counted_ = nullptr;  // where this connection is counted
  std::function<void()> gone_;
};

}  // namespace llamita::server
