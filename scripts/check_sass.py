#!/usr/bin/env python3
"""Reads the machine code of the Hopper kernels: tensor-core instructions must be there (HGMMA), no loop around them may
touch local memory, which would mean that accumulators left the registers, and no loop may wait behind each of them,
which ptxas does, silently, where it cannot keep accumulators in place.

    scripts/check_sass.py [BUILD]     every object of a *_sm90.cu file under BUILD (default build-cuda)
    scripts/check_sass.py --self-test

Needs cuobjdump: the CUDA toolkit's, or `pip install nvidia-cuda-cuobjdump`. Without it the check is skipped aloud,
with exit status 77.
"""
import re
import shutil
import subprocess
import sys
from pathlib import Path

INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,6})\*/\s+(.*?);")
JUMP = re.compile(r"\bBRA(?:\.\S+)?\s+(?:\S+,\s*)?`?\(?(?:0x)?([0-9a-f]+)")
LOCAL = re.compile(r"\b(?:LDL|STL)\b")
# Bound by the stream of what they read, with so few rows a product that mma.sync is enough.
STREAMING = {"gemv_ring_sm90.cu.o", "paged_decode_sm90.cu.o", "persistent_sm90.cu.o"}


def functions(sass):
    """{name: [(address, text)]}"""
    found, name = {}, None
    for line in sass.splitlines():
        if "Function :" in line:
            name = line.split(":", 1)[1].strip()
            found[name] = []
        elif name and (match := INSTRUCTION.search(line)):
            found[name].append((int(match[1], 16), match[2]))
    return found


def hot_loops(code):
    """The innermost loops around HGMMA, as a set of (first, last) addresses. What is peeled off a loop stands in the
    loop outside, which is not one of them."""
    back = []
    for address, text in code:
        match = JUMP.search(text)
        if match and int(match[1], 16) < address:
            back.append((int(match[1], 16), address))
    loops = set()
    for address, text in code:
        if "HGMMA" in text:
            around = [loop for loop in back if loop[0] <= address <= loop[1]]
            if around:
                loops.add(min(around, key=lambda loop: loop[1] - loop[0]))
    return {loop for loop in loops
            if not any(other != loop and loop[0] <= other[0] and other[1] <= loop[1] for other in loops)}


def judge(code):
    """(multiplies, loops, local accesses in loops, local accesses in all, loops with a wait for each multiply)"""
    loops = hot_loops(code)
    local = [address for address, text in code if LOCAL.search(text)]
    inside = [a for a in local if any(first <= a <= last for first, last in loops)]
    serial = 0
    for first, last in loops:
        texts = [text for a, text in code if first <= a <= last]
        multiplies = sum("HGMMA" in text for text in texts)
        waits = sum("WARPGROUP.DEPBAR" in text for text in texts)
        serial += multiplies >= 4 and waits >= multiplies
    return sum("HGMMA" in text for _, text in code), len(loops), len(inside), len(local), serial


def plain(name):
    demangler = shutil.which("c++filt")
    if not demangler:
        return name
    text = subprocess.run([demangler, name], capture_output=True, text=True, check=True).stdout.strip()
    return re.sub(r"llamita::(?:\w+::)?|\(anonymous namespace\)::|\(.*", "", text)


def self_test():
    def dump(*lines):
        body = "\n".join(f"        /*{16 * i:04x}*/                   {line} ;" for i, line in enumerate(lines))
        return functions("\t\tFunction : kernel\n" + body)["kernel"]

    clean = dump("STL [R1], R2", "SYNCS", "HGMMA.64x256x16.F32.BF16 R24, gdesc[UR4], R24", "@!P0 BRA 0x10", "LDL R2, [R1]")
    assert judge(clean) == (1, 1, 0, 2, 0), judge(clean)
    spilled = dump("SYNCS", "HGMMA.64x256x16.F32.BF16 R24, gdesc[UR4], R24", "STL [R1+0x8], R5", "@!P0 BRA 0x0")
    assert judge(spilled) == (1, 1, 1, 1, 0), judge(spilled)
    outer = dump("LDL R2, [R1]", "HGMMA.64x64x16.F32 R24", "@P1 BRA 0x10", "@P2 BRA 0x0")
    assert judge(outer) == (1, 1, 0, 1, 0), judge(outer)
    peeled = dump("LDL R2, [R1]", "HGMMA.64x64x16.F32 R24", "HGMMA.64x64x16.F32 R24", "@P1 BRA 0x20", "@P2 BRA 0x0")
    assert judge(peeled) == (2, 1, 0, 1, 0), judge(peeled)
    assert judge(dump("FFMA R1, R2, R3, R4", "EXIT")) == (0, 0, 0, 0, 0)
    serial = dump(*["HGMMA.64x64x16.F32 R24", "WARPGROUP.DEPBAR.LE gsb0, 0x0"] * 4, "@!P0 BRA 0x0")
    assert judge(serial) == (4, 1, 0, 0, 1), judge(serial)
    print("check_sass: self-test passed")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    build = Path(sys.argv[1] if len(sys.argv) > 1 else "build-cuda")
    objects = sorted(build.glob("**/*_sm90.cu.o"))
    if not objects:
        sys.exit(f"check_sass: no *_sm90.cu.o under {build}: build the preset cuda first")
    tool = shutil.which("cuobjdump") or shutil.which("/usr/local/cuda/bin/cuobjdump")
    if not tool:
        print("check_sass: SKIPPED, no cuobjdump here (CUDA toolkit, or pip install nvidia-cuda-cuobjdump)")
        sys.exit(77)
    bad = kernels = 0
    for path in objects:
        run = subprocess.run([tool, "-sass", str(path)], capture_output=True, text=True)
        found = functions(run.stdout)
        counts = {name: judge(code) for name, code in found.items()}
        if found and path.name not in STREAMING and not any(multiplies for multiplies, *_ in counts.values()):
            print(f"{path.name}: no kernel uses HGMMA")
            bad += 1
        for name, (multiplies, loops, inside, local, serial) in counts.items():
            if not multiplies:
                continue
            kernels += 1
            if loops == 0:
                print(f"{path.name}: {plain(name)}: {multiplies} HGMMA and no loop around them: the check is blind here")
            if inside:
                print(f"{path.name}: {plain(name)}: {inside} local-memory accesses in the loops around HGMMA")
            if serial:
                print(f"{path.name}: {plain(name)}: {serial} loops wait behind every HGMMA")
            bad += inside > 0 or loops == 0 or serial > 0
            if local and not inside:
                print(f"{path.name}: {plain(name)}: {local} local-memory accesses outside those loops")
    print(f"check_sass: {kernels} kernels with HGMMA in {len(objects)} objects, {bad} bad")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
