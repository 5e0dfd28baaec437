//! The rules of each variable, as an operator meets them.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests too")]

mod refused;

use std::{fs, path::Path, time::Duration};

use mastio_config::{
    Database, EgressDpop, Environment, Loaded, LogFormat, Problem, Problems, Settings, Source, VARIABLES,
    variable::{Kind, Stage},
};
use proptest::prelude::*;
use secrecy::ExposeSecret;

const DIR: &str = "/srv/mastio";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn load_in(dir: &Path, pairs: Pairs<'_>) -> Result<Loaded, Problems> {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::load(&Source::new(pairs, ""), dir)
}

/// Loads with a good admin secret besides.
fn load(pairs: Pairs<'_>) -> Result<Loaded, Problems> {
    load_in(Path::new(DIR), &[&[("MCP_PROXY_ADMIN_SECRET", SECRET)], pairs].concat())
}

fn settings(pairs: Pairs<'_>) -> Settings {
    load(pairs).unwrap().settings
}

fn names(found: &[Problem]) -> Vec<&str> {
    found.iter().map(|problem| problem.variable.as_str()).collect()
}

fn problems(pairs: Pairs<'_>) -> Vec<Problem> {
    load(pairs).expect_err("nothing was wrong").0
}

fn warnings(pairs: Pairs<'_>) -> Vec<String> {
    load(pairs).unwrap().warnings.iter().map(ToString::to_string).collect()
}

const PRODUCTION: Pairs<'_> = &[
    ("MCP_PROXY_ENVIRONMENT", "production"),
    ("MCP_PROXY_DASHBOARD_SIGNING_KEY", SECRET),
    ("MCP_PROXY_DB_ENCRYPTION_KEY", SECRET),
    ("MCP_PROXY_PROXY_PUBLIC_URL", "https://mastio.example.com:9443"),
];

#[test]
fn the_defaults_are_the_documented_ones() {
    let Loaded { settings, warnings } = load(&[]).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(settings.environment, Environment::Development);
    assert_eq!(settings.admin_secret.expose_secret(), SECRET);
    assert_eq!(settings.trust_domain.as_str(), "cullis.local");
    assert!(settings.org_id.is_none() && settings.public_url.is_none() && settings.standalone);
    assert_eq!(settings.listen.tls.to_string(), "0.0.0.0:9443");
    assert_eq!(settings.listen.plain.unwrap().to_string(), "127.0.0.1:9100");
    assert!(settings.trusted_proxies.is_empty() && settings.allowed_origins.is_empty());
    assert!(settings.edge_secret.is_none() && settings.at_rest_passphrase.is_none());
    assert_eq!(settings.server_names_csv, "mastio.local,localhost");
    assert_eq!(settings.tls_dir, Path::new("/srv/mastio/nginx-certs"));
    assert_eq!(settings.certs_dir, Path::new("/srv/mastio/certs"));
    assert_eq!(settings.database, Database::Sqlite("/srv/mastio/data/mcp_proxy.db".into()));
    assert_eq!(settings.server_cert_renew_within, Duration::from_secs(30 * 86_400));
    assert_eq!(settings.server_cert_watch_every, Some(Duration::from_secs(86_400)));
    assert_eq!(settings.dpop.window, Duration::from_secs(60));
    assert_eq!(settings.dpop.skew, Duration::from_secs(5));
    assert_eq!(settings.dpop.egress_mode, EgressDpop::Optional);
    assert_eq!(settings.token_ttl, Duration::from_secs(300));
    assert_eq!(settings.agent_cert_grace, Duration::from_secs(48 * 3600));
    assert_eq!(settings.limits.per_agent_per_minute.get(), 1800);
    assert_eq!(settings.limits.global, None);
    assert_eq!(settings.limits.max_body_bytes.unwrap().get(), 2_097_152);
    assert_eq!(settings.log_format, LogFormat::Text);
    assert!(settings.workers.is_none() && !settings.strict_pki);
}

#[test]
fn every_variable_may_be_empty_and_built_ones_may_be_their_default() {
    for variable in VARIABLES {
        if variable.name == "MCP_PROXY_ADMIN_SECRET" {
            continue;
        }
        for name in variable.names() {
            assert_eq!(warnings(&[(name, ""), (&name.to_lowercase(), " ")]), [""; 0], "{name}");
            if !variable.default.is_empty() {
                assert_eq!(names(&load(&[(name, variable.default)]).unwrap().warnings), [""; 0], "{name}");
            }
        }
    }
}

