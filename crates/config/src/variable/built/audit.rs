//! How the audit log is proved, handed out and archived.

use super::{DAYS, Kind, Variable};

pub(in crate::variable) const AUDIT: &[Variable] = &[
    Variable::built(
        "MCP_PROXY_AUDIT_ORIGIN",
        Kind::Text("visible characters without blanks and `+`, at most 200"),
        "",
        "the name of the audit log in its checkpoints, kept once the log has one; unset: the public host and \
         `/audit`, or the organisation id and `/audit`",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_CHECKPOINT_INTERVAL_SECONDS",
        Kind::Integer { min: 1, max: 86_400 },
        "60",
        "how often a checkpoint of the audit log is signed, if there are new entries",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_PUBLIC_LOG",
        Kind::Boolean,
        "false",
        "serve checkpoints and hashes of the audit log to everybody, at `/audit/log`: never the entries themselves",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_TSA_ENABLED",
        Kind::Boolean,
        "",
        "whether the log is stamped with the time by an authority outside (RFC 3161); unset: if it has an address. \
         `true` without one asks `http://timestamp.digicert.com`",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_TSA_URL",
        Kind::Url,
        "",
        "where the time stamping authority answers, `http` or `https`; a user and password in it are sent as Basic",
    )
    .or(&["CULLIS_TSA_URL"]),
    Variable::built(
        "MCP_PROXY_AUDIT_TSA_TRUST_ANCHOR_PATH",
        Kind::Path,
        "",
        "the PEM file with the roots that the authority must lead to; its server may lead there too. Required in \
         production when time stamps are on",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_TSA_INTERVAL_SECONDS",
        Kind::Integer { min: 1, max: 604_800 },
        "3600",
        "how often the newest entry is stamped, if there are new ones",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_TSA_MAX_CLOCK_SKEW_SECONDS",
        Kind::Integer { min: 0, max: 31_536_000 },
        "86400",
        "how far a time stamp may be from the clock here",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_TSA_BACKEND",
        Kind::Choice(&["rfc3161"]),
        "rfc3161",
        "the kind of authority; `mock` is not offered",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_SELF_CHECK_INTERVAL_SECONDS",
        Kind::Integer { min: 0, max: 31_536_000 },
        "21600",
        "how often the whole audit log is verified in the background, in seconds; new entries are every minute; \
         `0`: never",
    ),
    Variable::built(
        "CULLIS_AUDIT_EXPORT_MAX",
        Kind::Integer { min: 0, max: 1 << 40 },
        "1000000",
        "how many entries one export of the audit log may be asked for (`limit`); 0 lifts the limit",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_WITNESS_FOR",
        Kind::Text("verifier keys of logs (name+hash+key), separated by commas or spaces"),
        "",
        "the logs that this Mastio is a witness of, by the keys that sign their checkpoints; unset: it is nobody's",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_WITNESS_NAME",
        Kind::Text("a name without spaces and without `+`"),
        "",
        "the name on this Mastio's cosignatures; unset: the host and port of its public address and `/witness`",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_WITNESSES",
        Kind::Text(
            "pairs of submission address and verifier key (http(s)://host/path name+hash+key), separated by commas",
        ),
        "",
        "the witnesses that every checkpoint of our log is sent to",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_WITNESS_CA",
        Kind::Path,
        "",
        "a PEM file of certificates that are trusted for witnesses at https addresses, beside those of the system; \
         for another Mastio its `org-ca.pem`",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_SYSLOG",
        Kind::Text("udp://host:port or unix:///path/to/socket"),
        "",
        "a system log that is told of every checkpoint, facility `authpriv`",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_ARCHIVE_DIR",
        Kind::Path,
        "archive",
        "where archives of old entries go that are asked for over HTTP, or made by themselves; best on another disk",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_AUTO_ARCHIVE_DAYS",
        DAYS,
        "",
        "when the disk of the database fills up, archive entries older than so many days; unset: only when asked to",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_DISK_WARN_PERCENT",
        Kind::Integer { min: 1, max: 99 },
        "80",
        "how full the disk of the database may get before `/healthz` warns `audit_disk_low`",
    ),
];
