//! The process itself: its mode, its logs, its version.

use crate::{reader::Reader, variable::variable};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

pub(super) fn log_format(read: &mut Reader<'_>) -> Option<LogFormat> {
    read.parse(variable!("LOG_FORMAT"), |text| match text.to_ascii_lowercase().as_str() {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    })
}

pub(super) fn standalone(read: &mut Reader<'_>) -> Option<bool> {
    let variable = variable!("MCP_PROXY_STANDALONE");
    let standalone = read.boolean(variable)?;
    if !standalone {
        read.problem(variable, "asks for federation, which is not built yet", "remove it");
    }
    Some(standalone)
}

pub(super) fn audit_fails_closed(read: &mut Reader<'_>) {
    let variable = variable!("MCP_PROXY_AUDIT_FAIL_DENY");
    if read.boolean(variable) != Some(false) {
        return;
    }
    let what = "asks to go on when the audit log cannot be written";
    if read.in_production() {
        read.problem(variable, format!("{what}, which production refuses"), "remove it");
    } else {
        read.warn(variable, format!("{what}, which never happens here"), "remove it");
    }
}

/// Connectors refuse to enrol at a version below 0.5.0 and accept what is no version at all (contract
/// `operations.md` §5).
pub(super) fn reported_version(read: &mut Reader<'_>) -> Option<String> {
    read.parse(variable!("CULLIS_MASTIO_VERSION"), |text| {
        triple(text).is_none_or(|version| version >= [0, 5, 0]).then(|| text.to_owned())
    })
}

/// `x.y.z`, with a leading `v`, a `-pre` or a `+build` ignored.
fn triple(text: &str) -> Option<[u64; 3]> {
    let core = text.strip_prefix('v').unwrap_or(text).split(['-', '+']).next()?;
    let numbers: Vec<u64> = core.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_connectors_read_them() {
        for (text, version) in [
            ("0.5.0", Some([0, 5, 0])),
            ("v1.12.3-rc.1+build", Some([1, 12, 3])),
            ("dev", None),
            ("latest", None),
            ("1.2", None),
            ("1.2.3.4", None),
        ] {
            assert_eq!(triple(text), version, "{text}");
        }
    }
}
