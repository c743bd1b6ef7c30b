"""Model folders that can't be used: one line that names the file and the fault, exit code 3, nothing heard."""

import copy
import json
import struct

import media
import pytest
import tiny_model
from program import transcribe

EXIT_MODEL = 3
HEAD = "ctc_head.bias"


def changed_config(**fields):
    config = copy.deepcopy(tiny_model.CONFIG)
    for name, value in fields.items():
        part = config
        *path, last = name.split("__")
        for key in path:
            part = part[key]
        if value is None:
            del part[last]
        else:
            part[last] = value
    return config


def edited(edit):
    tensors = tiny_model.Tensors()
    edit(tensors)
    return tensors.encoded()


def without_head(t):
    del t.entries[HEAD]
    t.data = t.data[:-32]  # it is the last one


def reshaped(t):
    t.entries[HEAD]["shape"] = [4, 2]


def integers(t):
    t.entries[HEAD].update(dtype="I64", shape=[4])


def not_a_number(t):
    begin = t.entries[HEAD]["data_offsets"][0]
    t.data[begin + 4:begin + 8] = struct.pack("<f", float("nan"))


def overlapping(t):
    entry = t.entries["stem.conv1.bias"]
    entry["data_offsets"] = [offset - 4 for offset in entry["data_offsets"]]


def holed(t):
    t.data += bytes(36)
    begin = t.entries[HEAD]["data_offsets"][0]
    t.entries[HEAD]["data_offsets"] = [begin + 4, begin + 36]


def extra(t):
    t.entries["extra"] = {"dtype": "U8", "shape": [3], "data_offsets": [len(t.data), len(t.data) + 3]}
    t.data += b"abc"


def rest(t):
    t.data += b"abc"


def past_the_end(t):
    t.entries[HEAD]["data_offsets"] = [2**64 - 40, 2**64 - 8]


def unknown_type(t):
    t.entries[HEAD]["dtype"] = "F8"


def twice():
    tensors = tiny_model.Tensors()
    header = json.dumps(tensors.entries)
    return tensors.encoded(header[:-1] + f', "{HEAD}": {json.dumps(tensors.entries[HEAD])}}}')


WHOLE = tiny_model.Tensors().encoded()
EXPORT = "export"

# name, arguments of tiny_model.write, the file named, what is wrong, what to do
FOLDERS = [
    ("missing tensor", dict(tensors=edited(without_head)), f'tensor "{HEAD}" is missing', EXPORT),
    ("wrong shape", dict(tensors=edited(reshaped)), f'"{HEAD}" has shape [4, 2], config.json calls for [8]', EXPORT),
    ("wrong type", dict(tensors=edited(integers)), f'tensor "{HEAD}" has shape [4]', EXPORT),
    ("not a number", dict(tensors=edited(not_a_number)), f'"{HEAD}" holds a NaN or an infinity at element 1', EXPORT),
    ("truncated", dict(tensors=WHOLE[:-5]), "file truncated?", "copy or export it again"),
    ("truncated header", dict(tensors=WHOLE[:100]), "the header claims", "copy or export it again"),
    ("overlap", dict(tensors=edited(overlapping)), 'tensor "stem.conv1.bias" overlaps another one', EXPORT),
    ("hole", dict(tensors=edited(holed)), f'there is a hole before tensor "{HEAD}"', EXPORT),
    ("two of one name", dict(tensors=twice()), f'tensor "{HEAD}" is listed twice', EXPORT),
    ("one too many", dict(tensors=edited(extra)), 'tensor "extra" is not one that config.json calls for', EXPORT),
    ("bytes behind", dict(tensors=edited(rest)), "bytes after the last tensor", EXPORT),
    ("past the end", dict(tensors=edited(past_the_end)), "ends at byte 18446744073709551608", EXPORT),
    ("unknown type", dict(tensors=edited(unknown_type)), "has an unknown dtype", EXPORT),
    ("huge header", dict(tensors=struct.pack("<Q", 2**63) + b"{}"), "the header claims 9223372036854775808", EXPORT),
    ("no header", dict(tensors=b"\1\2\3"), "shorter than its 8-byte header length", EXPORT),
    ("header not JSON", dict(tensors=tiny_model.Tensors().encoded("weights")), "the header is not valid JSON", EXPORT),
    ("header a list", dict(tensors=tiny_model.Tensors().encoded("[1]")), "the header is not an object", EXPORT),
    ("header deep", dict(tensors=tiny_model.Tensors().encoded('{"a":' + "[" * 2_000_000)), "nested too deeply", EXPORT),
    ("name of megabytes", dict(tensors=tiny_model.Tensors().encoded('{"%s": 1}' % ("n" * 2_000_000))),
     "must have dtype, shape and data_offsets", EXPORT),
    ("name with newlines", dict(tensors=tiny_model.Tensors().encoded(r'{"a\nb": 1}')), 'tensor "a?b"', EXPORT),
    ("empty weights", dict(tensors=b""), "empty or not a regular file", EXPORT),

    ("missing field", dict(config=changed_config(d_model=None)), '"d_model" is missing', "correct the file"),
    ("bad field", dict(config=changed_config(d_model="wide")), '"d_model" must be an integer', "correct the file"),
    ("bad nested field", dict(config=changed_config(ssm_cfg__expand=0)), '"ssm_cfg.expand" must be an integer from 1',
     "correct the file"),
    ("huge field", dict(config=changed_config(n_layer=10**30)), '"n_layer" must be an integer from 1 to 256', EXPORT),
    ("unknown kind", dict(config=changed_config(model_type="whisper")), '"model_type" must be', "correct the file"),
    ("bare backbone", dict(config={"model_type": "mamba", "hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 8,
                                   "layer_norm_epsilon": 1e-5, "state_size": 8, "conv_kernel": 4, "expand": 2,
                                   "time_step_rank": 8}), "bare backbone", "streaming-mamba-ctc"),
    ("other features", dict(config=changed_config(features__window="hann")), '"features.window" must be',
     "correct the file"),
    ("frame hop", dict(config=changed_config(frame_hop=320)), '"frame_hop" must be', "correct the file"),
    ("config not JSON", dict(config="d_model = 8\n"), "config.json: not valid JSON (parse error at line 1", EXPORT),
    ("config a list", dict(config="[]"), "must be an object", EXPORT),
    ("config empty", dict(config=""), "config.json: not valid JSON", EXPORT),
    ("config deep", dict(config='{"model_type": "mamba", "hidden_size": ' + "[" * 300_000 + "]" * 300_000 + "}"),
     "nested too deeply", EXPORT),
    ("config huge", dict(config=" " * 2**21), "larger than 1 MiB", "not a model's config.json"),

    ("token missing", dict(tokens=tiny_model.TOKENS.replace("ER 6\n", "")), "id 6 is missing", "vocab_size"),
    ("token twice", dict(tokens=tiny_model.TOKENS.replace("ER 6", "ER 5")), "id 5 is listed twice", EXPORT),
    ("token out of range", dict(tokens=tiny_model.TOKENS + "X 8\n"), "integer from 0 to 7", EXPORT),
    ("token no number", dict(tokens=tiny_model.TOKENS.replace("ER 6", "ER six")), "tokens.txt:7: the id must be", EXPORT),
    ("token without id", dict(tokens=tiny_model.TOKENS.replace("ER 6", "ER")), "must be a piece, a space and its id",
     EXPORT),
    ("token long", dict(tokens=tiny_model.TOKENS.replace("ER 6", "E" * 65 + " 6")), "longer than 64 bytes", EXPORT),
]


