// PackedCache: the packed form of a model's weights on disk, so that the second start need not make it again.
// One file a model, named by its files' content and not by their path. Whatever is wrong with it (another
// model, another version, damage, no room, no right to write) costs a line in the log and the packing, never
// the load.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tensor/storage.h"
#include "weights/packed_reader.h"
#include "weights/tensor_files.h"

namespace llamita {

class PackedCache {
 public:
  // Looks in `folder` for what was packed from `files` in this layout, and begins to read it.
  PackedCache(const std::string& folder, const TensorFiles& files, quant::Layout layout);

  // Where the file is or will be; "" when these tensors lie in no file and are not cached.
  const std::string& path() const { return path_; }
  // The part as it was packed once, or nothing.
  Storage find(const PackedPart& part);
  // A part that find() did not have: for the file. Holds on to the storage.
  void keep(const PackedPart& part, const Storage& storage);
  // After the last part: writes the file when it is not what it should be. Warns when that cannot be done.
  void save();

 private:
  void write();

  std::string path_;
  PackedHeader header_;  // of this start: layout, sources, and the parts asked for so far, in their order
  std::vector<Storage> storages_;
  std::unique_ptr<PackedReader> reader_;
  size_t packed_ = 0;  // parts that find() did not have
};

}  // namespace llamita
