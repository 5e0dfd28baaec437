//! What each variable may hold and a deployment may not: refused, or mentioned.

use std::path::Path;

use mastio_config::Environment;

use super::{DIR, PRODUCTION, SECRET, load, load_in, names, problems, settings, warnings};

#[test]
fn production_lists_everything_that_it_misses_at_once() {
    assert_eq!(warnings(PRODUCTION), [""; 0]);
    assert_eq!(settings(PRODUCTION).environment, Environment::Production);

    let bare = load_in(Path::new(DIR), &[("MCP_PROXY_ENVIRONMENT", "Production")]).unwrap_err();
    assert_eq!(
        names(&bare.0),
        [
            "MCP_PROXY_ADMIN_SECRET",
            "MCP_PROXY_DASHBOARD_SIGNING_KEY",
            "MCP_PROXY_PROXY_PUBLIC_URL",
            "MCP_PROXY_DB_ENCRYPTION_KEY",
        ]
    );
    assert_eq!(bare.to_string().lines().count(), 4, "one line each");

    let short = &SECRET[..31];
    for (name, value) in [
        ("MCP_PROXY_DB_ENCRYPTION_KEY", short),
        ("MCP_PROXY_PROXY_PUBLIC_URL", "http://mastio.example.com"),
        ("MCP_PROXY_ALLOWED_ORIGINS", "https://a.example.com,*"),
        ("MCP_PROXY_AUDIT_FAIL_DENY", "false"),
    ] {
        let kept: Vec<_> = PRODUCTION.iter().copied().filter(|(kept, _)| *kept != name).collect();
        assert_eq!(names(&problems(&[&kept[..], &[(name, value)]].concat())), [name]);
        assert!(load(&[(name, value)]).is_ok(), "{name} is a matter of production only");
    }
    assert_eq!(names(&problems(&[("MCP_PROXY_DB_ENCRYPTION_KEY", "fifteen-chars-1")])).len(), 1);
}

#[test]
fn what_would_be_unsafe_to_ignore_is_refused_and_the_rest_warned_about() {
    for (name, value) in [
        ("MCP_PROXY_KMS_BACKEND", "vault"),
        ("MCP_PROXY_KMS_BACKEND", "aws"),
        ("MCP_PROXY_DATABASE_URL", "postgresql+asyncpg://u:hunter2@db/x"),
        ("PROXY_DB_URL", "sqlite:///:memory:"),
        ("MCP_PROXY_SECRET_BACKEND", "vault"),
        ("MCP_PROXY_STANDALONE", "0"),
        ("PROXY_LOCAL_AUTH", "no"),
        ("MCP_PROXY_PDP_URL", "https://pdp.example.com"),
        ("MCP_PROXY_TOOL_PDP_ENABLED", "on"),
        ("PROXY_EGRESS_INSPECTION_ENABLED", "true"),
        ("MCP_PROXY_ANOMALY_QUARANTINE_MODE", "enforce"),
        ("MCP_PROXY_ANOMALY_QUARANTINE_MODE", "enforced"),
        ("MCP_PROXY_WEBAUTHN_ENFORCEMENT", "required"),
        ("MCP_PROXY_TIER_MATRIX_PATH", "tiers.yaml"),
        ("MCP_PROXY_MDM_INTUNE_ENABLED", "true"),
    ] {
        let problems = problems(&[(name, value)]);
        assert_eq!(names(&problems), [name], "{value}");
        assert!(problems[0].what.contains("yet") || value.contains("memory"), "{}", problems[0]);
        assert!(!problems[0].to_string().contains("hunter2"));
    }
    for (name, value) in [
        ("MCP_PROXY_REDIS_URL", "redis://:hunter2@cache/0"),
        ("MCP_PROXY_VAULT_TOKEN_FILE", "/run/secrets/hunter2"),
        ("MCP_PROXY_BROKER_URL", "http://broker:8000"),
        ("MCP_PROXY_ANOMALY_QUARANTINE_MODE", "off"),
        ("MCP_PROXY_AUDIT_CHAIN_BATCH_SIZE", "500"),
        ("MCP_PROXY_LOCAL_TOKEN_REQUIRE_DPOP", "false"),
    ] {
        let warnings = warnings(&[(name, value)]);
        assert_eq!(warnings.len(), 1, "{name}");
        assert!(warnings[0].starts_with(&format!("{name}: has no effect: ")), "{}", warnings[0]);
        assert!(!warnings[0].contains("hunter2"));
    }
    for (name, value) in [
        ("MCP_PROXY_TOOL_PDP_ENABLED", "0"),
        ("MCP_PROXY_SECRET_BACKEND", "ENV"),
        ("MCP_PROXY_LOCAL_AUTH_ENABLED", "yes"),
        ("MASTIO_DATA_DIR", "./data"),
        ("OPENAI_API_KEY", "sk-1"),
        ("UNRELATED", "x"),
    ] {
        assert_eq!(warnings(&[(name, value)]), [""; 0], "{name}");
    }
}

#[test]
fn odd_combinations_are_mentioned() {
    for (pairs, warned) in [
        (vec![("MCP_PROXY_PUBLIC_URL", "https://x")], "MCP_PROXY_PUBLIC_URL"),
        (vec![("MCP_PROXY_EDGE_SECRET", SECRET)], "MCP_PROXY_EDGE_SECRET"),
        (vec![("MCP_PROXY_TRUSTED_PROXIES", "0.0.0.0/0")], "MCP_PROXY_TRUSTED_PROXIES"),
        (vec![("MCP_PROXY_GLOBAL_RATE_LIMIT_BURST", "9")], "MCP_PROXY_GLOBAL_RATE_LIMIT_BURST"),
        (vec![("MCP_PROXY_AUDIT_FAIL_DENY", "false")], "MCP_PROXY_AUDIT_FAIL_DENY"),
        (vec![("MCP_PROXY_ALLOWED_ORIGINS", "*")], "MCP_PROXY_ALLOWED_ORIGINS"),
        (
            vec![("PROXY_TRUST_DOMAIN", "a.example"), ("MCP_PROXY_TRUST_DOMAIN", "b.example")],
            "MCP_PROXY_TRUST_DOMAIN",
        ),
    ] {
        assert_eq!(names(&load(&pairs).unwrap().warnings), [warned]);
    }
    let collision = problems(&[("MCP_PROXY_HTTP_LISTEN", "127.0.0.1:9443")]);
    assert_eq!(names(&collision), ["MCP_PROXY_HTTP_LISTEN"]);
    let contradiction =
        problems(&[("CULLIS_EGRESS_DPOP_MODE", "optional"), ("MCP_PROXY_EGRESS_DPOP_MODE", "bound")]);
    assert_eq!(names(&contradiction), ["CULLIS_EGRESS_DPOP_MODE"]);
}
