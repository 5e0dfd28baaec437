//! Who stands behind a SPIFFE id, and whom to believe about it: tables `spiffe_bindings`, `spiffe_floors` and
//! `spiffe_bundles` (design decision 1).

use mastio_core::{AgentId, SpiffeId, Stamp, TrustDomain};

use crate::{Query, ReadError, Row, RowError, Statement, Store, sqlite::Database};

const BINDINGS: &str = "spiffe_bindings";
const BUNDLES: &str = "spiffe_bundles";

/// The agent behind a SPIFFE id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The agent.
    pub agent: AgentId,
    /// When it, or whoever had the SPIFFE id before it, was revoked last: SVIDs that were issued until then stay
    /// refused.
    pub issued_after: Option<Stamp>,
}

impl Binding {
    fn read(row: &Row) -> Result<Self, RowError> {
        Ok(Self {
            agent: row.parse("agent_id", AgentId::parse)?,
            issued_after: row.stamp_or_null("issued_after")?.max(row.stamp_or_null("floor")?),
        })
    }
}

/// Whom `id` stands for.
///
/// # Errors
/// When the database cannot be read or the row is illegal.
pub async fn binding(store: &Store, id: &SpiffeId) -> Result<Option<Binding>, ReadError> {
    let sql = "SELECT spiffe_id, agent_id, spiffe_bindings.issued_after, spiffe_floors.issued_after AS floor \
        FROM spiffe_bindings LEFT JOIN spiffe_floors USING (spiffe_id) WHERE spiffe_id = ?1";
    let rows = store.rows(Query::new(BINDINGS, sql, vec![id.into()])).await?;
    Ok(rows.first().map(Binding::read).transpose()?)
}

/// Until when the SVIDs must not have been issued that `agent` is enrolled with under `id`: the last revocation of
/// either, whoever the id stood for.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub async fn issued_after(store: &Store, agent: &AgentId, id: &SpiffeId) -> Result<Option<Stamp>, ReadError> {
    let sql = "SELECT spiffe_id, issued_after FROM spiffe_bindings WHERE agent_id = ?1 \
        UNION ALL SELECT spiffe_id, issued_after FROM spiffe_floors WHERE spiffe_id = ?2";
    let rows = store.rows(Query::new(BINDINGS, sql, vec![agent.into(), id.into()])).await?;
    let floors = rows.iter().map(|row| row.stamp_or_null("issued_after")).collect::<Result<Vec<_>, _>>()?;
    Ok(floors.into_iter().flatten().max())
}

/// The trust domains of all bound SPIFFE ids, each once. An id that is none is passed over.
///
/// # Errors
/// When the database cannot be read.
pub fn bound_domains(database: &Database) -> Result<Vec<TrustDomain>, ReadError> {
    let rows = database.rows_now(&Query::new(BINDINGS, "SELECT spiffe_id FROM spiffe_bindings", vec![]))?;
    let mut domains: Vec<TrustDomain> = Vec::new();
    for row in &rows {
        match SpiffeId::parse(row.text("spiffe_id")?) {
            Ok(id) if !domains.contains(id.trust_domain()) => domains.push(id.trust_domain().clone()),
            _ => {}
        }
    }
    Ok(domains)
}

/// Makes `id` stand for `agent`, and no other id; touches no row when it stands for somebody else.
#[must_use]
pub fn bind(id: &SpiffeId, agent: &AgentId) -> Statement {
    Statement::one(
        "INSERT INTO spiffe_bindings (spiffe_id, agent_id) VALUES (?1, ?2) \
         ON CONFLICT (spiffe_id) DO UPDATE SET agent_id = excluded.agent_id \
             WHERE spiffe_bindings.agent_id = excluded.agent_id \
         ON CONFLICT (agent_id) DO UPDATE SET spiffe_id = excluded.spiffe_id",
        vec![id.into(), agent.into()],
    )
}

/// Refuses for good the SVIDs of `agent` that were issued until `at`: under whatever id it comes back, and whoever comes
/// with its id.
#[must_use]
pub fn refuse_issued_until(agent: &AgentId, at: Stamp) -> [Statement; 2] {
    let floor = "INSERT INTO spiffe_floors (spiffe_id, issued_after) \
        SELECT spiffe_id, ?2 FROM spiffe_bindings WHERE agent_id = ?1 \
        ON CONFLICT (spiffe_id) DO UPDATE SET issued_after = excluded.issued_after";
    ["UPDATE spiffe_bindings SET issued_after = ?2 WHERE agent_id = ?1", floor]
        .map(|sql| Statement::any(sql, vec![agent.into(), at.into()]))
}

/// The CAs of a trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Whose they are.
    pub domain: TrustDomain,
    /// PEM, at least one certificate.
    pub pem: String,
    /// Since when they are these.
    pub updated_at: Stamp,
}

impl Bundle {
    fn read(row: &Row) -> Result<Self, RowError> {
        Ok(Self {
            domain: row.parse("trust_domain", TrustDomain::parse)?,
            pem: row.text("bundle_pem")?.to_owned(),
            updated_at: row.stamp("updated_at")?,
        })
    }
}

/// Every bundle, by trust domain. A row that cannot be read is left out and logged: one bad bundle must not take away
/// the others.
///
/// # Errors
/// When the database cannot be read.
pub fn bundles(database: &Database) -> Result<Vec<Bundle>, ReadError> {
    let sql = "SELECT trust_domain, bundle_pem, updated_at FROM spiffe_bundles ORDER BY trust_domain";
    let rows = database.rows_now(&Query::new(BUNDLES, sql, vec![]))?;
    let logged =
        |row| Bundle::read(row).inspect_err(|error| tracing::error!(%error, "a SPIRE bundle is left out"));
    Ok(rows.iter().filter_map(|row| logged(row).ok()).collect())
}

/// Writes a bundle in place of `before`, the PEM that is there; touches no row when another one is.
#[must_use]
pub fn put_bundle(bundle: &Bundle, before: Option<&str>) -> Statement {
    Statement::one(
        "INSERT INTO spiffe_bundles (trust_domain, bundle_pem, updated_at) \
         SELECT ?1, ?2, ?3 WHERE ?4 IS (SELECT bundle_pem FROM spiffe_bundles WHERE trust_domain = ?1) \
         ON CONFLICT (trust_domain) DO UPDATE SET bundle_pem = excluded.bundle_pem, updated_at = excluded.updated_at",
        vec![(&bundle.domain).into(), bundle.pem.as_str().into(), bundle.updated_at.into(), before.into()],
    )
}

/// Takes a bundle away; touches no row when there is none.
#[must_use]
pub fn drop_bundle(domain: &TrustDomain) -> Statement {
    Statement::one("DELETE FROM spiffe_bundles WHERE trust_domain = ?1", vec![domain.into()])
}
