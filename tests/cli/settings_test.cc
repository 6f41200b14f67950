#include "cli/settings.h"

#include <gtest/gtest.h>

#include "cli/numbers.h"
#include "support/expect_error.h"

namespace llamita::cli {
namespace {

TEST(Settings, EveryOneCanBeSetShownAndBroughtBack) {
  const SamplingParams defaults = default_sampling(100);
  for (const Setting& setting : sampling_settings()) {
    const std::string value = setting.name == "stop"         ? "END"
                              : setting.name == "logit_bias" ? "7:-3.5"
                              : setting.name == "max_tokens" ? "33"
                                                             : "1";
    SamplingParams params = defaults;
    set_by_name(params, defaults, setting.name, value);
    const std::string shown = setting.show(params);
    EXPECT_NE(shown.find(value), std::string::npos) << setting.name << " shows " << shown;
    set_by_name(params, defaults, setting.name, "default");
    EXPECT_EQ(setting.show(params), setting.show(defaults)) << setting.name;
  }
}

TEST(Settings, ReachTheParametersTheyName) {
  const SamplingParams defaults = default_sampling(100);
  SamplingParams params = defaults;
  set_by_name(params, defaults, "temp", "0.25");
  set_by_name(params, defaults, "top-k", "40");
  set_by_name(params, defaults, "stop", "a\\nb\\t\\\\");
  set_by_name(params, defaults, "logit_bias", "12:-100");
  set_by_name(params, defaults, "seed", "18446744073709551615");
  EXPECT_EQ(params.temperature, 0.25f);
  EXPECT_EQ(params.top_k, 40);
  EXPECT_EQ(params.stop, std::vector<std::string>{"a\nb\t\\"});
  EXPECT_EQ(params.logit_bias, (std::vector<std::pair<int32_t, float>>{{12, -100.0f}}));
  EXPECT_EQ(params.seed, UINT64_MAX);
}

TEST(Settings, RefuseWhatIsNoGoodValue) {
  const SamplingParams defaults = default_sampling(100);
  SamplingParams params = defaults;
  EXPECT_ERROR(set_by_name(params, defaults, "temp", "warm"), "expected a number from 0 to 100, got 'warm'");
  EXPECT_ERROR(set_by_name(params, defaults, "temp", "nan"), "temp");
  EXPECT_ERROR(set_by_name(params, defaults, "top_p", "1.5"), "top_p");
  EXPECT_ERROR(set_by_name(params, defaults, "top_k", "-1"), "top_k");
  EXPECT_ERROR(set_by_name(params, defaults, "logit_bias", "12"), "ID:VALUE");
  EXPECT_ERROR(set_by_name(params, defaults, "logit_bias", "-1:2"), "token id");
  EXPECT_ERROR(set_by_name(params, defaults, "seed", "-1"), "seed");
  EXPECT_ERROR(set_by_name(params, defaults, "tmp", "1"), "there is no setting 'tmp'; there are temp");
}

TEST(Numbers, KiloAndRanges) {
  EXPECT_EQ(parse_int("8k", "--context", 0, 1 << 20), 8192);
  EXPECT_EQ(parse_int("-1", "n", -1, 5), -1);
  for (const char* bad : {"", "k", "8kk", "1e3", " 1", "99999999999999999999", "9223372036854775807k", "7"}) {
    EXPECT_ERROR(parse_int(bad, "n", 10, INT64_MAX), "n: expected a whole number");
  }
}

TEST(Numbers, ForPeople) {
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(94.2e6), "94.2 MB");
  EXPECT_EQ(human_bytes(6.17e9), "6.17 GB");
  EXPECT_EQ(human_count(134515008), "135M");
}

}  // namespace
}  // namespace llamita::cli
