//! Every target on its corpus, on the contract's vectors, and on mutations of both: nothing may panic.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use mastio_core::{Rng, SeededRng};
use mastio_fuzz::TARGETS;
use serde_json::Value;

/// Mutations of each seed. The generator is seeded: a failure repeats.
const MUTATIONS: usize = 200;

/// Every text in the contract's vectors: proofs, tokens, keys, certificates, good and bad.
fn vectors() -> Vec<Vec<u8>> {
    fn collect(value: &Value, into: &mut Vec<Vec<u8>>) {
        match value {
            Value::String(text) => into.push(text.clone().into_bytes()),
            Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
            Value::Object(members) => {
                into.push(value.to_string().into_bytes());
                members.values().for_each(|member| collect(member, into));
            }
            _ => {}
        }
    }
    let mut seeds = Vec::new();
    for file in ["auth-vectors.json", "pki-vectors.json"] {
        let path = format!("{}/../../fixtures/{file}", env!("CARGO_MANIFEST_DIR"));
        collect(&serde_json::from_slice(&fs::read(path).unwrap()).unwrap(), &mut seeds);
    }
    seeds.retain(|seed| seed.len() < 16_384);
    seeds
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let files = fs::read_dir(folder).into_iter().flatten();
    files.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

fn number(rng: &SeededRng, below: usize) -> usize {
    usize::from_le_bytes(rng.bytes()) % below.max(1)
}

/// Flips, cuts, repeats and splices, as a fuzzer would.
fn mutate(seed: &[u8], other: &[u8], rng: &SeededRng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=number(rng, 4) {
        let at = number(rng, bytes.len());
        match number(rng, 6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << number(rng, 8),
            1 if !bytes.is_empty() => bytes[at] = rng.bytes::<1>()[0],
            2 => bytes.truncate(at),
            3 => bytes
                .insert(at.min(bytes.len()), [b'.', b'"', b'{', b'=', 0, 0xff, b'%', b'-'][number(rng, 8)]),
            4 => {
                let end = at + number(rng, bytes.len() - at.min(bytes.len()));
                let piece = bytes[at.min(bytes.len())..end.min(bytes.len())].to_vec();
                bytes.extend(piece);
            }
            _ => {
                bytes.truncate(at);
                bytes.extend(&other[number(rng, other.len())..]);
            }
        }
    }
    bytes
}

#[test]
fn no_target_panics() {
    let vectors = vectors();
    for (name, target) in TARGETS {
        let rng = SeededRng::new(42);
        let seeds: Vec<Vec<u8>> = corpus(name).into_iter().chain(vectors.iter().cloned()).collect();
        for seed in &seeds {
            target(seed);
            for _ in 0..MUTATIONS {
                target(&mutate(seed, &seeds[number(&rng, seeds.len())], &rng));
            }
        }
    }
}
