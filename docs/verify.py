#!/usr/bin/env python3
"""Verifies an evidence bundle of a Mastio without any of its code: needs Python 3.11, `cryptography` and `openssl`.
Exits with 0 if it verifies, 1 if it cannot be read, 2 if it does not verify: then the first check that fails is named."""
import argparse, base64, contextlib, datetime, gzip, hashlib, json, os, re, subprocess, sys, tarfile, tempfile
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
ALWAYS = "manifest.json events.ndjson chain-proof.json checkpoint.txt log-key.json signing-cert.pem ca-chain.pem".split()
STAMP, SECOND = ["tsa-reply.tsr", "tsa-chain.pem"], datetime.timedelta(seconds=1)
MAX_KEPT, MAX_LINE, MAX_PADDING = 256 * 1024, 256 * 1024, 20 * 512  # bytes: a small file, an entry, zeros at the end
MEMBERS = sorted("kind id timestamp event_type agent_id session_id org_id result details entry_hash previous_hash "
                 "chain_seq peer_org_id peer_row_hash principal_type hash_format actor prev_hash hash".split())
@contextlib.contextmanager
def check(name):  # one check: whatever goes wrong in it is its failure
    said = []
    try:
        yield said.append
    except Exception as error:
        sys.exit(print(f"✗ {name}: {plain(str(error)) or type(error).__name__}") or 2)
    print(f"✓ {name}: " + f"\n– {name}: ".join(map(plain, said)))
def need(condition, why):
    if not condition: raise ValueError(why)
def plain(text): return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)  # nothing for the terminal to obey
def load(text): return json.loads(text, object_pairs_hook=lambda p: need(len(dict(p)) == len(p), "a member is there twice") or dict(p))
def time(text): return datetime.datetime.fromisoformat(text).astimezone(datetime.timezone.utc)
def sha256(*parts): return hashlib.sha256(b"".join(parts)).digest()
def b64(text, others=None): return base64.b64decode(text + "=" * (-len(text) % 4) if others else text, altchars=others, validate=True)
def openssl(why, *arguments):
    ran = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    return need(ran.returncode == 0, f"{why} (openssl: {ran.stderr.strip() or ran.stdout})") or ran.stdout
def entry(line, last, org):  # the entry of a line, if it follows from the one before
    e = need(len(line) <= MAX_LINE, f"it is longer than {MAX_LINE} bytes") or load(line)
    same = type(e["id"]) is int, e["actor"] == e["agent_id"], e["hash"] == e["entry_hash"], e["prev_hash"] == e["previous_hash"]
    need(sorted(e) == MEMBERS and e["kind"] == "entry" and all(same) and e["org_id"] == org, "it contradicts itself")
    e["cut"] = any(re.search(r"[|\0-\x1f\x7f-\x9f]", str(e[name])) for name in MEMBERS if name != "details")
    need(e["peer_row_hash"] is e["principal_type"] is None and e["hash_format"] in (None, "v1", "v2"), "unknown form")
    need(not last or (e["chain_seq"], e["previous_hash"]) == (last["chain_seq"] + 1, last["entry_hash"]), "no link")
    need((e["chain_seq"] == 1) == (e["previous_hash"] is None), "only the first entry of a chain links to nothing")
    for timestamp in (e["timestamp"], time(e["timestamp"]).isoformat()):
        fields = ["v2" if e["hash_format"] == "v2" else str(e["id"]), timestamp, e["event_type"], e["agent_id"],
                  e["session_id"], e["org_id"], e["result"], e["details"], e["previous_hash"] or "genesis",
                  f"seq={e['chain_seq']}", f"peer={e['peer_org_id'] or ''}"]
        if sha256("|".join(field or "" for field in fields).encode()).hex() == e["entry_hash"]: return e
    need(False, "its content does not have its hash")