def file_named(changes):
    return {"config": "config.json", "tensors": "model.safetensors", "tokens": "tokens.txt"}[next(iter(changes))]


@pytest.mark.parametrize("changes, wrong, advice", [case[1:] for case in FOLDERS], ids=[case[0] for case in FOLDERS])
def test_damaged_folder(tmp_path, good, changes, wrong, advice):
    folder = tiny_model.write(tmp_path / "model", **changes)
    result = transcribe(good, "--model", folder).fails(EXIT_MODEL, folder / file_named(changes), wrong, advice)
    assert result.out == ""
    assert len(result.err) < 700, "a line that a terminal can show"


def test_the_undamaged_folder_is_good(tiny, good):
    """Else the tests above would show nothing."""
    assert transcribe(good, "--model", tiny).succeeds().out != ""


@pytest.mark.parametrize("dtype, size", [("F16", 2), ("BF16", 2)])
def test_half_precision_weights_are_good(tmp_path, good, dtype, size):
    tensors = tiny_model.Tensors()
    data = bytearray()
    for entry in tensors.entries.values():
        begin, end = entry["data_offsets"]
        values = struct.unpack(f"<{(end - begin) // 4}f", tensors.data[begin:end])
        start = len(data)
        for value in values:
            data += struct.pack("<e", value) if dtype == "F16" else struct.pack("<f", value)[2:]
        entry.update(dtype=dtype, data_offsets=[start, len(data)])
    tensors.data = data
    folder = tiny_model.write(tmp_path / "model", tensors=tensors.encoded())
    transcribe(good, "--model", folder).succeeds()


def test_wrong_type_of_the_right_shape(tmp_path, good):
    def eight_integers(t):
        t.entries[HEAD].update(dtype="I64", data_offsets=[len(t.data) - 32, len(t.data) + 32])
        t.data += bytes(32)

    folder = tiny_model.write(tmp_path / "model", tensors=edited(eight_integers))
    transcribe(good, "--model", folder).fails(EXIT_MODEL, f'"{HEAD}" is of type I64', "must be F32, F16 or BF16")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokens.txt"])
def test_file_missing_or_a_folder(tmp_path, good, name):
    folder = tiny_model.write(tmp_path / "model")
    (folder / name).unlink()
    transcribe(good, "--model", folder).fails(EXIT_MODEL, folder / name, "No such file", "check the path")
    (folder / name).mkdir()
    transcribe(good, "--model", folder).fails(EXIT_MODEL, folder / name)


def test_no_folder(tmp_path, good):
    for folder in (tmp_path / "none", good):
        transcribe(good, "--model", folder).fails(EXIT_MODEL, folder / "config.json", "a model folder holds config.json")


def test_rate_out_of_the_resamplers_reach(tmp_path, store, good):
    """A model of 8 kHz can't be fed from 192 kHz in one step; the other file still finishes."""
    config = changed_config(sample_rate=8000, features__f_max=3800.0)
    folder = tiny_model.write(tmp_path / "model", config=config)
    fast = store("fast.wav", media.wav(bytes(64000), rate=192000))
    result = transcribe(fast, good, "--model", folder).fails(1, f"{fast}: ", "192000 Hz")
    assert f"== {good} ==" in result.out
