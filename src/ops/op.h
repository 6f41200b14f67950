// Op<Args>: one operation and every way it can be done. Dispatch, tests, benchmarks, traces and the roofline
// report all walk the same table of variants. The smallest estimate among the variants that support the
// arguments runs; the scalar reference supports everything and is the specification of the rest.
#pragma once

#include <algorithm>
#include <span>
#include <string_view>

#include "base/log.h"
#include "base/timer.h"
#include "llamita/error.h"
#include "ops/context.h"

namespace llamita {

template <class Args>
struct Variant {
  std::string_view name;
  bool (*supports)(const Args& args, const Caps& caps);
  double (*estimate_us)(const Args& args, const Caps& caps);
  void (*run)(const Args& args, Context& context);
  // A composition of other ops: in a dry run it is executed, so that the ops inside record themselves.
  bool composed = false;
  // Arena bytes run() takes for scratch; a composition takes its own through the arena.
  int64_t (*scratch_bytes)(const Args& args, const Caps& caps) = nullptr;
  // Ops whose work a fused variant does with kernels of its own choice: where LLAMITA_KERNEL forces one of
  // them, it steps back for one that runs them.
  std::span<const std::string_view> fuses = {};
  // Takes arguments with a prepared norm (norm/prepared_norm.h), of which the others know nothing.
  bool takes_prepared = false;
};

template <class Args>
bool has_prepared_norm(const Args& args) {
  if constexpr (requires { args.prepared; }) return args.prepared.defined();
  return false;
}

template <class Args>
struct Op {
  std::string_view name;
  void (*check)(const Args& args);  // shapes, dtypes, devices: programmer errors
  Cost (*cost)(const Args& args);
  std::span<const Variant<Args>> variants;
};

// The variant of the smallest estimate, of all or of those with one name; nullptr where none supports these
// arguments.
template <class Args>
const Variant<Args>* best_variant(const Op<Args>& op, const Args& args, const Caps& caps,
                                  std::string_view only, const Context* context = nullptr) {
  const auto forced_inside = [&](const Variant<Args>& variant) {
    return context != nullptr && std::any_of(variant.fuses.begin(), variant.fuses.end(), [&](auto inner) {
             return !context->forced_variant(inner).empty();
           });
  };
  const Variant<Args>* best = nullptr;
  double best_us = 0;
  for (const Variant<Args>& variant : op.variants) {
    if (only.empty() ? forced_inside(variant) : variant.name != only) continue;
    if (has_prepared_norm(args) && !variant.takes_prepared) continue;
    if (!variant.supports(args, caps)) continue;
    const double us = variant.estimate_us(args, caps);
    if (best == nullptr || us < best_us) {
      best = &variant;
      best_us = us;
    }
  }
  return best;
}

// The names of an op's variants, of this build.
template <class Args>
std::string variant_list(const Op<Args>& op) {
  std::string list;
  for (const Variant<Args>& variant : op.variants) list += cat(list.empty() ? "" : ", ", variant.name);
  return list;
}

// The variant that runs for these arguments. Throws Error when LLAMITA_KERNEL forces one that is unknown or
// does not support them.
template <class Args>
const Variant<Args>& choose(const Op<Args>& op, const Args& args, const Context& context) {
  const std::string_view forced = context.forced_variant(op.name);
  const Variant<Args>* best = best_variant(op, args, context.caps(), forced, &context);
  if (best == nullptr && !forced.empty()) {
    for (const Variant<Args>& variant : op.variants)
      if (variant.name == forced)
        throw Error(cat("LLAMITA_KERNEL: variant ", forced, " of op ", op.name,
                        " does not run on this device with these shapes; there are ", variant_list(op)));
    throw Error(cat("LLAMITA_KERNEL: op ", op.name, " has no variant ", forced, " in this build; there are ",
                    variant_list(op)));
  }
  LLAMITA_CHECK(best != nullptr, "op ", op.name, " has no variant for these arguments");
  return *best;
}

template <class Args>
void run(const Op<Args>& op, const Args& args, Context& context) {
  op.check(args);
  const Variant<Args>& variant = choose(op, args, context);
  context.log_choice(op.name, variant.name);
  std::vector<OpRecord>* records = context.records();
  const Arena::Scope scope(context.arena());
  if (variant.composed) return variant.run(args, context);
  if (context.dry_run()) {
    if (variant.scratch_bytes != nullptr) {
      context.arena().take(DType::u8, {variant.scratch_bytes(args, context.caps())});
    }
    if (records != nullptr) records->push_back({op.name, variant.name, op.cost(args), 0});
    return;
  }
  if (records == nullptr) return variant.run(args, context);
  if (OpTimer* timer = context.timer(); timer != nullptr) {
    timer->start();
    variant.run(args, context);
    timer->stop();
    records->push_back({op.name, variant.name, op.cost(args), 0});
    return;
  }
  const Stopwatch watch;
  variant.run(args, context);
  records->push_back({op.name, variant.name, op.cost(args), watch.microseconds()});
}

}  // namespace llamita
