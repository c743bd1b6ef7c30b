"""Kokoro int8 ONNX -> float32 ONNX ModelProto (same numbers, weights dequantised). load() takes .onnx or .onnx.xz (int8 or f32).
CLI: weights.py IN.onnx[.xz] OUT.onnx"""

import onnx
import numpy as np
import collections
import lzma
import sys
from onnx import numpy_helper as nh, helper as oh


def load(path):
    b = (lzma.open if path.endswith(".xz") else open)(path, "rb").read()
    m = onnx.load_from_string(b)
    g = m.graph
    if not any(n.op_type in ("ConvInteger", "MatMulInteger", "DynamicQuantizeLSTM") for n in g.node):
        return m
    init = {i.name: i for i in g.initializer}
    arr = lambda n: nh.to_array(init[n])
    prod = {o: n for n in g.node for o in n.output}
    cons = collections.defaultdict(list)
    for n in g.node:
        for i in n.input:
            cons[i].append(n)
    dead = set()
    W = set()
    repl = {}

    def put(nm, w):
        g.initializer.append(nh.from_array(np.ascontiguousarray(w, np.float32), nm))
        W.add(nm)

    def deq(q, zp, sc, name, axis):
        if name in W:
            return name
        w, z, s = (arr(k).astype(np.float32) for k in (q, zp, sc))
        sh = [1] * w.ndim
        sh[axis] = -1
        z = z.reshape(()) if z.size == 1 else z.reshape(sh)
        s = s.reshape(()) if s.size == 1 else s.reshape(sh)
        put(name, (w - z) * s)
        return name

    for n in list(g.node):
        if n.op_type in ("ConvInteger", "MatMulInteger"):
            dq = prod[n.input[0]]
            assert dq.op_type == "DynamicQuantizeLinear"
            cast = cons[n.output[0]][0]
            bias = None
            if cast.op_type == "Add":
                add = cast
                r = [i for i in add.input if i != n.output[0]][0]
                rs = prod[r]
                assert rs.op_type == "Reshape"
                bias = rs.input[0]
                assert bias.endswith("_quantized")
                bias = bias[:-10]
                cast = cons[add.output[0]][0]
                dead.add(id(add))
            mul = cons[cast.output[0]][0]
            assert (cast.op_type, mul.op_type) == ("Cast", "Mul")
            q = n.input[1]
            conv = n.op_type == "ConvInteger"
            w = deq(q, n.input[3], q[:-10] + "_scale", q + "_f32", 0 if conv else -1)
            nn = oh.make_node(
                "Conv" if conv else "MatMul", [dq.input[0], w] + ([bias] if bias else []), [mul.output[0]], name=n.name + "_f32"
            )
            if conv:
                nn.attribute.extend(n.attribute)
            repl[id(n)] = nn
            dead |= {id(cast), id(mul)}
        elif n.op_type == "DynamicQuantizeLSTM":
            out = []
            for q, s, z in ((n.input[1], n.input[8], n.input[9]), (n.input[2], n.input[10], n.input[11])):
                nm = q + "_f32"
                if nm not in W:
                    w, ss, zz = (arr(k).astype(np.float32) for k in (q, s, z))
                    if ss.size > 1:
                        sh = (-1, 1, 1) if ss.size == w.shape[0] else (w.shape[0], 1, -1)
                        ss = ss.reshape(sh)
                        zz = zz.reshape(sh)
                    put(nm, ((w - zz) * ss).transpose(0, 2, 1))
                out.append(nm)
            nn = oh.make_node("LSTM", [n.input[0], *out, *n.input[3:8]], list(n.output), name=n.name + "_f32")
            nn.attribute.extend([a for a in n.attribute if a.name in ("direction", "hidden_size")])
            repl[id(n)] = nn
    nodes = [repl.get(id(n), n) for n in g.node if id(n) not in dead]
    while True:
        used = {i for n in nodes for i in n.input} | {o.name for o in g.output}
        k = [n for n in nodes if any(o in used for o in n.output)]
        if len(k) == len(nodes):
            break
        nodes = k
    keep = [i for i in g.initializer if i.name in used]
    av = {i.name for i in keep} | {i.name for i in g.input} | {""}
    todo = nodes
    order = []
    while todo:
        nxt = []
        for n in todo:
            if all(i in av for i in n.input):
                order.append(n)
                av |= set(n.output)
            else:
                nxt.append(n)
        assert len(nxt) < len(todo)
        todo = nxt
    m2 = onnx.ModelProto()
    m2.ir_version = m.ir_version
    m2.opset_import.extend(m.opset_import)
    m2.graph.name = g.name
    m2.graph.input.extend(g.input)
    m2.graph.output.extend(g.output)
    m2.graph.node.extend(order)
    m2.graph.initializer.extend(keep)
    return m2


if __name__ == "__main__":
    onnx.save(load(sys.argv[1]), sys.argv[2])
