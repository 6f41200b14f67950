#include "nn/norm_relay.h"

namespace llamita {

SharedNorms NormRelay::of(const Attention& attention, const Mlp& next) {
  const SharedNorms asked{.own = shape_, .next = shape_, .next_gain = next.norm.values};
  const bool with_next = shares(to_mlp_, attention.out, next.in, [&] {
    return attention.leaves_next(x_, context_, asked) && next.takes_own(x_, context_, asked);
  });
  return pass(with_next, next.norm.values);
}

SharedNorms NormRelay::of(const Mlp& mlp, const Attention* next) {
  if (next == nullptr) return pass(false, {});
  const SharedNorms asked{.own = shape_, .next = shape_, .next_gain = next->norm.values};
  const bool with_next = shares(to_next_, mlp.down, next->qkv, [&] {
    return mlp.leaves_next(x_, context_, asked) &&
           next->takes_own(x_, cos_sin_, batch_, kv_, context_, asked);
  });
  return pass(with_next, next->norm.values);
}

template <class Ask>
bool NormRelay::shares(Answer& kept, const quant::Weight& leaving, const quant::Weight& taking, Ask ask) {
  const bool known =
      kept.leaving != nullptr && leaving.stored_like(*kept.leaving) && taking.stored_like(*kept.taking);
  if (!known) kept = {&leaving, &taking, ask()};
  return kept.shares;
}

SharedNorms NormRelay::pass(bool shares, const Tensor& next_gain) {
  SharedNorms norms{.own = own_, .next = {}, .next_gain = {}};
  if (shares) {
    if (!room_.defined()) room_ = take_prepared_norm(x_, context_);
    norms.next = room_;
    norms.next_gain = next_gain;
  }
  own_ = norms.next;
  return norms;
}

}  // namespace llamita
