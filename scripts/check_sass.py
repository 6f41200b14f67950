#!/usr/bin/env python3
"""Reads the machine code of the Hopper kernels: tensor-core instructions must be there (HGMMA); no loop around them or
around the copy engine's loads (UTMALDG) may touch local memory, which would mean that accumulators, or what a producer
keeps from turn to turn, left the registers; and no loop may wait behind each HGMMA, which ptxas does, silently, where
it cannot keep accumulators in place.

    scripts/check_sass.py [BUILD]     every object of a *_sm90.cu file that BUILD (default build-cuda) makes
    scripts/check_sass.py --self-test

Objects that build.ninja does not name are left out, for they are of sources that are gone, and so are those of tests,
whose kernels multiply once, outside any loop. Needs cuobjdump and the nvdisasm that it calls: the CUDA toolkit's, or
`pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm`. Without one of them the check is skipped aloud, with exit
status 77. Exits with 1 when a kernel is bad, with 2 when the objects could not be read or none has an HGMMA.
"""
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,6})\*/\s+(.*?);")
GUARD = re.compile(r"^@(!?U?P\w+)\s+")
TARGET = re.compile(r"`?\(?0x([0-9a-f]+)\)?\s*$")
BARRIER = re.compile(r"\b(B\d+)\b")
LOCAL = re.compile(r"\b(?:LDL|STL)\b")
# Bound by the stream of what they read, with so few rows a product that mma.sync is enough.
STREAMING = {"paged_decode_sm90.cu.o", "persistent_sm90.cu.o"}


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


class Graph:
    """The flow between the basic blocks of a function."""

    def __init__(self, code):
        texts = [(address, *self.split(text)) for address, text in code]
        starts = {texts[0][0]}
        for i, (_, _, word, text) in enumerate(texts):
            if word in ("BRA", "CALL", "BSSY", "WARPSYNC") and (match := TARGET.search(text)):
                starts.add(int(match[1], 16))
            if word in ("BRA", "BRX", "JMP", "EXIT", "RET", "BSYNC", "CALL", "WARPSYNC") and i + 1 < len(texts):
                starts.add(texts[i + 1][0])
        self.blocks, self.block_of = [], {}  # [[(address, guarded, word, text)]], {address: index}
        for line in texts:
            if line[0] in starts:
                self.blocks.append([])
            self.blocks[-1].append(line)
            self.block_of[line[0]] = len(self.blocks) - 1
        self.flow()

    @staticmethod
    def split(text):
        guard = GUARD.match(text)
        text = text[guard.end():] if guard else text
        return bool(guard) and guard[1] != "PT", re.split(r"[. ]", text, maxsplit=1)[0], text

    def flow(self):
        """self.next: blocks that may follow each. BSYNC goes where the BSSY before it says; which one that is follows
        from the flow, so it is found with it."""
        self.next = [set() for _ in self.blocks]
        seen = [None] * len(self.blocks)  # {barrier: targets of the BSSYs that may have set it}
        work = [(0, {})]
        while work:
            index, state = work.pop()
            if seen[index] is not None and all(targets <= seen[index].get(b, set()) for b, targets in state.items()):
                continue
            seen[index] = seen[index] or {}
            for barrier, targets in state.items():
                seen[index][barrier] = seen[index].get(barrier, set()) | targets
            state = dict(seen[index])
            for _, _, word, text in self.blocks[index]:
                if word == "BSSY" and (match := TARGET.search(text)):
                    state[BARRIER.search(text)[1]] = {self.block_of[int(match[1], 16)]}
            _, guarded, word, text = self.blocks[index][-1]
            after = {index + 1} if index + 1 < len(self.blocks) else set()
            match = TARGET.search(text)
            target = {self.block_of[int(match[1], 16)]} if match and int(match[1], 16) in self.block_of else set()
            if word in ("BRA", "JMP"):
                # BRA.DIV and the like name a predicate or a register in front of the target.
                follow = target | (after if guarded or "," in text else set())
            elif word == "BSYNC":
                follow = set(state.get(BARRIER.search(text)[1], after))
                follow |= after if guarded else set()
            elif word in ("EXIT", "RET", "BRX"):
                follow = after if guarded else set()
            elif word in ("CALL", "WARPSYNC"):
                follow = target | after
            else:
                follow = after
            self.next[index] |= follow
            work += [(block, state) for block in follow]
        self.reached = [i for i, state in enumerate(seen) if state is not None]

    def dominators(self):
        """{block: bits of the blocks on every way to it}"""
        before = {i: [] for i in self.reached}
        for i in self.reached:
            for block in self.next[i]:
                before[block].append(i)
        everything = (1 << len(self.blocks)) - 1
        over = {i: everything for i in self.reached}
        over[0] = 1
        changed = True
        while changed:
            changed = False
            for i in self.reached:
                if i == 0:
                    continue
                bits = everything
                for block in before[i]:
                    bits &= over[block]
                bits |= 1 << i
                changed |= bits != over[i]
                over[i] = bits
        return over, before

    def loops(self):
        """The natural loops: sets of blocks, one a head."""
        over, before = self.dominators()
        found = {}
        for tail in self.reached:
            for head in self.next[tail]:
                if not over[tail] >> head & 1:
                    continue
                body, work = found.setdefault(head, {head}), [tail]
                while work:
                    block = work.pop()
                    if block not in body:
                        body.add(block)
                        work += before[block]
        return list(found.values())


