//! Randomness as a parameter.

use std::sync::Mutex;

use crate::sha256;

/// A source of unpredictable bytes.
pub trait Rng: Send + Sync {
    /// Fills the buffer.
    fn fill(&self, buffer: &mut [u8]);

    /// `N` bytes.
    fn bytes<const N: usize>(&self) -> [u8; N]
    where
        Self: Sized,
    {
        let mut buffer = [0; N];
        self.fill(&mut buffer);
        buffer
    }

    /// A version 4 UUID (RFC 9562).
    fn uuid(&self) -> uuid::Uuid {
        let mut raw = [0; 16];
        self.fill(&mut raw);
        uuid::Builder::from_random_bytes(raw).into_uuid()
    }
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's generator")]
    #[expect(clippy::expect_used, reason = "without randomness no key may be made: there is no way on")]
    fn fill(&self, buffer: &mut [u8]) {
        aws_lc_rs::rand::fill(buffer).expect("the system's random generator failed");
    }
}

/// A repeatable generator for tests: SHA-256 in counter mode. Never use it for a key that matters.
#[derive(Debug)]
pub struct SeededRng(Mutex<(u64, u64)>);

impl SeededRng {
    /// The stream that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new((seed, 0)))
    }
}

impl Rng for SeededRng {
    fn fill(&self, buffer: &mut [u8]) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in buffer.chunks_mut(32) {
            let block = sha256(&[state.0.to_be_bytes(), state.1.to_be_bytes()].concat());
            state.1 += 1;
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}
