//! What proves the entries of a bundle.

use mastio_authority::Outage;
use mastio_bundle::{
    Evidence, Stamped, Surveyed,
    format::{ChainProof, Consistency, Digest, HandOver, Inclusion, LogKey, Lost, Mark, Node},
};
use mastio_core::{Kid, OrgId, Stamp, hash_from_hex};
use mastio_jose::Compact;
use mastio_pki::pem;
use mastio_store::{
    audit::{archive, evidence, origins},
    keys,
    sqlite::Database,
};
use mastio_timestamp::{Token, tsr_of};

use super::{BundleError, Question, Stamping};
use crate::{Ledger, anchor::AnchorError, log_key};

/// The key of the log, and whose word it is.
#[derive(Debug)]
pub struct AnnouncedKey {
    /// The key with its announcement.
    pub log_key: LogKey,
    /// The certificate of the key that announced it, as PEM.
    pub certificate: String,
}

impl Ledger {
    /// The oldest checkpoint that has the last entry and that a witness cosigned, or else the oldest that has it, so that the same entries are proved in the same way each time.
    pub(super) async fn proved(
        &self,
        surveyed: &Surveyed,
        question: &Question,
    ) -> Result<Evidence, BundleError> {
        if self.authority.trust().root.path_len() == Some(0) {
            return Err(BundleError::LegacyRoot);
        }
        let (first, last) = (surveyed.first_seq(), surveyed.last_seq());
        let stamped = self.stamped(last, question.stamping).await?;
        let key = self.log_key().await?;
        if let Some(seq) = surveyed.recut_since(Stamp::from_unix(key.started_at.unix())) {
            return Err(BundleError::Ambiguous(seq));
        }
        let checkpoint = match question.against_size {
            // What was saved may be newer than what the entries need.
            Some(size) => {
                let covering = self.checkpoint_covering(last).await?;
                if covering.head().size >= size {
                    covering
                } else {
                    self.consistency(size, None).await?.checkpoint
                }
            }
            None => self.checkpoint_covering(last).await?,
        };
        let head = checkpoint.head();
        let first = match first >= key.base_seq {
            true => Some(Inclusion::new(first, &self.prove(first, Some(head.size)).await?.inclusion)),
            false => None,
        };
        let last = Inclusion::new(last, &self.prove(last, Some(head.size)).await?.inclusion);
        let consistency = match question.against_size {
            Some(size) => Some(Consistency::from(&self.consistency(size, Some(head.size)).await?.proof)),
            None => None,
        };
        let (org, announcement) = (self.authority.trust().org.clone(), key.announcement.clone());
        let first_seq = surveyed.first_seq();
        let beside =
            self.reading(move |database| Beside::read(database, &org, first_seq, &announcement)).await?;
        let origin = key.origin().to_string();
        let log_key = announced(&key, beside.announced_seq);
        let signatory = [pem::first_certificate(&beside.signing_cert).map_err(Outage::internal)?];
        Ok(Evidence {
            chain_proof: ChainProof {
                origin,
                base_seq: key.base_seq,
                tree_size: head.size,
                root_hash: Node(head.root),
                first,
                last,
                consistency,
                archived: beside.archived,
                handed_over: beside.handed_over,
            },
            checkpoint: checkpoint.note,
            log_key,
            signing_cert: beside.signing_cert,
            ca_chain: self.authority.trust().evidence_chain(&signatory),
            stamped,
        })
    }

    /// The key of the log with its announcement, and the certificate of the key that announced it.
    ///
    /// # Errors
    /// [`BundleError`].
    pub async fn announced_key(&self) -> Result<AnnouncedKey, BundleError> {
        let (key, org) = (self.log_key().await?, self.authority.trust().org.clone());
        let read = self.reading(move |database| {
            let seq = evidence::log_key_announced(database, &org)?.map_or(0, i64::cast_unsigned);
            let certificate = signing_cert(database, &key.announcement)?;
            Ok::<_, BundleError>(AnnouncedKey { log_key: announced(&key, seq), certificate })
        });
        read.await
    }

