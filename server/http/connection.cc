#include "server/http/connection.h"

#include <algorithm>
#include <utility>

#include "base/cat.h"

namespace llamita::server {

namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

constexpr size_t kReadBytes = 16 << 10;
// What a client may send ahead while its reply is prepared; reading goes on only to notice that it left.
constexpr size_t kAheadBytes = 64 << 10;
constexpr std::chrono::milliseconds kLinger{2000};

}  // namespace

// The reply of the request that a connection is in. Once the connection is gone, calls do nothing.
class ConnectionReply : public HttpReply {
 public:
  ConnectionReply(std::shared_ptr<Connection> connection, bool head_only)
      : connection_(std::move(connection)), head_only_(head_only) {}
  ~ConnectionReply() override {
    if (auto connection = std::move(connection_)) {
      connection->gone_ = nullptr;
      connection->close();
    }
  }

  void send(HttpResponse response) override {
    if (!usable()) return;
    const std::string framing = response.status == 204 || response.status == 304
                                    ? std::string()
                                    : cat("Content-Length: ", response.body.size());
    connection_->queue_write(
        response_head(response.status, response.headers, framing, connection_->keep_alive_));
    if (!head_only_ && !response.body.empty()) connection_->queue_write(std::move(response.body));
    finish();
  }

  void begin(HttpResponse head) override {
    if (!usable()) return;
    connection_->queue_write(
        response_head(head.status, head.headers, "Transfer-Encoding: chunked", connection_->keep_alive_));
  }

  void write(std::string_view piece) override {
    if (!usable() || piece.empty() || head_only_) return;
    const auto connection = connection_;  // closing may let go of this reply
    connection->queue_write(chunk(piece));
    // A reader is not to blame for what came at once: with `echo` that is all of the prompts.
    largest_piece_ = std::max(largest_piece_, piece.size());
    if (connection->output_bytes_ <= connection->shared_->limits.write_queue_bytes + largest_piece_) return;
    ++connection->shared_->slow_readers_dropped;
    connection->close();
  }

  void end() override {
    if (!usable()) return;
    if (!head_only_) connection_->queue_write(chunk(""));
    finish();
  }

  void when_gone(std::function<void()> left) override {
    if (!connection_) return;
    if (connection_->phase_ == Connection::Phase::closed) return left();
    connection_->gone_ = std::move(left);
  }

 private:
  bool usable() const { return connection_ && connection_->phase_ == Connection::Phase::replying; }
  void finish() {
    const auto connection = std::move(connection_);
    connection->finish_reply();
  }

  std::shared_ptr<Connection> connection_;
  bool head_only_;
  size_t largest_piece_ = 0;
};

Connection::Connection(asio::ip::tcp::socket socket, std::shared_ptr<ConnectionShared> shared)
    : socket_(std::move(socket)),
      shared_(std::move(shared)),
      timer_(socket_.get_executor()),
      buffer_(std::make_unique<char[]>(kReadBytes)) {
  boost::system::error_code ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  if (shared_->limits.send_buffer_bytes > 0) {
    socket_.set_option(asio::socket_base::send_buffer_size(shared_->limits.send_buffer_bytes), ignored);
  }
}

Connection::~Connection() {
  if (counted_ != nullptr) --*counted_;
}

void Connection::start() {
  ++*(counted_ = &shared_->connections);
  set_deadline(shared_->limits.idle_timeout);
  read_more();
}

void Connection::turn_away() {
  ++*(counted_ = &shared_->turned_away);
  refuse(503, cat("all ", shared_->limits.connections, " connections are taken; try again later"));
}

void Connection::move_to(Phase phase) {
  shared_->replies_under_way += (phase == Phase::replying) - (phase_ == Phase::replying);
  phase_ = phase;
}

void Connection::read_more() {
  if (reading_ || phase_ == Phase::closed) return;
  reading_ = true;
  socket_.async_read_some(asio::buffer(buffer_.get(), kReadBytes),
                          [self = shared_from_this()](boost::system::error_code error, size_t size) {
                            self->on_read(error, size);
                          });
}

// An orderly end of the client's side counts as leaving, too: half-closed connections are not served.
void Connection::on_read(boost::system::error_code error, size_t size) {
  reading_ = false;
  if (phase_ == Phase::closed) return;
  if (error) {
    if (phase_ != Phase::replying || !reply_complete_) return close();
    input_ended_ = true;  // all is said; let it be written
    return;
  }
  if (phase_ == Phase::lingering) return read_more();
  input_.append(buffer_.get(), size);
  if (phase_ != Phase::replying) return parse();
  if (input_.size() < kAheadBytes) read_more();
}

void Connection::parse() {
  if (phase_ == Phase::idle && !input_.empty()) {
    parser_ =
        std::make_unique<RequestParser>(shared_->limits);  // as they are now: limit_body() may have come
    move_to(Phase::header);
    set_deadline(shared_->limits.header_timeout);
  }
  input_.erase(0, parser_->push(input_));
  const RequestParser::State state = parser_->state();
  const bool fits = state == RequestParser::State::failed || hold_body();
  const bool begins = phase_ == Phase::header && state == RequestParser::State::body;
  // Strangers are told so first: how full the server is, is none of their business.
  if ((begins || !fits) && shared_->screen) {
    if (const auto refusal = shared_->screen(parser_->head())) return refuse(*refusal);
  }
  if (!fits) {
    return refuse(503, cat("the requests under way have bodies of more than ", shared_->bodies->most(),
                           " bytes together; try again later"));
  }
  switch (state) {
    case RequestParser::State::failed: return refuse(parser_->status(), parser_->message());
    case RequestParser::State::done: return dispatch();
    case RequestParser::State::body:
      if (begins) {
        move_to(Phase::body);
        set_deadline(shared_->limits.body_timeout);
        if (parser_->wants_continue()) queue_write("HTTP/1.1 100 Continue\r\n\r\n");
      }
      break;
    case RequestParser::State::header: break;
  }
  read_more();
}

