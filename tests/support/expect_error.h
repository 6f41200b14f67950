// EXPECT_ERROR(statement, "part of the message"): the statement throws llamita::Error whose text names the
// cause.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "llamita/error.h"

#define EXPECT_ERROR(statement, part)                                                   \
  try {                                                                                 \
    statement;                                                                          \
    ADD_FAILURE() << #statement << " did not throw";                                    \
  } catch (const ::llamita::Error& error) {                                             \
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what(); \
  }
