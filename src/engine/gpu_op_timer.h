// GpuOpTimer: times every op of a step by events around it. The events keep an op from overlapping with its
// neighbours, and cost some microseconds themselves: good for where time goes, not for how much a step takes.
#pragma once

#include <vector>

#include "hw/cuda/stream.h"
#include "ops/context.h"

namespace llamita {

class GpuOpTimer : public OpTimer {
 public:
  // The stream of the ops to come; it must live until write_times().
  void queue_on(const cuda::Stream& stream) { stream_ = &stream; }

  void start() override {
    if (used_ == pairs_.size()) pairs_.push_back({cuda::Event(true), cuda::Event(true)});
    stream_->record(pairs_[used_].begin);
  }
  void stop() override { stream_->record(pairs_[used_++].end); }

  // Waits for the ops and writes their times into the records from `first` on, one an op.
  void write_times(std::vector<OpRecord>& records, size_t first) {
    stream_->synchronize();
    LLAMITA_CHECK(records.size() == first + used_, records.size() - first, " records of ", used_,
                  " timed ops");
    for (size_t i = 0; i < used_; ++i)
      records[first + i].microseconds =
          1e3 * static_cast<double>(cuda::elapsed_ms(pairs_[i].begin, pairs_[i].end));
    used_ = 0;
  }

 private:
  struct Pair {
    cuda::Event begin, end;
  };
  const cuda::Stream* stream_ = nullptr;
  std::vector<Pair> pairs_;
  size_t used_ = 0;
};

}  // namespace llamita