#[test]
fn a_misspelt_setting_is_told_beside_what_is_wrong() {
    let misspelt = [("MCP_PROXY_ADMIN_SECERT", SECRET)];
    let problems = load_in(Path::new(DIR), &misspelt).unwrap_err().0;
    assert_eq!(names(&problems), ["MCP_PROXY_ADMIN_SECRET", "MCP_PROXY_ADMIN_SECERT"]);
    assert_eq!(problems[1].remedy, "did you mean MCP_PROXY_ADMIN_SECRET?");
    assert_eq!(warnings(&misspelt).len(), 1, "with nothing wrong it is a warning");
}

#[test]
fn an_admin_secret_that_is_no_secret_never_boots() {
    for (value, says) in [
        ("", "is not set"),
        ("   ", "is not set"),
        ("change-me-in-production", "is the well-known default"),
        ("fifteen-chars-1", "is shorter than 16 characters"),
        ("pässword-pässword", "an HTTP header does not carry"),
        ("two words and more words", "an HTTP header does not carry"),
    ] {
        for environment in ["development", "production"] {
            let pairs = [("MCP_PROXY_ADMIN_SECRET", value), ("MCP_PROXY_ENVIRONMENT", environment)];
            let problems = load_in(Path::new(DIR), &pairs).unwrap_err().0;
            let about: Vec<_> = problems.iter().filter(|p| p.variable == "MCP_PROXY_ADMIN_SECRET").collect();
            assert_eq!(about.len(), 1, "{value}");
            assert!(about[0].what.contains(says), "{value}: {}", about[0]);
            assert!(about[0].remedy.contains("openssl rand -hex 32"));
        }
    }
    let cut = load_in(Path::new(DIR), &[("MCP_PROXY_ADMIN_SECRET", "c2VjcmV0c2VjcmV0cw==")]).unwrap();
    assert_eq!(names(&cut.warnings), ["MCP_PROXY_ADMIN_SECRET"]);
}

#[test]
fn values_of_the_wrong_kind_are_refused_in_words() {
    for (name, value, expected) in [
        ("MCP_PROXY_ENVIRONMENT", "prod", "is \"prod\", but must be one of development, production"),
        ("MCP_PROXY_STRICT_PKI", "maybe", "is \"maybe\", but must be true or false"),
        ("MCP_PROXY_PORT", "65536", "is \"65536\", but must be a whole number from 0 to 65535"),
        ("MCP_PROXY_PORT", "-1", "but must be a whole number"),
        ("MCP_PROXY_HOST", "localhost", "but must be an IP address"),
        ("MCP_PROXY_HTTP_LISTEN", "9100", "but must be an address and port"),
        ("MCP_PROXY_TRUSTED_PROXIES", "10.0.0.0/8,nonsense", "but must be networks such as"),
        ("MCP_PROXY_PROXY_PUBLIC_URL", "https://mastio/base", "without path or query"),
        ("MCP_PROXY_ALLOWED_ORIGINS", "https://a.example.com/x", "but must be origins"),
        ("MCP_PROXY_NGINX_SAN", "https://mastio", "but must be host names"),
        ("MCP_PROXY_NGINX_SAN", " , ", "but must be host names"),
        ("MCP_PROXY_ORG_ID", "-acme", "but must be letters, digits"),
        ("PROXY_TRUST_DOMAIN", "Cullis.Local", "but must be lower-case letters"),
        (
            "MCP_PROXY_DATABASE_URL",
            "mysql://u:hunter2@db/x",
            "is \"mysql://u:********@db/x\", but must be sqlite",
        ),
        ("MCP_PROXY_KMS_BACKEND", "lokal", "but must be one of local, filesystem"),
        ("MCP_PROXY_LOCAL_TOKEN_TTL_SECONDS", "0", "from 1 to 3600"),
        ("MCP_PROXY_LOCAL_TOKEN_TTL_SECONDS", "3601", "from 1 to 3600"),
        ("MCP_PROXY_EGRESS_DPOP_MODE", "of", "but must be one of off, optional, required"),
        ("MCP_PROXY_RATE_LIMIT_PER_MINUTE", "0", "from 1 to"),
        ("MCP_PROXY_GLOBAL_RATE_LIMIT_RPS", "0", "but must be a number above 0"),
        ("MCP_PROXY_GLOBAL_RATE_LIMIT_RPS", "inf", "but must be a number above 0"),
        ("MCP_PROXY_GLOBAL_RATE_LIMIT_BURST", "0", "from 1 to"),
        ("MASTIO_WORKERS", "0", "from 1 to 1024"),
        ("LOG_FORMAT", "xml", "but must be one of text, json"),
        ("CULLIS_MASTIO_VERSION", "v0.4.9-rc.1", "but must be 0.5.0 or later"),
    ] {
        let problems = problems(&[(name, value)]);
        assert_eq!(names(&problems), [name], "{value}");
        assert!(problems[0].what.contains(expected), "{}", problems[0]);
    }
}

