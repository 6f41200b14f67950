// Faults on order (LLAMITA_FAULT): the step that is named fails, and what comes after it is as it was, or not
// at all.
#include "engine/faulty_runner.h"

#include <gtest/gtest.h>

#include "llamita/error.h"

namespace llamita {
namespace {

class FakeRunner : public StepRunner {
 public:
  void submit(StepInputs&, std::span<const SamplingRow>, bool, int) override {}
  std::span<const SampledToken> collect(int) override { return {}; }
  void step_logits(StepInputs&, std::vector<float>&) override {}
  void synchronize() override {}
  std::span<const float> hidden() const override { return {}; }
  void record_to(std::vector<OpRecord>*) override {}
  int64_t arena_bytes() const override { return 7; }
};

// "." a step that works, "f" one that fails, "l" one that finds the device lost; two steps under way.
std::string eight_steps(const char* fault) {
  testing::internal::CaptureStderr();
  const auto runner = with_fault(std::make_unique<FakeRunner>(), fault);
  testing::internal::GetCapturedStderr();
  EXPECT_EQ(runner->arena_bytes(), 7);
  StepInputs inputs;
  std::string seen;
  runner->submit(inputs, {}, false, 0);
  for (int step = 1; step <= 8; ++step) {
    runner->submit(inputs, {}, false, step % 2);
    try {
      runner->collect((step - 1) % 2);
      seen += ".";
    } catch (const DeviceLostError&) {
      seen += "l";
    } catch (const Error&) {
      seen += "f";
    }
  }
  return seen;
}

TEST(FaultyRunner, TheStepThatIsNamedFails) {
  EXPECT_EQ(eight_steps("fail:1"), "f.......");
  EXPECT_EQ(eight_steps("fail:5"), "....f...");
  EXPECT_EQ(eight_steps("lost:5"), "....llll");
}

TEST(FaultyRunner, WhatIsNoFaultIsRefused) {
  for (const char* fault :
       {"", "fail", "fail:", "fail:0", "fail:-1", "lost:x", "lost:1x", "broken:3", ":3"}) {
    EXPECT_THROW(with_fault(std::make_unique<FakeRunner>(), fault), Error) << fault;
  }
}

}  // namespace
}  // namespace llamita
