"""Reads a public log as any tlog client does: checkpoint, entries, tiles. Standard library and cryptography alone.

usage: tlog.py PREFIX VKEY    prints the size of the tree when every root and signature agrees
"""
import base64
import hashlib
import sys
import urllib.request

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def get(path):
    with urllib.request.urlopen(f"{sys.argv[1]}/{path}", timeout=30) as answer:
        return answer.read()


def leaf(data):
    return hashlib.sha256(b"\0" + data).digest()


def root(hashes):
    """RFC 6962 section 2.1 over leaf hashes."""
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << ((len(hashes) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + root(hashes[:split]) + root(hashes[split:])).digest()


def place(number):
    groups = [f"{number % 1000:03}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03}")
    return "/".join(groups)


def all_of(kind, count):
    for index in range(0, count, 256):
        width = min(256, count - index)
        yield get(f"tile/{kind}/{place(index // 256)}" + ("" if width == 256 else f".p/{width}")), width


def verified(note, vkey):
    name, key_id, material = vkey.split("+", 2)
    text, signatures = note.split("\n\n", 1)
    origin, size, expected = text.split("\n")[:3]
    assert origin == name, origin
    line = signatures.split("\n")[0].removeprefix("\u2014 ").split(" ")
    assert line[0] == name, line
    signature, public = base64.b64decode(line[1]), base64.b64decode(material)
    assert signature[:4].hex() == key_id and public[0] == 1
    Ed25519PublicKey.from_public_bytes(public[1:]).verify(signature[4:], (text + "\n").encode())
    return int(size), base64.b64decode(expected)


def main():
    size, expected = verified(get("checkpoint").decode(), sys.argv[2])
    entries = []
    for bundle, width in all_of("entries", size):
        assert len(bundle) == 34 * width and all(bundle[at:at + 2] == b"\0\x20" for at in range(0, len(bundle), 34))
        entries += [bundle[at + 2:at + 34] for at in range(0, len(bundle), 34)]
    leaves = [leaf(entry) for entry in entries]
    tiles = [tile[at:at + 32] for tile, _ in all_of(0, size) for at in range(0, len(tile), 32)]
    assert leaves == tiles, "level 0 is not over the entries"
    above = [root(leaves[at:at + 256]) for at in range(0, size - size % 256, 256)]
    tiles = [tile[at:at + 32] for tile, _ in all_of(1, len(above)) for at in range(0, len(tile), 32)]
    assert above == tiles, "level 1 is not over level 0"
    assert root(leaves) == expected, "the checkpoint has another root"
    print(size)


main()