#[test]
fn what_is_set_is_what_one_gets() {
    for (word, value) in [("1", true), ("YES", true), ("On", true), ("t", true), ("y", true), ("off", false)]
    {
        assert_eq!(settings(&[("MCP_PROXY_STRICT_PKI", word)]).strict_pki, value, "{word}");
    }
    for (word, mode) in [
        ("off", EgressDpop::Off),
        ("none", EgressDpop::Off),
        ("Required", EgressDpop::Required),
        ("bound", EgressDpop::Required),
    ] {
        assert_eq!(settings(&[("CULLIS_EGRESS_DPOP_MODE", word)]).dpop.egress_mode, mode, "{word}");
    }
    let got = settings(&[
        ("mcp_proxy_port", "9444"),
        ("MCP_PROXY_HTTP_LISTEN", "OFF"),
        ("MCP_PROXY_TRUSTED_PROXIES", "10.1.2.3/8, 192.0.2.7 ,fd00::/8,"),
        ("MCP_PROXY_EDGE_SECRET", SECRET),
        ("MCP_PROXY_ALLOWED_ORIGINS", "https://app.example.com:443/,http://localhost:3000"),
        ("MCP_PROXY_PROXY_PUBLIC_URL", "https://mastio.example.com:9444/"),
        ("MCP_PROXY_ORG_ID", "5cd252fb0ce89324"),
        ("MCP_PROXY_NGINX_CERT_DIR", "/var/lib/mastio/nginx-certs"),
        ("MCP_PROXY_NGINX_CERT_WATCHER_ENABLED", "false"),
        ("PROXY_DB_URL", "sqlite+aiosqlite:///./mcp_proxy.db"),
        ("MCP_PROXY_KMS_BACKEND", "FileSystem"),
        ("MCP_PROXY_GLOBAL_RATE_LIMIT_RPS", "500.0"),
        ("MCP_PROXY_MAX_REQUEST_BODY_BYTES", "0"),
        ("MASTIO_WORKERS", "4"),
        ("LOG_FORMAT", "json"),
        ("CULLIS_MASTIO_VERSION", "latest"),
    ]);
    assert_eq!((got.listen.tls.port(), got.listen.plain), (9444, None));
    let networks: Vec<_> = got.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"]);
    assert!(got.edge_secret.is_some());
    assert_eq!(got.allowed_origins, ["https://app.example.com", "http://localhost:3000"]);
    assert_eq!(got.public_url.as_ref().unwrap().as_str(), "https://mastio.example.com:9444/");
    assert_eq!(got.org_id.as_ref().unwrap().as_str(), "5cd252fb0ce89324");
    assert_eq!(got.tls_dir, Path::new("/var/lib/mastio/nginx-certs"));
    assert_eq!(got.server_cert_watch_every, None);
    assert_eq!(got.database, Database::Sqlite("/srv/mastio/./mcp_proxy.db".into()));
    let global = got.limits.global.unwrap();
    assert_eq!((global.rps, global.burst.get()), (500.0, 1000));
    assert_eq!((got.limits.max_body_bytes, got.workers.unwrap().get()), (None, 4));
    assert_eq!((got.log_format, got.reported_version.as_str()), (LogFormat::Json, "latest"));
}

#[test]
fn every_secret_may_lie_in_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("good"), format!("{SECRET}\n")).unwrap();
    fs::write(dir.path().join("empty"), "\n").unwrap();
    let secrets = VARIABLES.iter().filter(|v| v.kind == Kind::Secret && v.stage == Stage::Built);
    let mut seen = 0;
    for variable in secrets {
        seen += 1;
        let file_name = variable.file_name().unwrap();
        let with = |pairs: Pairs<'_>| {
            let admin = ("MCP_PROXY_ADMIN_SECRET", SECRET);
            let admin = if variable.name == admin.0 { None } else { Some(admin) };
            let all: Vec<_> = pairs.iter().copied().chain(admin).collect();
            load_in(dir.path(), &all)
        };
        assert!(with(&[(&file_name, "good")]).is_ok(), "{file_name}");
        for (pairs, says) in [
            (vec![(file_name.as_str(), "absent")], "cannot be read"),
            (vec![(file_name.as_str(), "empty")], "is empty"),
            (vec![(file_name.as_str(), "good"), (variable.name, SECRET)], "is set, and so is"),
        ] {
            let problems = with(&pairs).unwrap_err();
            assert!(problems.to_string().contains(says), "{problems}");
            assert_eq!(problems.0.len(), 1, "{problems}");
        }
    }
    assert_eq!(seen, 5);
}

