#include "lessons/attention.h"

namespace llamita::lessons {

namespace {

constexpr double kAny = 1e9;

constexpr AttentionLesson kLessons[] = {
    {"01_naive", "a row of scores in shared memory, three passes", false, false, 150, attention_01_naive},
    {"02_online_softmax", "one pass: running maximum and sum", false, false, 150,
     attention_02_online_softmax},
    {"03_flash1", "tiles, K/V outside, O rescaled in global memory", false, true, 600, attention_03_flash1},
    {"04_flash2", "Q outside, O in registers, mma.sync", false, false, kAny, attention_04_flash2},
    {"05_flash3", "TMA, wgmma, two groups in turn, softmax under multiplies", true, false, kAny,
     attention_05_flash3},
};

}  // namespace

std::span<const AttentionLesson> attention_lessons() { return kLessons; }

}  // namespace llamita::lessons
