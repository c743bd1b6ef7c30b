"""Builds the kernels once into a shared library and loads it. `kind` is
    cuda  cuda/*.cu with nvcc, for the GPU
    host  the same with the C++ compiler, thread by thread on the processor: how they are tested where there is no GPU
    cpu   cpu/*.cpp, made for the processor: what trains there (the scan in float32; PyTorch does the rest)"""
import ctypes
import functools
import glob
import hashlib
import os
import shutil
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


HOST = ["g++", "-x", "c++", "-std=c++20", "-O2", "-DSIDEWINDER_HOST", "-shared", "-fPIC", "-pthread"]
CPU = ["g++", "-std=c++20", "-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC"]


def nvcc():
    import torch
    major, minor = torch.cuda.get_device_capability()
    program = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    return [program, "-std=c++17", "-O3", f"-arch=sm_{major}{minor}", "--use_fast_math", "-Xcompiler", "-fPIC", "-shared"]


@functools.cache
def library(kind):
    src = sorted(glob.glob(os.path.join(HERE, "cpu" if kind == "cpu" else "cuda", "*")))
    key = hashlib.sha256(b"".join(open(p, "rb").read() for p in src)).hexdigest()[:16]
    folder = os.environ.get("SIDEWINDER_KERNEL_CACHE", os.path.join(tempfile.gettempdir(), f"sidewinder-kernels-{os.getuid()}"))
    os.makedirs(folder, exist_ok=True)
    out = os.path.join(folder, f"{kind}-{key}.so")
    if not os.path.exists(out):
        compiler = {"cuda": nvcc, "host": lambda: HOST, "cpu": lambda: CPU}[kind]()
        tmp = f"{out}.{os.getpid()}"
        subprocess.run([*compiler, *(p for p in src if not p.endswith(".h")), "-o", tmp], check=True)
        os.replace(tmp, out)
    return ctypes.CDLL(out)


def stream(tensor):
    import torch
    return ctypes.c_void_p(torch.cuda.current_stream(tensor.device).cuda_stream if tensor.is_cuda else 0)


def ptr(t):
    return ctypes.c_void_p(0 if t is None else t.data_ptr())


def check(code, name):
    if code:
        raise RuntimeError(f"{name}: CUDA error {code}")
