"""Writes tests/golden/formats: small files made by the Python packages gguf and safetensors, which the readers
must read as the tests say.

Run from the top of the tree: python3 scripts/make_formats_golden.py
(pip install gguf==0.19.0 safetensors==0.8.0 numpy)
"""

from pathlib import Path

import numpy as np
import safetensors
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter
from gguf.quants import quantize
from safetensors.numpy import save_file

OUT = Path("tests/golden/formats")


def ramp(*shape):
    """Element i is i/4 - 3."""
    return (np.arange(np.prod(shape), dtype=np.float32) / 4 - 3).reshape(shape)


def write_gguf(writer):
    writer.write_header_to_file(OUT / "package.gguf")
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def all_types():
    writer = GGUFWriter(OUT / "package.gguf", "llama")
    writer.add_custom_alignment(64)
    writer.add_uint8("test.u8", 200)
    writer.add_int8("test.i8", -100)
    writer.add_uint16("test.u16", 60000)
    writer.add_int16("test.i16", -30000)
    writer.add_uint32("test.u32", 4000000000)
    writer.add_int32("test.i32", -2000000000)
    writer.add_uint64("test.u64", 2**63 - 1)
    writer.add_int64("test.i64", -(2**63))
    writer.add_float32("test.f32", 0.5)
    writer.add_float64("test.f64", 0.1)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "ein Läma")
    writer.add_array("test.strings", ["a", "", "▁b"])
    writer.add_array("test.ints", [1, -2, 3])
    writer.add_array("test.floats", [0.5, -1.5])
    writer.add_array("test.bools", [True, False, True])
    writer.add_tensor("matrix.f32", ramp(3, 5))
    writer.add_tensor("cube.f16", ramp(2, 3, 4).astype(np.float16))
    writer.add_tensor("rows.q8_0", quantize(ramp(2, 64), Type.Q8_0), raw_dtype=Type.Q8_0)
    writer.add_tensor("vector.i32", np.arange(7, dtype=np.int32))
    write_gguf(writer)


def split():
    writer = GGUFWriter(OUT / "package.gguf", "llama", split_max_tensors=2)
    writer.add_string("test.string", "in the first part")
    for i in range(5):
        writer.add_tensor(f"blk.{i}.weight", ramp(2, 3) + i)
    writer.write_header_to_file(OUT / "package.gguf")
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def safetensors_files():
    tensors = {"matrix": ramp(3, 5), "half": ramp(4).astype(np.float16), "ids": np.arange(3, dtype=np.int64)}
    tensors |= {"flags": np.array([True, False]), "scalar": np.array(2.5, dtype=np.float32), "none": ramp(0, 4)}
    save_file(tensors, OUT / "package.safetensors", {"format": "np"})
    bits = (ramp(2, 3).view(np.uint32) >> 16).astype(np.uint16)
    brain = safetensors.TensorSpec(dtype="bfloat16", shape=[2, 3], data_ptr=bits.ctypes.data, data_len=bits.nbytes)
    (OUT / "package_bf16.safetensors").write_bytes(safetensors.serialize({"brain": brain}, None))


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    all_types()
    split()
    safetensors_files()
