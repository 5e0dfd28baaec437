"""Rewrites history: changes one entry and computes every hash after it anew, as somebody with the file could.

usage: rebuild.py DATABASE SEQ [tree]    with `tree` the stored Merkle tree is made to fit as well
"""
import hashlib
import sqlite3
import sys

database, changed = sqlite3.connect(sys.argv[1]), int(sys.argv[2])
for (trigger,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
    database.execute(f"DROP TRIGGER {trigger}")

columns = "timestamp, event_type, agent_id, session_id, org_id, result, details, previous_hash, chain_seq, peer_org_id"
previous = None
for row in database.execute(f"SELECT id, {columns} FROM local_audit ORDER BY chain_seq").fetchall():
    key, *fields, stored, seq, peer = row
    details = '{"by":"nobody"}' if seq == changed else fields[6]
    texts = ["v2", *(field or "" for field in fields[:6]), details or "", previous or "genesis"]
    text = "|".join([*texts, f"seq={seq}", f"peer={peer or ''}"])
    digest = hashlib.sha256(text.encode()).hexdigest()
    database.execute(
        "UPDATE local_audit SET details = ?, previous_hash = ?, entry_hash = ? WHERE id = ?",
        (details, previous, digest, key),
    )
    previous = digest

if sys.argv[3:] == ["tree"]:
    node = lambda *parts: hashlib.sha256(b"".join(parts)).digest()
    hashes = [h for (h,) in database.execute("SELECT entry_hash FROM local_audit ORDER BY chain_seq")]
    (size,) = database.execute("SELECT size FROM audit_tree").fetchone()
    level, nodes = 0, [node(b"\0", bytes.fromhex(h)) for h in hashes[:size]]
    while nodes:
        for tile in range(0, len(nodes), 256):
            blob = b"".join(nodes[tile : tile + 256])
            database.execute(
                "UPDATE audit_tiles SET hashes = ? WHERE level = ? AND tile = ?", (blob, level, tile // 256)
            )
        full = [nodes[tile : tile + 256] for tile in range(0, len(nodes) - 255, 256)]
        nodes, level = [], level + 1
        for leaves in full:
            while len(leaves) > 1:
                leaves = [node(b"\1", left, right) for left, right in zip(leaves[::2], leaves[1::2])]
            nodes.append(leaves[0])
database.commit()
