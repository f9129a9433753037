#!/usr/bin/env python3
"""make_model.py FILE: a language model of half a megabyte with random weights, as GGUF, for llama.cpp's server.

What it says is nonsense, the same nonsense on every machine. It is a real model all the same: a tokenizer, a template for chats, one layer of
attention, so the server reads prompts, counts tokens, streams, follows grammars and gives embeddings as with any other.

Decided: written byte by byte (GGUF is a header, a list of keys and a list of arrays), so that nothing must be installed for it. The first
dimension of every embedding is the same number and the layer hardly changes it, so the first column of the output matrix is a bias: it
keeps the model to printable letters, and from ending before it is told to.
"""
import array
import random
import struct
import sys

EMBD, HEADS, FF, CONTEXT = 64, 4, 96, 4096
U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6

CHAT = ("{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}")


def vocabulary():
    """Pieces with their score and type: three special ones, every byte, printable letters, some words."""
    pieces = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    pieces += [("<0x%02X>" % b, 0.0, BYTE) for b in range(256)]
    letters = ["\u2581" if c == 32 else chr(c) for c in range(32, 127)]
    pieces += [(c, -1000.0 - i, NORMAL) for i, c in enumerate(letters)]
    words = ["th", "the", "er", "in", "an", "and", "on", "re", "\u2581a", "\u2581t", "\u2581the", "\u2581s"]
    pieces += [(w, -1.0 - i, NORMAL) for i, w in enumerate(words)]
    return pieces


def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def key(name, kind, value):
    if kind == ARRAY:
        of, items = value
        pack = {STRING: text, F32: lambda v: struct.pack("<f", v), I32: lambda v: struct.pack("<i", v)}[of]
        body = struct.pack("<IQ", of, len(items)) + b"".join(pack(v) for v in items)
    elif kind == STRING:
        body = text(value)
    else:
        body = struct.pack({U32: "<I", F32: "<f", BOOL: "<?"}[kind], value)
    return text(name) + struct.pack("<I", kind) + body


def matrix(rng, columns, rows, scale):
    return array.array("f", (rng.gauss(0.0, scale) for _ in range(columns * rows)))


def tensors(pieces):
    rng = random.Random(20261123)
    embd = matrix(rng, EMBD, len(pieces), 0.5)
    out = matrix(rng, EMBD, len(pieces), 0.25)
    for row, (_, _, kind) in enumerate(pieces):
        embd[row * EMBD] = 4.0
        out[row * EMBD] = 1.0 if kind == NORMAL else -10.0
    ones = array.array("f", [1.0] * EMBD)
    return [
        ("token_embd.weight", (EMBD, len(pieces)), embd),
        ("output_norm.weight", (EMBD,), ones),
        ("output.weight", (EMBD, len(pieces)), out),
        ("blk.0.attn_norm.weight", (EMBD,), ones),
        ("blk.0.attn_q.weight", (EMBD, EMBD), matrix(rng, EMBD, EMBD, 0.2)),
        ("blk.0.attn_k.weight", (EMBD, EMBD), matrix(rng, EMBD, EMBD, 0.2)),
        ("blk.0.attn_v.weight", (EMBD, EMBD), matrix(rng, EMBD, EMBD, 0.2)),
        ("blk.0.attn_output.weight", (EMBD, EMBD), matrix(rng, EMBD, EMBD, 0.05)),
        ("blk.0.ffn_norm.weight", (EMBD,), ones),
        ("blk.0.ffn_gate.weight", (EMBD, FF), matrix(rng, EMBD, FF, 0.2)),
        ("blk.0.ffn_up.weight", (EMBD, FF), matrix(rng, EMBD, FF, 0.2)),
        ("blk.0.ffn_down.weight", (FF, EMBD), matrix(rng, FF, EMBD, 0.05)),
    ]


def keys(pieces):
    return [
        key("general.architecture", STRING, "llama"),
        key("general.name", STRING, "goya tiny"),
        key("llama.context_length", U32, CONTEXT),
        key("llama.embedding_length", U32, EMBD),
        key("llama.block_count", U32, 1),
        key("llama.feed_forward_length", U32, FF),
        key("llama.attention.head_count", U32, HEADS),
        key("llama.attention.head_count_kv", U32, HEADS),
        key("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        key("llama.rope.dimension_count", U32, EMBD // HEADS),
        key("tokenizer.ggml.model", STRING, "llama"),
        key("tokenizer.ggml.tokens", ARRAY, (STRING, [p[0] for p in pieces])),
        key("tokenizer.ggml.scores", ARRAY, (F32, [p[1] for p in pieces])),
        key("tokenizer.ggml.token_type", ARRAY, (I32, [p[2] for p in pieces])),
        key("tokenizer.ggml.unknown_token_id", U32, 0),
        key("tokenizer.ggml.bos_token_id", U32, 1),
        key("tokenizer.ggml.eos_token_id", U32, 2),
        key("tokenizer.ggml.add_space_prefix", BOOL, False),
        key("tokenizer.chat_template", STRING, CHAT),
    ]


def padded(data, to=32):
    return data + b"\0" * (-len(data) % to)


def main():
    pieces = vocabulary()
    arrays = tensors(pieces)
    pairs = keys(pieces)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(arrays), len(pairs)) + b"".join(pairs)
    offset, blobs = 0, []
    for name, shape, values in arrays:
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack("<%dQ" % len(shape), *shape) + struct.pack("<IQ", 0, offset)
        if sys.byteorder == "big":
            values.byteswap()
        blobs.append(padded(values.tobytes()))
        offset += len(blobs[-1])
    with open(sys.argv[1], "wb") as f:
        f.write(padded(head) + b"".join(blobs))


if __name__ == "__main__":
    main()
