// PreparedNorm: an RMS norm in two halves, so that it needs no pass of its own. The op that writes rows of
// the residual stream also leaves them times the gain, and what the squares of each run of 64 elements add up
// to (linear.h). The product that wants the rows normed reads them scaled and multiplies its sums by 1 /
// sqrt(mean(x^2) + eps), which needs all runs, before anything else becomes of them (attn_in.h, mlp_in.h).
// But for the rounding of what lies between, that is the norm.
// Order: one f32 sum over the runs of a row, ascending; in skinny_sm90's tiles of 16 tokens one over the even
// and one over the odd runs, then both. What the squares of a run are added in is the writer's, and always
// the same.
#pragma once

#include "ops/norm/norm.h"

namespace llamita {

inline constexpr int64_t kNormRun = 64;
inline int64_t norm_runs(int64_t C) { return (C + kNormRun - 1) / kNormRun; }

// Of x * gain, in `scaled` of this type: in f16 there is no room for a row that has not been divided by its
// rms. With a sixteenth, x * gain above 2^20 is cut to that, and below 2^-10 it loses bits.
constexpr float norm_share(DType scaled) { return scaled == DType::f16 ? 1.0f / 16 : 1.0f; }

struct PreparedNorm {
  Tensor scaled;   // (T, C) x * gain * norm_share(): f32, on a GPU bf16 or f16; dense
  Tensor squares;  // (runs, T) f32: sums of x^2; dense

  bool defined() const { return scaled.defined(); }
  double bytes() const { return defined() ? static_cast<double>(scaled.bytes() + squares.bytes()) : 0; }
};

// Of x (T, C), from the arena.
PreparedNorm take_prepared_norm(const Tensor& x, Context& context);
// Its shapes, to ask ops whether they would take it.
PreparedNorm prepared_norm_shape(const Tensor& x, const Caps& caps);
// Whether a variant takes these arguments with their prepared norm and needs no more time than the one that
// runs without. Both sides of a norm have to say so before it is handed over. Where LLAMITA_KERNEL forces a
// variant of norm, that one runs. On the CPU a norm costs nothing that sharing could save: only the
// specification shares there, where LLAMITA_KERNEL=linear=reference asks for it.
template <class Args>
bool takes_prepared_norm(const Op<Args>& op, const Args& args, const Context& context) {
  const Caps& caps = context.caps();
  if (!context.forced_variant("norm").empty()) return false;
  if (caps.device == DeviceKind::cpu && context.forced_variant("linear") != "reference") return false;
  const Variant<Args>* with = best_variant(op, args, caps, context.forced_variant(op.name), &context);
  if (with == nullptr) return false;
  Args plain = args;
  plain.prepared = {};
  return with->estimate_us(args, caps) <= choose(op, plain, context).estimate_us(plain, caps);
}
// Programmer errors of an op's arguments.
void check_prepared_norm(std::string_view op, const PreparedNorm& prepared, int64_t T, int64_t C);

// The halves on the CPU, as the specification: of x (T, C) f32 with the gain (C); and to out (T, C) f32.
void prepare_norm(const Tensor& x, const Tensor& gain, const PreparedNorm& prepared);
void finish_norm(const PreparedNorm& prepared, float eps, const Tensor& out);

// The norm with which a composition of attn_in or mlp_in begins, of which half may have been done.
template <class FusedArgs>
void norm_or_finish(const FusedArgs& args, const Tensor& out, Context& context) {
  if (!args.prepared.defined()) return norm(norm_of(args, out), context);
  if (!context.dry_run()) finish_norm(args.prepared, args.norm_eps, out);
}

}  // namespace llamita
