//! What can be wrong with a stored chain.

use mastio_core::counted;

/// Where a chain stops holding, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("audit chain broken at entry {seq}{}: {problem}", in_row(*.id))]
pub struct Break {
    /// The position at fault: that of the row, or the first one missing when there is no row to name.
    pub seq: u64,
    /// `id` of the row at fault; `None` when the problem is that a row is missing at the end.
    pub id: Option<i64>,
    /// What is wrong.
    pub problem: Problem,
}

fn in_row(id: Option<i64>) -> String {
    id.map_or_else(String::new, |id| format!(" (row id {id})"))
}

/// What is wrong with a row, or with the end of the chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The chain does not start at 1.
    #[error(
        "every entry before it is missing; restore them from a backup, or start from the head of the archive"
    )]
    FirstMissing,
    /// Positions were left out.
    #[error("it follows entry {after}, those between are missing; restore them from a backup")]
    Gap {
        /// The last entry that was there.
        after: u64,
    },
    /// The position is taken already, or the rows are not sorted.
    #[error(
        "it comes after entry {head}: the chain forks here, or rows are out of order; read them by chain_seq"
    )]
    Fork {
        /// The last entry that held.
        head: u64,
    },
    /// The stored hash of the predecessor is not the predecessor's hash.
    #[error(
        "it does not link to the entry before it; one of the two was replaced, compare both with a backup"
    )]
    Link,
    /// The content does not have the stored hash.
    #[error("its content does not have its hash, one of them was changed; compare the row with a backup")]
    Hash,
    /// A value that the verifier needs is missing or of an unknown kind.
    #[error(
        "its column {column} cannot be read; compare the row with a backup, or verify with a newer version"
    )]
    Unreadable {
        /// The column.
        column: &'static str,
    },
    /// The chain ends before the expected head.
    #[error("it and all up to the expected head {expected} are missing; restore them from a backup")]
    Truncated {
        /// Position of the expected head.
        expected: u64,
    },
    /// The chain goes on after the expected head.
    #[error("it comes after the expected head {expected}; ask for a head that is as new as the rows")]
    Overrun {
        /// Position of the expected head.
        expected: u64,
    },
    /// The chain holds together but ends in another hash than expected.
    #[error("its hash is not that of the expected head: the chain was rebuilt; compare it with a backup")]
    Rebuilt,
    /// Rows that no chain covers are not those that another chain sealed.
    #[error(
        "rows outside the chain were changed or removed since they were sealed; compare them with a backup"
    )]
    Unsealed,
    /// The chain holds together and is not the one that a checkpoint was signed for.
    #[error(
        "the {} of the checkpoint that was signed for them: history was rewritten; compare them with a backup, a bundle \
         or a witness",
        counted(*size, "entry up to it is not that", "entries up to it are not those")
    )]
    NotAsSigned {
        /// How many entries the checkpoint has.
        size: u64,
    },
    /// A stored checkpoint is not one.
    #[error(
        "the checkpoint that was stored for the entries up to it is not signed by the log's key; compare it with audit-checkpoints.log"
    )]
    Checkpoint,
    /// A mark says that entries went into an archive, and the chain does not.
    #[error(
        "a mark says that every entry before it was archived, and no entry audit.archived behind it tells of that \
         archive: they were deleted; restore them from a backup"
    )]
    Untold,
}
