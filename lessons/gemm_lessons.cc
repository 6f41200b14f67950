#include "lessons/gemm.h"

namespace llamita::lessons {

namespace {

constexpr double kAny = 1e9;

constexpr GemmLesson kLessons[] = {
    {"01_naive", "one thread an output", false, 150, gemm_01_naive},
    {"02_coalesced", "lanes along a row, 16-byte loads", false, 150, gemm_02_coalesced},
    {"03_shared_tiles", "operands shared by a block", false, 150, gemm_03_shared_tiles},
    {"04_register_tiles", "8x8 outputs a thread", false, 150, gemm_04_register_tiles},
    {"05_mma_sync", "tensor cores: mma.sync", false, kAny, gemm_05_mma_sync},
    {"06_cp_async", "three stages in flight, ldmatrix, swizzle", false, kAny, gemm_06_cp_async},
    {"07_tma_wgmma", "TMA tiles, asynchronous wgmma", true, kAny, gemm_07_tma_wgmma},
    {"08_warp_specialised", "producer and consumer warpgroups", true, kAny, gemm_08_warp_specialised},
    {"09_persistent", "persistent, grouped tiles, multicast, TMA store", true, kAny, gemm_09_persistent},
    {"10_ping_pong", "two consumers take turns: epilogue hidden", true, kAny, gemm_10_ping_pong},
    {"11_tile_widths", "the tile's width follows the problem", true, kAny, gemm_11_tile_widths},
    {"12_split_k", "clusters share a tile where tiles are few", true, kAny, gemm_12_split_k},
};

}  // namespace

std::span<const GemmLesson> gemm_lessons() { return kLessons; }

}  // namespace llamita::lessons