def hot_loops(code):
    """The innermost loops around HGMMA, and those around UTMALDG that wait for room too (a loop around one load alone
    is how a descriptor comes to uniform registers), as sets of addresses. What is peeled off a loop stands in the loop
    outside, which is not one of them."""
    graph = Graph(code)
    loops = graph.loops()

    def innermost(word, candidates):
        around = set()
        for i, block in enumerate(graph.blocks):
            if any(w == word for _, _, w, _ in block) and (bodies := [b for b in candidates if i in b]):
                around.add(frozenset(min(bodies, key=len)))
        around = [b for b in around if not any(other < b for other in around)]
        return [{line[0] for block in body for line in graph.blocks[block]} for body in around]

    waiting = [body for body in loops if any("TRYWAIT" in line[3] for block in body for line in graph.blocks[block])]
    return innermost("HGMMA", loops), innermost("UTMALDG", waiting)


def judge(code):
    """(multiplies, loops around them, local accesses in the hot loops, local accesses in all, loops with a wait for
    each multiply)"""
    multiplying, loading = hot_loops(code)
    local = [address for address, text in code if LOCAL.search(text)]
    inside = [a for a in local if any(a in loop for loop in multiplying + loading)]
    serial = 0
    for loop in multiplying:
        texts = [text for a, text in code if a in loop]
        multiplies = sum("HGMMA" in text for text in texts)
        waits = sum("WARPGROUP.DEPBAR" in text for text in texts)
        serial += multiplies >= 4 and waits >= multiplies
    return sum("HGMMA" in text for _, text in code), len(multiplying), len(inside), len(local), serial


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
    # A spin behind the code that jumps back into a loop is a part of it, and spans what is no part of it.
    spin = dump("HGMMA.64x64x16.F32 R24", "SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R3], R2", "@!P0 BRA 0x80", "@P1 BRA 0x0",
                "EXIT", "STL [R1], R2", "LDL R2, [R1]", "EXIT", "SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R3], R2",
                "@!P0 BRA 0x80", "BRA 0x30")
    assert judge(spin) == (1, 1, 0, 2, 0), judge(spin)
    spun = dump("HGMMA.64x64x16.F32 R24", "@!P0 BRA 0x40", "@P1 BRA 0x0", "EXIT", "LDL R2, [R1]", "@!P0 BRA 0x40",
                "BRA 0x20")
    assert judge(spun) == (1, 1, 1, 1, 0), judge(spun)
    # A way round the loop through a point of reconvergence, not straight on.
    meeting = dump("HGMMA.64x64x16.F32 R24", "BSSY B0, 0x60", "@P0 BRA 0x50", "BSYNC B0", "EXIT", "BSYNC B0",
                   "STL [R1], R2", "@P1 BRA 0x0", "EXIT")
    assert judge(meeting) == (1, 1, 1, 1, 0), judge(meeting)
    load = ["SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R3], R2", "@!P0 BRA 0x0", "@P1 ELECT P3, URZ, PT",
            "UTMALDG.4D [UR8], [UR16]", "@P1 BRA.U.ANY 0x20"]
    assert judge(dump("STL [R1], R2", *load[2:], "EXIT"))[2] == 0
    assert judge(dump(*load, "LDL R2, [R1]", "@P2 BRA 0x0", "EXIT"))[2] == 1
    assert judge(dump(*load, "@P2 BRA 0x0", "LDL R2, [R1]", "EXIT"))[2] == 0
    print("check_sass: self-test passed")


