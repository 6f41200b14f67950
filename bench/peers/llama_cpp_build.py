"""llama.cpp for the comparisons beside it: built natively from llama-cpp-python's source archive, once, under build/peer;
and the default model's file, which both run."""
import os
import pathlib
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WORK = ROOT / "build" / "peer"
ARCHIVE = "llama-cpp-python==0.3.36"


def option(name, default):
    return os.environ.get(name) or default


def run(*command, **keywords):
    return subprocess.run([str(part) for part in command], check=True, **keywords)


def source_folder():
    WORK.mkdir(parents=True, exist_ok=True)
    if not list(WORK.glob("llama_cpp_python-*.tar.gz")):
        # Only the archive itself as source: what it wants for its metadata may come ready made.
        run(sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python", "-d", WORK, ARCHIVE)
    archive = next(WORK.glob("llama_cpp_python-*.tar.gz"))
    source = WORK / archive.name[: -len(".tar.gz")] / "vendor" / "llama.cpp"
    if not source.exists():
        with tarfile.open(archive) as tar:
            tar.extractall(WORK, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(WORK)
    return source


def build(*programs):
    """The folder with these programs. PEER=DIR names one where they are built already."""
    if option("PEER", ""):
        return pathlib.Path(option("PEER", ""))
    binaries = WORK / "llama" / "bin"
    if all((binaries / program).exists() for program in programs):
        return binaries
    run("cmake", "-S", source_folder(), "-B", WORK / "llama", "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON",
        "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_SERVER=ON",
        "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_BUILD_APP=OFF", "-DBUILD_SHARED_LIBS=OFF")
    run("cmake", "--build", WORK / "llama", "-j", os.cpu_count(), "--target", *programs)
    return binaries


def build_beside(binaries, name):
    """A program of ours over llama.cpp's libraries, bench/peers/NAME.cc; out of PEER where that is given."""
    if option("PEER", ""):
        return binaries / name
    source, program = ROOT / "bench" / "peers" / f"{name}.cc", WORK / name
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    llama, libraries = source_folder(), WORK / "llama"
    run(os.environ.get("CXX", "c++"), "-std=c++17", "-O2", "-I", llama / "include", "-I", llama / "ggml" / "include", source,
        "-o", program, libraries / "src" / "libllama.a", *(libraries / "ggml" / "src" / f"lib{name}.a"
                                                          for name in ("ggml", "ggml-cpu", "ggml-base")),
        "-fopenmp", "-lpthread", "-ldl")
    return program


def default_model():
    folder = pathlib.Path(option("LLAMITA_MODELS", "~/.cache/llamita/models")).expanduser() / "smollm2-135m-instruct"
    if not list(folder.glob("*.gguf")):
        run(ROOT / "build" / "llamita", "pull", "smollm2-135m-instruct")
    return next(folder.glob("*.gguf"))
