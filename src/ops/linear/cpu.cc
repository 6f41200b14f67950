// What the CPU variants are made of: the per-ISA kernels of kernels.h and int8.h. product.cc runs them.
#include "ops/linear/product.h"
#include "ops/linear/variants.h"

namespace llamita {

namespace {

constexpr int64_t kRowsUnit = 4;  // rows the kernel for few tokens runs side by side

constexpr CpuKernels kRowsAvx2{kRowsUnit, linear_rows_avx2, linear_rows_avx2};
constexpr CpuKernels kRowsAvx512{kRowsUnit, linear_rows_avx512, linear_rows_avx512};
constexpr CpuKernels kPanelAvx2{kPanelRows, linear_panel_avx2, linear_panel_avx2, 8};
constexpr CpuKernels kPanelAvx512{kPanelRows, linear_panel_avx512, linear_panel_avx512, 16};

constexpr CpuKernels kInt8Reference{.unit = 16,
                                    .plain_few = plain_multiply_scalar,
                                    .plain_many = plain_multiply_scalar,
                                    .int8_round_row = int8_round_row_scalar,
                                    .int8_multiply = int8_multiply_scalar,
                                    .int8_reads_rows = true};
constexpr CpuKernels kInt8Avx2{.unit = kInt8RowsAvx2,
                               .plain_few = linear_rows_avx2,
                               .plain_many = linear_panel_avx2,
                               .plain_tile_lanes = 8,
                               .int8_round_row = int8_round_row_avx2,
                               .int8_pack_tile = int8_pack_tile_avx2,
                               .int8_multiply = int8_multiply_avx2,
                               .int8_few_tokens = kInt8FewTokensAvx2};
constexpr CpuKernels kInt8Avx512{.unit = kInt8RowsAvx512,
                                 .plain_few = linear_rows_avx512,
                                 .plain_many = linear_panel_avx512,
                                 .plain_tile_lanes = 16,
                                 .plain_few_tokens = 1,
                                 .int8_round_row = int8_round_row_avx512,
                                 .int8_pack_tile = int8_pack_tile_avx512,
                                 .int8_multiply = int8_multiply_avx512,
                                 .int8_few_tokens = kInt8FewTokensAvx512};

constexpr CpuKernels kBf16Avx512{
    .unit = kBf16BlockRows, .bf16_round_row = bf16_round_row_avx512, .bf16_multiply = bf16_multiply_avx512};

struct Named {
  std::string_view variant;
  const CpuKernels& kernels;
};
constexpr Named kNamed[] = {
    {"cpu_int8_avx512", kInt8Avx512}, {"cpu_int8_avx2", kInt8Avx2},       {"cpu_bf16_avx512", kBf16Avx512},
    {"cpu_rows_avx512", kRowsAvx512}, {"cpu_panel_avx512", kPanelAvx512}, {"cpu_rows_avx2", kRowsAvx2},
    {"cpu_panel_avx2", kPanelAvx2},   {"int8_reference", kInt8Reference},
};

bool has_part(const LinearArgs& args, bool (*is_such)(DType format)) {
  const std::vector<quant::Part>& parts = args.weight->parts;
  return std::any_of(parts.begin(), parts.end(),
                     [&](const quant::Part& part) { return is_such(part.format); });
}

}  // namespace

const CpuKernels* linear_cpu_kernels(const LinearArgs& args, const Caps& caps) {
  const Variant<LinearArgs>* chosen = best_variant(linear_op(), args, caps, "");
  for (const Named& named : kNamed) {
    if (chosen != nullptr && named.variant == chosen->name) return &named.kernels;
  }
  return nullptr;
}

bool linear_is_bf16(const LinearArgs& args) {
  return args.weight->layout == quant::Layout::rows &&
         !has_part(args, [](DType format) { return format != DType::bf16; });
}
bool linear_has_blocks(const LinearArgs& args) {
  return has_part(args, [](DType format) { return int8_run(format) != Int8Run::none; });
}

bool linear_has_cpu_kernels(const quant::Weight& weight, const Caps& caps) {
  return caps.isa >= cpu::Isa::avx2 || linear_has_blocks({.weight = &weight});
}

void linear_cpu_rows_avx2(const LinearArgs& args, Context& context) { run_product(args, kRowsAvx2, context); }
void linear_cpu_panel_avx2(const LinearArgs& args, Context& context) {
  run_product(args, kPanelAvx2, context);
}
void linear_cpu_rows_avx512(const LinearArgs& args, Context& context) {
  run_product(args, kRowsAvx512, context);
}
void linear_cpu_panel_avx512(const LinearArgs& args, Context& context) {
  run_product(args, kPanelAvx512, context);
}
int64_t linear_cpu_scratch_bytes(const LinearArgs& args, const Caps&) {
  return product_scratch_bytes(args, kRowsAvx2);
}
int64_t linear_cpu_panel_scratch_bytes(const LinearArgs& args, const Caps&) {
  return product_scratch_bytes(args, kPanelAvx2);
}

void linear_cpu_bf16_avx512(const LinearArgs& args, Context& context) {
  run_product(args, kBf16Avx512, context);
}
int64_t linear_cpu_bf16_scratch_bytes(const LinearArgs& args, const Caps&) {
  return product_scratch_bytes(args, kBf16Avx512);
}

void linear_int8_reference(const LinearArgs& args, Context& context) {
  run_product(args, kInt8Reference, context);
}
int64_t linear_int8_reference_scratch_bytes(const LinearArgs& args, const Caps&) {
  return product_scratch_bytes(args, kInt8Reference);
}
void linear_cpu_int8_avx2(const LinearArgs& args, Context& context) { run_product(args, kInt8Avx2, context); }
int64_t linear_cpu_int8_avx2_scratch_bytes(const LinearArgs& args, const Caps&) {
  return product_scratch_bytes(args, kInt8Avx2);
}
void linear_cpu_int8_avx512(const LinearArgs& args, Context& context) {
  run_product(args, kInt8Avx512, context);
}
int64_t linear_cpu_int8_avx512_scratch_bytes(const LinearArgs& args, const Caps&) {
  return product_scratch_bytes(args, kInt8Avx512);
}

}  // namespace llamita