def find_tools():
    """The path of cuobjdump, with nvdisasm on the PATH for it. Skips the check where one is missing."""
    packages = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    folders = [os.environ.get("PATH", ""), "/usr/local/cuda/bin", *map(str, packages.glob("cu*/bin"))]
    os.environ["PATH"] = os.pathsep.join(folders)
    for tool in ("cuobjdump", "nvdisasm"):
        if not shutil.which(tool):
            print(f"check_sass: SKIPPED, no {tool} here (CUDA toolkit, or pip install nvidia-cuda-{tool})")
            sys.exit(77)
    return shutil.which("cuobjdump")


def read(tool, path):
    """{kernel: what judge() says}, of kernels with HGMMA or UTMALDG; None for an object that has no kernel at all."""
    done = subprocess.run([tool, "-sass", str(path)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{tool} left with {done.returncode} at {path}: {done.stderr.strip()[:300]}")
    found = functions(done.stdout)
    return {name: judge(code) for name, code in found.items()
            if any("HGMMA" in text or "UTMALDG" in text for _, text in code)} if found else None


def objects_of(build):
    """The objects of *_sm90.cu files that the build makes and has made, without those of tests."""
    rules = (build / "build.ninja").read_text()
    named = {build / path for path in re.findall(r"^build (\S+_sm90\.cu\.o):", rules, re.MULTILINE)}
    return sorted(path for path in named if path.exists() and not path.name.endswith("_test_sm90.cu.o"))


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__.strip())
        return 0
    if len(sys.argv) > 2 or sys.argv[1:2] and sys.argv[1].startswith("-"):
        print(f"check_sass: one BUILD or --self-test, not {' '.join(sys.argv[1:])} (--help)", file=sys.stderr)
        return 2
    build = Path(sys.argv[1] if len(sys.argv) > 1 else "build-cuda")
    if not (build / "build.ninja").exists():
        print(f"check_sass: {build} has no build.ninja: configure it with Ninja, as the presets do", file=sys.stderr)
        return 2
    objects = objects_of(build)
    if not objects:
        print(f"check_sass: no *_sm90.cu.o in {build}: build the preset cuda first", file=sys.stderr)
        return 2
    tool = find_tools()
    bad = kernels = multiplying = 0
    try:
        with ProcessPoolExecutor() as pool:
            judged = list(pool.map(read, [tool] * len(objects), objects))
    except RuntimeError as error:
        print(f"check_sass: {error}", file=sys.stderr)
        return 2
    for path, counts in zip(objects, judged):
        if counts is None:
            continue
        if path.name not in STREAMING and not any(multiplies for multiplies, *_ in counts.values()):
            print(f"{path.name}: no kernel uses HGMMA")
            bad += 1
        for name, (multiplies, loops, inside, local, serial) in counts.items():
            kernels += 1
            multiplying += multiplies > 0
            blind = multiplies > 0 and loops == 0
            if blind:
                print(f"{path.name}: {plain(name)}: {multiplies} HGMMA and no loop around them: the check is blind here")
            if inside:
                print(f"{path.name}: {plain(name)}: {inside} local-memory accesses in loops around HGMMA or UTMALDG")
            if serial:
                print(f"{path.name}: {plain(name)}: {serial} loops wait behind every HGMMA")
            bad += inside > 0 or blind or serial > 0
            if local and not inside:
                print(f"{path.name}: {plain(name)}: {local} local-memory accesses outside those loops")
    if multiplying == 0:
        print(f"check_sass: no HGMMA in any of {len(objects)} objects: {tool} or its nvdisasm does not read them", file=sys.stderr)
        return 2
    print(f"check_sass: {kernels} kernels with HGMMA or UTMALDG ({multiplying} with HGMMA) in {len(objects)} objects, {bad} bad")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
