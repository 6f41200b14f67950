// NormRelay: hands the norms that neighbours share (shared_norms.h) from block to block of a chain of layers.
//
//   NormRelay relay(x, cos_sin, batch, kv.layers[0], context);
//   attention.add_to(x, ..., context, relay.of(attention, mlp));
//   mlp.add_to(x, context, relay.of(mlp, &attention_of_the_next_layer));   // nullptr behind the last layer
//
// Every block must have its turn, in this order. Two neighbours share where the kernels of both say so.
// Asking the ops' tables takes the host 11 to 13 us a layer, as long as the choices of the layer itself, so
// an answer is kept for as long as the weights that it was about are stored alike: the other arguments are
// the same in all layers of a model.
#pragma once

#include "nn/attention.h"
#include "nn/mlp.h"

namespace llamita {

class NormRelay {
 public:
  // Of x (T, C), which every block adds to, with what the attentions of a step get besides. `kv`: pages of
  // any layer, since all are alike. Borrows batch, pages and context, and takes from the context's arena.
  NormRelay(const Tensor& x, const Tensor& cos_sin, const ForwardBatch& batch, const KvCache::Layer& kv,
            Context& context)
      : x_(x),
        cos_sin_(cos_sin),
        batch_(batch),
        kv_(kv),
        context_(context),
        shape_(prepared_norm_shape(x, context.caps())) {}

  // The norms of the block whose turn it is, and that of the block behind it.
  SharedNorms of(const Attention& attention, const Mlp& next);
  SharedNorms of(const Mlp& mlp, const Attention* next);

 private:
  // Whether two neighbours share, and the weights that said so.
  struct Answer {
    const quant::Weight* leaving = nullptr;
    const quant::Weight* taking = nullptr;
    bool shares = false;
  };

  template <class Ask>
  static bool shares(Answer& kept, const quant::Weight& leaving, const quant::Weight& taking, Ask ask);
  SharedNorms pass(bool shares, const Tensor& next_gain);

  Tensor x_, cos_sin_;
  const ForwardBatch& batch_;
  const KvCache::Layer& kv_;
  Context& context_;
  PreparedNorm shape_;  // to ask with
  Answer to_mlp_, to_next_;
  PreparedNorm room_;  // of every norm that is shared: it is read before the next is prepared
  PreparedNorm own_;   // of the block whose turn comes
};

}  // namespace llamita
