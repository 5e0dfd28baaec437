//! Results of path validation, kept while the trust state that gave them lasts.

use std::sync::Arc;

use mastio_core::{Stamp, sha256};
use mastio_pki::{Certificate, PathError, ValidPath};

use crate::trust::Trust;

/// Valid paths by the certificates presented.
#[derive(Debug)]
pub(crate) struct PathCache(moka::sync::Cache<[u8; 32], Arc<Known>>);

#[derive(Debug)]
struct Known {
    generation: u64,
    not_before: Stamp,
    path: ValidPath,
}

impl PathCache {
    pub(crate) fn new() -> Self {
        Self(moka::sync::Cache::new(65_536))
    }

    /// The path from `leaf` to an anchor of `trust`. Only good answers are kept: they cost a signature check each.
    pub(crate) fn validate(
        &self,
        trust: &Trust,
        leaf: &Certificate,
        presented: &[Certificate],
        now: Stamp,
    ) -> Result<ValidPath, PathError> {
        let mut all = Vec::with_capacity(32 * (1 + presented.len()));
        for certificate in std::iter::once(leaf).chain(presented) {
            all.extend_from_slice(certificate.thumbprint().as_bytes());
        }
        let key = sha256(&all);
        let known = self.0.get(&key).filter(|known| {
            known.generation == trust.generation && known.not_before <= now && now < known.path.not_after
        });
        if let Some(known) = known {
            return Ok(known.path.clone());
        }
        let path = trust.anchors.validate(leaf, presented, now)?;
        let known = Known { generation: trust.generation, not_before: leaf.not_before(), path: path.clone() };
        self.0.insert(key, Arc::new(known));
        Ok(path)
    }
}