    /// The time stamp over the entry `seq`.
    async fn stamped(&self, seq: u64, stamping: Stamping) -> Result<Option<Stamped>, BundleError> {
        if stamping == Stamping::None {
            return Ok(None);
        }
        let anchor = match self.stamp(seq.cast_signed()).await {
            Ok(anchor) => anchor,
            Err(AnchorError::Off) if stamping == Stamping::IfPossible => return Ok(None),
            Err(error) if stamping == Stamping::Require => return Err(BundleError::Stamp(error)),
            Err(error) => {
                tracing::warn!(%error, seq, "a bundle goes out without a time stamp");
                return Ok(None);
            }
        };
        let token = Token::from_der(anchor.token).map_err(Outage::internal)?;
        let chain = anchor.tsa_cert_chain.unwrap_or_default();
        Ok(Some(Stamped { reply: tsr_of(&token), chain }))
    }
}

/// What the database has beside entries and tree.
struct Beside {
    signing_cert: String,
    announced_seq: u64,
    archived: Option<Mark>,
    handed_over: Vec<HandOver>,
}

impl Beside {
    fn read(database: &Database, org: &OrgId, first: u64, announcement: &str) -> Result<Self, BundleError> {
        let announced = evidence::log_key_announced(database, org)?;
        Ok(Self {
            signing_cert: signing_cert(database, announcement)?,
            announced_seq: announced.map_or(0, i64::cast_unsigned),
            archived: match archive::ending_before(database, org, first.cast_signed())? {
                Some(mark) => Some(read_mark(&mark)?),
                None => None,
            },
            handed_over: handed_over(database, org)?,
        })
    }
}

fn announced(key: &log_key::LogKey, announced_seq: u64) -> LogKey {
    LogKey {
        origin: key.origin().to_string(),
        vkey: key.vkey().to_string(),
        base_seq: key.base_seq,
        announcement: key.announcement.clone(),
        announced_seq,
    }
}

/// Every name that the log had before, with what was lost when it was given up.
fn handed_over(database: &Database, org: &OrgId) -> Result<Vec<HandOver>, BundleError> {
    let generations: Vec<_> = origins::all(database)?.into_iter().rev().map(|row| row.vkey).collect();
    if generations.len() < 2 {
        return Ok(Vec::new());
    }
    let restores = evidence::restores(database, org.as_str())?;
    let lost = |origin: &str| {
        let told = restores.iter().find(|restore| restore.origin == origin)?;
        let (seq, first, last) = (told.seq, told.lost_first, told.lost_last);
        Some(Lost { seq, first, last, last_checkpoint: told.last_checkpoint.clone() })
    };
    let pairs = generations.iter().zip(&generations[1..]);
    Ok(pairs
        .map(|(before, next)| HandOver {
            origin: before.name().to_string(),
            vkey: before.to_string(),
            new_origin: next.name().to_string(),
            told: lost(before.name().as_str()),
        })
        .collect())
}

/// The certificate of the key that the announcement names.
fn signing_cert(database: &Database, announcement: &str) -> Result<String, BundleError> {
    let compact = Compact::split(announcement).map_err(Outage::internal)?;
    let header = compact.header().map_err(Outage::internal)?;
    let kid = Kid::from_text(header.kid().unwrap_or_default());
    let key = keys::signing_keys(database)?.into_iter().find(|row| row.kid == kid);
    key.and_then(|row| row.certificate).ok_or(BundleError::Certificate)
}

fn read_mark(mark: &archive::Mark) -> Result<Mark, BundleError> {
    let digest = |text: &str| hash_from_hex(text).map(Digest).map_err(Outage::internal);
    Ok(Mark {
        first_seq: mark.span.first.cast_unsigned(),
        archived_through: mark.span.last.cast_unsigned(),
        head_hash: digest(&mark.head_hash)?,
        bundle_sha256: digest(&mark.bundle_sha256)?,
    })
}
