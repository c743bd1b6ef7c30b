"""Writes the seeds and regression inputs of the fuzz targets to corpus/: python3 make_corpus.py"""

import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus"


def put(target, name, content):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


# ---- safetensors ----

def safetensors(header, data=b""):
    text = header if isinstance(header, (str, bytes)) else json.dumps(header)
    text = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


good = {"__metadata__": {"format": "pt"}, "a": tensor("F32", [2, 2], 0, 16), "b": tensor("BF16", [3], 16, 22),
        "c": tensor("F16", [1], 22, 24), "d": tensor("F64", [], 24, 32), "e": tensor("I64", [0], 32, 32)}
data = bytes(range(32))
put("safetensors", "good", safetensors(good, data))
put("safetensors", "empty-header", safetensors({}))
put("safetensors", "short", b"\x01\x00")
put("safetensors", "huge-length", struct.pack("<Q", 2**63) + b"{}")
put("safetensors", "not-json", safetensors("tensors: none"))
put("safetensors", "not-an-object", safetensors("[1, 2]"))
put("safetensors", "deep", safetensors('{"a":' + "[" * 3000))
one_byte = json.dumps(tensor("U8", [1], 0, 1))
put("safetensors", "duplicate", safetensors('{"a":%s,"a":%s}' % (one_byte, one_byte), b"x"))
put("safetensors", "overlap", safetensors({"a": tensor("U8", [2], 0, 2), "b": tensor("U8", [2], 1, 3)}, b"xyz"))
put("safetensors", "hole", safetensors({"a": tensor("U8", [1], 0, 1), "b": tensor("U8", [1], 2, 3)}, b"xyz"))
put("safetensors", "rest", safetensors({"a": tensor("U8", [1], 0, 1)}, b"xyz"))
put("safetensors", "overflow", safetensors({"a": tensor("F32", [2**62, 4], 0, 16)}, data[:16]))
put("safetensors", "past-the-end", safetensors({"a": tensor("F32", [4], 2**64 - 16, 2**64 - 1)}, data))
put("safetensors", "negative", safetensors({"a": tensor("F32", [-4], 0, 16)}, data[:16]))
put("safetensors", "no-shape", safetensors({"a": {"dtype": "F32"}}))
put("safetensors", "long-name", safetensors({"n" * 5000: 1}))

# ---- config ----

config = json.loads((CORPUS.parents[2] / "model" / "pretrained" / "config.json").read_text())
put("config", "streaming", json.dumps(config))
put("config", "mamba", json.dumps({
    "model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 16, "layer_norm_epsilon": 1e-5,
    "state_size": 16, "conv_kernel": 4, "expand": 2, "time_step_rank": 4, "use_bias": False, "use_conv_bias": True,
    "hidden_act": "silu"}))
put("config", "smallest", json.dumps(dict(
    config, sample_rate=8000, d_model=8, n_layer=1, d_intermediate=0, vocab_size=2, frame_hop=8, end_padding=0,
    features=dict(config["features"], window_length=16, hop_length=8, fft_length=16, n_mels=8, f_min=0, f_max=4000,
                  log_floor=1e-30),
    stem=dict(kernel=1, stride=1, lookahead=0),
    ssm_cfg=dict(layer="Mamba1", d_state=1, d_conv=2, expand=1, dt_rank=1))))
# The engine's exception for it is no ModelError: a band too narrow for the filters.
put("config", "narrow-band", json.dumps(dict(config, features=dict(config["features"], f_min=7000, f_max=7001))))
put("config", "unknown-type", '{"model_type": "whisper"}')
put("config", "huge-number", json.dumps(dict(config, d_model=10**30)))
put("config", "float-for-int", json.dumps(dict(config, n_layer=12.0)))
put("config", "not-json", "d_model = 256")
# Nested deeper (tests/e2e does), this value overflowed the stack when it was written into a message.
put("config", "deep", '{"model_type": "mamba", "hidden_size": ' + "[" * 5000 + "]" * 5000 + "}")
put("config", "long-token", '{"model_type": "' + "x" * 3000)

# ---- wav_stream: the first byte is 0 to 5 for a raw format ----


def chunk(name, body):
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def wav(fmt, samples, size=None, before=b""):
    return (b"\xffRIFF\0\0\0\0WAVE" + before + chunk(b"fmt ", fmt) + b"data" +
            struct.pack("<I", len(samples) if size is None else size) + samples)


def fmt(tag, channels, rate, bits):
    block = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits)


samples = bytes(range(48))
for bits in (8, 16, 24, 32):
    put("wav_stream", f"pcm{bits}", wav(fmt(1, 1, 16000, bits), samples))
put("wav_stream", "float32", wav(fmt(3, 2, 44100, 32), struct.pack("<4f", 0.5, -0.5, 1, 0)))
put("wav_stream", "float64", wav(fmt(3, 1, 44100, 64), struct.pack("<3d", 0.5, -0.5, 1e300)))
put("wav_stream", "nan", wav(fmt(3, 2, 44100, 32), struct.pack("<4f", 0.5, 0.5, 0.5, float("nan"))))
put("wav_stream", "extensible", wav(fmt(0xFFFE, 1, 16000, 16) + struct.pack("<HHIH", 22, 16, 4, 1) + b"\0" * 14,
                                    samples))
put("wav_stream", "extensible-cut", wav(fmt(0xFFFE, 1, 16000, 16), samples))
put("wav_stream", "list-before", wav(fmt(1, 1, 16000, 16), samples, before=chunk(b"LIST", b"INFOIART\1\0\0\0x")))
put("wav_stream", "unknown-length", wav(fmt(1, 1, 16000, 16), samples, 0xFFFFFFFF))
put("wav_stream", "cut-short", wav(fmt(1, 1, 16000, 16), samples, 1000))
put("wav_stream", "zero-channels", wav(fmt(1, 0, 16000, 16), samples))
put("wav_stream", "many-channels", wav(fmt(1, 65535, 16000, 8)[:12] + struct.pack("<HH", 65535, 8), samples))
put("wav_stream", "zero-rate", wav(fmt(1, 1, 0, 16), samples))
put("wav_stream", "header-cut", wav(fmt(1, 1, 16000, 16), samples)[:30])
put("wav_stream", "zeros", b"\xffRIFF\0\0\0\0WAVE" + b"\0" * 8200)  # 1,025 empty chunks
for kind in range(6):
    put("wav_stream", f"raw{kind}", bytes([kind]) + samples[:47])

# ---- tokens: the first byte and 2 make the vocabulary ----

put("tokens", "good", b"\1<blank> 0\n\xe2\x96\x81THE 1\nS 2\n")
put("tokens", "no-newline", b"\0a 0\nb 1")
put("tokens", "missing", b"\1a 0\nb 1\n")
put("tokens", "twice", b"\0a 0\nb 0\n")
put("tokens", "out-of-range", b"\0a 0\nb 2\n")
put("tokens", "no-id", b"\0a 0\nb\n")
put("tokens", "overflow", b"\0a 0\nb 99999999999999999999\n")
put("tokens", "long-piece", b"\0a 0\n" + b"b" * 65 + b" 1\n")
put("tokens", "crlf", b"\0a 0\r\nb 1\r\n")
