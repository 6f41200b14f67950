#include "hw/cpu/isa.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "support/expect_error.h"

namespace llamita::cpu {
namespace {

class IsaTest : public testing::Test {
 protected:
  void TearDown() override { unsetenv("LLAMITA_ISA"); }
};

TEST_F(IsaTest, TheBestLevelUnlessALowerOneIsForced) {
  unsetenv("LLAMITA_ISA");
  EXPECT_EQ(detect_isa(), best_isa());
  setenv("LLAMITA_ISA", "generic", 1);
  EXPECT_EQ(detect_isa(), Isa::generic);
  setenv("LLAMITA_ISA", std::string(name(best_isa())).c_str(), 1);
  EXPECT_EQ(detect_isa(), best_isa());
}

TEST_F(IsaTest, WhatTheMachineLacksOrNobodyKnowsIsAnError) {
  setenv("LLAMITA_ISA", "sse9", 1);
  EXPECT_ERROR(detect_isa(), "give generic, avx2 or avx512");
  if (best_isa() == Isa::avx512) GTEST_SKIP() << "this machine lacks nothing";
  setenv("LLAMITA_ISA", "avx512", 1);
  EXPECT_ERROR(detect_isa(), "this machine has");
}

}  // namespace
}  // namespace llamita::cpu
