"""Builds cuda/*.cu once into a shared library and loads it: with nvcc for the GPU, or with the C++ compiler (HOST) to run the
same kernels thread by thread on the processor, which is how they are tested where there is no GPU."""
import ctypes
import functools
import glob
import hashlib
import os
import shutil
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


@functools.cache
def library(host=False):
    src = sorted(glob.glob(os.path.join(HERE, "cuda", "*")))
    key = hashlib.sha256(b"".join(open(p, "rb").read() for p in src)).hexdigest()[:16]
    folder = os.environ.get("SIDEWINDER_KERNEL_CACHE", os.path.join(tempfile.gettempdir(), f"sidewinder-kernels-{os.getuid()}"))
    os.makedirs(folder, exist_ok=True)
    out = os.path.join(folder, f"{'host' if host else 'cuda'}-{key}.so")
    if not os.path.exists(out):
        cu = [p for p in src if p.endswith(".cu")]
        tmp = f"{out}.{os.getpid()}"
        if host:
            cmd = ["g++", "-x", "c++", "-std=c++20", "-O2", "-DSIDEWINDER_HOST", "-shared", "-fPIC", "-pthread"]
        else:
            import torch
            major, minor = torch.cuda.get_device_capability()
            nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
            cmd = [nvcc, "-std=c++17", "-O3", f"-arch=sm_{major}{minor}", "--use_fast_math", "-Xcompiler", "-fPIC", "-shared"]
        subprocess.run(cmd + cu + ["-o", tmp], check=True)
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
