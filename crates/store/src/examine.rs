//! What `mastio pki doctor` looks at beside what everybody reads: pins with what is noted of them, a portion at a time
//! and as they are stored, however bad; and how many private keys lie readable.

use crate::{
    Query, ReadError, Row, RowError,
    rotations::following::BROUGHT,
    sqlite::{self, Database},
};

/// A row of `internal_agents` with what `agent_certs` notes of its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// Whose, as it is stored.
    pub agent: String,
    /// Whether it may act.
    pub active: bool,
    /// How it came in, as it is stored; old rows do not say.
    pub method: Option<String>,
    /// PEM, leaf first.
    pub certificates: Option<String>,
    /// Its SPIFFE id, as it is stored.
    pub spiffe_id: Option<String>,
    /// What is noted of it, if anything is.
    pub noted: Option<Noted>,
    /// Whether that certificate is revoked.
    pub revoked: bool,
    /// Whether that certificate is none of ours, as a rotation with overlap sees it.
    pub brought: bool,
}

/// What is noted of a pinned certificate, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// SHA-256 of the certificate.
    pub thumbprint: String,
    /// SHA-256 of its public key.
    pub spki_sha256: String,
    /// Its end.
    pub not_after: String,
}

impl Pinned {
    fn read(row: &Row) -> Result<Self, RowError> {
        let text = |column| row.text_or_null(column).map(|text| text.map(str::to_owned));
        let noted = text("thumbprint")?
            .map(|thumbprint| {
                let spki_sha256 = row.text("spki_sha256")?.to_owned();
                Ok::<_, RowError>(Noted {
                    thumbprint,
                    spki_sha256,
                    not_after: row.text("not_after")?.to_owned(),
                })
            })
            .transpose()?;
        Ok(Self {
            agent: row.text("agent_id")?.to_owned(),
            active: row.int("is_active")? != 0,
            method: text("enrollment_method")?,
            certificates: text("cert_pem")?.filter(|pem| !pem.is_empty()),
            spiffe_id: text("spiffe_id")?,
            noted,
            revoked: row.int("revoked")? != 0,
            brought: row.int("brought")? != 0,
        })
    }
}

/// At most `limit` agents after the id `after`, by id.
///
/// # Errors
/// When the database cannot be read or a row is of other types than its table says.
pub fn pins(database: &Database, after: &str, limit: u32) -> Result<Vec<Pinned>, ReadError> {
    let sql = format!(
        "SELECT a.agent_id, a.is_active, a.enrollment_method, a.cert_pem, a.spiffe_id, \
            c.thumbprint, c.spki_sha256, c.not_after, \
            EXISTS (SELECT 1 FROM revoked_agent_certs r WHERE r.thumbprint = c.thumbprint) AS revoked, \
            {BROUGHT} AS brought \
        FROM internal_agents a LEFT JOIN agent_certs c ON c.agent_id = a.agent_id \
        WHERE a.agent_id > ?1 ORDER BY a.agent_id LIMIT ?2"
    );
    let values = vec![after.into(), i64::from(limit).into()];
    let rows = database.rows_now(&Query { table: "internal_agents", sql: sql.into(), values })?;
    rows.iter().map(Pinned::read).collect::<Result<_, _>>().map_err(Into::into)
}

/// How many agents there are.
///
/// # Errors
/// When the database cannot be read.
pub fn agents(database: &Database) -> Result<u64, ReadError> {
    count(database, "internal_agents", "SELECT count(*) AS number FROM internal_agents")
}

/// Where private keys lie readable, and how many: CA keys, signing keys, agents' keys, keys of former CAs, keys of the
/// log, and those that the existing system put aside. Places without any are left out.
///
/// # Errors
/// When the database cannot be read.
pub fn readable_keys(database: &Database) -> Result<Vec<(&'static str, u64)>, ReadError> {
    const PLACES: [(&str, &str, &str); 6] = [
        ("CA keys in proxy_config", "proxy_config", "\"key\" IN ('org_ca_key', 'mastio_ca_key') AND value"),
        ("agents' keys in proxy_config", "proxy_config", "\"key\" LIKE 'agent_key:%' AND value"),
        ("signing keys in mastio_keys", "mastio_keys", "privkey_pem"),
        ("keys of other CAs in pki_cas", "pki_cas", "private_key"),
        ("keys of the audit log in audit_origins", "audit_origins", "log_key"),
        (OLD_ARCHIVE, "legacy_pki_archive", "legacy_pem"),
    ];
    let mut found = Vec::new();
    for (place, table, condition) in PLACES {
        if !database.read(|connection| sqlite::has_table(connection, table))? {
            continue;
        }
        let sql = format!("SELECT count(*) AS number FROM {table} WHERE {condition} LIKE '%-----BEGIN%'");
        let number = count(database, table, sql)?;
        if number > 0 {
            found.push((place, number));
        }
    }
    Ok(found)
}

/// The place of [`readable_keys`] that only an adopted database has.
pub const OLD_ARCHIVE: &str = "keys in legacy_pki_archive";

fn count(
    database: &Database,
    table: &'static str,
    sql: impl Into<std::borrow::Cow<'static, str>>,
) -> Result<u64, ReadError> {
    let rows = database.rows_now(&Query { table, sql: sql.into(), values: vec![] })?;
    let number = rows.first().map_or(Ok(0), |row| row.int("number"))?;
    Ok(u64::try_from(number).unwrap_or(0))
}
