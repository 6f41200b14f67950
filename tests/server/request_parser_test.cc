// Requests are parsed the same however they are cut, and every limit holds exactly.
#include "server/http/request_parser.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

#include "base/cat.h"

namespace llamita::server {
namespace {

using State = RequestParser::State;

// Pushes `text` in pieces as a connection does: what is not used comes again. Returns what was left over.
std::string feed(RequestParser& parser, std::string_view text, size_t piece) {
  std::string waiting;
  for (size_t at = 0; at < text.size(); at += piece) {
    waiting += text.substr(at, piece);
    waiting.erase(0, parser.push(waiting));
  }
  return waiting;
}

int status_of(std::string_view text, const HttpLimits& limits = {}, size_t piece = SIZE_MAX) {
  RequestParser parser(limits);
  feed(parser, text, std::min(piece, text.size()));
  return parser.state() == State::failed ? parser.status() : parser.state() == State::done ? 200 : 0;
}

TEST(RequestParser, AnyPiecesGiveTheSameRequest) {
  const std::string text =
      "POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: here\r\nX-Two:  b \r\nContent-Length: "
      "5\r\n\r\nhelloGET / HT";
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    RequestParser parser({});
    const std::string left = feed(parser, text, piece);
    ASSERT_EQ(parser.state(), State::done) << piece;
    const HttpRequest request = parser.take();
    EXPECT_EQ(request.method, "POST");
    EXPECT_EQ(request.path(), "/v1/chat/completions");
    EXPECT_EQ(request.header("x-two"), "b");
    EXPECT_EQ(request.body, "hello");
    EXPECT_TRUE(request.keep_alive);
    EXPECT_EQ(left, "GET / HT");
  }
}

TEST(RequestParser, AClientThatExpectsTlsIsToldSo) {
  const std::string hello("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
  for (const size_t piece : {size_t{1}, hello.size()}) {
    RequestParser parser({});
    feed(parser, hello, piece);
    ASSERT_EQ(parser.state(), State::failed);
    EXPECT_EQ(parser.status(), 400);
    EXPECT_NE(parser.message().find("plain HTTP"), std::string::npos) << parser.message();
  }
}

TEST(RequestParser, ChunkedBodies) {
  RequestParser parser({});
  feed(parser, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 7);
  ASSERT_EQ(parser.state(), State::done);
  EXPECT_EQ(parser.take().body, "abcde");
}

TEST(RequestParser, HeaderBytesLimit) {
  HttpLimits limits;
  limits.header_bytes = 200;
  const auto request = [](size_t bytes) {
    const std::string start = "GET / HTTP/1.1\r\nX: ", end = "\r\n\r\n";
    return start + std::string(bytes - start.size() - end.size(), 'x') + end;
  };
  const auto in_lines = [](size_t bytes) {
    std::string text = "GET / HTTP/1.1\r\n";
    while (text.size() + 20 < bytes) text += "X: yyyyy\r\n";
    return text + "Z: " + std::string(bytes - text.size() - 7, 'z') + "\r\n\r\n";
  };
  const auto without_fields = [](size_t line) {
    return "GET /" + std::string(line - 16, 'x') + " HTTP/1.1\r\n\r\n";
  };
  // Lines that arrive before the others count as well; what follows the header does not, not even behind an
  // empty line that comes alone.
  for (const size_t piece : {size_t{1}, size_t{16}, size_t{21}, size_t{150}, SIZE_MAX}) {
    for (const auto& header :
         {request(199), request(200), in_lines(200), in_lines(200) + std::string(300, 'x'),
          without_fields(150) + std::string(300, 'x')})
      EXPECT_EQ(status_of(header, limits, piece), 200) << piece;
    for (const auto& header : {request(201), in_lines(201)})
      EXPECT_EQ(status_of(header, limits, piece), 431) << piece;
    EXPECT_EQ(status_of("GET /" + std::string(300, 'x'), limits, piece), 431);  // without an end in sight
  }
}

TEST(RequestParser, HeaderLinesLimit) {
  HttpLimits limits;
  limits.header_lines = 5;
  const auto request = [](int lines) {
    std::string text = "GET / HTTP/1.1\r\n";
    for (int i = 0; i < lines; ++i) text += cat("X", i, ": 1\r\n");
    return text + "\r\n";
  };
  EXPECT_EQ(status_of(request(4), limits), 200);
  EXPECT_EQ(status_of(request(5), limits), 200);
  EXPECT_EQ(status_of(request(6), limits), 431);
}

TEST(RequestParser, BodyLimit) {
  HttpLimits limits;
  limits.body_bytes = 100;
  const auto whole = [](size_t bytes) {
    return cat("POST / HTTP/1.1\r\nContent-Length: ", bytes, "\r\n\r\n", std::string(bytes, 'x'));
  };
  const auto chunked = [](size_t bytes) {
    std::string text = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (size_t i = 0; i < bytes; ++i) text += "1\r\nx\r\n";
    return text + "0\r\n\r\n";
  };
  for (const auto& request : {whole(99), whole(100), chunked(99), chunked(100)}) {
    EXPECT_EQ(status_of(request, limits), 200);
  }
  EXPECT_EQ(status_of(whole(101), limits), 413);
  EXPECT_EQ(status_of(chunked(101), limits), 413);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n", limits), 413);
}

TEST(RequestParser, TheDefaultLimitsHoldAtTheirEdges) {
  const auto header = [](size_t bytes) {
    const std::string start = "GET / HTTP/1.1\r\nX: ", end = "\r\n\r\n";
    return start + std::string(bytes - start.size() - end.size(), 'x') + end;
  };
  const auto lines = [](size_t count) {
    std::string text = "GET / HTTP/1.1\r\n";
    for (size_t i = 0; i < count; ++i) text += cat("X", i, ": 1\r\n");
    return text + "\r\n";
  };
  const auto body = [](size_t bytes) {
    return cat("POST / HTTP/1.1\r\nContent-Length: ", bytes, "\r\n\r\n", std::string(bytes, 'x'));
  };
  for (const size_t over : {size_t{0}, size_t{1}, size_t{2}}) {
    EXPECT_EQ(status_of(header((16 << 10) - 1 + over), {}), over < 2 ? 200 : 431);
    EXPECT_EQ(status_of(lines(63 + over), {}), over < 2 ? 200 : 431);
    EXPECT_EQ(status_of(body((8 << 20) - 1 + over), {}), over < 2 ? 200 : 413);
  }
}

// A chunk's head and the trailer may be as long as the header, however they arrive.
TEST(RequestParser, ChunkHeadsAndTrailersAreBounded) {
  HttpLimits limits;
  limits.header_bytes = 200;
  const std::string start = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  const auto head = [&](size_t bytes) {
    return cat(start, "1;", std::string(bytes - 4, 'x'), "\r\na\r\n0\r\n\r\n");
  };
  const auto trailer = [&](size_t bytes) {  // with the last chunk's head
    return cat(start, "1\r\na", "\r\n0\r\nX: ", std::string(bytes - 12, 'x'), "\r\n\r\n");
  };
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{150}, size_t{1000}}) {
    const auto status = [&](const std::string& text) { return status_of(text, limits, piece); };
    for (const size_t bytes : {size_t{199}, size_t{200}}) {
      EXPECT_EQ(status(head(bytes)), 200) << bytes << " in pieces of " << piece;
      EXPECT_EQ(status(trailer(bytes)), 200) << bytes << " in pieces of " << piece;
    }
    EXPECT_EQ(status(head(201)), 431) << piece;
    EXPECT_EQ(status(trailer(201)), 431) << piece;
  }
  EXPECT_EQ(status_of(start + "1;" + std::string(300, 'x'), limits), 431);  // without an end in sight
}

// Who is let in was decided by the header: nothing can be added to it behind the body.
TEST(RequestParser, ATrailerIsNoHeader) {
  RequestParser parser({});
  const std::string text =
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
      "Authorization: Bearer k\r\n\r\n";
  feed(parser, text, text.size());
  ASSERT_EQ(parser.state(), State::done);
  const HttpRequest request = parser.take();
  EXPECT_EQ(request.headers.size(), 2u);
  EXPECT_FALSE(request.has_header("authorization"));
}

TEST(RequestParser, WhatIsNoHttpIsRefused) {
  for (const char* text :
       {"hello\r\n\r\n", "GET / HTTP/3.7\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "GET / HTTP/1.1\r\nA\r\n\r\n"}) {
    EXPECT_EQ(status_of(text), 400) << text;
  }
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\na"), 415);
}

TEST(RequestParser, ContinueIsAskedForOnce) {
  RequestParser parser({});
  feed(parser, "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", 1000);
  EXPECT_EQ(parser.state(), State::body);
  EXPECT_TRUE(parser.wants_continue());
  EXPECT_FALSE(parser.wants_continue());
}

}  // namespace
}  // namespace llamita::server
