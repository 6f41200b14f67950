// What a client is told when a request fails: a status and OpenAI's body, {"error": {message, type, param,
// code}}, all four keys always.
#pragma once

#include <string>

#include "formats/json.h"
#include "llamita/error.h"
#include "server/http/message.h"

namespace llamita::server {

struct ApiError : Error {
  // `param` names the field at fault and `code` the kind of fault for programs; empty: null.
  ApiError(int status, std::string message, std::string param = {}, std::string code = {})
      : Error(std::move(message)), status(status), param(std::move(param)), code(std::move(code)) {}
  int status;
  std::string param, code;
  std::string allow;  // of a 405: the method that is taken
};

Json error_body(const ApiError& error);
// With Retry-After for 429 and 503, Allow for 405.
HttpResponse error_response(const ApiError& error);
ApiError device_lost_error();  // 503
HttpResponse json_response(int status, const Json& body);

}  // namespace llamita::server
