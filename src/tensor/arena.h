// Arena: the memory of one step's activations. Tensors are handed out in stack order and taken back by
// scopes, so a step allocates nothing once the arena exists, and the same forward() gives the same addresses
// every time. In measuring mode it hands out shape-only tensors and records how many bytes the real step will
// need.
#pragma once

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <vector>

#include "tensor/storage.h"
#include "tensor/tensor.h"

namespace llamita {

class Arena {
 public:
  // Measuring mode: shape-only tensors of `device`, peak() counts.
  explicit Arena(Device device = {}) : device_(device) {}
  using Allocate = std::function<Storage(size_t bytes)>;
  // Real memory of the size that measuring found, from `allocate`, which gives memory of `device`. A tensor
  // beyond it gets memory of its own until the arena goes; peak() is above capacity() then, and whoever
  // measured should start over with peak() bytes.
  explicit Arena(size_t bytes, Device device = {}, Allocate allocate = Storage::allocate);

  // The same over memory that the caller made, on any device; nothing may be taken beyond it.
  Arena(Storage memory, Device device) : memory_(std::move(memory)), device_(device) {}

  bool measuring() const { return memory_.data() == nullptr; }
  size_t used() const { return used_; }
  size_t peak() const { return peak_; }
  size_t capacity() const { return memory_.bytes(); }

  // A dense tensor with unspecified content, valid until the enclosing Scope ends.
  Tensor take(DType dtype, std::initializer_list<int64_t> shape);

  // Gives back at its end everything taken since it began.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), mark_(arena.used_) {}
    ~Scope() { arena_.used_ = mark_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    size_t mark_;
  };

 private:
  static constexpr size_t kAlignment = 64;

  Allocate allocate_;
  Storage memory_;
  std::vector<Storage> beyond_;
  Device device_;
  size_t used_ = 0;
  size_t peak_ = 0;
};

}  // namespace llamita
