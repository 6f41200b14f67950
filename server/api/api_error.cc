#include "server/api/api_error.h"

namespace llamita::server {

namespace {

std::string type_of(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 429: return "rate_limit_error";
    case 503: return "unavailable_error";
    default: return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

Json text_or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

}  // namespace

Json error_body(const ApiError& error) {
  return Json(Json::Object{{"error", Json(Json::Object{{"message", Json(std::string(error.what()))},
                                                       {"type", Json(type_of(error.status))},
                                                       {"param", text_or_null(error.param)},
                                                       {"code", text_or_null(error.code)}})}});
}

ApiError device_lost_error() { return {503, "the server's device has failed", {}, "device_lost"}; }

HttpResponse json_response(int status, const Json& body) {
  return {status, {{"Content-Type", "application/json"}}, body.dump()};
}

HttpResponse error_response(const ApiError& error) {
  HttpResponse response = json_response(error.status, error_body(error));
  if (error.status == 429 || error.status == 503) response.headers.emplace_back("Retry-After", "1");
  if (error.status == 405) response.headers.emplace_back("Allow", error.allow);
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace llamita::server