def walk(lines, org):  # digest, first and last, how many, where the clock went back, which are ambiguous, and the first problem
    digest, first, last, count, newest, back, cut, problem = hashlib.sha256(), None, None, 0, None, [], [], None
    for count, line in enumerate(lines, 1):
        digest.update(line)
        try:
            last = last if problem else entry(line, last, org)
            first, at = first or last, time(last["timestamp"])
            if last["cut"]: cut.append((last["chain_seq"], last["hash_format"] == "v2" and at.timestamp()))
            if (by := (newest := max(newest or at, at)) - at) > 60 * SECOND: back.append((by // SECOND, last["chain_seq"]))
        except Exception as error:
            problem = f"line {count}: {error or type(error).__name__}"
    return digest.hexdigest(), first, last, count, back, cut, problem or (None if count else "there are no entries")
def lines(stream, size):  # one that is too long is no entry, and comes in parts
    while size and (line := stream.readline(min(size, MAX_LINE + 1))):
        size -= len(line)
        yield line
    need(not size, "it ends in the middle of a file")
def read(path, folder):  # plain files with the known names: a header of any other kind is not followed
    files, events = {}, None
    with gzip.open(path) as stream:
        while (header := stream.read(512)).strip(b"\0"):
            member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
            name, size, place = member.name, member.size, ALWAYS[1:] + STAMP if files else ALWAYS[:1]
            need(member.type in b"0\0" and name in place and name not in files, f"{name} does not belong there")
            limit = MAX_LINE * int(load(files["manifest.json"])["entries"]) if name == "events.ndjson" else MAX_KEPT
            need(0 <= size <= limit, f"{name} is larger than {limit} bytes")
            content = lines(stream, size)
            events = walk(content, load(files["manifest.json"])["org_id"]) if name == "events.ndjson" else events
            files[name] = b"".join(content)
            open(f"{folder}/{name}", "wb").write(files[name])
            stream.read(-size % 512)
        rest = stream.read(MAX_PADDING + 1)
        need(len(rest) <= MAX_PADDING and not rest.strip(b"\0"), "something follows its last file")
    return need(set(ALWAYS) <= set(files), f"{set(ALWAYS) - set(files)} is missing") or (files, events)
def announce(key, cert, org):  # when the Mastio announced the log key (a JWS with ES256), and since when that signs
    head, claims, signature = key["announcement"].split(".")
    header, raw = load(b64(head, "-_")), b64(signature, "-_")
    need((header["alg"], header["typ"], len(raw)) == ("ES256", "mastio-log-key+jwt", 64), "not an announcement")
    raw = utils.encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    cert.public_key().verify(raw, f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
    said = [(claims := load(b64(claims, "-_")))["iss"], claims["origin"], claims["vkey"], claims["base_seq"]]
    need(said == [org, key["origin"], key["vkey"], key["base_seq"]], "another key was announced, or for another log")
    return claims["iat"], claims.get("since", claims["iat"])
def signed_tree(note, vkey):  # size and root of a checkpoint (C2SP tlog-checkpoint), if the key signed it (C2SP signed-note)
    name, key_id, material = vkey.split("+", 2)
    own, text = sha256(name.encode(), b"\n", b64(material))[:4], note.partition("\n\n")[0] + "\n"
    need((b64(material)[:1], own.hex()) == (b"\1", key_id), "not the key of a log")
    lines = (line.split(" ") for line in note[len(text) + 1:].splitlines())
    mine = [b64(line[2]) for line in lines if line[1] == name and b64(line[2])[:4] == own]
    need(len(mine) == 1, f"no signature by {vkey}")
    ed25519.Ed25519PublicKey.from_public_bytes(b64(material)[1:]).verify(mine[0][4:], text.encode())
    origin, size, root = text.splitlines()
    return need(origin == name, "it is of another log") or (int(size), b64(root))
def root_of(leaf, fn, size, path):  # the root that an inclusion proof leads to (RFC 9162 §2.1.3.2)
    sn, r = size - 1, sha256(b"\0", leaf)
    for p in path:
        need(sn > 0, "the proof is too long")
        left = fn & 1 or fn == sn
        r = sha256(b"\1", p, r) if left else sha256(b"\1", r, p)
        while left and not fn & 1 and fn: fn, sn = fn >> 1, sn >> 1
        fn, sn = fn >> 1, sn >> 1
    return need(sn == 0, "the proof is too short") or r
def time_stamp(folder, last, cert, root):
    reply, chain = (f"{folder}/{name}" for name in STAMP)
    with check("TSA signature") as say:  # the time is read from the token alone: other words of a reply are not signed
        need(os.path.exists(reply), "there is no time stamp")
        openssl("it is no time stamp", "ts", "-reply", "-in", reply, "-token_out", "-out", f"{folder}/token")
        text = openssl("it is no time stamp", "ts", "-reply", "-in", f"{folder}/token", "-token_in", "-text")
        found = " ".join(re.search(r"^Time stamp: (\w+ +\d+ [\d:]+)(?:\.\d+)? (\d{4}) GMT$", text, re.M).groups())
        at = datetime.datetime.strptime(found + "+0000", "%b %d %H:%M:%S %Y%z")
        wanted = ["ts", "-verify", "-digest", last["entry_hash"], "-in", reply, "-CAfile", root or chain, "-untrusted", chain, "-partial_chain"]
        openssl("not over the last entry, or not by an authority below the root", *wanted, "-no_check_time")
        say(f"the hash of the last entry was stamped at {at}")
        root or say("not checked: whether that is an authority you trust: pass its root with --tsa-root")
    with check("TSA time after last event") as say:
        by, event = (time(last["timestamp"]) - at) / SECOND, last["timestamp"]
        need(by <= 60, f"it is of {at}, and the last event of {event}: a clock was wrong")
        say(f"{at} is {by:.3f} s before {event}: clocks may differ by 60 s" if by > 0 else f"{at} is not before {event}")
    with check("signing cert valid at TSA time") as say:
        openssl("that of the authority was not", *wanted, "-attime", str(int(at.timestamp())))
        own = cert.not_valid_before_utc <= at < cert.not_valid_after_utc + SECOND
        say("that of the authority was, " + ("and so was the Mastio's" if own else "the Mastio's was when it announced the key"))
def verify(options, folder):
    with check("archive") as say:
        files, (digest, first, last, count, back, cut, problem) = read(options.bundle, folder)
        say(f"{len(files)} files")
    with check("manifest digest") as say:
        manifest = load(files["manifest.json"])
        need((manifest["format"], manifest["sha256"]) == ("mastio-audit-bundle/1", digest), "events.ndjson was changed")
        need({name: sha256(files[name]).hex() for name in files if name not in ALWAYS[:2]} == manifest["files"],
             "another file than events.ndjson was changed")
        say(f"{len(files) - 1} files are as the manifest says")
    with check("chain walk") as say:
        need(not problem, problem)
        say(f"{count} entr{'y' if count == 1 else 'ies'}: every hash and every link holds")
        back and say(f"the clock was set back: {len(back)} entr{'y' if len(back) == 1 else 'ies'} from {back[0][1]} on {'is' if len(back) == 1 else 'are'} dated up to {max(back)[0]} s before an earlier one")
        cut and say(f"{len(cut)} entr{'y' if len(cut) == 1 else 'ies'} from {cut[0][0]} on hold{'s' if len(cut) == 1 else ''} `|` outside their details: their columns may have been cut elsewhere")
    ends = {"head": ("first", first, manifest["start"], first["timestamp"], {"previous_hash": first["previous_hash"]}),
            "tail": ("last", last, last["timestamp"], manifest["end"], {"entries": count, "created": last["timestamp"]})}
    for name, (end, e, earlier, later, more) in ends.items():
        with check(name) as say:
            ids = {"id": f"{e['org_id']}:{e['chain_seq']}", "seq": e["chain_seq"], "hash": e["entry_hash"]}
            more |= {f"{end}_{name}": value for name, value in ids.items()}
            need(all(manifest[member] == value for member, value in more.items()), "the manifest says otherwise")
            need(time(earlier) <= time(later), "it is not in the range")
            say(f"entry {e['chain_seq']} of {e['timestamp']}")
    with check("log key") as say:
        key, org = load(files["log-key.json"]), manifest["org_id"]
        at, since = announce(key, cert := x509.load_pem_x509_certificate(files["signing-cert.pem"]), org)
        need(all(when < since for _, when in cut), "an entry from after that has columns that can be cut elsewhere")
        say(f"{key['vkey']} is announced by the Mastio of {org}")
    with check("signing certificate") as say:
        uris = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.UniformResourceIdentifier)
        mine = re.fullmatch(f"spiffe://[^/,]+/proxy/{re.escape(org)}", ",".join(uris))
        need(mine and f"CN=proxy:{org}" in cert.subject.rfc4514_string().split(","), "it is not the Mastio's")
        root, *above = x509.load_pem_x509_certificates(files["ca-chain.pem"])  # the links among these lead on from older roots
        open(f"{folder}/above.pem", "wb").write(b"".join(ca.public_bytes(serialization.Encoding.PEM) for ca in above))
        wanted = f"-no-CApath -no-CAstore -attime {at} -purpose sslserver -show_chain -untrusted".split()
        path = openssl("it does not lead to the root that is trusted", "verify", *wanted, f"{folder}/above.pem",
                       "-CAfile", options.ca_root or f"{folder}/ca-chain.pem", f"{folder}/signing-cert.pem").splitlines()[-1].partition(": ")[2]
        say(f"{cert.subject.rfc4514_string()} leads to {path}")
        options.ca_root or say(f"not checked: whether {root.fingerprint(hashes.SHA256()).hex()} is the organisation's root: pass --ca-root")
    with check("checkpoint signature") as say:
        size, root = signed_tree(files["checkpoint.txt"].decode(), key["vkey"])
        say(f"{size} entr{'y' if size == 1 else 'ies'} with root {root.hex()}")
    with check("inclusion") as say:
        proof, base = load(files["chain-proof.json"]), key["base_seq"]
        named = [proof[name] for name in ("origin", "base_seq", "tree_size", "root_hash")]
        need(named == [key["origin"], base, size, base64.b64encode(root).decode()], "it is for another tree")
        for e, p in ((first, proof["first"]), (last, proof["last"])):
            if p or e is last or e["chain_seq"] >= base:
                need([p["seq"], p["leaf_index"]] == [e["chain_seq"], e["chain_seq"] - base], "it is of another entry")
                leads_to = root_of(bytes.fromhex(e["entry_hash"]), p["leaf_index"], size, map(b64, p["path"]))
                need(leads_to == root, f"{p['seq']} is not in the tree")
        mark, follows = proof["archived"], [first["chain_seq"] - 1, first["previous_hash"]]
        need(not mark or [mark["archived_through"], mark["head_hash"]] == follows, "it follows another archive")
        say(f"entries {first['chain_seq']} and {last['chain_seq']} are in the checkpoint's tree")
    if before := proof.get("handed_over"):
        with check("hand-over") as say:
            say(f"{len(before)} name{'' if len(before) == 1 else 's'} of the log before {key['origin']}")
            for h, after in zip(before, [*before[1:], key]):
                need(h["new_origin"] == after["origin"], f"{h['origin']} was not handed over to {after['origin']}")
                lost = h["told"] or dict.fromkeys(("first", "last", "seq"), "(told in an archive)") | {"last_checkpoint": ""}
                lost["last_checkpoint"].startswith(h["origin"] + "\n") and signed_tree(lost["last_checkpoint"], h["vkey"])
                say("{} goes on as {} after a restore: entries {first} to {last} of it are lost, see audit.restored, "
                    "entry {seq}".format(h["origin"], after["origin"], **lost))
    if STAMP[0] in files or options.require_timestamp: return time_stamp(folder, last, cert, options.tsa_root)
    print("– TSA signature: not checked: there is no time stamp")
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    for name, whose in (("--ca-root", "the organisation"), ("--tsa-root", "the time stamping authority")):
        parser.add_argument(name, metavar="PEM", help=f"the root of {whose}, from elsewhere")
    parser.add_argument("--require-timestamp", action="store_true", help="fail where there is no time stamp")
    os.access((arguments := parser.parse_args()).bundle, os.R_OK) or sys.exit(f"{plain(arguments.bundle)} cannot be read")
    with tempfile.TemporaryDirectory() as scratch: verify(arguments, scratch)