// False when the body does not fit beside those of others: what is there, or what the header says will come.
bool Connection::hold_body() {
  const size_t bytes = parser_->body_bytes();
  if (bytes > 0 && body_share_ == nullptr) body_share_ = std::make_shared<BodyShare>(shared_->bodies);
  if (bytes > 0 && !body_share_->grow_to(bytes)) return false;
  const bool begins = phase_ == Phase::header && parser_->state() == RequestParser::State::body;
  return !begins || shared_->bodies->fits(static_cast<size_t>(parser_->body_to_come()));
}

void Connection::dispatch() {
  HttpRequest request = parser_->take();
  request.body_share = std::move(body_share_);
  parser_.reset();
  move_to(Phase::replying);
  reply_complete_ = false;
  keep_alive_ = request.keep_alive;
  deadline_ = Clock::time_point::max();
  const bool head_only = request.method == "HEAD";
  auto reply = std::make_shared<ConnectionReply>(shared_from_this(), head_only);
  shared_->handler(std::move(request), std::move(reply));
  if (phase_ == Phase::replying && input_.size() < kAheadBytes) read_more();
}

void Connection::set_deadline(std::chrono::milliseconds timeout) {
  deadline_ = Clock::now() + timeout;
  // A timer that is armed for later must be told; one armed for earlier finds out when it rings.
  if (!timer_armed_ || timer_.expiry() > deadline_) watch_deadline();
}

void Connection::watch_deadline() {
  timer_armed_ = true;
  timer_.expires_at(deadline_);
  timer_.async_wait([self = shared_from_this()](boost::system::error_code error) {
    if (error || self->phase_ == Phase::closed) return;
    self->timer_armed_ = false;
    if (self->deadline_ == Clock::time_point::max()) return;
    if (Clock::now() < self->deadline_) return self->watch_deadline();
    self->on_deadline();
  });
}

void Connection::on_deadline() {
  switch (phase_) {
    case Phase::header: return refuse(408, "the request's header did not arrive in time");
    case Phase::body: return refuse(408, "the request's body did not arrive in time");
    case Phase::replying: ++shared_->slow_readers_dropped; return close();
    default: return close();
  }
}

void Connection::queue_write(std::string bytes) {
  output_bytes_ += bytes.size();
  output_.push_back(std::move(bytes));
  if (!writing_) write_next();
}

void Connection::write_next() {
  writing_ = true;
  if (phase_ == Phase::replying) set_deadline(shared_->limits.write_timeout);
  const std::string& front = output_.front();
  socket_.async_write_some(asio::buffer(front.data() + first_offset_, front.size() - first_offset_),
                           [self = shared_from_this()](boost::system::error_code error, size_t size) {
                             self->on_written(error, size);
                           });
}

void Connection::on_written(boost::system::error_code error, size_t size) {
  writing_ = false;
  if (phase_ == Phase::closed) return;
  if (error) return close();
  first_offset_ += size;
  output_bytes_ -= size;
  if (first_offset_ == output_.front().size()) {
    output_.pop_front();
    first_offset_ = 0;
  }
  if (!output_.empty()) return write_next();
  if (phase_ == Phase::replying) deadline_ = Clock::time_point::max();
  if (reply_complete_) reply_written();
}

void Connection::finish_reply() {
  gone_ = nullptr;
  reply_complete_ = true;
  if (output_.empty() && !writing_) reply_written();
}

void Connection::reply_written() {
  reply_complete_ = false;
  if (input_ended_) return close();  // not found out by reading: Asio tells the end of a stream once
  if (!keep_alive_) return linger();
  move_to(Phase::idle);
  set_deadline(shared_->limits.idle_timeout);
  if (input_.empty()) return read_more();
  // Not from here: a client that sends many requests ahead would nest as many calls.
  asio::post(socket_.get_executor(), [self = shared_from_this()] {
    if (self->phase_ == Phase::idle) self->parse();
  });
}

void Connection::refuse(int status, const std::string& message) {
  refuse(shared_->refuse ? shared_->refuse(status, message) : HttpResponse{status, {}, message});
}

void Connection::refuse(const HttpResponse& response) {
  move_to(Phase::replying);
  keep_alive_ = false;
  queue_write(
      response_head(response.status, response.headers, cat("Content-Length: ", response.body.size()), false) +
      response.body);
  finish_reply();
}

void Connection::linger() {
  move_to(Phase::lingering);
  parser_.reset();
  body_share_.reset();
  boost::system::error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  set_deadline(kLinger);
  read_more();
}

void Connection::close() {
  if (phase_ == Phase::closed) return;
  move_to(Phase::closed);
  boost::system::error_code ignored;
  socket_.close(ignored);
  timer_.cancel();
  output_.clear();
  output_bytes_ = 0;
  body_share_.reset();
  if (const auto gone = std::exchange(gone_, nullptr)) gone();
}

}  // namespace llamita::server