#[test]
fn a_taken_port_names_what_to_change() {
    let settings = settings(&[("MCP_PROXY_PROXY_PUBLIC_URL", "https://mastio.example.com:9443")]);
    let tls = settings.address_taken(settings.listen.tls);
    for part in
        ["0.0.0.0:9443", "MCP_PROXY_PORT", "MCP_PROXY_PROXY_PUBLIC_URL", "https://mastio.example.com:9443/"]
    {
        assert!(tls.contains(part), "{part} is not in {tls}");
    }
    assert!(settings.address_taken(settings.listen.plain.unwrap()).contains("MCP_PROXY_HTTP_LISTEN"));
}

proptest! {
    #[test]
    fn no_value_of_any_variable_panics_or_leaks(row in 0..VARIABLES.len(), value in "(?s).{0,40}|[a-z0-9:/@?*.,+-]{0,30}") {
        let variable = &VARIABLES[row];
        let marked = format!("{value}hunter2");
        if let Err(problems) = load(&[(variable.name, &value)]) {
            prop_assert_eq!(problems.to_string().lines().count(), problems.0.len());
        }
        if variable.kind == Kind::Secret {
            let said = load(&[(variable.name, &marked)]).map_or_else(|p| p.to_string(), |l| format!("{l:?}"));
            prop_assert!(!said.contains("hunter2"));
        }
    }

    #[test]
    fn no_text_of_proxy_env_panics(text in "(?s).{0,200}|((export )?[A-Z_]{1,20}[ =][a-z\"'#=]{0,10}\n){0,8}") {
        let _ = Settings::load(&Source::new([], &text), Path::new(DIR));
    }
}

#[test]
fn the_log_is_stamped_only_when_somebody_asks_for_it() {
    let tsa = |pairs: Pairs<'_>| settings(pairs).audit.tsa;
    assert_eq!(tsa(&[]), None);
    assert_eq!(tsa(&[("MCP_PROXY_AUDIT_TSA_TRUST_ANCHOR_PATH", "tsa.pem")]), None);
    let url = ("CULLIS_TSA_URL", "https://tsa.example.com/stamp");
    let asked = tsa(&[url, ("MCP_PROXY_AUDIT_TSA_TRUST_ANCHOR_PATH", "tsa.pem")]).unwrap();
    assert_eq!(asked.url.as_str(), url.1);
    assert_eq!(asked.trust_anchors.as_deref(), Some(Path::new("/srv/mastio/tsa.pem")));
    assert_eq!((asked.every.as_secs(), asked.max_skew.as_secs()), (3600, 86_400));
    assert_eq!(tsa(&[url, ("MCP_PROXY_AUDIT_TSA_ENABLED", "false")]), None);
    let usual = tsa(&[("MCP_PROXY_AUDIT_TSA_ENABLED", "true")]).unwrap();
    assert_eq!(usual.url.as_str(), "http://timestamp.digicert.com/");
    assert!(warnings(&[url])[0].contains("anybody's time stamps are believed"));
}

#[test]
fn time_stamps_are_real_and_in_production_checked() {
    let mock = problems(&[("MCP_PROXY_AUDIT_TSA_BACKEND", "mock")]);
    assert!(mock[0].to_string().contains("mock, which is not offered"), "{}", mock[0]);
    let url = ("CULLIS_TSA_URL", "http://tsa.example.com");
    let unchecked = problems(&[PRODUCTION, &[url]].concat());
    assert_eq!(names(&unchecked), ["MCP_PROXY_AUDIT_TSA_TRUST_ANCHOR_PATH"]);
    let anchors = ("MCP_PROXY_AUDIT_TSA_TRUST_ANCHOR_PATH", "tsa.pem");
    assert!(load(&[PRODUCTION, &[url, anchors]].concat()).is_ok());
    assert_eq!(names(&problems(&[("CULLIS_TSA_URL", "ldap://tsa.example.com")])), ["CULLIS_TSA_URL"]);
}
