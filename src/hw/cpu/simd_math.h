// Functions over the vector structs Avx2 and Avx512. Include only in per-ISA files.
#pragma once

namespace llamita::cpu {

// e^x within 1.5e-7 relative for x in [-87.3, 88.3]; 0 below, at least e^88.3 above, NaN for NaN. Lanes are
// independent, so a value's result does not depend on where it stands.
//   x = n ln 2 + r, |r| <= ln 2 / 2;  e^x = 2^n (1 + r + r^2 p(r))
// with p through the Chebyshev nodes of degree 4, 1.0e-8 from exact before rounding.
template <class S>
[[gnu::always_inline]] inline typename S::F exp(typename S::F x) {
  using F = typename S::F;
  const F lowest = S::set(-87.3f);  // 2^-126: n stays a normal number's exponent
  const F clamped = S::min(S::set(88.3f), S::max(lowest, x));
  const auto n = S::to_int(S::mul(clamped, S::set(1.44269504f)));
  const F whole = S::to_float(n);
  F r = S::fma(whole, S::set(-0.693145752f), clamped);  // ln 2 in two parts: the first has 15 bits
  r = S::fma(whole, S::set(-1.42860677e-6f), r);
  F p = S::set(0.00139262504f);
  p = S::fma(p, r, S::set(0.00836323295f));
  p = S::fma(p, r, S::set(0.0416665524f));
  p = S::fma(p, r, S::set(0.166665763f));
  p = S::fma(p, r, S::set(0.5f));
  const F fraction = S::add(S::fma(S::mul(r, r), p, r), S::set(1.0f));
  const F power = S::bits_to_float(S::shift_left(S::add(n, S::set_int(127)), 23));
  return S::zero_below(x, lowest, S::mul(fraction, power));
}

}  // namespace llamita::cpu
